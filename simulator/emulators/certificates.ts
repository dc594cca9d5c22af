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
  /**
   * Issues a TLS certificate for DNS names and IP addresses, with a new key, both in PEM. By default it is valid from a day
   * before now (or before `notAfter`) for a year.
   */
  issue(options: { hosts: string[]; notBefore?: Date; notAfter?: Date }): Promise<ServerCertificate>;
  /** Returns the certificate of the emulated services, which is the same for all of them in a process. */
  emulatorCertificate(): Promise<ServerCertificate>;
}

export interface ServerCertificate {
  key: string;
  cert: string;
}

const DAY = 24 * 60 * 60 * 1000;
const ALGORITHM = { keyType: "ec", algorithm: "sha256" } as const;

/** Creates an authority and writes it to a directory: `ca.pem` and, readable only by its owner, `ca-key.pem`. */
export async function saveCertificateAuthority(directory: string): Promise<void> {
  const { key, certificate } = await createCertificateAuthority();
  await writeFile(join(directory, "ca-key.pem"), key, { mode: 0o600 });
  await writeFile(join(directory, "ca.pem"), certificate);
}

/** Returns the directory of the running simulation. @throws Error if there is none. */
export function simulationDirectory(): string {
  const directory = process.env.SIMULATOR_DIRECTORY;
  if (!directory) throw new Error("SIMULATOR_DIRECTORY is not set. `npm start` and `npm test` set it.");
  return directory;
}

/** Opens the authority that `saveCertificateAuthority` wrote to the directory of the simulation. */
export async function openCertificateAuthority(): Promise<CertificateAuthority> {
  const read = (file: string) => readFile(join(simulationDirectory(), file), "utf8");
  return certificateAuthority(await read("ca-key.pem"), await read("ca.pem"));
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

/** By the authority that has issued it. */
const emulatorCertificates = new Map<string, Promise<ServerCertificate>>();

function certificateAuthority(key: string, certificate: string): CertificateAuthority {
  const authority: CertificateAuthority = {
    key,
    certificate,
    emulatorCertificate() {
      const issued = emulatorCertificates.get(certificate) ?? authority.issue({ hosts: ["127.0.0.1"] });
      emulatorCertificates.set(certificate, issued);
      return issued;
    },
    async issue({ hosts, notBefore, notAfter = new Date(Date.now() + 364 * DAY) }) {
      const altNames = hosts.map((host) =>
        isIP(host) ? { type: 7 as const, ip: host } : { type: 2 as const, value: host },
      );
      const issued = await generate([{ name: "commonName", value: "EKS simulation" }], {
        ...ALGORITHM,
        ca: { key, cert: certificate },
        notBeforeDate: notBefore ?? new Date(Math.min(Date.now(), notAfter.getTime()) - DAY),
        notAfterDate: notAfter,
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
  return authority;
}
