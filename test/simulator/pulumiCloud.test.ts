// The emulated Pulumi Cloud decides as documented: the tests of the program rely on what it denies.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { JWTPayload } from "jose";
import {
  type AuthPolicy,
  createIssuer,
  decide,
  eksIssuerUrl,
  matchesPattern,
} from "../../simulator/pulumiCloud";
import { startPulumiCloud } from "../environment/pulumiCloud";

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

const RULES = { '"kubernetes.io".namespace': "default" };
const PERSONAL: AuthPolicy = { decision: "allow", tokenType: "personal", userLogin: "alice", rules: RULES };
const TEAM: AuthPolicy = { decision: "allow", tokenType: "team", teamName: "ops", rules: RULES };
const RUNNER: AuthPolicy = { decision: "allow", tokenType: "runner", runnerID: "id-1", rules: RULES };
const MEMBER: AuthPolicy = { decision: "allow", tokenType: "organization", rules: RULES };

test("an allow policy grants the token of its owner, and no other token", () => {
  const runners = ["pool-1", "pool-2"].map((name, index) => ({ id: `id-${index + 1}`, name }));
  for (const [policy, granted, denied] of [
    [PERSONAL, "user:alice", "user:alice-2"],
    [TEAM, "team:ops", "team:ops-eu"],
    [RUNNER, "runner:pool-1", "runner:pool-2"],
    [MEMBER, "", "admin"],
    [{ ...MEMBER, authorizedPermissions: ["admin"] }, "admin", "user:alice"],
  ] satisfies [AuthPolicy, string, string][]) {
    const { tokenType } = policy;
    const other = { ...policy, rules: { '"kubernetes.io".namespace': "another" } };
    for (const [policies, asked, isGranted] of [
      [[policy], { tokenType, scope: granted }, true],
      [[policy], { tokenType, scope: denied }, false],
      [[policy], { tokenType: "another", scope: granted }, false],
      [[other, { ...policy, decision: "deny" }], { tokenType, scope: granted }, false],
    ] as const) {
      const claims = { "kubernetes.io": { namespace: "default" } };
      assert.equal(decide([...policies], claims, asked, { runners }).allowed, isGranted, granted);
    }
  }
});

// Which of them is real is not documented.
test("a rule matches a list by one of its elements, or no list", () => {
  const rules = { aud: "urn:pulumi:org:acme" };
  const isGranted = (aud: unknown, matchesLists: boolean) => {
    const asked = { tokenType: "organization", scope: "" };
    return decide([{ ...MEMBER, rules }], { aud } as JWTPayload, asked, { matchesLists }).allowed;
  };
  for (const [audience, inListWorld, inOther] of [
    [["api", "urn:pulumi:org:acme"], true, false],
    ["urn:pulumi:org:acme", true, true],
    [["api"], false, false],
  ] as const) {
    assert.deepEqual([isGranted(audience, true), isGranted(audience, false)], [inListWorld, inOther]);
  }
});

test("an exchange for a longer lifetime than the issuer's maximum gets a token with the maximum", async (t) => {
  const issuer = await createIssuer(eksIssuerUrl("us-west-2"));
  const cloud = await startPulumiCloud({ registrationMilliseconds: 0, keysOf: async () => issuer.keys });
  t.after(cloud.close);
  const registration = { organization: "acme", name: "eks", url: issuer.url, maxExpirationSeconds: 600 };
  await cloud.register({ ...registration, policies: [MEMBER] });
  const pod = { namespace: "default", serviceAccount: "app" };
  for (const [expiration, expected] of [
    ["7200", 600],
    ["300", 300],
  ] as const) {
    const body = new URLSearchParams({
      audience: "urn:pulumi:org:acme",
      grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
      subject_token_type: "urn:ietf:params:oauth:token-type:id_token",
      requested_token_type: "urn:pulumi:token-type:access_token:organization",
      expiration,
      subject_token: await issuer.token(pod, { audience: ["acme"], expiresIn: 600 }),
    });
    const response = await fetch(`${cloud.apiUrl}/api/oauth/token`, { method: "POST", body });
    assert.equal(((await response.json()) as { expires_in: number }).expires_in, expected);
  }
});
