// The audience rule, if rules match an element of a list such as `aud`. stack.engine.test.ts has a Pulumi Cloud whose rules do not.

import assert from "node:assert/strict";
import { test } from "node:test";
import { entry, run, start } from "../environment/stack";

const OWN = "urn:pulumi:org:acme";
const OTHER = "sts.amazonaws.com";
const ADVICE =
  "  If no exchange of this access stack was ever granted, rules may not match lists such as aud: set audienceRule to false.";
const ACCOUNT = { namespace: "default", name: "pulumi-service-account" };
const SETTINGS = { serviceAccounts: [entry()] };

test("the audience of other services is denied, and with audienceRule: false accepted", async (t) => {
  const simulation = await start(t);
  await run(simulation, SETTINGS);
  assert.equal((await simulation.kubernetes.exchange(ACCOUNT, OWN)).exitCode, 0);
  const denied = await simulation.kubernetes.exchange(ACCOUNT, OTHER);
  assert.equal(denied.exitCode, 77);
  // Before the claims, which are cut off at the end.
  assert.deepEqual([denied.log[3], denied.log[4]?.startsWith("  Claims: {")], [ADVICE, true]);

  const withoutRule = await start(t);
  await run(withoutRule, { ...SETTINGS, audienceRule: false });
  for (const audience of [OWN, OTHER]) {
    assert.equal((await withoutRule.kubernetes.exchange(ACCOUNT, audience)).exitCode, 0);
  }
});
