// The rules of authorization policies in the emulated Pulumi Cloud, which the properties of the program are tested with.

import assert from "node:assert/strict";
import { test } from "node:test";
import { type AuthPolicy, claimAt, decide, matchesClaim, matchesPattern } from "../simulator/authPolicy";

const CLAIMS = { sub: "me", aud: ["a"], "kubernetes.io": { namespace: "default", serviceaccount: { name: "runner" } } };
const RULES = { '"kubernetes.io".namespace': "default", '"kubernetes.io".serviceaccount.name': "runner" };
const ALICE: AuthPolicy = { decision: "allow", tokenType: "personal", userLogin: "alice", rules: RULES };
const ASKED = { tokenType: "personal", scope: "user:alice" };

for (const [pattern, matching, others] of [
  ["runner", ["runner"], ["runne", "runners", "a-runner", "Runner", ""]],
  ["runner-*", ["runner-", "runner-a.b\nc"], ["runner", "a-runner-"]],
  ["runner?", ["runner", "runners"], ["runnerss"]],
  ["a.b", ["a.b", "a-b", "a\u{1f511}b"], ["ab", "a--b"]],
  ["(a|b)+[c]^$\\", ["(a|b)+[c]^$\\"], ["ac", "a"]],
] satisfies [string, string[], string[]][]) {
  test(`the pattern ${pattern} matches only what is documented`, () => {
    for (const value of matching) assert.ok(matchesPattern(pattern, value), value);
    for (const value of others) assert.ok(!matchesPattern(pattern, value), value);
  });
}

test("a rule reaches nested claims, with quotes around a name that contains a dot", () => {
  assert.equal(claimAt(CLAIMS, '"kubernetes.io".serviceaccount.name'), "runner");
  for (const path of ["kubernetes.io.namespace", "aud.0", "toString", "__proto__"]) {
    assert.equal(claimAt(CLAIMS, path), undefined, path);
  }
});

test("a list matches if one of its elements does, an object and a missing claim never", () => {
  assert.ok(matchesClaim("sts.*", ["other", "sts.amazonaws.com"]));
  assert.ok(matchesClaim("tr.e", true));
  for (const claim of [["other"], [], {}, undefined]) assert.ok(!matchesClaim("sts.*", claim));
});

test("denies without a policy, and denies if any deny policy matches", () => {
  const deny = { ...ALICE, decision: "deny" };
  const elsewhere = { ...deny, rules: { '"kubernetes.io".namespace': "other" } };
  const isAllowed = (...policies: AuthPolicy[]) => decide(policies, CLAIMS, ASKED).allowed;
  assert.deepEqual([isAllowed(), isAllowed(ALICE, deny), isAllowed(deny, ALICE)], [false, false, false]);
  assert.deepEqual([isAllowed(ALICE), isAllowed(elsewhere, ALICE)], [true, true]);
});

test("the reason of a denial contains only the rules of the closest policy that do not match", () => {
  const stranger = { "kubernetes.io": { namespace: "default", serviceaccount: { name: "stranger" } } };
  const other = { ...ALICE, rules: { '"kubernetes.io".namespace': "other", sub: "other" } };
  assert.equal(
    decide([other, ALICE], stranger, ASKED).reason,
    'no allow policy of the issuer matches: "kubernetes.io".serviceaccount.name is "stranger", not "runner"',
  );
});

for (const [policy, scope, allowed] of [
  [{ tokenType: "personal", userLogin: "alice" }, "user:alice", true],
  [{ tokenType: "personal", userLogin: "a*" }, "user:alice", false],
  [{ tokenType: "team", teamName: "ops-*" }, "team:ops-eu", true],
  [{ tokenType: "team", teamName: "ops" }, "team:dev", false],
  [{ tokenType: "runner", runnerID: "id-1" }, "runner:pool", true],
  [{ tokenType: "runner", runnerID: "pool" }, "runner:pool", false],
  [{ tokenType: "organization" }, "", true],
  [{ tokenType: "organization" }, "admin", false],
  [{ tokenType: "organization", authorizedPermissions: ["admin"] }, "user:alice", false],
  [{ tokenType: "organization", authorizedPermissions: ["admin"] }, "admin", true],
] satisfies [Partial<AuthPolicy> & { tokenType: string }, string, boolean][]) {
  test(`${JSON.stringify(policy)} ${allowed ? "allows" : "does not allow"} the scope "${scope}"`, () => {
    const policies = [{ decision: "allow", rules: RULES, ...policy }];
    const runners = [{ id: "id-1", name: "pool" }];
    assert.equal(decide(policies, CLAIMS, { tokenType: policy.tokenType, scope }, runners).allowed, allowed);
  });
}
