// The emulated Pulumi Cloud decides as documented: the tests of the program rely on what it denies.

import assert from "node:assert/strict";
import { test } from "node:test";
import { type AuthPolicy, decide, matchesPattern } from "../../simulator/emulators/authPolicy";
import { startCluster } from "../support/stack";

const CLAIMS = { "kubernetes.io": { namespace: "default" } };
const RULES = { '"kubernetes.io".namespace': "default" };
const ALICE: AuthPolicy = { decision: "allow", tokenType: "personal", userLogin: "alice", rules: RULES };
const MEMBER: AuthPolicy = { decision: "allow", tokenType: "organization", rules: RULES };
const ADMIN = { ...MEMBER, authorizedPermissions: ["admin"] };

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

test("denies a lifetime beyond the issuer's limit, and accepts an access token only during its lifetime", async (t) => {
  const { issuer, pulumiCloud, close } = await startCluster();
  t.after(close);
  const { url } = issuer;
  const policies = [ALICE];
  await pulumiCloud.register({ organization: "acme", name: "eks", url, policies, maxExpirationSeconds: 60 });
  const audience = "urn:pulumi:org:acme";
  const pod = { namespace: "default", serviceAccount: "runner" };
  const form = {
    audience,
    grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
    subject_token_type: "urn:ietf:params:oauth:token-type:id_token",
    requested_token_type: "urn:pulumi:token-type:access_token:personal",
    scope: "user:alice",
    subject_token: await issuer.token(pod, { audience: [audience], expiresIn: 600 }),
  };
  const exchange = async (expiration: string) => {
    const body = new URLSearchParams({ ...form, expiration });
    const response = await fetch(`${pulumiCloud.url}/api/oauth/token`, { method: "POST", body });
    return (await response.json()) as Record<string, string>;
  };

  assert.match((await exchange("61")).error_description ?? "", /61 exceeds .* 60 seconds/);
  const headers = { authorization: `token ${(await exchange("60")).access_token}` };
  const status = async () => (await fetch(`${pulumiCloud.url}/api/user`, { headers })).status;
  assert.equal(await status(), 200);
  t.mock.timers.enable({ apis: ["Date"], now: Date.now() + 61_000 });
  assert.equal(await status(), 401);
});
