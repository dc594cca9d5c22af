// Programs that a test requires, puts on PATH, or starts.

import { type ChildProcessByStdio, spawnSync } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import type { Readable, Writable } from "node:stream";
import { text } from "node:stream/consumers";

export interface Ended {
  exitCode: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

/**
 * Writes scripts to a directory, by the names of their programs.
 *
 * @param interpreter of the scripts: `/bin/sh` where PATH has no Bash, or another one.
 * @returns a PATH on which they are the first of their names.
 */
export function writePrograms(
  directory: string,
  scripts: Record<string, string>,
  interpreter = "/usr/bin/env bash",
): string {
  for (const [name, script] of Object.entries(scripts)) {
    // Not asynchronously: a process that starts meanwhile would inherit the open file ("text file busy").
    writeFileSync(join(directory, name), `#!${interpreter}\n${script}\n`, { mode: 0o755 });
  }
  return `${directory}${delimiter}${process.env.PATH}`;
}

/** Returns why tests that require a program are skipped, with the page that says how to install it; false if it runs. */
export function missingProgram(program: string, page: string): string | false {
  const isMissing = spawnSync(program, ["--version"]).status !== 0;
  return isMissing && `${program} is not on PATH, or too old; to install it, see ${page}`;
}

/** Why tests that require jq are skipped, which the pages use, too; false if it runs. */
export const missingJq = missingProgram("jq", "https://jqlang.org/download/");

/** Waits for a process to end, and returns what it has printed. */
export async function ended(child: ChildProcessByStdio<Writable | null, Readable, Readable>): Promise<Ended> {
  const closed = once(child, "close");
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
  const [exitCode, signal] = await closed;
  return { exitCode, signal, stdout, stderr };
}
