// The programs of examples/fleet/teams and examples/fleet/teams-table on Pulumi's engine.

import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { succeeded } from "../support/engineOutcome";
import { linkPackages, read } from "../support/project";
import { serveProvider } from "../support/provider";
import { missingCli, openCli } from "../support/pulumiCli";
import { CREATOR, startTeams } from "../support/teams";

const string = { type: "string" };
const ofTeam = { organization: string, team: string, project: string };
/** As in provider/cmd/pulumi-resource-pulumiservice/schema.json of pulumi/pulumi-pulumiservice. */
const RESOURCES = {
  Team: {
    inputProperties: {
      ...{ organizationName: string, teamType: string, name: string },
      members: { type: "array", items: string },
    },
    requiredInputs: ["organizationName", "teamType"],
  },
  TeamStackPermission: {
    inputProperties: { ...ofTeam, stack: string, permission: { type: "integer" } },
    requiredInputs: ["organization", "project", "stack", "team", "permission"],
  },
  TeamEnvironmentPermission: {
    inputProperties: { ...ofTeam, environment: string, permission: string },
    requiredInputs: ["organization", "team", "environment", "permission"],
  },
  OrganizationRole: {
    inputProperties: {
      ...{ organizationName: string, name: string, description: string },
      permissions: { type: "object", additionalProperties: { $ref: "pulumi.json#/Any" } },
    },
    requiredInputs: ["organizationName", "name", "permissions"],
    properties: { name: string, roleId: string },
  },
};
const FUNCTIONS = {
  getEnvironment: {
    inputs: { organizationName: string, projectName: string, name: string },
    outputs: { environmentId: string },
  },
  buildEnvironmentScopedPermissions: {
    inputs: { environmentId: string, permissions: { type: "array", items: string } },
    outputs: { permissions: { type: "object", additionalProperties: { $ref: "pulumi.json#/Any" } } },
  },
};
const SCHEMA = {
  name: "pulumiservice",
  version: "1000.0.0",
  resources: Object.fromEntries(
    Object.entries(RESOURCES).map(([type, resource]) => {
      return [`pulumiservice:index:${type}`, { properties: resource.inputProperties, ...resource }];
    }),
  ),
  functions: Object.fromEntries(
    Object.entries(FUNCTIONS).map(([name, { inputs, outputs }]) => {
      const ofFunction = { inputs: { properties: inputs }, outputs: { properties: outputs } };
      return [`pulumiservice:index:${name}`, ofFunction];
    }),
  ),
};

let teams = startTeams();
/** A process can serve providers only once. */
let served: Promise<string> | undefined;

/** Creates a project with these files, and a stack of it, in an organization without teams. */
async function newStack(t: TestContext, files: Record<string, string>) {
  teams = startTeams();
  served ??= serveProvider(() => teams, SCHEMA);
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

test("examples/fleet/teams creates teams that a second update leaves as they are, and later ones change to what it says", {
  skip: missingCli,
}, async (t) => {
  const program = read("examples/fleet/teams/Pulumi.yaml").replaceAll("my-login", CREATOR);
  const { write, pulumi, up } = await newStack(t, { "Pulumi.yaml": program });
  succeeded(await up());
  // A state in files has no organization.
  const role =
    "organization role external-secrets-shop-prod: environment shop/prod environment:read environment:open";
  const created = [role, ...["dev", "prod"].flatMap((stage) => teamOf("team-a", "app", stage))];
  assert.deepEqual(teams.existing().toSorted(), created.toSorted());
  assert.deepEqual(teams.membersOf("organization/team-a-dev"), [CREATOR]);
  succeeded(await up("--expect-no-changes"));
  succeeded(await up("--refresh", "--expect-no-changes"));

  teams.addMember("organization/team-a-dev", "bob");
  succeeded(await up("--refresh"));
  assert.deepEqual(teams.membersOf("organization/team-a-dev"), [CREATOR]);
  assert.deepEqual(teams.existing().toSorted(), created.toSorted());

  await write("Pulumi.yaml", program.replaceAll("permission: 102", "permission: 101"));
  succeeded(await up());
  const changed = created.map((it) => it.replace("102", "101"));
  assert.deepEqual(teams.existing().toSorted(), changed.toSorted());

  succeeded(await pulumi("destroy", "--yes"));
  assert.deepEqual(teams.existing(), []);
});

test("examples/fleet/teams-table creates a team for each workload and stage, with the members of the stage", {
  skip: missingCli,
}, async (t) => {
  const names = ["Pulumi.yaml", "package.json", "index.ts"];
  const files = names.map((name) => [name, read(`examples/fleet/teams-table/${name}`)] as const);
  const program = read("examples/fleet/teams-table/index.ts").replaceAll("my-login", CREATOR);
  const ofProd = program.replace(`prod: ["${CREATOR}"]`, `prod: ["${CREATOR}", "bob"]`);
  const { pulumi, up } = await newStack(t, { ...Object.fromEntries(files), "index.ts": ofProd });
  succeeded(await up());
  const created = ["dev", "prod"].flatMap((stage) => [
    ...teamOf("team-a", "app", stage),
    ...teamOf("team-b", "shop", stage),
  ]);
  assert.deepEqual(teams.existing().toSorted(), created.toSorted());
  assert.deepEqual(teams.membersOf("organization/team-b-dev"), [CREATOR]);
  assert.deepEqual(teams.membersOf("organization/team-b-prod"), [CREATOR, "bob"]);
  succeeded(await up("--refresh", "--expect-no-changes"));
  succeeded(await pulumi("destroy", "--yes"));
  assert.deepEqual(teams.existing(), []);
});

/** Returns a team of a stage, as it exists. */
function teamOf(name: string, project: string, stage: string): string[] {
  const team = `organization/${name}-${stage}`;
  return [team, `${team}: environment ${project}/${stage} open`, `${team}: stack ${project}/${stage} 102`];
}
