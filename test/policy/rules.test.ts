// The guardrails on resources that are plain data: cases.ts.

import assert from "node:assert/strict";
import { test } from "node:test";
import { policies } from "../../policy/index";
import type { Resource } from "../../policy/rule";
import { runRules } from "../../policy/runRules";
import type { Fields } from "../../policy/values";
import { LEGITIMATE, VIOLATIONS } from "./cases";

/** Returns what is reported of resources without what is undefined, as the engine sends them. */
function violationsOf(resources: Resource[], configuration?: Fields) {
  return runRules(JSON.parse(JSON.stringify(resources)), configuration);
}

for (const { name, level } of policies) {
  test(`${name} is ${level}, and reports`, async (t) => {
    for (const [what, resource, message, configuration] of VIOLATIONS[name] ?? assert.fail()) {
      await t.test(what, () => {
        const [violation, ...others] = violationsOf([resource], configuration);
        assert.deepEqual(others, []);
        assert.equal(`${violation?.policy} ${violation?.level} ${violation?.name}`, `${name} ${level} it`);
        assert.ok(violation?.message.includes(message), violation?.message);
      });
    }
  });
}

test("the guardrails report nothing of", async (t) => {
  for (const [what, resources, configuration] of LEGITIMATE) {
    await t.test(what, () => assert.deepEqual(violationsOf(resources, configuration), []));
  }
});

test("the level of a guardrail is its own in the configuration, that of all, or its default", () => {
  const [[, resource] = assert.fail()] = VIOLATIONS["one-service-account"] ?? [];
  const levels = (configuration: Fields) => violationsOf([resource], configuration).map(({ level }) => level);
  assert.deepEqual(levels({}), ["mandatory"]);
  assert.deepEqual(levels({ all: "advisory", "one-service-account": {} }), ["advisory"]);
  assert.deepEqual(levels({ all: "advisory", "one-service-account": "mandatory" }), ["mandatory"]);
  assert.deepEqual(levels({ all: "advisory", "one-service-account": { enforcementLevel: "disabled" } }), []);
  assert.deepEqual(levels({ all: "disabled" }), []);
});

test("a misspelled guardrail or setting is an error that lists all of them", () => {
  const misspelled = {
    limit: {},
    limits: { organizationAdmin: [], issuers: [] },
    all: { a: 1 },
    trust: "advisory",
  };
  assert.throws(() => runRules([], misspelled), {
    message:
      /: limit, limits\.organizationAdmin, all\.a\. Known: all, limits, .*limits\.organizationAdmins, .*\.$/,
  });
});

test("20 issuers, 500 roles, and 2,500 others take less than two seconds of processor time", () => {
  const of = (guardrail: string, index: number) => VIOLATIONS[guardrail]?.[index]?.[1] ?? assert.fail();
  const times = (count: number, resource: Resource): Resource[] =>
    Array.from({ length: count }, () => resource);
  const issuer = of("one-service-account", 0);
  const policies = [issuer.inputs.policies ?? []]
    .flat()
    .flatMap((it) => Array.from({ length: 125 }, () => it));
  const issuers = times(20, { ...issuer, inputs: { ...issuer.inputs, policies } });
  const others = times(2500, of("no-stored-token", 8));
  const program = [...issuers, ...times(500, of("trust", 0)), ...others];
  const { user } = process.cpuUsage();
  assert.equal(violationsOf(program).length, 20 + 500 + 2500);
  assert.ok(process.cpuUsage().user - user < 2e6);
});
