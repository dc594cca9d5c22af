// The trust policy as data, and whom it lets in by the evaluation of the simulation's IAM.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { JWTPayload } from "jose";
import { trustPolicy } from "../iam";
import { evaluateTrustPolicy } from "../simulator/aws";

const ISSUER = "oidc.eks.us-west-2.amazonaws.com/id/EXAMPLED539D4633E53DE1B71EXAMPLE";
const PROVIDER = `arn:aws:iam::123456789012:oidc-provider/${ISSUER}`;
const POD = {
  iss: `https://${ISSUER}`,
  sub: "system:serviceaccount:ci:runner",
  aud: ["sts.amazonaws.com"],
};

const ARGS = {
  issuerUrl: `https://${ISSUER}`,
  oidcProviderArn: PROVIDER,
  namespace: "ci",
  serviceAccountName: "runner",
};
const policy = trustPolicy(ARGS);

test("the trust policy demands issuer, subject and audience, and allows one action", () => {
  assert.deepEqual(policy, {
    Version: "2012-10-17",
    Statement: [
      {
        Effect: "Allow",
        Principal: { Federated: PROVIDER },
        Action: "sts:AssumeRoleWithWebIdentity",
        Condition: {
          StringEquals: {
            [`${ISSUER}:sub`]: "system:serviceaccount:ci:runner",
            [`${ISSUER}:aud`]: "sts.amazonaws.com",
          },
        },
      },
    ],
  });
});

test("it takes the provider's ARN as it is, in the partitions of China and GovCloud too", () => {
  for (const partition of ["aws-cn", "aws-us-gov"]) {
    const oidcProviderArn = PROVIDER.replace("arn:aws:", `arn:${partition}:`);
    const elsewhere = trustPolicy({ ...ARGS, oidcProviderArn });
    assert.ok(JSON.stringify(elsewhere).includes(`"Principal":{"Federated":"${oidcProviderArn}"}`));
  }
});

test("it lets the service account's pods in", () => {
  assert.deepEqual(answer(POD), { allowed: true, reason: "the trust policy allows it" });
});

for (const [caller, claims, reason] of [
  ["another service account", { ...POD, sub: "system:serviceaccount:ci:other" }, "wants another sub"],
  ["another namespace", { ...POD, sub: "system:serviceaccount:other:runner" }, "wants another sub"],
  ["a longer name", { ...POD, sub: "system:serviceaccount:ci:runner-2" }, "wants another sub"],
  ["a user by that name", { ...POD, sub: "ci:runner" }, "wants another sub"],
  ["a token without subject", { iss: POD.iss, aud: POD.aud }, "wants another sub"],
  ["another audience", { ...POD, aud: ["https://kubernetes.default.svc"] }, "wants another aud"],
  ["a token without audience", { iss: POD.iss, sub: POD.sub }, "wants another aud"],
] satisfies [string, JWTPayload, string][]) {
  test(`it does not let in ${caller}`, () => {
    assert.deepEqual(answer(claims), { allowed: false, reason: `the trust policy ${reason}` });
  });
}

test("it does not let another cluster's pods in, though they have the same name and an IAM OIDC provider", () => {
  const other = ISSUER.replace("us-west-2", "eu-west-1");
  const { allowed, reason } = answer({ ...POD, iss: `https://${other}` }, PROVIDER.replace(ISSUER, other));
  assert.equal(allowed, false);
  assert.equal(reason, "the trust policy names another IAM OIDC provider");
});

/** What IAM says, to which a policy is JSON. */
function answer(claims: JWTPayload, federated = PROVIDER) {
  return evaluateTrustPolicy(JSON.parse(JSON.stringify(policy)), federated, claims);
}
