// The files of this project, and what its pages print.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";

export const ROOT = join(__dirname, "..", "..");

/** A block of code in a page. */
export interface Block {
  /** What follows the backticks, such as `bash`. */
  info: string;
  text: string;
}

/** Returns a text file of the project, such as `docs/import.md`. */
export function read(path: string): string {
  return readFileSync(join(ROOT, path), "utf8");
}

/** Returns the section of a page below a heading, such as `## Threats`, up to the next heading of the same level. */
export function sectionOf(page: string, heading: string): string {
  const [, below = assert.fail(`the page does not contain the section ${heading}`)] = page.split(
    `\n${heading}\n`,
  );
  return below.split(`\n${heading.split(" ")[0]} `)[0] ?? "";
}

/** Returns the blocks of code of a page in its order, without their indentation. */
export function blocksOf(page: string): Block[] {
  return [...page.matchAll(/^( *)```(\w.*?)\n(.*?)^ *```$/gms)].map(
    ([, indentation = "", info = "", text = ""]) => {
      return { info, text: text.replaceAll(RegExp(`^${indentation}`, "gm"), "") };
    },
  );
}

/** Returns the blocks of code of a page in one language. */
export function codeIn(page: string, language: string): string[] {
  return blocksOf(page).flatMap(({ info, text }) => (info === language ? [text] : []));
}
