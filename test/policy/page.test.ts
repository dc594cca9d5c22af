// What configures the guardrails, in the pages and examples, names guardrails and settings that exist.

import assert from "node:assert/strict";
import { test } from "node:test";
import { runRules } from "../../policy/runRules";
import { blocksOf, filesWith, read } from "../support/project";
import { LEGITIMATE } from "./cases";

test("docs/policy.md configures what exists", () => {
  const [block, ...others] = blocksOf(read("docs/policy.md")).filter(({ info }) => info === "json");
  assert.deepEqual(others, []);
  assert.doesNotThrow(() => runRules([], JSON.parse(block?.text ?? "")));
  assert.doesNotThrow(() => runRules([], JSON.parse(read("policy/drift.json"))));
});

test("a stage of examples/fleet forbids exactly the teams of the other stages", () => {
  const [, [issuer = assert.fail()] = []] = LEGITIMATE[0] ?? [];
  const stages = ["dev", "staging", "prod"];
  const files = filesWith(/^examples\/fleet\/\w+\/Pulumi\.policy\.json$/);
  assert.deepEqual(files.sort(), stages.map((it) => `examples/fleet/${it}/Pulumi.policy.json`).sort());
  for (const stage of stages) {
    const configuration = JSON.parse(read(`examples/fleet/${stage}/Pulumi.policy.json`));
    const stopped = stages.filter((it) => {
      const policies = JSON.parse(JSON.stringify(issuer.inputs.policies).replaceAll("app-dev", `app-${it}`));
      return runRules([{ ...issuer, inputs: { ...issuer.inputs, policies } }], configuration).length > 0;
    });
    assert.deepEqual(
      stopped,
      stages.filter((it) => it !== stage),
    );
  }
});
