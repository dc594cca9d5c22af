// The program of examples/fleet/teams.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { assertDocument } from "../core/document";
import { type Run, runProgram, stopOf } from "../core/program";
import { linkPackages, read } from "../support/project";
import { temporaryDirectory } from "../support/temporaryDirectory";

/** Runs the program with these edits: what each string is replaced by. */
async function runTeams(t: TestContext, edits: Record<string, string>): Promise<Run> {
  const directory = temporaryDirectory(t);
  await linkPackages(directory);
  const file = join(directory, "index.ts");
  const edited = Object.entries(edits).reduce((program, [old, changed]) => {
    assert.ok(program.includes(old), old);
    return program.replaceAll(old, changed);
  }, read("examples/fleet/teams/index.ts"));
  writeFileSync(file, edited);
  const answers = {
    "pulumiservice:index:getEnvironment": ({ projectName, name }: Record<string, string>) => ({
      environmentId: `<ID of ${projectName}/${name}>`,
    }),
    "pulumiservice:index:buildEnvironmentScopedPermissions": (inputs: object) => ({ permissions: inputs }),
  };
  return runProgram(async () => ({ ...require(file) }), {}, { answers });
}

test("a team for each line, with the members of its stage and its own, and a role for External Secrets", async (t) => {
  const run = await runTeams(t, {
    'prod: ["my-login"]': 'prod: ["my-login", "bob"]',
    'stage: "dev", project: "shop"': 'stage: "dev", project: "shop", members: ["my-login", "carol"]',
    'stage: "staging", project: "app"': 'stage: "staging", project: "app", suspended: true',
    '// { project: "shop"': '{ project: "shop"',
  });
  await assertDocument(join(__dirname, "golden", "teams.yaml"), run);
});

test("creates nothing if a name is a pattern, or is there twice", async (t) => {
  const edits = { 'team: "team-b"': 'team: "team-a"', '"team-a", stage: "prod"': '"*", stage: "prod"' };
  const message = await stopOf(runTeams(t, edits));
  assert.match(message, /^Invalid names of teams: \*-prod, team-a-dev, team-a-staging, \*-prod\. /);
});

test("the lock file of examples/fleet/teams has the versions of its package.json", () => {
  const { dependencies } = JSON.parse(read("examples/fleet/teams/package.json"));
  const { packages } = JSON.parse(read("examples/fleet/teams/package-lock.json"));
  assert.deepEqual(packages[""].dependencies, dependencies);
  for (const [name, version] of Object.entries(dependencies)) {
    assert.equal(packages[`node_modules/${name}`].version, version);
  }
});
