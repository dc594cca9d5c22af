// What the simulation needs of this machine: Node.js, and the programs that the exchange script runs.

import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** The lowest version of each program: scripts/exchange-token.sh. */
const PROGRAMS = [
  { name: "bash", lowest: "4.4.19", advice: "On macOS: brew install bash" },
  { name: "curl", lowest: "7.84", advice: "To install it: https://curl.se/download.html" },
];

/** @throws Error if this Node.js is older than package.json requires. */
export function requireNode(): void {
  const { engines } = JSON.parse(readFileSync(join(__dirname, "..", "package.json"), "utf8"));
  const lowest = String(engines?.node ?? "").replace(">=", "");
  const found = process.versions.node;
  if (isAtLeast(found, lowest)) return;
  throw new Error(
    `npm start requires Node.js ${lowest} or later, but found ${found}. To install it: https://nodejs.org/en/download`,
  );
}

/** @throws Error that lists each program that is missing or too old. */
export function requirePrograms(): void {
  const problems = PROGRAMS.flatMap(({ name, lowest, advice }) => {
    const { stdout } = spawnSync(name, ["--version"], { encoding: "utf8" });
    const [version] = /\d+(\.\d+)+/.exec(stdout ?? "") ?? [];
    if (version && isAtLeast(version, lowest)) return [];
    const found = version ? `found ${version}` : "it is not on PATH";
    return [`The simulation requires ${name} ${lowest} or later, but ${found}. ${advice}`];
  });
  if (problems.length > 0) throw new Error(problems.join("\n"));
}

/** @throws Error if this machine does not run scripts in the temporary directory, as each pod of the simulation requires. */
export function requireExecution(): void {
  const directory = mkdtempSync(join(tmpdir(), "simulation-"));
  const script = join(directory, "script");
  writeFileSync(script, "#!/usr/bin/env bash\n", { mode: 0o700 });
  const { error } = spawnSync(script);
  rmSync(directory, { recursive: true });
  if (!error) return;
  throw new Error(
    `This machine cannot simulate: it does not run a script in ${tmpdir()} (${error.message}). ` +
      "Set TMPDIR to a directory without the mount option noexec. On Windows, use WSL.",
  );
}

/** Compares the numbers of versions, such as `20.20` and `20.9.1`. */
function isAtLeast(version: string, lowest: string): boolean {
  return version.localeCompare(lowest, "en", { numeric: true }) >= 0;
}
