// The programs that the exchange script needs, which the simulation runs on this machine.

import { spawnSync } from "node:child_process";

/** The lowest version of each program: scripts/exchange-token.sh. */
const PROGRAMS = [
  { name: "bash", major: 4, minor: 4, advice: "On macOS: brew install bash" },
  { name: "curl", major: 7, minor: 84, advice: "To install it: https://curl.se/download.html" },
];

/** @throws Error that lists each program that is missing or too old. */
export function requirePrograms(): void {
  const problems = PROGRAMS.flatMap(({ name, major, minor, advice }) => {
    const { stdout } = spawnSync(name, ["--version"], { encoding: "utf8" });
    const [version, foundMajor, foundMinor] = /(\d+)\.(\d+)/.exec(stdout ?? "") ?? [];
    if (Number(foundMajor) > major || (Number(foundMajor) === major && Number(foundMinor) >= minor))
      return [];
    const found = version ? `found ${version}` : "it is not on PATH";
    return [`The simulation requires ${name} ${major}.${minor} or later, but ${found}. ${advice}`];
  });
  if (problems.length > 0) throw new Error(problems.join("\n"));
}
