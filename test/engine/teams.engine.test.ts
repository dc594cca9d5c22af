// Teams in Pulumi Cloud that a stack creates, with what they may do.

import assert from "node:assert/strict";
import { test } from "node:test";
import { changes, EXCHANGED, newStatuses, succeeded } from "../support/engineOutcome";
import { emptyStack } from "../support/engineStack";
import { missingCli } from "../support/pulumiCli";

const ENTRY = { namespace: "default", tokenType: "team", awsRole: "none" };
const DEPLOYER = { ...ENTRY, name: "deployer", teamName: "platform" };
const AUDITOR = { ...ENTRY, name: "auditor", teamName: "security" };

const PLATFORM = {
  name: "platform",
  stacks: [{ stack: "app/prod", permission: "edit" }],
  environments: [{ environment: "app/prod", permission: "open" }],
};
const SECURITY = { name: "security", stacks: [{ stack: "app/prod", permission: "read" }] };

// The parts of the test depend on those before them.
test("a stack creates teams, with what they may do", { skip: missingCli }, async (t) => {
  const settings = { userLogin: "", serviceAccounts: [DEPLOYER, AUDITOR], createTeams: [PLATFORM, SECURITY] };
  const { simulation, pulumi, set, up } = await emptyStack(t, settings);
  const teams = () => simulation.existing().pulumiCloud.slice(1).sort();
  succeeded(await up());
  assert.deepEqual(newStatuses(simulation), [...EXCHANGED, ...EXCHANGED]);
  assert.deepEqual(teams(), [
    "acme/platform",
    "acme/platform: environment app/prod open",
    "acme/platform: stack app/prod 102",
    "acme/security",
    "acme/security: stack app/prod 101",
  ]);

  await t.test("and leaves their members to the service", async () => {
    succeeded(await pulumi("preview", "--expect-no-changes"));
    succeeded(await pulumi("preview", "--refresh", "--expect-no-changes"));
  });

  await t.test("and changes a permission, which stays in force, and runs no Job again", async () => {
    const changed = {
      ...PLATFORM,
      stacks: [{ stack: "app/prod", permission: "admin" }],
      environments: [{ environment: "app/prod", permission: "write" }],
    };
    await set("createTeams", [changed, SECURITY]);
    assert.deepEqual(changes(await up()), [
      "access.platform.app/prod replaced",
      "access.platform.app/prod replaced",
    ]);
    assert.deepEqual(teams().slice(1, 3), [
      "acme/platform: environment app/prod write",
      "acme/platform: stack app/prod 103",
    ]);
    assert.deepEqual(newStatuses(simulation), []);
  });

  await t.test("and deletes a team that leaves the list with its service account", async () => {
    await set("createTeams", [PLATFORM]);
    await set("serviceAccounts", [DEPLOYER]);
    const deleted = changes(await up()).filter((change) => /security/.test(change));
    assert.deepEqual(deleted, ["access.security deleted", "access.security.app/prod deleted"]);
    assert.ok(!teams().join().includes("security"));
  });

  await t.test("and deletes all of them when it is destroyed", async () => {
    succeeded(await pulumi("destroy", "--yes", "--skip-preview"));
    assert.deepEqual(simulation.existing().pulumiCloud, []);
  });
});
