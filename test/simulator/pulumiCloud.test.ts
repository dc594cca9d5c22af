// The emulated Pulumi Cloud reads policies as documented: engine tests rely on what it denies.

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type AuthPolicy,
  createIssuer,
  denialOf,
  exchange,
  matchesPattern,
} from "../../simulator/pulumiCloud";

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

test("a deny policy takes precedence over every allow policy, for its own owner and claims", () => {
  const allow: AuthPolicy = { decision: "allow", tokenType: "team", teamName: "a", rules: { sub: "b" } };
  const deny: AuthPolicy = { ...allow, decision: "deny" };
  const denial = (...policies: AuthPolicy[]) =>
    denialOf(policies, { sub: "b" }, { tokenType: "team", scope: "team:A" });
  assert.equal(denial(allow), undefined);
  assert.match(String(denial(allow, { ...deny, rules: { sub: "*b" } })), /^a deny policy for .* matches$/);
  assert.equal(denial({ ...deny, teamName: "c" }, { ...deny, rules: { sub: "c" } }, allow), undefined);
});

test("the owner of a policy is a pattern", () => {
  const policy = { decision: "allow", rules: {} } as const;
  const denial = (owner: object, tokenType: string, scope: string) =>
    denialOf([{ ...policy, tokenType, ...owner } as AuthPolicy], {}, { tokenType, scope });
  assert.equal(denial({ teamName: "team-*" }, "team", "team:team-a"), undefined);
  assert.notEqual(denial({ teamName: "team-.b" }, "team", "team:team-b"), undefined);
  assert.equal(denial({ userLogin: "?lice" }, "personal", "user:alice"), undefined);
});

test("a denial does not say why, and an organization without an issuer is invalid", async () => {
  const { url, keys, token } = await createIssuer("https://oidc.example.com");
  const subject_token = await token({ namespace: "a", serviceAccount: "b" }, "urn:pulumi:org:acme");
  const answer = async (organization: string) => {
    const form = new URLSearchParams({ audience: `urn:pulumi:org:${organization}`, subject_token });
    return exchange(form, [{ organization: "acme", url, keys: await keys }]);
  };
  const { status, body } = await answer("acme");
  assert.deepEqual([status, body], [401, { error: "access_denied", error_description: "unauthorized" }]);
  const invalid = await answer("other");
  const body400 = { error: "invalid_request", error_description: "invalid organization other" };
  assert.deepEqual([invalid.status, invalid.body], [400, body400]);
});
