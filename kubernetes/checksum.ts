import { createHash } from "node:crypto";

/** Returns the SHA-256 of a string, in lowercase hex. */
export function sha256(content: string): string {
  return createHash("sha256").update(content).digest("hex");
}
