// The trust policy, evaluated as IAM does.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { JWTPayload } from "jose";
import { trustPolicy } from "../iam";
import { evaluateTrustPolicy } from "../simulator/aws";

const ISSUER = "oidc.eks.us-west-2.amazonaws.com/id/EXAMPLED539D4633E53DE1B71EXAMPLE";
const PROVIDER = `arn:aws:iam::123456789012:oidc-provider/${ISSUER}`;
const SUBJECT = "system:serviceaccount:ci:runner";
const POD = { iss: `https://${ISSUER}`, sub: SUBJECT, aud: ["sts.amazonaws.com"] };

test("the trust policy allows the pods of its service account, in every partition", () => {
  for (const partition of ["aws", "aws-cn", "aws-us-gov"]) {
    const provider = PROVIDER.replace("arn:aws:", `arn:${partition}:`);
    assert.equal(isAllowed(POD, { trusted: provider, federated: provider }), true);
  }
});

for (const [caller, claims] of [
  ["another service account", { ...POD, sub: "system:serviceaccount:ci:other" }],
  ["another namespace", { ...POD, sub: "system:serviceaccount:other:runner" }],
  ["a longer name", { ...POD, sub: `${SUBJECT}-2` }],
  ["a token without a subject", { iss: POD.iss, aud: POD.aud }],
  ["another audience", { ...POD, aud: ["https://kubernetes.default.svc"] }],
  ["a token without an audience", { iss: POD.iss, sub: POD.sub }],
] satisfies [string, JWTPayload][]) {
  test(`the trust policy denies ${caller}`, () => assert.equal(isAllowed(claims), false));
}

test("the trust policy denies a pod of the same name in another cluster that has an IAM OIDC provider", () => {
  const other = ISSUER.replace("us-west-2", "eu-west-1");
  const federated = PROVIDER.replace(ISSUER, other);
  assert.equal(isAllowed({ ...POD, iss: `https://${other}` }, { trusted: PROVIDER, federated }), false);
});

function isAllowed(claims: JWTPayload, { trusted = PROVIDER, federated = PROVIDER } = {}): boolean {
  const names = { namespace: "ci", serviceAccountName: "runner" };
  const policy = trustPolicy({ issuerUrl: `https://${ISSUER}`, oidcProviderArn: trusted, ...names });
  return evaluateTrustPolicy(JSON.parse(JSON.stringify(policy)), federated, claims).allowed;
}
