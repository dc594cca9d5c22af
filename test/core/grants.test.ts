// What the program must never grant, whatever a copy changes. golden.test.ts compares what it does grant, and config.test.ts has the
// settings that it rejects.

import assert from "node:assert/strict";
import { before, test } from "node:test";
import { ANSWERS, inputsOf, type Run, runStack } from "./program";

const TEAM = { namespace: "team-a", name: "app", tokenType: "team", teamName: "team-a" };
const ROLE = { namespace: "ops", name: "drift", tokenType: "organization", awsRole: "irsa" };
const NO_ROLE = { namespace: "ops", name: "reader", tokenType: "team", teamName: "ops" };
const SERVICE_ACCOUNTS = [TEAM, ROLE, NO_ROLE];

const NAMESPACE = '"kubernetes.io".namespace';
const NAME = '"kubernetes.io".serviceaccount.name';

let stack: Run;

before(async () => {
  stack = await runStack({ serviceAccounts: SERVICE_ACCOUNTS });
});

test("grants no token to a service account that is not listed, or for another audience", () => {
  const [issuer, ...others] = inputsOf(stack, "OidcIssuer");
  assert.deepEqual(others, []);
  const granted = issuer.policies.map(({ rules }: { rules: Record<string, string> }) => {
    assert.equal(rules.aud, "urn:pulumi:org:acme");
    return `${rules[NAMESPACE]}/${rules[NAME]}`;
  });
  assert.deepEqual(granted, ["team-a/app", "ops/drift", "ops/reader"]);
});

test("grants no admin's token, and none that lives for more than an hour", () => {
  const [issuer] = inputsOf(stack, "OidcIssuer");
  assert.equal(issuer.maxExpirationSeconds, 3600);
  for (const policy of issuer.policies) assert.equal(policy.authorizedPermissions, undefined);
});

test("grants no IAM role, or its permissions, to a service account whose entry does not ask for it", () => {
  const [role, ...others] = inputsOf(stack, "Role");
  assert.deepEqual(others, []);
  assert.match(role.description, / ops\/drift$/);
  assert.deepEqual([role.managedPolicyArns, role.inlinePolicies], [undefined, undefined]);
  assert.deepEqual(inputsOf(stack, "RolePolicyAttachment"), []);
  const annotated = inputsOf(stack, "ServiceAccount").filter(({ metadata }) => metadata.annotations);
  assert.deepEqual(
    annotated.map(({ metadata }) => metadata.name),
    ["drift"],
  );
});

test("stores no token: no Secret, and no value of one in a pod", () => {
  assert.deepEqual(inputsOf(stack, "Secret"), []);
  const text = JSON.stringify(stack.registered.map(({ options, ...it }) => it));
  assert.doesNotMatch(text, /PULUMI_ACCESS_TOKEN"|secretKeyRef|pul-[0-9a-f]{8}/);
});

test("restricts a Job's pod to the exchange, without a token for the API server", () => {
  const jobs = inputsOf(stack, "Job");
  assert.equal(jobs.length, 3);
  for (const { spec } of jobs) {
    const pod = spec.template.spec;
    assert.equal(pod.automountServiceAccountToken, false);
    assert.equal(pod.securityContext.runAsNonRoot, true);
    const [container, ...others] = pod.containers;
    assert.deepEqual(others, []);
    assert.equal(container.command.at(-1), "/var/run/secrets/pulumi.com/exchange-token.sh");
    assert.deepEqual(container.securityContext.capabilities, { drop: ["ALL"] });
  }
});

test("denies the role of a suspended entry everything, by the policy of its own partition", async () => {
  const arn = "arn:aws-us-gov:iam::123456789012:oidc-provider/oidc.example";
  const answers = {
    ...ANSWERS,
    "aws:iam/getOpenIdConnectProvider:getOpenIdConnectProvider": () => ({ arn }),
  };
  const suspended = await runStack({ serviceAccounts: [ROLE], suspended: true }, { answers });
  assert.deepEqual(
    inputsOf(suspended, "RolePolicyAttachment").map(({ policyArn }) => policyArn),
    ["arn:aws-us-gov:iam::aws:policy/AWSDenyAll"],
  );
});
