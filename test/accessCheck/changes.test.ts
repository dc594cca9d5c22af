// What a plan changes, as a reviewer reads it. plan.engine.test.ts has the changes of the stack's settings on the real engine.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Settings } from "../support/stack";
import {
  ASSOCIATION,
  ATTACHMENT,
  add,
  COMPONENT,
  CONFIG_MAP,
  changedPlan,
  deployedPlan,
  type Edit,
  ENTRIES,
  INJECTION,
  INSIDE,
  IRSA,
  ISSUER,
  ISSUER_URL,
  JOB,
  newPlan,
  POD_IDENTITY,
  READ_ONLY,
  remove,
  SECRET,
  set,
  setDeployed,
  setUnchanged,
} from "./draft";

const [DEPLOYER, DRIFT, SECRETS, RUNNER] = ENTRIES;
const CONTAINER = "spec.template.spec.containers.0";
const ROLE_NAME = `pulumi-oidc-ci-deployer-${"0".repeat(26)}`;
const OTHER_POLICY = { decision: "allow", tokenType: "personal", userLogin: "mallory", rules: { sub: "x" } };
const LONG = "arn:aws:iam::123456789012:policy/a-policy-with-a-long-name-";
const OWN_SERVICE_ACCOUNT = { createServiceAccount: false, runJob: false };

/** Settings in place of those of the deployed stack, and all that a reviewer then reads. */
const SETTING_CASES: [what: string, settings: Settings, changes: string[]][] = [
  [
    "each setting once, whatever resources it changes",
    {
      serviceAccounts: [
        { ...DEPLOYER, teamName: "b", audienceRule: false, injectToken: false, policyRules: { sub: "x" } },
        { ...DRIFT, tokenExpirationSeconds: 600, command: ["pulumi", "up"], rolePolicyArns: [READ_ONLY] },
        { ...SECRETS, organizationAdmin: true, tokenAudience: "b", runJob: false },
        { ...RUNNER, runnerId: "other" },
      ],
      maxExpirationSeconds: 7000,
      permissionsBoundaryArn: "",
      jobPodSpec: { priorityClassName: "low" },
    },
    [
      "changed the component: jobPodSpec.priorityClassName: none → low",
      "changed the component: maxExpirationSeconds: 7200 → 7000",
      `changed the component: permissionsBoundaryArn: ${READ_ONLY} → none`,
      "changed ci/deployer: token: team:a → team:b",
      "changed ci/deployer: audienceRule: true → false",
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
      "changed ci/deployer: Remove the annotation eks.amazonaws.com/role-arn from its service account, or new pods are denied.",
    ],
  ],
];

describe("shows of settings", () => {
  for (const [what, settings, changes] of SETTING_CASES) {
    test(what, async () => {
      const checked = (await changedPlan(settings)).check();
      assert.deepEqual(checked.findings, []);
      assert.deepEqual(checked.changes, changes);
    });
  }
});

/** Changes of resources that no setting explains, and all that a reviewer then reads. */
const CASES: [what: string, edits: Edit[], changes: string[]][] = [
  [
    "tokens, lifetimes, and the rules of allow policies",
    [
      set(CONFIG_MAP, "data.tokenScope", "team:b"),
      set(ISSUER, "policies.0.rules.aud"),
      set(ISSUER, "policies.1.rules.sub", "*:drift"),
      set(ISSUER, "policies.2.authorizedPermissions", ["admin"]),
      setDeployed(ISSUER, "policies.4", OTHER_POLICY),
    ],
    [
      'changed ci/deployer: its allow policy rules.aud: "urn:pulumi:org:acme" → none',
      'changed ci/deployer: its request tokenScope: "team:a" → "team:b"',
      'changed ops/drift: its allow policy rules.sub: none → "*:drift"',
      'changed web/secrets: its allow policy authorizedPermissions: none → [ "admin" ]',
      'removed Allow policy of no service account: decision: "allow" → none',
      'removed Allow policy of no service account: tokenType: "personal" → none',
      'removed Allow policy of no service account: userLogin: "mallory" → none',
      'removed Allow policy of no service account: rules: { "sub": "x" } → none',
    ],
  ],
  [
    "what is deployed and was not as its settings say",
    [
      setDeployed(CONFIG_MAP, "data.tokenType"),
      setDeployed(ISSUER, "policies.1.userLogin", "mallory"),
      setDeployed(CONFIG_MAP, ["data", "exchange-token.sh"], "#!/bin/sh\n"),
      setDeployed(INJECTION, "spec.failurePolicy", "Fail"),
    ],
    [
      'changed the component: the admission policy spec.failurePolicy: "Fail" → "Ignore"',
      "changed ci/deployer: its request exchange-token.sh: another script → that of this clone",
      'changed ci/deployer: its request tokenType: none → "team"',
      'changed ops/drift: its allow policy userLogin: "mallory" → "alice"',
    ],
  ],
  [
    "the issuer",
    [
      set(ISSUER, "maxExpirationSeconds", 7201),
      set(ISSUER, "thumbprints", ["1"]),
      setDeployed(ISSUER, "thumbprints", ["2"]),
    ],
    [
      "changed the component: the OIDC issuer maxExpirationSeconds: 7200 → 7201",
      'changed the component: the OIDC issuer thumbprints.0: "2" → "1"',
    ],
  ],
  [
    "roles, and what is in the component and no setting requires",
    [
      set(IRSA, "assumeRolePolicy.Statement.0.Action", "sts:*"),
      set(ATTACHMENT, "role", "other"),
      set(IRSA, "tags", { team: "a" }),
      remove(ASSOCIATION),
      add("aws:iam/rolePolicy:RolePolicy", "logs", { role: ROLE_NAME, policy: "{}" }, INSIDE),
    ],
    [
      'changed ci/deployer: its trust policy Statement.0.Action: "sts:AssumeRoleWithWebIdentity" → "sts:*"',
      'changed ci/deployer: its role tags: none → { "team": "a" }',
      `changed ci/deployer: its policy "${READ_ONLY}" role: "${ROLE_NAME}" → "other"`,
      "changed ops/drift: its association with the role: as its settings say → none",
      `new RolePolicy logs: role: none → "${ROLE_NAME}"`,
      'new RolePolicy logs: policy: none → "{}"',
    ],
  ],
  [
    "what leaves the program, and stays",
    [
      remove(IRSA, { retainOnDelete: true }),
      remove(ATTACHMENT),
      remove(POD_IDENTITY, { deletedWith: "urn" }),
      remove("Namespace access.ops", { retainOnDelete: true }),
      (draft) =>
        Object.assign(draft.step(JOB), {
          op: "replace",
          oldState: { ...draft.step(JOB).oldState, retainOnDelete: true },
        }),
      (draft) => Object.assign(draft.step(ISSUER).newState ?? {}, { deletedWith: "urn" }),
      (draft) => Object.assign(draft.step("Job access.web.secrets").newState ?? {}, { parent: undefined }),
    ],
    [
      "changed the component: namespace ops: as its settings say → none",
      'changed the component: the OIDC issuer deletedWith: none → "urn"',
      "changed ci/deployer: its Job retainOnDelete: true → none",
      "changed ci/deployer: its role: as its settings say → none",
      `changed ci/deployer: its policy "${READ_ONLY}": as its settings say → none`,
      "changed ops/drift: its role: as its settings say → none",
      "changed web/secrets: its Job: as its settings say → none",
      "kept Namespace access.ops: leaves the program, and is not deleted (retainOnDelete: true)",
      "kept Role access.ci.deployer: leaves the program, and is not deleted (retainOnDelete: true)",
      "kept Role access.ops.drift: leaves the program, and is not deleted (deletedWith: urn)",
      "kept Job access.web.secrets: leaves the component, and stays in the program: urn:pulumi:dev::eks-pulumi-oidc::eks-pulumi-oidc:index:PulumiCloudAccess$eks-pulumi-oidc:index:WorkloadIdentity$kubernetes:batch/v1:Job::access.web.secrets",
      "kept Job access.ci.deployer: is replaced, and the old one is not deleted (retainOnDelete: true)",
    ],
  ],
  [
    "an empty list in a setting, which can replace another one",
    [
      setDeployed(COMPONENT, "jobPodSpec", { securityContext: {} }),
      set(COMPONENT, "jobPodSpec", { securityContext: { sysctls: [] } }),
    ],
    ["changed the component: jobPodSpec.securityContext.sysctls: none → []"],
  ],
  [
    "Jobs, and service accounts",
    [
      set(JOB, `${CONTAINER}.image`, "mallory/base:1"),
      set(JOB, `${CONTAINER}.args.1`, `up --token=pul-${"0".repeat(40)} ${"QUJD".repeat(40)}`),
      set(JOB, "spec.template.spec.hostNetwork", true),
      set("Job access.ops.drift", `${CONTAINER}.image`, SECRET),
      remove("ServiceAccount access.web.secrets"),
    ],
    [
      'changed ci/deployer: its Job spec.template.spec.containers.token-exchange.args.1: "whoami" → "up --token=[redacted] QUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJD"',
      'changed ci/deployer: its Job spec.template.spec.containers.token-exchange.image: "pulumi/pulumi-base:3.274.1" → "mallory/base:1"',
      "changed ci/deployer: its Job spec.template.spec.hostNetwork: none → true",
      'changed ops/drift: its Job spec.template.spec.containers.token-exchange.image: "pulumi/pulumi-base:3.274.1" → secret',
      "changed web/secrets: its service account: as its settings say → none",
    ],
  ],
  [
    "a role of the rest of the program that becomes that of the component, by an alias",
    [
      (draft) =>
        Object.assign(draft.step(IRSA).oldState ?? {}, {
          parent: undefined,
          urn: "urn:pulumi:dev::x::aws:iam/role:Role::app",
        }),
    ],
    [
      "changed ci/deployer: its role: none → as its settings say",
      `changed Role access.ci.deployer: takes over what exists already: ${ROLE_NAME}`,
    ],
  ],
  [
    "another provider, and settings of another version",
    [
      (draft) => {
        for (const { newState } of draft.steps) {
          if (newState?.provider?.includes("kubernetes::cluster"))
            newState.provider = newState.provider.replace("cluster", "other");
        }
      },
      setDeployed(COMPONENT, "more", true),
    ],
    [
      "changed the component: more: true → none",
      "changed the component: provider of kubernetes: urn:pulumi:dev::eks-pulumi-oidc::pulumi:providers:kubernetes::cluster → urn:pulumi:dev::eks-pulumi-oidc::pulumi:providers:kubernetes::other",
    ],
  ],
  [
    "nothing that a refresh or a provider only adds, or that is secret",
    [
      set("Job access.ops.drift", `${CONTAINER}.image`, SECRET),
      setDeployed("Job access.ops.drift", `${CONTAINER}.image`, SECRET),
      set("Job access.ops.drift", "spec.template.spec.tolerations", []),
      setUnchanged(IRSA, "tags", { team: "a" }),
      setUnchanged(IRSA, "__defaults", []),
      setUnchanged(ISSUER, "policies.2.authorizedPermissions", []),
    ],
    [],
  ],
];

describe("shows", () => {
  for (const [what, edits, changes] of CASES) {
    test(what, async () => {
      assert.deepEqual((await deployedPlan(...edits)).check().changes, changes);
    });
  }
});

test("lists a new component, its service accounts, and what of their resources no setting explains", async () => {
  const script = set(
    CONFIG_MAP.replace("ci.deployer", "ops.drift"),
    ["data", "exchange-token.sh"],
    "#!/bin/sh\n",
  );
  const edits = [
    set(JOB, `${CONTAINER}.securityContext`, { privileged: true }),
    set(JOB, "spec.template.spec.volumes.2", { name: "node", hostPath: { path: "/" } }),
    set(INJECTION, "spec.mutations.0.jsonPatch.expression", "[]"),
    set(IRSA, "tags", { team: "a" }),
    set("Namespace access.ops", "metadata.labels", { team: "a" }),
  ];
  assert.deepEqual((await newPlan(script, ...edits)).check().changes, [
    "new the component: clusterArn: arn:aws:eks:us-west-2:123456789012:cluster/my-cluster",
    "new the component: createNamespaces: ops",
    "new the component: image: pulumi/pulumi-base:3.274.1",
    "new the component: issuerName: eks-my-cluster",
    `new the component: issuerUrl: https://${ISSUER_URL}`,
    "new the component: maxExpirationSeconds: 7200",
    `new the component: oidcProviderArn: arn:aws:iam::123456789012:oidc-provider/${ISSUER_URL}`,
    "new the component: organization: acme",
    `new the component: permissionsBoundaryArn: ${READ_ONLY}`,
    "new the component: pulumiApiUrl: https://api.pulumi.com",
    "new the component: rolePath: /",
    'new the component: namespace ops metadata.labels.team: none → "a"',
    'new the component: namespace ops metadata.labels.pod-security.kubernetes.io/enforce: "restricted" → none',
    'new the component: the admission policy spec.mutations.0.jsonPatch.expression: none → "[]"',
    "new ci/deployer: token: team:a",
    "new ci/deployer: audienceRule: true",
    "new ci/deployer: awsRole: irsa",
    "new ci/deployer: command: pulumi whoami",
    "new ci/deployer: injectToken: true",
    'new ci/deployer: policyRules: { "\\"kubernetes.io\\".pod.name": "deploy-*" }',
    `new ci/deployer: rolePolicyArns: ${READ_ONLY}`,
    "new ci/deployer: tokenExpirationSeconds: 3600",
    'new ci/deployer: its role tags: none → { "team": "a" }',
    "new ci/deployer: its Job spec.template.spec.containers.token-exchange.securityContext.privileged: none → true",
    'new ci/deployer: its Job spec.template.spec.volumes.node: none → { "name": "node", "hostPath": { "path": "/" } }',
    "new ops/drift: token: user:alice",
    "new ops/drift: awsRole: pod-identity",
    "new ops/drift: command: pulumi whoami",
    "new ops/drift: tokenExpirationSeconds: 3600",
    "new ops/drift: its request exchange-token.sh: none → another script",
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
