// Which version of this project a component is of. A commit cannot know its own ID, so it is a checksum of the source files.

import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** The directories with what a component is made of. */
const DIRECTORIES = ["", "settings", "kubernetes", "scripts"];

/** The first 16 hexadecimal digits of the SHA-256 of all source files. */
export const SOURCES = checksum();

function checksum(): string {
  const hash = createHash("sha256");
  for (const directory of DIRECTORIES) {
    for (const file of readdirSync(join(__dirname, directory)).sort()) {
      if (/\.(ts|sh)$/.test(file)) hash.update(file).update(readFileSync(join(__dirname, directory, file)));
    }
  }
  return hash.digest("hex").slice(0, 16);
}
