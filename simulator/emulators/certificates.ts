// The certificate authority of the simulation, which issues the TLS certificate of each of its servers.

import { randomBytes } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { isIP } from "node:net";
import { join } from "node:path";
import { generate } from "selfsigned";

export interface CertificateAuthority {
  /** Its key and certificate in PEM, the latter for NODE_EXTRA_CA_CERTS and SSL_CERT_FILE. */
  key: string;
  certificate: string;
  /** Issues a TLS certificate for DNS names and IP addresses, with a new key, both in PEM. It is valid for a year. */
  issue(options: { hosts: string[] }): Promise<ServerCertificate>;
}

export interface ServerCertificate {
  key: string;
  cert: string;
}

const DAY = 24 * 60 * 60 * 1000;
const ALGORITHM = { keyType: "ec", algorithm: "sha256" } as const;

/**
 * Creates an authority, and writes its certificate and a TLS certificate of the emulators to a directory that only its owner can
 * read.
 */
export async function saveCertificates(directory: string): Promise<CertificateAuthority> {
  const authority = await createCertificateAuthority();
  const server = await authority.issue({ hosts: ["127.0.0.1"] });
  const files = {
    "ca.pem": authority.certificate,
    "server.pem": server.cert,
    "server-key.pem": server.key,
  };
  for (const [name, content] of Object.entries(files)) {
    await writeFile(join(directory, name), content, { mode: 0o600 });
  }
  return authority;
}

/**
 * Lets this process, and those that it starts, use the emulators of a directory with certificates, and no login of this machine:
 * the emulated Pulumi Cloud needs none.
 */
export function useSimulation(directory: string): void {
  for (const name of ["PULUMI_ACCESS_TOKEN", "PULUMI_BACKEND_URL", "PULUMI_API"]) delete process.env[name];
  process.env.PULUMI_CREDENTIALS_PATH = directory;
  process.env.NODE_EXTRA_CA_CERTS = join(directory, "ca.pem");
  process.env.SIMULATOR_DIRECTORY = directory;
}

/** Returns the directory of the running simulation. @throws Error if there is none. */
export function simulationDirectory(): string {
  const directory = process.env.SIMULATOR_DIRECTORY;
  if (!directory) throw new Error("SIMULATOR_DIRECTORY is not set. `npm start` and `npm test` set it.");
  return directory;
}

/** Returns the certificate of the emulated services, which is the same for all of them. */
export async function emulatorCertificate(): Promise<ServerCertificate> {
  const read = (file: string) => readFile(join(simulationDirectory(), file), "utf8");
  return { key: await read("server-key.pem"), cert: await read("server.pem") };
}

/** Creates an authority in memory. */
export async function createCertificateAuthority(): Promise<CertificateAuthority> {
  // With one name for all, a certificate of another authority would have an invalid signature, not an unknown issuer.
  const name = `EKS simulation ${randomBytes(4).toString("hex")}`;
  const { private: key, cert } = await generate([{ name: "commonName", value: name }], {
    ...ALGORITHM,
    notBeforeDate: new Date(Date.now() - 2 * DAY),
    notAfterDate: new Date(Date.now() + 365 * DAY),
    extensions: [
      { name: "basicConstraints", cA: true, critical: true },
      { name: "keyUsage", keyCertSign: true, cRLSign: true, critical: true },
    ],
  });
  return certificateAuthority(key, cert);
}

/** Returns an authority that exists already. */
export function certificateAuthority(key: string, certificate: string): CertificateAuthority {
  return {
    key,
    certificate,
    async issue({ hosts }) {
      const altNames = hosts.map((host) =>
        isIP(host) ? { type: 7 as const, ip: host } : { type: 2 as const, value: host },
      );
      const issued = await generate([{ name: "commonName", value: "EKS simulation" }], {
        ...ALGORITHM,
        ca: { key, cert: certificate },
        notBeforeDate: new Date(Date.now() - DAY),
        notAfterDate: new Date(Date.now() + 364 * DAY),
        extensions: [
          { name: "basicConstraints", cA: false, critical: true },
          { name: "keyUsage", digitalSignature: true, critical: true },
          { name: "extKeyUsage", serverAuth: true },
          { name: "subjectAltName", altNames },
        ],
      });
      return { key: issued.private, cert: issued.cert };
    },
  };
}
