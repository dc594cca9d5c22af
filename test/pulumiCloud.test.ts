// The emulated Pulumi Cloud: which token exchanges it denies, besides those of the access check.

import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import type { AuthPolicy } from "../simulator/authPolicy";
import { createCertificateAuthority, openCertificateAuthority } from "../simulator/certificates";
import { type ClusterIssuer, startIssuer } from "../simulator/issuer";
import { type PulumiCloud, startPulumiCloud } from "../simulator/pulumiCloud";
import { requestAccessToken } from "../simulator/tokenExchange";

const RULES = { '"kubernetes.io".namespace': "default", '"kubernetes.io".serviceaccount.name': "runner" };
const ALICE: AuthPolicy = { decision: "allow", tokenType: "personal", userLogin: "alice", rules: RULES };
const ENVIRONMENT = {
  PULUMI_ORG: "acme",
  PULUMI_TOKEN_TYPE: "personal",
  PULUMI_TOKEN_SCOPE: "user:alice",
  PULUMI_TOKEN_EXPIRATION: "600",
};

let issuer: ClusterIssuer;
let cloud: PulumiCloud;
let id: string;
before(async () => {
  const authority = await openCertificateAuthority();
  issuer = await startIssuer(authority);
  cloud = await startPulumiCloud(authority, { registrationMilliseconds: 0 });
});
beforeEach(async () => {
  for (const registered of cloud.list()) cloud.remove(registered.id);
  const registration = { organization: "acme", name: "eks", url: issuer.url, policies: [ALICE] };
  ({ id } = await cloud.register({ ...registration, maxExpirationSeconds: 7200 }));
});
after(() => Promise.all([issuer.close(), cloud.close()]));

async function exchange(changes: Partial<typeof ENVIRONMENT> = {}) {
  const idToken = await issuer.token({ namespace: "default", serviceAccount: "runner" });
  return requestAccessToken(cloud.url, { ...ENVIRONMENT, ...changes }, idToken);
}

test("rejects the same URL twice in one organization", async () => {
  const registration = { organization: "acme", name: "again", url: issuer.url };
  await assert.rejects(cloud.register(registration), { message: /^409 API error: .* exists already$/ });
  await cloud.register({ ...registration, organization: "other" });
});

for (const [what, changes, reason] of [
  ["another organization", { PULUMI_ORG: "other" }, /other has no OIDC issuer/],
  ["another token type", { PULUMI_TOKEN_TYPE: "team" }, /none is for a team token, scope user:alice/],
  ["another user", { PULUMI_TOKEN_SCOPE: "user:bob" }, /none is for a personal token, scope user:bob/],
  ["an expiration above the limit", { PULUMI_TOKEN_EXPIRATION: "7201" }, /7201 exceeds .* 7200 seconds/],
] satisfies [string, Partial<typeof ENVIRONMENT>, RegExp][]) {
  test(`denies a request for ${what}`, async () => {
    assert.equal((await exchange()).allowed, true);
    const { allowed, reason: given } = await exchange(changes);
    assert.equal(allowed, false);
    assert.match(given, reason);
  });
}

test("verifies the issuer's certificate, and compares thumbprints only if that fails", async () => {
  const update = (thumbprints: string[]) => cloud.update(id, { thumbprints });
  await issuer.rotateCertificate();
  await update([]);
  assert.equal((await exchange()).allowed, true);
  await issuer.rotateCertificate({ authority: await createCertificateAuthority() });
  await update([]);
  assert.match((await exchange()).reason, /certificate could not be verified/);
  await update([issuer.thumbprint()]);
  assert.equal((await exchange()).allowed, true);
  await issuer.rotateCertificate();
});
