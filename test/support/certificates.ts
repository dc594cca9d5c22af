// The certificate authority that the emulators of a test run have, for other servers of the tests.

import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import {
  type CertificateAuthority,
  certificateAuthority,
  saveCertificates,
  simulationDirectory,
} from "../../simulator/emulators/certificates";

const KEY = "ca-key.pem";

/** Creates the authority of a test run, and writes it to a directory that only its owner can read. */
export async function saveCertificateAuthority(directory: string): Promise<void> {
  const { key } = await saveCertificates(directory);
  await writeFile(join(directory, KEY), key, { mode: 0o600 });
}

/** Returns the authority of the running tests. */
export async function openCertificateAuthority(): Promise<CertificateAuthority> {
  const read = (file: string) => readFile(join(simulationDirectory(), file), "utf8");
  return certificateAuthority(await read(KEY), await read("ca.pem"));
}
