// The emulated Pulumi Cloud decides as documented: the tests of the program rely on what it denies.

import assert from "node:assert/strict";
import { test } from "node:test";
import { type AuthPolicy, decide, matchesPattern } from "../../simulator/emulators/authPolicy";
import { startCluster } from "../support/stack";

const CLAIMS = { "kubernetes.io": { namespace: "default" } };
const RULES = { '"kubernetes.io".namespace': "default" };
const ALICE: AuthPolicy = { decision: "allow", tokenType: "personal", userLogin: "alice", rules: RULES };

test("a pattern matches a whole value: * is any characters, ? zero or one, and . exactly one", () => {
  for (const [pattern, matching, others] of [
    ["runner-*", ["runner-", "runner-a.b\nc"], ["runner", "a-runner-"]],
    ["runner?", ["runner", "runners"], ["runnerss", "Runner"]],
    ["a.b", ["a.b", "a\u{1f511}b"], ["ab", "a--b"]],
    ["(a|b)+[c]^$\\", ["(a|b)+[c]^$\\"], ["ac", "a"]],
  ] satisfies [string, string[], string[]][]) {
    for (const value of matching) assert.ok(matchesPattern(pattern, value), value);
    for (const value of others) assert.ok(!matchesPattern(pattern, value), value);
  }
});

test("a hostile pattern, for which a regular expression would need hours, is matched at once", () => {
  for (const wildcard of ["*", "?", "*?", ".*"]) {
    const pattern = `${`${wildcard}a`.repeat(30)}b`;
    const start = process.cpuUsage();
    assert.ok(!matchesPattern(pattern, "a".repeat(253)));
    assert.ok(matchesPattern(pattern, `${"a".repeat(60)}b`), wildcard);
    assert.ok(process.cpuUsage(start).user < 1e6, `${wildcard}: more than a second`);
  }
});

test("denies if a deny policy matches, or if the token does not have a claim", () => {
  const asked = { tokenType: "personal", scope: "user:alice" };
  assert.equal(decide([ALICE], CLAIMS, asked).allowed, true);
  assert.equal(decide([ALICE, { ...ALICE, decision: "deny" }], CLAIMS, asked).allowed, false);
  assert.equal(decide([ALICE], {}, asked).allowed, false);
});

test("grants an administrator's token only with the permission admin, and denies it without", () => {
  const asked = { tokenType: "organization", scope: "admin" };
  const organization: AuthPolicy = { decision: "allow", tokenType: "organization", rules: RULES };
  const admin = { ...organization, authorizedPermissions: ["admin"] };
  assert.equal(decide([organization], CLAIMS, asked).allowed, false);
  assert.equal(decide([admin], CLAIMS, asked).allowed, true);
  assert.equal(decide([admin, { ...organization, decision: "deny" }], CLAIMS, asked).allowed, false);
});

test("denies a lifetime beyond the issuer's limit, and accepts an access token only during its lifetime", async (t) => {
  const { issuer, pulumiCloud, close } = await startCluster();
  t.after(close);
  const registration = { organization: "acme", name: "eks", url: issuer.url, policies: [ALICE] };
  await pulumiCloud.register({ ...registration, maxExpirationSeconds: 60 });
  const audience = "urn:pulumi:org:acme";
  const runner = { namespace: "default", serviceAccount: "runner" };
  const form = {
    audience,
    grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
    subject_token_type: "urn:ietf:params:oauth:token-type:id_token",
    requested_token_type: "urn:pulumi:token-type:access_token:personal",
    scope: "user:alice",
    subject_token: await issuer.token(runner, { audience: [audience], expiresIn: 600 }),
  };
  const exchange = async (expiration: string) => {
    const body = new URLSearchParams({ ...form, expiration });
    const response = await fetch(`${pulumiCloud.url}/api/oauth/token`, { method: "POST", body });
    return (await response.json()) as Record<string, string>;
  };

  assert.match((await exchange("61")).error_description ?? "", /61 exceeds .* 60 seconds/);
  const { access_token } = await exchange("60");
  const headers = { authorization: `token ${access_token}` };
  const status = async () => (await fetch(`${pulumiCloud.url}/api/user`, { headers })).status;
  assert.equal(await status(), 200);
  t.mock.timers.enable({ apis: ["Date"], now: Date.now() + 61_000 });
  assert.equal(await status(), 401);
});
