// The certificate of an emulated issuer, of which there is only a fingerprint.

import { randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export interface IssuerCertificate {
  /** The variables with which a program reads it. */
  environment: { ISSUER_FINGERPRINT: string; NODE_OPTIONS: string };
  /** Returns its thumbprint: SHA-256, in lowercase hex. */
  thumbprint(): string;
  /** Replaces it with another one. */
  renew(): void;
}

/** Creates a certificate of which the fingerprint is in a file of a directory. */
export function createIssuerCertificate(directory: string): IssuerCertificate {
  const file = join(directory, "issuer-fingerprint");
  const renew = () => {
    const bytes = randomBytes(32).toString("hex").toUpperCase().match(/../g) ?? [];
    writeFileSync(file, bytes.join(":"));
  };
  renew();
  return {
    environment: {
      ISSUER_FINGERPRINT: file,
      NODE_OPTIONS: `--require=${JSON.stringify(join(__dirname, "issuerCertificate.cjs"))}`,
    },
    thumbprint: () => readFileSync(file, "utf8").replaceAll(":", "").toLowerCase(),
    renew,
  };
}
