// Simulates the stacks of a test, in this process.

import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { type Options, simulateStack } from "../../simulator/simulateStack";
import { type Settings, stackWith } from "../environment/stack";
import { ignoringRejections } from "../support/failure";
import { temporaryDirectory } from "../support/temporaryDirectory";

/** Settings of a stack about which the simulation has nothing to note. */
const REQUIRED = { organization: "acme", "aws:region": "us-west-2", clusterName: "my-cluster" };

/** Returns a stack file with an entry of `serviceAccounts`, and with these settings on top of the required ones. */
export function stackFile(settings: Settings) {
  return { config: { ...REQUIRED, ...stackWith({}), ...settings } };
}

/** Simulates a project with these stack files. */
export async function simulate(
  t: TestContext,
  stacks: Record<string, unknown>,
  options: Options = {},
  limits?: object,
) {
  const directory = temporaryDirectory(t);
  await writeFile(join(directory, "Pulumi.yaml"), "name: eks-pulumi-oidc\nruntime: nodejs\n");
  for (const [name, content] of Object.entries(stacks)) {
    // JSON is YAML.
    await writeFile(join(directory, `Pulumi.${name}.yaml`), JSON.stringify(content));
    if (limits) await writeFile(join(directory, `Pulumi.${name}.policy.json`), JSON.stringify(limits));
  }
  const [stdout, stderr]: [string[], string[]] = [[], []];
  const output = {
    log: (line: string) => void stdout.push(`${line}\n`),
    error: (line: string) => void stderr.push(`${line}\n`),
  };
  const exitCode = await ignoringRejections(() => simulateStack(directory, options, output));
  return printed(exitCode, stdout.join(""), stderr.join(""));
}

/** Returns what was printed, also in one line. No run may print a token or a stack trace. */
export function printed(exitCode: number | null, stdout: string, stderr: string) {
  assert.doesNotMatch(stdout + stderr, /eyJ[\w-]+\.[\w-]+|pul-[0-9a-f]{10}/, "a token");
  assert.doesNotMatch(stdout + stderr, /^\s+at .*:\d+|node:internal|\[object /m, "a stack trace");
  return { exitCode, stdout, stderr, flow: stdout.replaceAll(/\s+/g, " ") };
}
