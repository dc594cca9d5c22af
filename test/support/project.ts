// The files of this project, copies of them, and what its pages print.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { cp, symlink } from "node:fs/promises";
import { join } from "node:path";

export const ROOT = join(__dirname, "..", "..");

/** Returns a text file of the project, such as `docs/copy.md`. */
export function read(path: string): string {
  return readFileSync(join(ROOT, path), "utf8");
}

/** The paths of the files with one of these ends, without those of packages. */
export function filesWith(end: RegExp): string[] {
  const entries = readdirSync(ROOT, { withFileTypes: true });
  const paths = entries.flatMap((entry) => {
    if (entry.isFile()) return [entry.name];
    if (entry.name === "node_modules" || entry.name === ".git") return [];
    const below = readdirSync(join(ROOT, entry.name), { encoding: "utf8", recursive: true });
    return below.map((path) => join(entry.name, path));
  });
  return paths.filter((path) => end.test(path) && !path.includes("node_modules"));
}

/** Copies what a clone of the project contains, except the paths that are left out, and returns the directory of the copy. */
export async function copyProject(directory: string, leftOut: string[] = []): Promise<string> {
  const paths = ["node_modules", ".git", ...leftOut].map((name) => join(ROOT, name));
  await cp(ROOT, directory, { recursive: true, filter: (path) => !paths.includes(path) });
  return directory;
}

/** Lets a copy use the packages of this checkout. */
export function linkPackages(directory: string): Promise<void> {
  return symlink(join(ROOT, "node_modules"), join(directory, "node_modules"));
}

/** Returns the section of a page below a heading, such as `## Threats`, up to the next heading of the same level. */
export function sectionOf(page: string, heading: string): string {
  const [, below = assert.fail(`the page does not contain the section ${heading}`)] = page.split(
    `\n${heading}\n`,
  );
  return below.split(`\n${heading.split(" ")[0]} `)[0] ?? "";
}

/** Returns the blocks of code of a page without their indentation. `info` follows the backticks, such as `bash`. */
export function blocksOf(page: string): { info: string; text: string }[] {
  return [...page.matchAll(/^( *)```(\w.*?)\n(.*?)^ *```$/gms)].map(
    ([, indentation = "", info = "", text = ""]) => {
      return { info, text: text.replaceAll(RegExp(`^${indentation}`, "gm"), "") };
    },
  );
}

/** Returns the one block of commands of a page that contains a string. */
export function commandsWith(page: string, text: string): string {
  const [found, ...others] = codeIn(page, "bash").filter((block) => block.includes(text));
  assert.ok(found && others.length === 0, `one block must contain ${text}`);
  return found;
}

/** Returns the blocks of code of a page in one language. */
export function codeIn(page: string, language: string): string[] {
  return blocksOf(page).flatMap(({ info, text }) => (info === language ? [text] : []));
}
