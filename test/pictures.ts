// Writes the pictures of a terminal in docs/: `npm run docs`. One is of `npm start`, the other one of an update that fails. That
// needs the Pulumi CLI: without it, the file stays as it is.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { emptyStack } from "./support/engineStack";
import { pictureOf } from "./support/picture";
import { ended } from "./support/programs";
import { ROOT } from "./support/project";
import { missingCli } from "./support/pulumiCli";

/** A module with which a program prints for a terminal. */
const TERMINAL = "data:text/javascript,Object.assign(process.stdout,{isTTY:true,columns:80})";

const skip = missingCli && `docs/denied.svg stays as it is, because ${missingCli}`;

/** When the pictures were taken, so that they change only with what the programs print. */
const TIME = Date.UTC(2026, 11, 1, 9) / 1000;

/** What differs each time, and what is written instead. */
const FIXED: [pattern: RegExp, replacement: string][] = [
  [/[\da-f]{8}-[\da-f]{4}-4[\da-f]{3}-[\da-f]{4}-[\da-f]{12}/g, "7c1f3f0e-5a4e-4d0c-9b1a-2f6f0f5d9a11"],
  [/https:\/\/127\.0\.0\.1:\d+(?=\/id\/)/g, "https://oidc.eks.us-west-2.amazonaws.com"],
  [/(?<=\/id\/)[\dA-F]{32}/g, "EXAMPLED539D4633E53DE1B71EXAMPLE"],
  // The simulation's Pulumi Cloud.
  [/https:\/\/127\.0\.0\.1:\d+/g, "https://api.pulumi.com"],
  [/(?<=token-exchange-)[\da-z]{5}\b/g, "x7k2p"],
  [/(?<="(?:iat|nbf)":)\d+/g, String(TIME)],
  [/(?<="exp":)\d+/g, String(TIME + 600)],
  [/\t/g, "    "],
];

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
  await write("npm-start", "npm start", [first, "", "…", "", ...check]);
});

test("docs/denied.svg shows why an exchange is denied, as `pulumi up` prints it", { skip }, async (t) => {
  const deployer = {
    namespace: "team-a",
    name: "deployer",
    tokenType: "team",
    teamName: "platform",
    awsRole: "none",
    // The Job's pod has another name.
    policyRules: { '"kubernetes.io".pod.name': "deploy-*" },
  };
  const { cli, directory } = await emptyStack(t, { userLogin: "", serviceAccounts: [deployer] });
  const options = ["--yes", "--skip-preview", "--non-interactive", "--color", "always"];
  const { stdout, screen } = await cli.run(directory, "pulumi", "up", ...options);

  const diagnostics = /^(\S*Diagnostics:\S*)\n(.*?)\n\n\S*Outputs:/ms.exec(stdout);
  const [, heading = assert.fail(screen), errors = ""] = diagnostics ?? [];
  // The CLI prints the errors of a failed update in any order.
  const sorted = errors.split("\n\n").sort().join("\n\n");
  await write("denied", "pulumi up", ["…", "", heading, ...sorted.split("\n")]);
});

/** Writes a picture of a command and what it printed. */
async function write(name: string, command: string, lines: string[]): Promise<void> {
  const screen = FIXED.reduce((text, [pattern, fixed]) => text.replace(pattern, fixed), lines.join("\n"));
  const picture = await pictureOf(`The output of ${command}`, [`$ ${command}`, ...screen.split("\n")]);
  writeFileSync(join(ROOT, "docs", `${name}.svg`), picture);
}
