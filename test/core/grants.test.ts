// What the program must never do, whatever a copy changes. golden.test.ts and whole.test.ts compare what it does.

import assert from "node:assert/strict";
import { test } from "node:test";
import { ANSWERS, inputsOf, runStack } from "./program";

const ENTRY = { namespace: "ops", name: "drift", tokenType: "organization", awsRole: "irsa" };

test("stores no token: no Secret, and no value of one in a pod", async () => {
  const stack = await runStack({ serviceAccounts: [ENTRY] });
  assert.deepEqual(inputsOf(stack, "Secret"), []);
  const text = JSON.stringify(stack.registered.map(({ options, ...it }) => it));
  assert.doesNotMatch(text, /PULUMI_ACCESS_TOKEN"|secretKeyRef|pul-[0-9a-f]{8}/);
});

test("denies the role of a suspended entry everything, by the policy of its own partition", async () => {
  const arn = "arn:aws-us-gov:iam::123456789012:oidc-provider/oidc.example";
  const answers = {
    ...ANSWERS,
    "aws:iam/getOpenIdConnectProvider:getOpenIdConnectProvider": () => ({ arn }),
  };
  const suspended = await runStack({ serviceAccounts: [ENTRY], suspended: true }, { answers });
  assert.deepEqual(
    inputsOf(suspended, "RolePolicyAttachment").map(({ policyArn }) => policyArn),
    ["arn:aws-us-gov:iam::aws:policy/AWSDenyAll"],
  );
});
