// The program of examples/fleet/teams on Pulumi's engine.

import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { failed, succeeded } from "../environment/engineOutcome";
import { serveProvider } from "../environment/provider";
import { missingCli, openCli } from "../environment/pulumiCli";
import { CREATOR, startTeams } from "../environment/teams";
import { linkPackages, read } from "../support/project";

let teams = startTeams();
/** A process can serve providers only once. */
let served: Promise<string> | undefined;

/** Creates a project with these files, and a stack of it, in an organization without teams. */
async function newStack(t: TestContext, files: Record<string, string>) {
  teams = startTeams();
  served ??= serveProvider(() => teams);
  const cli = openCli(await served);
  t.after(cli.remove);
  const directory = join(cli.directory, "teams");
  await mkdir(directory);
  const write = (name: string, content: string) => writeFile(join(directory, name), content);
  for (const [name, content] of Object.entries(files)) await write(name, content);
  const pulumi = (...args: string[]) => cli.pulumi(directory, ...args);
  const up = (...args: string[]) => pulumi("up", "--yes", "--skip-preview", ...args);
  await linkPackages(directory);
  succeeded(await pulumi("stack", "init", "organization"));
  return { write, pulumi, up };
}

const FILES = ["Pulumi.yaml", "package.json", "index.ts"];
const PROGRAM = read("examples/fleet/teams/index.ts").replaceAll("my-login", CREATOR);

const filesOf = (program: string) => ({
  ...Object.fromEntries(FILES.map((name) => [name, read(`examples/fleet/teams/${name}`)])),
  "index.ts": program,
});

test("examples/fleet/teams creates a team for each line, with the members of its stage and its own, and keeps it so", {
  skip: missingCli,
}, async (t) => {
  const own = `stage: "dev", project: "shop", members: ["${CREATOR}", "carol"]`;
  const program = PROGRAM.replace(`prod: ["${CREATOR}"]`, `prod: ["${CREATOR}", "bob"]`).replace(
    'stage: "dev", project: "shop"',
    own,
  );
  const { write, pulumi, up } = await newStack(t, filesOf(program));
  succeeded(await up());
  const created = [
    ...teamOf("team-a-dev", "stack app/dev 102"),
    ...teamOf("team-a-staging", "stack app/staging 102"),
    ...teamOf("team-a-prod", "stack app/prod-us 102", "stack app/prod-eu 102"),
    ...teamOf("team-b-staging", "stack shop/staging 102", "environment shop/staging open"),
    ...teamOf("team-b-dev", "stack shop/dev 102", "environment shop/dev open"),
    ...teamOf("team-b-prod", "stack shop/prod 102", "environment shop/prod open"),
  ];
  assert.deepEqual(teams.existing().toSorted(), created.toSorted());
  assert.deepEqual(teams.membersOf("organization/team-a-dev"), [CREATOR]);
  assert.deepEqual(teams.membersOf("organization/team-b-dev"), [CREATOR, "carol"]);
  assert.deepEqual(teams.membersOf("organization/team-b-prod"), [CREATOR, "bob"]);
  succeeded(await up("--refresh", "--expect-no-changes"));

  teams.addMember("organization/team-a-dev", "eve");
  succeeded(await up("--refresh"));
  assert.deepEqual(teams.membersOf("organization/team-a-dev"), [CREATOR]);

  await write("index.ts", program.replace("TeamStackPermissionScope.Edit", "TeamStackPermissionScope.Read"));
  succeeded(await up());
  const changed = created.map((it) => it.replace("102", "101"));
  assert.deepEqual(teams.existing().toSorted(), changed.toSorted());

  await write("index.ts", PROGRAM.replace('stage: "prod", project: "app"', "$&, suspended: true"));
  succeeded(await up());
  const suspended = teams.existing().filter((it) => it.startsWith("organization/team-a-prod"));
  assert.deepEqual(suspended, ["organization/team-a-prod"]);

  succeeded(await pulumi("destroy", "--yes"));
  assert.deepEqual(teams.existing(), []);
});

test("the lock file of examples/fleet/teams has the versions of its package.json", () => {
  const { dependencies } = JSON.parse(read("examples/fleet/teams/package.json"));
  const { packages } = JSON.parse(read("examples/fleet/teams/package-lock.json"));
  assert.deepEqual(packages[""].dependencies, dependencies);
  for (const [name, version] of Object.entries(dependencies)) {
    assert.equal(packages[`node_modules/${name}`].version, version);
  }
});

test("examples/fleet/teams creates a role for External Secrets if the table has an environment, and prints its ID", {
  skip: missingCli,
}, async (t) => {
  const program = PROGRAM.replace('// { project: "shop"', '{ project: "shop"');
  const { pulumi, up } = await newStack(t, filesOf(program));
  succeeded(await up());
  const role =
    "organization role external-secrets-shop-prod: environment shop/prod environment:read environment:open";
  assert.ok(teams.existing().includes(role), teams.existing().join());
  const { stdout } = succeeded(await pulumi("stack", "output", "--json"));
  assert.deepEqual(JSON.parse(stdout), { externalSecretsRoles: { "shop/prod": "role-1" } });
  succeeded(await up("--expect-no-changes"));
});

test("examples/fleet/teams creates nothing if a name is a pattern, or is there twice", {
  skip: missingCli,
}, async (t) => {
  const program = PROGRAM.replaceAll('team: "team-b"', 'team: "team-a"').replace(
    '"team-a", stage',
    '"*", stage',
  );
  const { pulumi } = await newStack(t, filesOf(program));
  assert.match(
    failed(await pulumi("preview"), /Invalid names of teams: /),
    /\*-dev, team-a-staging, team-a-prod\. /,
  );
  assert.deepEqual(teams.existing(), []);
});

/** Returns a team as it exists, in the only organization of a state in files. */
function teamOf(name: string, ...permissions: string[]): string[] {
  const team = `organization/${name}`;
  return [team, ...permissions.map((permission) => `${team}: ${permission}`)];
}
