// The emulated Pulumi Cloud: what it rejects of a registration, and which token exchanges it denies.

import assert from "node:assert/strict";
import { after, before, type TestContext, test } from "node:test";
import type { AuthPolicy } from "../simulator/authPolicy";
import {
  type CertificateAuthority,
  createCertificateAuthority,
  openCertificateAuthority,
} from "../simulator/certificates";
import { type ClusterIssuer, startIssuer } from "../simulator/issuer";
import { type IssuerRegistration, type PulumiCloud, startPulumiCloud } from "../simulator/pulumiCloud";
import { requestAccessToken } from "../simulator/tokenExchange";

const RULES = { '"kubernetes.io".namespace': "default", '"kubernetes.io".serviceaccount.name': "runner" };
const ALICE: AuthPolicy = { decision: "allow", tokenType: "personal", userLogin: "alice", rules: RULES };
const POD = { namespace: "default", serviceAccount: "runner" };
const ENVIRONMENT = {
  PULUMI_ORG: "acme",
  PULUMI_TOKEN_TYPE: "personal",
  PULUMI_TOKEN_SCOPE: "user:alice",
  PULUMI_TOKEN_EXPIRATION: "600",
};

let authority: CertificateAuthority;
let issuer: ClusterIssuer;
before(async () => {
  authority = await openCertificateAuthority(process.env.SIMULATOR_DIRECTORY);
  issuer = await startIssuer(authority);
});
after(() => issuer.close());

async function start(t: TestContext, registered?: ClusterIssuer): Promise<PulumiCloud> {
  const cloud = await startPulumiCloud(authority, { registrationMilliseconds: 0 });
  t.after(() => cloud.close());
  if (registered) await cloud.register(registrationOf({}, registered));
  return cloud;
}

function registrationOf(changes: Partial<IssuerRegistration>, { url } = issuer): IssuerRegistration {
  return {
    organization: "acme",
    name: "eks",
    url,
    maxExpirationSeconds: 7200,
    policies: [ALICE],
    ...changes,
  };
}

for (const [what, changes, message] of [
  ["the same URL twice in one organization", {}, /^409 API error: .* exists already$/],
  [
    "a thumbprint that is not the certificate's",
    { thumbprints: ["0".repeat(64)] },
    /Calculated thumbprint \w{64} does/,
  ],
  ["41 policies", { policies: Array<AuthPolicy>(41).fill(ALICE) }, /at most 40 policies/],
  ["a policy without an owner", { policies: [{ ...ALICE, userLogin: "" }] }, /must say whose/],
  ["a pattern of only wildcards", { policies: [{ ...ALICE, rules: { sub: "*" } }] }, /strict matching portion/],
] satisfies [string, Partial<IssuerRegistration>, RegExp][]) {
  test(`rejects ${what}`, async (t) => {
    const cloud = await start(t, issuer);
    await assert.rejects(cloud.register(registrationOf(changes)), { message });
    assert.equal(cloud.list().length, 1);
  });
}

test("an update keeps the policies that are not sent, and changes the name even if the policies are rejected", async (t) => {
  const cloud = await start(t, issuer);
  const { id = "" } = cloud.list()[0] ?? {};
  await cloud.update(id, registrationOf({ policies: [], maxExpirationSeconds: 600 }));
  assert.deepEqual(cloud.read(id)?.policies, [ALICE]);
  assert.equal(cloud.read(id)?.maxExpirationSeconds, 600);
  const rejected = registrationOf({ name: "new", policies: [{ ...ALICE, rules: { sub: "*" } }] });
  await assert.rejects(cloud.update(id, rejected), /strict matching portion/);
  assert.equal(cloud.read(id)?.name, "new");
  assert.deepEqual(cloud.read(id)?.policies, [ALICE]);
});

for (const [what, changes, reason] of [
  ["another organization", { PULUMI_ORG: "other" }, /other has no OIDC issuer/],
  ["an unknown token type", { PULUMI_TOKEN_TYPE: "root" }, /root token cannot have the scope/],
  ["the scope of another type", { PULUMI_TOKEN_SCOPE: "team:ops" }, /personal token cannot have the scope 'team:ops'/],
  ["another user", { PULUMI_TOKEN_SCOPE: "user:bob" }, /none is for a personal token, scope user:bob/],
  ["an expiration above the limit", { PULUMI_TOKEN_EXPIRATION: "7201" }, /7201 exceeds .* 7200 seconds/],
] satisfies [string, Partial<typeof ENVIRONMENT>, RegExp][]) {
  test(`denies a request for ${what}`, async (t) => {
    const cloud = await start(t, issuer);
    const idToken = await issuer.token(POD);
    const answer = await requestAccessToken(cloud.url, { ...ENVIRONMENT, ...changes }, idToken);
    assert.equal(answer.allowed, false);
    assert.match(answer.reason, reason);
    assert.equal(cloud.exchanges[0]?.reason, answer.reason);
    assert.ok(!JSON.stringify(cloud.exchanges).includes(idToken.slice(0, 20)));
  });
}

test("verifies the issuer's certificate, and compares thumbprints only if that fails", async (t) => {
  const own = await startIssuer(authority);
  t.after(() => own.close());
  const cloud = await start(t, own);
  const { id = "" } = cloud.list()[0] ?? {};
  const isAllowed = async () => {
    await cloud.update(id, registrationOf({}, own));
    return (await requestAccessToken(cloud.url, ENVIRONMENT, await own.token(POD))).allowed;
  };
  await own.rotateCertificate();
  assert.equal(await isAllowed(), true);
  const notAfter = new Date(Date.now() - 1000);
  for (const invalid of [{ notAfter }, { authority: await createCertificateAuthority() }, { hosts: ["other"] }]) {
    await own.rotateCertificate(invalid);
    assert.equal(await isAllowed(), false);
  }
  await cloud.update(id, registrationOf({ thumbprints: [own.thumbprint()] }, own));
  assert.equal(await isAllowed(), true);
});
