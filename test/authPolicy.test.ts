// The rule language of authorization policies, and what they decide.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type AuthPolicy, claimAt, decide, matchesClaim, matchesPattern } from "../simulator/authPolicy";

const RULES = { '"kubernetes.io".namespace': "default", '"kubernetes.io".serviceaccount.name': "runner" };
const ALICE: AuthPolicy = { decision: "allow", tokenType: "personal", userLogin: "alice", rules: RULES };

for (const [pattern, matching, others] of [
  ["runner", ["runner"], ["runne", "runners", "a-runner", "Runner", "r\u03c5nner", ""]],
  ["runner-*", ["runner-", "runner-a", "runner-a.b\nc"], ["runner", "a-runner-"]],
  ["*", ["", "anything"], []],
  ["a*b*c", ["abc", "a--b--c", "abbcc"], ["ab", "acb", "abcd"]],
  ["runner?", ["runner", "runners"], ["runnerss"]],
  ["a.b", ["a.b", "a-b", "a\u{1f511}b"], ["ab", "a--b"]],
  ["(a|b)+[c]^$\\", ["(a|b)+[c]^$\\"], ["ac", "a"]],
  ["", [""], ["a"]],
] satisfies [string, string[], string[]][]) {
  test(`the pattern ${JSON.stringify(pattern)} matches what it should and nothing else`, () => {
    for (const value of matching) assert.ok(matchesPattern(pattern, value), `should match ${value}`);
    for (const value of others) assert.ok(!matchesPattern(pattern, value), `should not match ${value}`);
  });
}

test("a pattern without wildcards matches itself alone", () => {
  const plain = fc.string({ unit: "binary" }).filter((value) => !/[*?.]/.test(value));
  fc.assert(
    fc.property(plain, plain, (pattern, value) => matchesPattern(pattern, value) === (pattern === value)),
  );
});

test("a pattern of many wildcards is matched in time", () => {
  const started = performance.now();
  assert.ok(!matchesPattern(`${"*?a".repeat(30)}b`, "a".repeat(200)));
  assert.ok(performance.now() - started < 1000);
});

for (const [path, claim] of [
  ["sub", "me"],
  ['"kubernetes.io".namespace', "default"],
  ['"kubernetes.io".pod.name', "runner-1"],
  ["kubernetes.io.namespace", undefined],
  ['"kubernetes.io"', { namespace: "default", pod: { name: "runner-1" } }],
  ['"kubernetes.io".pod.name.length', undefined],
  ["aud.0", undefined],
  ["toString", undefined],
  ["__proto__", undefined],
  ['"kubernetes.io"namespace', undefined],
  [".sub", undefined],
  ["", undefined],
] satisfies [string, unknown][]) {
  test(`the path ${path || "(empty)"} leads to ${JSON.stringify(claim) ?? "no claim"}`, () => {
    const claims = {
      sub: "me",
      aud: ["a"],
      "kubernetes.io": { namespace: "default", pod: { name: "runner-1" } },
    };
    assert.deepEqual(claimAt(claims, path), claim);
  });
}

test("an array matches when one of its elements does, an object and a missing claim never", () => {
  assert.ok(matchesClaim("sts.*", ["other", "sts.amazonaws.com"]));
  assert.ok(!matchesClaim("sts.*", ["other"]));
  assert.ok(!matchesClaim("*", []));
  assert.ok(!matchesClaim("*", {}));
  assert.ok(!matchesClaim("*", undefined));
  assert.ok(matchesClaim("tr.e", true));
  assert.ok(matchesClaim("12*", 123));
});

const claims = { "kubernetes.io": { namespace: "default", serviceaccount: { name: "runner" } } };
const asAlice = { tokenType: "personal", scope: "user:alice" };

test("without a policy nobody gets in", () => {
  assert.equal(decide([], claims, asAlice).allowed, false);
});

test("a matching deny policy wins over an allow policy, before or after it", () => {
  const deny = { ...ALICE, decision: "deny" };
  assert.equal(decide([ALICE, deny], claims, asAlice).allowed, false);
  assert.equal(decide([deny, ALICE], claims, asAlice).allowed, false);
});

test("a deny policy about other callers denies nobody else", () => {
  const deny = { ...ALICE, decision: "deny", rules: { '"kubernetes.io".namespace': "other" } };
  assert.equal(decide([deny, ALICE], claims, asAlice).allowed, true);
});

test("every rule of a policy must match, and the reason names the ones that do not", () => {
  const stranger = { "kubernetes.io": { namespace: "default", serviceaccount: { name: "intruder" } } };
  const { allowed, reason } = decide([ALICE], stranger, asAlice);
  assert.equal(allowed, false);
  assert.match(reason, /"kubernetes\.io"\.serviceaccount\.name is "intruder", not "runner"/);
  assert.doesNotMatch(reason, /namespace/);
  assert.match(decide([ALICE], {}, asAlice).reason, /"kubernetes\.io"\.namespace is absent, not "default"/);
});

for (const [policy, scope, allowed] of [
  [{ tokenType: "personal", userLogin: "alice" }, "user:alice", true],
  [{ tokenType: "personal", userLogin: "alice" }, "user:bob", false],
  [{ tokenType: "personal", userLogin: "a*" }, "user:alice", false],
  [{ tokenType: "personal" }, "user:undefined", false],
  [{ tokenType: "team", teamName: "ops" }, "team:ops", true],
  [{ tokenType: "team", teamName: "ops-*" }, "team:ops-eu", true],
  [{ tokenType: "team", teamName: "ops" }, "team:dev", false],
  [{ tokenType: "runner", runnerID: "id-1" }, "runner:pool", true],
  [{ tokenType: "runner", runnerID: "id-1" }, "runner:other", false],
  [{ tokenType: "runner", runnerID: "pool" }, "runner:pool", false],
  [{ tokenType: "organization" }, "", true],
  [{ tokenType: "organization" }, "admin", false],
  [{ tokenType: "organization", authorizedPermissions: ["admin"] }, "admin", true],
  [{ tokenType: "organization", authorizedPermissions: ["admin"] }, "", true],
] satisfies [Partial<AuthPolicy> & { tokenType: string }, string, boolean][]) {
  test(`${JSON.stringify(policy)} ${allowed ? "allows" : "does not allow"} scope "${scope}"`, () => {
    const runners = [
      { id: "id-1", name: "pool" },
      { id: "id-2", name: "other" },
    ];
    const policies = [{ decision: "allow", rules: RULES, ...policy }];
    assert.equal(decide(policies, claims, { tokenType: policy.tokenType, scope }, runners).allowed, allowed);
  });
}

test("a policy is about its own token type only", () => {
  assert.equal(decide([ALICE], claims, { tokenType: "team", scope: "user:alice" }).allowed, false);
});

test("a deny policy for organization tokens denies an administrator's too", () => {
  const allow = {
    decision: "allow",
    tokenType: "organization",
    authorizedPermissions: ["admin"],
    rules: RULES,
  };
  const deny = { decision: "deny", tokenType: "organization", rules: RULES };
  assert.equal(decide([allow, deny], claims, { tokenType: "organization", scope: "admin" }).allowed, false);
});
