// The certificate authority of the simulation: every HTTPS server of the simulation has a certificate of it.

import { randomBytes } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { isIP } from "node:net";
import { join } from "node:path";
import { generate } from "selfsigned";

export interface CertificateAuthority {
  /** The authority's own certificate in PEM: what NODE_EXTRA_CA_CERTS and SSL_CERT_FILE must point to. */
  certificate: string;
  /**
   * Signs a serving certificate for a new key.
   *
   * @param options DNS names and IP addresses to serve, and the validity: by default from yesterday on, for a
   *   year.
   * @returns key and certificate in PEM, as `https.createServer` takes them.
   */
  issue(options: ServingCertificate): Promise<{ key: string; cert: string }>;
}

export interface ServingCertificate {
  hosts: string[];
  notBefore?: Date;
  notAfter?: Date;
}

/** Makes an authority that lives in memory alone. */
export async function createCertificateAuthority(): Promise<CertificateAuthority> {
  const { key, certificate } = await generateAuthority();
  return certificateAuthority(key, certificate);
}

/**
 * Makes an authority and writes it to a folder, for a child process to open: Node.js reads
 * NODE_EXTRA_CA_CERTS at its start only, so whoever trusts the authority must start after it was made.
 *
 * @param folder made when it is missing; gets `ca.pem` and, readable by its owner alone, `ca-key.pem`.
 */
export async function saveCertificateAuthority(folder: string): Promise<void> {
  const { key, certificate } = await generateAuthority();
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, KEY_FILE), key, { mode: 0o600 });
  await writeFile(join(folder, CERTIFICATE_FILE), certificate);
}

/**
 * Opens the authority that `saveCertificateAuthority` wrote.
 *
 * @param folder the folder's path; undefined, as from an environment variable that is not set, is refused.
 * @throws Error when no authority is there, with the commands that make one.
 */
export async function openCertificateAuthority(folder: string | undefined): Promise<CertificateAuthority> {
  try {
    if (!folder) throw new Error("SIMULATOR_DIRECTORY is not set");
    const key = await readFile(join(folder, KEY_FILE), "utf8");
    return certificateAuthority(key, await readFile(join(folder, CERTIFICATE_FILE), "utf8"));
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new Error(
      `The simulation has no certificate authority (${reason}). \`npm start\` and \`npm test\` make one; start with them.`,
      { cause: error },
    );
  }
}

const CERTIFICATE_FILE = "ca.pem";
const KEY_FILE = "ca-key.pem";
const DAY = 24 * 60 * 60 * 1000;

async function generateAuthority(): Promise<{ key: string; certificate: string }> {
  // A name of its own for each authority: a certificate of one and the same name but another key would be
  // reported as a broken signature, where a stranger's authority is reported as unknown.
  const name = `EKS simulation ${randomBytes(4).toString("hex")}`;
  const { private: key, cert: certificate } = await generate([{ name: "commonName", value: name }], {
    keyType: "ec",
    algorithm: "sha256",
    notBeforeDate: new Date(Date.now() - 2 * DAY),
    notAfterDate: new Date(Date.now() + 365 * DAY),
    extensions: [
      { name: "basicConstraints", cA: true, critical: true },
      { name: "keyUsage", keyCertSign: true, cRLSign: true, critical: true },
    ],
  });
  return { key, certificate };
}

function certificateAuthority(key: string, certificate: string): CertificateAuthority {
  return {
    certificate,
    async issue({ hosts, notBefore, notAfter = new Date(Date.now() + 364 * DAY) }) {
      const serving = await generate([{ name: "commonName", value: "EKS simulation" }], {
        keyType: "ec",
        algorithm: "sha256",
        ca: { key, cert: certificate },
        notBeforeDate: notBefore ?? new Date(Math.min(Date.now(), notAfter.getTime()) - DAY),
        notAfterDate: notAfter,
        extensions: [
          { name: "basicConstraints", cA: false, critical: true },
          { name: "keyUsage", digitalSignature: true, critical: true },
          { name: "extKeyUsage", serverAuth: true },
          {
            name: "subjectAltName",
            altNames: hosts.map((host) => (isIP(host) ? { type: 7, ip: host } : { type: 2, value: host })),
          },
        ],
      });
      return { key: serving.private, cert: serving.cert };
    },
  };
}
