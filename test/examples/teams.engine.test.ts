// The program of examples/fleet/teams on Pulumi's engine.

import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { succeeded } from "../support/engineOutcome";
import { read } from "../support/project";
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
};
const SCHEMA = {
  name: "pulumiservice",
  version: "1000.0.0",
  resources: Object.fromEntries(
    Object.entries(RESOURCES).map(([type, resource]) => {
      return [`pulumiservice:index:${type}`, { ...resource, properties: resource.inputProperties }];
    }),
  ),
};

test("examples/fleet/teams creates teams that a second update leaves as they are, and later ones change to what it says", {
  skip: missingCli,
}, async (t) => {
  const teams = startTeams();
  const cli = openCli(await serveProvider(() => teams, SCHEMA));
  t.after(cli.remove);
  const directory = join(cli.directory, "teams");
  await mkdir(directory);
  const program = read("examples/fleet/teams/Pulumi.yaml").replace("my-login", CREATOR);
  await writeFile(join(directory, "Pulumi.yaml"), program);
  const pulumi = (...args: string[]) => cli.pulumi(directory, ...args);
  const up = (...args: string[]) => pulumi("up", "--yes", "--skip-preview", ...args);

  succeeded(await pulumi("stack", "init", "organization"));
  succeeded(await up());
  // A state in files has no organization.
  const created = ["dev", "prod"].flatMap((stage) => [
    `organization/team-a-${stage}`,
    `organization/team-a-${stage}: environment app/${stage} open`,
    `organization/team-a-${stage}: stack app/${stage} 102`,
  ]);
  assert.deepEqual(teams.existing().toSorted(), created);
  assert.deepEqual(teams.membersOf("organization/team-a-dev"), [CREATOR]);
  succeeded(await up("--expect-no-changes"));
  succeeded(await up("--refresh", "--expect-no-changes"));

  teams.addMember("organization/team-a-dev", "bob");
  succeeded(await up("--refresh"));
  assert.deepEqual(teams.membersOf("organization/team-a-dev"), [CREATOR]);
  assert.deepEqual(teams.existing().toSorted(), created);

  await writeFile(join(directory, "Pulumi.yaml"), program.replaceAll("permission: 102", "permission: 101"));
  succeeded(await up());
  const changed = created.map((it) => it.replace("102", "101"));
  assert.deepEqual(teams.existing().toSorted(), changed);

  succeeded(await pulumi("destroy", "--yes"));
  assert.deepEqual(teams.existing(), []);
});
