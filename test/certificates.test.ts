// The simulation's certificate authority, as the launcher saves it and its child process opens it.

import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { openCertificateAuthority, saveCertificateAuthority } from "../simulator/certificates";

test("a saved authority signs, once opened, certificates that its file ca.pem vouches for", async (t) => {
  const folder = await savedAuthority(t);
  const authority = await openCertificateAuthority(folder);
  const { cert } = await authority.issue({ hosts: ["127.0.0.1", "issuer.example"] });

  const trusted = new X509Certificate(await readFile(join(folder, "ca.pem")));
  const certificate = new X509Certificate(cert);
  assert.ok(certificate.verify(trusted.publicKey));
  assert.equal(certificate.checkIP("127.0.0.1"), "127.0.0.1");
  assert.equal(certificate.checkHost("issuer.example"), "issuer.example");
  assert.equal(certificate.ca, false);
});

test("the authority's key is readable by its owner alone", async (t) => {
  const folder = await savedAuthority(t);
  assert.equal((await stat(join(folder, "ca-key.pem"))).mode & 0o777, 0o600);
});

test("a folder without an authority is refused with the commands that make one", async () => {
  await assert.rejects(
    openCertificateAuthority(undefined),
    /SIMULATOR_DIRECTORY is not set.*npm start.*npm test/,
  );
  await assert.rejects(openCertificateAuthority("/nowhere"), /\/nowhere.*npm start.*npm test/);
});

async function savedAuthority(t: { after(cleanUp: () => Promise<void>): void }): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "authority-"));
  t.after(() => rm(folder, { recursive: true }));
  await saveCertificateAuthority(folder);
  return folder;
}
