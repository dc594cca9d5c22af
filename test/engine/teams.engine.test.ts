// The teams of a stack on Pulumi's engine: they are never deleted, and keep their members. What they may do is the stack's.

import assert from "node:assert/strict";
import { describe, type TestContext, test } from "node:test";
import { changes, failed, succeeded } from "../support/engineOutcome";
import { emptyStack } from "../support/engineStack";
import { missingCli } from "../support/pulumiCli";
import { CREATOR, CURRENT_USER } from "../support/teams";

const ENTRY = { namespace: "default", name: "deployer", tokenType: "team", teamName: "ops", runJob: false };
const OPS = {
  name: "ops",
  stacks: [{ stack: "app/prod", permission: "edit" }],
  environments: [{ environment: "app/prod", permission: "open" }],
};

// The parts of the test depend on those before them.
describe("on Pulumi's engine", { skip: missingCli }, () => {
  test("a stack creates a team, and leaves it with its members", async (t) => {
    const settings = { userLogin: "", serviceAccounts: [ENTRY], teams: [OPS] };
    const { simulation, pulumi, set, up } = await emptyStack(t, settings);
    const { teams } = simulation;
    const existing = () => teams.existing().sort();
    const isQuiet = async (t: TestContext) => {
      const questions = t.mock.method(simulation.calls[CURRENT_USER] ?? assert.fail(), "answer");
      succeeded(await pulumi("preview", "--expect-no-changes"));
      succeeded(await pulumi("preview", "--refresh", "--expect-no-changes"));
      assert.equal(questions.mock.callCount(), 0, "a preview has asked who the user is");
    };

    await t.test("of which no later preview shows a change", async (t) => {
      succeeded(await up());
      assert.deepEqual(teams.membersOf("acme/ops"), [CREATOR]);
      await isQuiet(t);
    });

    await t.test("to which people add members", async (t) => {
      teams.addMember("acme/ops", "bob");
      await isQuiet(t);
      succeeded(await up("--refresh"));
      await isQuiet(t);
      assert.deepEqual(teams.membersOf("acme/ops"), [CREATOR, "bob"]);
    });

    await t.test("which stays without its permissions when it leaves the list", async () => {
      await set("teams", []);
      assert.deepEqual(changes(await up()), [
        "access.ops deleted",
        ...Array(2).fill("access.ops.app/prod deleted"),
      ]);
      assert.deepEqual(existing(), ["acme/ops"]);
      assert.deepEqual(teams.membersOf("acme/ops"), [CREATOR, "bob"]);
    });

    await t.test("which it then cannot create again, but permit something", async (t) => {
      await set("teams", [OPS]);
      // docs/troubleshooting.md has it.
      failed(await up(), /409 API error: Conflict: Team with name "ops" already exists/);
      await set("teams", [{ ...OPS, create: false }]);
      succeeded(await up());
      assert.deepEqual(existing(), [
        "acme/ops",
        "acme/ops: environment app/prod open",
        "acme/ops: stack app/prod 102",
      ]);
      await isQuiet(t);
    });

    await t.test("which stays without its permissions when the stack is destroyed", async () => {
      succeeded(await pulumi("destroy", "--yes", "--skip-preview"));
      assert.deepEqual(existing(), ["acme/ops"]);
      assert.deepEqual(teams.membersOf("acme/ops"), [CREATOR, "bob"]);
    });
  });
});
