// The rules of the policy pack on resources that are plain data: what they report of each case, and of what they report nothing.
//
// A case is a line: what it is, the resources, and what is reported of them as `RULE: PART OF THE MESSAGE`.

import assert from "node:assert/strict";
import { test } from "node:test";
import { runRules } from "../../policy/runRules";
import type { Fields } from "../../policy/values";
import { CASES } from "./cases";

for (const [rule, cases] of Object.entries(CASES)) {
  test(rule, async (t) => {
    for (const [what, program, expected, configuration] of cases) {
      await t.test(what, () => {
        const reported = runRules(JSON.parse(JSON.stringify(program)), configuration);
        const found = reported.map(({ policy, message }) => `${policy}: ${message}`);
        assert.equal(found.length, expected.length, found.join("\n"));
        for (const [index, text] of expected.entries()) {
          const [name = "", part = ""] = text.split(/: (.*)/s);
          const message = found[index] ?? "";
          assert.ok(message.startsWith(`${name}: `) && message.includes(part), `${message}\n${text}`);
        }
      });
    }
  });
}

test("the level of a rule is its own in the configuration, that of all, or its default", () => {
  const [[, program = []] = []] = CASES["one-service-account"]?.filter(([what]) => what === "no rules") ?? [];
  const levels = (configuration: Fields) => runRules(program, configuration).map(({ level }) => level);
  const name = { requireAudience: false };
  assert.deepEqual(levels({ "one-service-account": name }), ["mandatory"]);
  assert.deepEqual(levels({ all: "advisory", "one-service-account": name }), ["advisory"]);
  assert.deepEqual(levels({ all: "advisory", "one-service-account": "mandatory" }), [
    "mandatory",
    "mandatory",
  ]);
  assert.deepEqual(levels({ all: "advisory", "one-service-account": { enforcementLevel: "disabled" } }), []);
  assert.deepEqual(levels({ all: "disabled" }), []);
});

test("a misspelled rule, setting, or owner is an error that lists all of them", () => {
  const misspelled = { limit: {}, limits: { organizationAdmin: [], forbidden: ["teams:a"] }, all: { a: 1 } };
  assert.throws(() => runRules([], misspelled), {
    message:
      /^Invalid .*:\n {2}limit: unknown guardrail\. The guardrails are all, limits, .*\n {2}limits\.organizationAdmin: unknown setting\. .*organizationAdmins.*\n {2}limits\.forbidden: must be a valid array\. .*\n {2}all\.a: unknown setting\. .*$/,
  });
});
