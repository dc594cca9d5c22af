// The pages name rules and settings of the policy pack, and no others.

import assert from "node:assert/strict";
import { test } from "node:test";
import { policies } from "../../policy/index";
import { runRules } from "../../policy/runRules";
import { read, sectionOf } from "../support/project";

test("docs/policy.md has each guardrail", () => {
  const page = read("docs/policy.md");
  for (const { name, description } of policies) {
    assert.ok(page.includes(`- **\`${name}\`**: ${description}`), name);
  }
});

test("docs/policy.md configures what exists", () => {
  for (const [, json = ""] of read("docs/policy.md").matchAll(/```json\n(.*?)```/gs))
    runRules([], JSON.parse(json));
  const table = sectionOf(read("docs/policy.md"), "## Allow more");
  for (const { name, settings = {} } of policies) {
    const row = table.split("\n").find((it) => it.startsWith(`- \`${name}\``)) ?? "";
    for (const setting of Object.keys(settings))
      assert.ok(row.includes(`\`${setting}\``), `${name}.${setting}`);
  }
  assert.doesNotThrow(() => runRules([], JSON.parse(read("policy/drift.json"))));
});
