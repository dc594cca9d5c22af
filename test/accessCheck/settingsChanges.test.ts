// The difference of the settings of a component, as a reviewer reads it.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Settings } from "../support/stack";
import {
  COMPONENT,
  changedPlan,
  deployedPlan,
  ENTRIES,
  ISSUER_URL,
  newPlan,
  READ_ONLY,
  set,
  setDeployed,
} from "./draft";

const [DEPLOYER, DRIFT, SECRETS, RUNNER] = ENTRIES;
const LONG = "arn:aws:iam::123456789012:policy/a-policy-with-a-long-name-";
const OWN_SERVICE_ACCOUNT = { createServiceAccount: false, runJob: false };

/** Settings in place of those of the deployed stack, and all that a reviewer then reads of them. */
const CASES: [what: string, settings: Settings, changes: string[]][] = [
  [
    "each setting once, whatever resources it changes",
    {
      serviceAccounts: [
        { ...DEPLOYER, teamName: "b", injectToken: false, policyRules: { sub: "x" } },
        { ...DRIFT, tokenExpirationSeconds: 600, command: ["pulumi", "up"], rolePolicyArns: [READ_ONLY] },
        { ...SECRETS, organizationAdmin: true, tokenAudience: "b", runJob: false },
        { ...RUNNER, runnerId: "other" },
      ],
      maxExpirationSeconds: 7000,
      audienceRule: false,
      permissionsBoundaryArn: "",
      jobPodSpec: { priorityClassName: "low" },
    },
    [
      "changed the component: audienceRule: true → false",
      "changed the component: jobPodSpec.priorityClassName: none → low",
      "changed the component: maxExpirationSeconds: 3600 → 7000",
      `changed the component: permissionsBoundaryArn: ${READ_ONLY} → none`,
      "changed ci/deployer: token: team:a → team:b",
      "changed ci/deployer: injectToken: true → false",
      'changed ci/deployer: policyRules."kubernetes.io".pod.name: deploy-* → none',
      "changed ci/deployer: policyRules.sub: none → x",
      "changed ops/drift: command.1: whoami → up",
      `changed ops/drift: rolePolicyArns: none → ${READ_ONLY}`,
      "changed ops/drift: tokenExpirationSeconds: 3600 → 600",
      "changed web/secrets: token: organization → organization (admin)",
      "changed web/secrets: runJob: true → false",
      "changed web/secrets: tokenAudience: urn:pulumi:org:acme → b",
      "changed web/runner: runnerId: id → other",
    ],
  ],
  [
    "a new and a removed service account, with all of their settings",
    {
      serviceAccounts: [
        DEPLOYER,
        {
          ...DRIFT,
          name: "more",
          awsRole: "irsa",
          rolePolicyArns: [1, 2, 3, 4, 5].map((it) => `${LONG}${it}`),
        },
        SECRETS,
      ],
    },
    [
      "new ops/more: token: user:alice",
      "new ops/more: awsRole: irsa",
      "new ops/more: command: pulumi whoami",
      `new ops/more: rolePolicyArns: ${LONG}1 ${LONG}2 ${LONG}3 ${LONG}4 ${LONG}5`,
      "new ops/more: tokenExpirationSeconds: 3600",
      "removed ops/drift: token: user:alice",
      "removed ops/drift: awsRole: pod-identity",
      "removed ops/drift: command: pulumi whoami",
      "removed ops/drift: tokenExpirationSeconds: 3600",
      "removed web/runner: token: runner:eks",
      "removed web/runner: command: true",
      "removed web/runner: runJob: false",
      "removed web/runner: runnerId: id",
      "removed web/runner: tokenExpirationSeconds: 3600",
    ],
  ],
  [
    "the role of an organization token",
    { serviceAccounts: [DEPLOYER, DRIFT, { ...SECRETS, organizationRoleId: "b7c1d9a2" }, RUNNER] },
    ["changed web/secrets: token: organization → organization (role b7c1d9a2)"],
  ],
  [
    "a name that begins as an access token does",
    {
      serviceAccounts: [{ ...DEPLOYER, teamName: "pul-platform-engineering" }, DRIFT, SECRETS, RUNNER],
    },
    ["changed ci/deployer: token: team:a → team:pul-platform-engineering"],
  ],
  [
    "a role by EKS Pod Identity for a service account that exists already",
    {
      serviceAccounts: [
        { ...DEPLOYER, awsRole: "pod-identity", ...OWN_SERVICE_ACCOUNT },
        DRIFT,
        SECRETS,
        RUNNER,
      ],
    },
    [
      `changed the component: oidcProviderArn: arn:aws:iam::123456789012:oidc-provider/${ISSUER_URL} → none`,
      "changed ci/deployer: awsRole: irsa → pod-identity",
      "changed ci/deployer: createServiceAccount: true → false",
      "changed ci/deployer: runJob: true → false",
    ],
  ],
];

describe("shows of settings", () => {
  for (const [what, settings, changes] of CASES) {
    test(what, async () => {
      const checked = (await changedPlan(settings)).check();
      assert.deepEqual(checked.findings, []);
      assert.deepEqual(checked.settings, changes);
    });
  }
});

test("shows an empty list in a setting, which can replace another one, and settings of another version", async () => {
  const draft = await deployedPlan(
    setDeployed(COMPONENT, "jobPodSpec", { securityContext: {} }),
    set(COMPONENT, "jobPodSpec", { securityContext: { sysctls: [] } }),
    setDeployed(COMPONENT, "more", true),
  );
  assert.deepEqual(draft.check().settings, [
    "changed the component: jobPodSpec.securityContext.sysctls: none → []",
    "changed the component: more: true → none",
  ]);
});

test("shows all settings of a new component, without the defaults of its service accounts", async () => {
  assert.deepEqual((await newPlan()).check().settings, [
    "new the component: clusterArn: arn:aws:eks:us-west-2:123456789012:cluster/my-cluster",
    "new the component: createNamespaces: ops",
    "new the component: image: pulumi/pulumi-base:3.274.1",
    "new the component: issuerName: eks-my-cluster",
    `new the component: issuerUrl: https://${ISSUER_URL}`,
    "new the component: maxExpirationSeconds: 3600",
    `new the component: oidcProviderArn: arn:aws:iam::123456789012:oidc-provider/${ISSUER_URL}`,
    "new the component: organization: acme",
    `new the component: permissionsBoundaryArn: ${READ_ONLY}`,
    "new the component: pulumiApiUrl: https://api.pulumi.com",
    "new the component: rolePath: /",
    "new ci/deployer: token: team:a",
    "new ci/deployer: awsRole: irsa",
    "new ci/deployer: command: pulumi whoami",
    "new ci/deployer: injectToken: true",
    'new ci/deployer: policyRules: { "\\"kubernetes.io\\".pod.name": "deploy-*" }',
    `new ci/deployer: rolePolicyArns: ${READ_ONLY}`,
    "new ci/deployer: tokenExpirationSeconds: 3600",
    "new ops/drift: token: user:alice",
    "new ops/drift: awsRole: pod-identity",
    "new ops/drift: command: pulumi whoami",
    "new ops/drift: tokenExpirationSeconds: 3600",
    "new web/secrets: token: organization",
    "new web/secrets: command: pulumi whoami",
    "new web/secrets: tokenExpirationSeconds: 3600",
    "new web/runner: token: runner:eks",
    "new web/runner: command: true",
    "new web/runner: runJob: false",
    "new web/runner: runnerId: id",
    "new web/runner: tokenExpirationSeconds: 3600",
  ]);
});
