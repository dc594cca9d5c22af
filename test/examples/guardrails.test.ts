// The program of examples/guardrails.

import assert from "node:assert/strict";
import { test } from "node:test";
import { policies } from "../../policy/index";
import { inputsOf, runProgram } from "../core/program";

test("publishes each guardrail, and stops updates of the stacks that break one", async () => {
  const run = await runProgram(async () => ({ ...require("../../examples/guardrails/index") }), {});
  const [[pack], [group]] = [inputsOf(run, "PolicyPack"), inputsOf(run, "PolicyGroup")];
  assert.deepEqual(
    pack?.policies.map(({ name }: { name: string }) => name),
    policies.map(({ name }) => name),
  );
  assert.equal(group?.mode, "preventative");
  assert.equal(group?.policyPacks[0].name, pack?.name);
  assert.equal(group?.policyPacks[0].versionTag, "0.1.0");
});
