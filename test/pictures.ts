// Writes the picture of a terminal in docs/: `npm run docs`.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { pictureOf } from "./support/picture";
import { ended } from "./support/programs";
import { ROOT } from "./support/project";

/** A module with which a program prints for a terminal. */
const TERMINAL = "data:text/javascript,Object.assign(process.stdout,{isTTY:true,columns:80})";

test("docs/npm-start.svg shows who gets a token, as `npm start` prints it", async () => {
  const child = spawn(
    process.execPath,
    ["--import", "tsx", "--import", TERMINAL, "simulator/commandLine.ts"],
    {
      cwd: ROOT,
      // What the runner of the tests sets would change what it does.
      env: { PATH: process.env.PATH, TMPDIR: tmpdir(), TERM: "xterm" },
      stdio: ["ignore", "pipe", "pipe"],
    },
  );
  const { exitCode, stdout, stderr } = await ended(child);
  assert.deepEqual([exitCode, stderr], [0, ""]);

  // Between them are the resources and the output of each Job.
  const [first = "", ...lines] = stdout.trimEnd().split("\n");
  const check = lines.slice(lines.findIndex((line) => line.includes("Access check")));
  const screen = ["$ npm start", first, "", "…", "", ...check];
  writeFileSync(join(ROOT, "docs", "npm-start.svg"), pictureOf("The output of npm start", screen));
});
