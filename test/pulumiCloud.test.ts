// The emulated Pulumi Cloud decides as documented: the tests of the program rely on what it denies.

import assert from "node:assert/strict";
import { test } from "node:test";
import { type AuthPolicy, decide, matchesClaim, matchesPattern } from "../simulator/authPolicy";
import { createCertificateAuthority, openCertificateAuthority } from "../simulator/certificates";
import { startIssuer } from "../simulator/issuer";
import { startPulumiCloud } from "../simulator/pulumiCloud";
import { requestAccessToken } from "../simulator/tokenExchange";

const RULES = { '"kubernetes.io".namespace': "default" };
const CLAIMS = { "kubernetes.io": { namespace: "default" } };
const ALICE: AuthPolicy = { decision: "allow", tokenType: "personal", userLogin: "alice", rules: RULES };

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

test("a list matches if one of its elements does, an object and a missing claim never", () => {
  assert.ok(matchesClaim("sts.*", ["other", "sts.amazonaws.com"]));
  for (const claim of [["other"], [], {}, undefined]) assert.ok(!matchesClaim("sts.*", claim));
});

test("denies if any deny policy matches", () => {
  const deny = { ...ALICE, decision: "deny" };
  const elsewhere = { ...deny, rules: { '"kubernetes.io".namespace': "other" } };
  const asked = { tokenType: "personal", scope: "user:alice" };
  const isAllowed = (...policies: AuthPolicy[]) => decide(policies, CLAIMS, asked).allowed;
  assert.deepEqual([isAllowed(ALICE, deny), isAllowed(deny, ALICE), isAllowed(elsewhere, ALICE)], [false, false, true]);
});

test("verifies an issuer's certificate or compares its thumbprints, and limits the lifetime of tokens", async (t) => {
  const cloud = await startPulumiCloud(await openCertificateAuthority(), { registrationMilliseconds: 0 });
  const issuer = await startIssuer(await createCertificateAuthority());
  t.after(() => Promise.all([cloud.close(), issuer.close()]));
  const registration = { organization: "acme", name: "eks", url: issuer.url, policies: [ALICE] };
  await assert.rejects(cloud.register(registration), /certificate could not be verified/);
  const thumbprints = [issuer.thumbprint()];
  await cloud.register({ ...registration, thumbprints, maxExpirationSeconds: 7200 });
  await assert.rejects(cloud.register({ ...registration, thumbprints }), {
    message: /^409 API error: .* exists already$/,
  });

  const idToken = await issuer.token({ namespace: "default", serviceAccount: "runner" });
  const environment = { PULUMI_ORG: "acme", PULUMI_TOKEN_TYPE: "personal", PULUMI_TOKEN_SCOPE: "user:alice" };
  const exchange = (PULUMI_TOKEN_EXPIRATION: string) =>
    requestAccessToken(cloud.url, { ...environment, PULUMI_TOKEN_EXPIRATION }, idToken);
  assert.ok((await exchange("7200")).allowed);
  assert.match((await exchange("7201")).reason, /7201 exceeds .* 7200 seconds/);
});
