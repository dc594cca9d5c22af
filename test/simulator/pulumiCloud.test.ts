// The emulated Pulumi Cloud decides as documented: the tests of the program rely on what it denies.

import assert from "node:assert/strict";
import { test } from "node:test";
import { type AuthPolicy, decide, matchesPattern } from "../../simulator/emulators/authPolicy";

const CLAIMS = { "kubernetes.io": { namespace: "default" } };
const RULES = { '"kubernetes.io".namespace': "default" };
const ALICE: AuthPolicy = { decision: "allow", tokenType: "personal", userLogin: "alice", rules: RULES };
const MEMBER: AuthPolicy = { decision: "allow", tokenType: "organization", rules: RULES };
const ADMIN = { ...MEMBER, authorizedPermissions: ["admin"] };
const TEAM = { ...MEMBER, tokenType: "team", teamName: "ops" };
const RUNNER = { ...MEMBER, tokenType: "runner", runnerID: "id-1" };

test("a pattern matches a whole value: * is any characters, ? zero or one, and . exactly one", () => {
  for (const [pattern, matching, others] of [
    ["runner-*", ["runner-", "runner-a.b\nc"], ["runner", "a-runner-"]],
    ["runner?", ["runner", "runners"], ["runnerss", "Runner"]],
    ["a.b", ["a.b", "a\u{1f511}b"], ["ab", "a--b"]],
    ["(a|b)+[c]^$\\", ["(a|b)+[c]^$\\"], ["ac", "a"]],
    // A regular expression would need hours.
    [`${"*?a".repeat(30)}b`, [`${"a".repeat(60)}b`], ["a".repeat(253)]],
  ] satisfies [string, string[], string[]][]) {
    for (const value of matching) assert.ok(matchesPattern(pattern, value), value);
    for (const value of others) assert.ok(!matchesPattern(pattern, value), value);
  }
});

test("allows what an allow policy and no deny policy matches, and an administrator only with the permission", () => {
  const deny = { decision: "deny" };
  for (const [policies, claims, allowed] of [
    [[ALICE], CLAIMS, true],
    [[ALICE], {}, false],
    [[ALICE, { ...ALICE, ...deny }], CLAIMS, false],
    [[MEMBER], CLAIMS, false],
    [[ADMIN], CLAIMS, true],
    [[ADMIN, { ...MEMBER, ...deny }], CLAIMS, false],
  ] satisfies [AuthPolicy[], object, boolean][]) {
    const { tokenType = "" } = policies[0] ?? {};
    const asked = { tokenType, scope: tokenType === "personal" ? "user:alice" : "admin" };
    assert.equal(decide(policies, claims, asked).allowed, allowed, JSON.stringify(policies));
  }
});

test("denies by the policy that names the service account, even if another one fails in fewer rules", () => {
  const own = { ...MEMBER, rules: { ...RULES, sub: "a", jti: "b" } };
  const other = { ...MEMBER, rules: { '"kubernetes.io".namespace': "other" } };
  const { reason } = decide([other, own], CLAIMS, { tokenType: "organization", scope: "" });
  assert.match(reason, /^no allow policy of the issuer matches: sub is absent, not "a", jti is absent/);
});

test("grants the token of a policy's owner, and no other token", () => {
  const runners = ["pool-1", "pool-2"].map((name, index) => ({ id: `id-${index + 1}`, name }));
  for (const [policy, own, other] of [
    [ALICE, "user:alice", "user:alice-2"],
    [TEAM, "team:ops", "team:ops-eu"],
    [RUNNER, "runner:pool-1", "runner:pool-2"],
  ] as const) {
    const isGranted = (scope: string, { tokenType } = policy) =>
      decide([policy], CLAIMS, { tokenType, scope }, { runners }).allowed;
    assert.deepEqual([isGranted(own), isGranted(other)], [true, false]);
    assert.ok(!isGranted(own, { ...policy, tokenType: "another" }));
  }
});
