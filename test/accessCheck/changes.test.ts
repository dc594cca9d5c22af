// What a plan changes, as a reviewer reads it. plan.engine.test.ts has the changes of the stack's settings on the real engine.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type Draft, deployedPlan, newPlan, READ_ONLY, UNKNOWN } from "./draft";

const ISSUER_RESOURCE = "OidcIssuer access.oidc-issuer";
const COMPONENT = "PulumiCloudAccess access";
const IRSA = "Role access.ci.deployer";
const CONFIG_MAP = "ConfigMap access.ci.deployer.pulumi-token-exchange";
const JOB = "Job access.ci.deployer";
const POD_SPEC = ["spec", "template", "spec"];
const ROLE_NAME = `pulumi-oidc-ci-deployer-${"0".repeat(26)}`;
const OTHER_POLICY = { decision: "allow", tokenType: "personal", userLogin: "mallory", rules: { sub: "x" } };
const OTHER_URL = "https://oidc.eks.eu-west-1.amazonaws.com/id/OTHER";
const INJECTION = "MutatingAdmissionPolicy access.inject-token";

type Case = [what: string, edit: (draft: Draft) => Draft, changes: string[]];

const CASES: Case[] = [
  [
    "a token",
    (draft) =>
      draft
        .set(CONFIG_MAP, ["data", "tokenScope"], "team:b")
        .set(ISSUER_RESOURCE, ["policies", 0, "teamName"], "b"),
    ["changed ci/deployer: token: team:a → team:b"],
  ],
  [
    "what an allow policy grants, where it is not what is requested",
    (draft) => draft.setDeployed(ISSUER_RESOURCE, ["policies", 0, "teamName"], "admins"),
    [
      'changed ci/deployer: allow policy grants: { "decision": "allow", "teamName": "admins", "tokenType": "team" } → this token',
    ],
  ],
  [
    "a lifetime",
    (draft) => draft.set(CONFIG_MAP, ["data", "tokenExpirationSeconds"], "60"),
    ["changed ci/deployer: lifetime: 7200 s → 60 s"],
  ],
  [
    "a claim",
    (draft) => draft.set(ISSUER_RESOURCE, ["policies", 1, "rules", "sub"], "*:drift"),
    ["changed ops/drift: further rules: none → sub = *:drift"],
  ],
  [
    "an audience rule",
    (draft) => draft.set(ISSUER_RESOURCE, ["policies", 0, "rules", "aud"], undefined),
    ["changed ci/deployer: required audience: urn:pulumi:org:acme → none"],
  ],
  [
    "an audience",
    (draft) => draft.set(COMPONENT, ["serviceAccounts", 1, "tokenAudience"], "b"),
    ["changed ops/drift: audience of its ID token: urn:pulumi:org:acme → b"],
  ],
  [
    "the pool of a runner",
    (draft) => draft.set(ISSUER_RESOURCE, ["policies", 3, "runnerID"], "other"),
    ["changed web/runner: runner pool: id → other"],
  ],
  [
    "an allow policy of no one that is removed",
    (draft) => draft.setDeployed(ISSUER_RESOURCE, ["policies", 4], OTHER_POLICY),
    [
      'removed policy { "decision": "allow", "tokenType": "personal", "userLogin": "mallory", "rules": { "sub": "x" } }',
    ],
  ],
  [
    "the limit, the thumbprints, and the Pulumi Cloud of an issuer",
    (draft) =>
      draft
        .set(ISSUER_RESOURCE, ["maxExpirationSeconds"], 7201)
        .set(ISSUER_RESOURCE, ["thumbprints"], ["0".repeat(64)])
        .setDeployed(ISSUER_RESOURCE, ["thumbprints"], ["1".repeat(64)])
        .set("pulumiservice pulumi-cloud", ["apiUrl"], "https://example.com"),
    [
      "changed OIDC issuer: Pulumi Cloud: https://api.pulumi.com → https://example.com",
      "changed OIDC issuer: maximum lifetime: 7200 s → 7201 s",
      `changed OIDC issuer: thumbprints 0: "${"1".repeat(64)}" → "${"0".repeat(64)}"`,
    ],
  ],
  [
    "a role that is no longer there",
    (draft) => draft.delete(IRSA).delete(`RolePolicyAttachment access.ci.deployer.${READ_ONLY}`),
    [
      "changed ci/deployer: role: irsa → none",
      `changed ci/deployer: role policies: ${READ_ONLY} → none`,
      `changed ci/deployer: permissions boundary: ${READ_ONLY} → none`,
    ],
  ],
  [
    "a trust policy, by path and value",
    (draft) => draft.set(IRSA, ["assumeRolePolicy", "Statement", 0, "Action"], "sts:*"),
    ['changed ci/deployer: trust policy Statement.0.Action: "sts:AssumeRoleWithWebIdentity" → "sts:*"'],
  ],
  [
    "a policy that is attached elsewhere",
    (draft) =>
      draft.add("aws:iam/rolePolicyAttachment:RolePolicyAttachment", "more", {
        role: ROLE_NAME,
        policyArn: "arn",
      }),
    [`changed ci/deployer: role policies: ${READ_ONLY} → arn, ${READ_ONLY}`],
  ],
  [
    "an inline policy elsewhere",
    (draft) =>
      draft.add("aws:iam/rolePolicy:RolePolicy", "logs", { role: ROLE_NAME, policy: '{"Statement":[]}' }),
    [
      `changed ci/deployer: RolePolicy logs: none → { "role": "${ROLE_NAME}", "policy": { "Statement": [] } }`,
    ],
  ],
  [
    "a policy attachment elsewhere, and an instance profile",
    (draft) =>
      draft
        .add("aws:iam/policyAttachment:PolicyAttachment", "all", { roles: [ROLE_NAME], policyArn: "arn" })
        .add("aws:iam/instanceProfile:InstanceProfile", "nodes", { role: ROLE_NAME }),
    [
      `changed ci/deployer: PolicyAttachment all: none → { "roles": [ "${ROLE_NAME}" ], "policyArn": "arn" }`,
      `changed ci/deployer: InstanceProfile nodes: none → { "role": "${ROLE_NAME}" }`,
    ],
  ],
  [
    "an issuer of another cluster elsewhere, with its policies",
    (draft) =>
      draft.add("pulumiservice:index:OidcIssuer", "other", {
        organization: "acme",
        url: OTHER_URL,
        policies: [OTHER_POLICY],
      }),
    [
      "new OidcIssuer other: organization: acme",
      `new OidcIssuer other: url: ${OTHER_URL}`,
      'new OidcIssuer other: policies 0: { "decision": "allow", "tokenType": "personal", "userLogin": "mallory", "rules": { "sub": "x" } }',
    ],
  ],
  [
    "an issuer elsewhere whose URL is not known yet",
    (draft) => draft.add("pulumiservice:index:OidcIssuer", "other", { organization: "acme", url: UNKNOWN }),
    ["new OidcIssuer other: organization: acme", "new OidcIssuer other: url: known after the update"],
  ],
  [
    "the image of a Job, its command, and its pod spec",
    (draft) =>
      draft
        .set(JOB, [...POD_SPEC, "containers", 0, "image"], "mallory/base:1")
        .set(JOB, [...POD_SPEC, "containers", 0, "args", 1], "up")
        .set(JOB, [...POD_SPEC, "hostNetwork"], true),
    [
      'changed ci/deployer: Job containers.0.args.1: "whoami" → "up"',
      'changed ci/deployer: Job containers.0.image: "pulumi/pulumi-base:3.274.1" → "mallory/base:1"',
      "changed ci/deployer: Job hostNetwork: none → true",
    ],
  ],
  [
    "a Job that is no longer there",
    (draft) => draft.delete(JOB),
    ["changed ci/deployer: Job: pulumi whoami, in pulumi/pulumi-base:3.274.1 → none"],
  ],
  [
    "what leaves the program, and is retained",
    (draft) =>
      draft
        .delete(IRSA, { retainOnDelete: true })
        .delete(`RolePolicyAttachment access.ci.deployer.${READ_ONLY}`)
        .delete("Namespace access.ops", { retainOnDelete: true }),
    [
      "changed ci/deployer: role: irsa → none",
      `changed ci/deployer: role policies: ${READ_ONLY} → none`,
      `changed ci/deployer: permissions boundary: ${READ_ONLY} → none`,
      'changed other resources: Namespace ops: { "apiVersion": "v1", "kind": "Namespace", "metadata": { "labels": { "pod-security.kubernetes.io/enforce": "restricted" }, "name": "ops" } } → none',
      "changed what is removed: Role access.ci.deployer: leaves the program, and is not deleted",
    ],
  ],
  [
    "an issuer elsewhere below a parent whose type looks like the end of a URN",
    (draft) => {
      const inputs = { organization: "acme", url: OTHER_URL };
      draft.add("a:b:c::d$pulumiservice:index:OidcIssuer", "other", inputs, {
        type: "pulumiservice:index:OidcIssuer",
      });
      return draft;
    },
    ["new OidcIssuer other: organization: acme", `new OidcIssuer other: url: ${OTHER_URL}`],
  ],
  [
    "the exchange script",
    (draft) => draft.set(CONFIG_MAP, ["data", "exchange-token.sh"], "#!/bin/sh\n"),
    ["changed ci/deployer: script: that of this clone → a8076d3d28d2"],
  ],
  [
    "a file of a ConfigMap",
    (draft) => draft.set(CONFIG_MAP, ["data", "more"], "x"),
    ['changed ci/deployer: request more: none → "x"'],
  ],
  [
    "a service account that the component gives up",
    (draft) => draft.delete("ServiceAccount access.web.secrets"),
    [
      'changed web/secrets: service account: { "apiVersion": "v1", "automountServiceAccountToken": false, "kind": "ServiceAccount", "metadata": { "name": "secrets", "namespace": "web" } } → none',
    ],
  ],
  [
    "an admission policy of injection",
    (draft) => draft.set(INJECTION, ["spec", "failurePolicy"], "Always"),
    ['changed injection: MutatingAdmissionPolicy inject-token spec.failurePolicy: "Ignore" → "Always"'],
  ],
  [
    "permissions of a team",
    (draft) => draft.set("TeamStackPermission access.a.app/prod", ["permission"], 103),
    ["changed team a: stack app/prod: edit → admin"],
  ],
  [
    "a permission of a team by two resources",
    (draft) =>
      draft.add("pulumiservice:index:TeamStackPermission", "other", {
        organization: "acme",
        team: "a",
        project: "app",
        stack: "prod",
        permission: 101,
      }),
    ["changed team a: stack app/prod: edit → edit and read, by 2 resources"],
  ],
  [
    "a role and a token of a team",
    (draft) =>
      draft
        .add("pulumiservice:index:TeamRoleAssignment", "role", {
          organizationName: "acme",
          teamName: "a",
          roleId: "r",
        })
        .add("pulumiservice:index:TeamAccessToken", "token", { organizationName: "acme", teamName: "A" }),
    [
      'changed team a: TeamRoleAssignment role: none → { "organizationName": "acme", "teamName": "a", "roleId": "r" }',
      'changed team a: TeamAccessToken token: none → { "organizationName": "acme", "teamName": "A" }',
    ],
  ],
  [
    "a team that leaves the program, and stays",
    (draft) => draft.delete("Team access.a", { retainOnDelete: true }),
    ["changed team a: team: created by this program → not deleted, and no longer of this program"],
  ],
  [
    "a team that this update deletes",
    (draft) => draft.delete("Team access.a", { retainOnDelete: false }),
    ["changed team a: team: created by this program → deleted by this update"],
  ],
  [
    "a new namespace",
    (draft) =>
      draft.add("kubernetes:core/v1:Namespace", "access.more", { metadata: { name: "more" } }, IN_COMPONENT),
    ['changed other resources: Namespace more: none → { "metadata": { "name": "more" } }'],
  ],
  [
    "the connection to the cluster",
    (draft) =>
      draft
        .set("kubernetes cluster", ["kubeconfig"], "{}")
        .setDeployed("kubernetes cluster", ["kubeconfig"], "[]"),
    ['changed other resources: provider of kubernetes kubeconfig: "4f53cda18c2b" → "44136fa355b3"'],
  ],
  [
    "settings of another version, which are not read",
    (draft) => draft.setDeployed(COMPONENT, ["more"], true),
    ["changed what is deployed: more: a setting of another version of this project, which is not read"],
  ],
  [
    "nothing that a refresh or a provider only adds",
    (draft) =>
      draft
        .setDeployed(IRSA, ["tags"], { team: "a" })
        .setDeployed(IRSA, ["__defaults"], [])
        .setDeployed(CONFIG_MAP, ["__fieldManager"], "pulumi")
        .setDeployed("OidcIssuer access.oidc-issuer", ["policies", 2, "authorizedPermissions"], []),
    [],
  ],
];

const IN_COMPONENT = {
  parent: "urn:pulumi:prod::eks-pulumi-oidc::eks-pulumi-oidc:index:PulumiCloudAccess::access",
};

describe("shows", () => {
  for (const [what, edit, expected] of CASES) {
    test(what, async () => {
      const { changes } = edit(await deployedPlan()).check();
      assert.deepEqual(changes, expected);
    });
  }
});

test("cuts a long value so that the difference shows", async () => {
  const draft = await deployedPlan();
  const path = ["spec", "mutations", 0, "jsonPatch", "expression"];
  draft.set(INJECTION, path, `${draft.get(INJECTION, ...path)} + []`);
  const [change = "", ...others] = draft.check().changes;
  assert.match(change, /jsonPatch\.expression: ….{100,200}" → ….{100,200} \+ \[\]"$/);
  assert.deepEqual(others, []);
});

test("lists every container of a new Job, and the members of a new team", async () => {
  const containers = [...POD_SPEC, "containers"];
  const draft = (await newPlan())
    .set(JOB, [...containers, 1], { name: "more", image: "mallory/base:1", command: ["sh", "-c", "curl"] })
    .set("Team access.a", ["members"], ["mallory"]);
  const { changes } = draft.check();
  const command = "pulumi whoami, in pulumi/pulumi-base:3.274.1; sh -c curl, in mallory/base:1";
  assert.ok(changes.includes(`new ci/deployer: Job: ${command}`), changes.join("\n"));
  assert.ok(changes.includes("new team a: members 0: mallory"));
});

test("lists a new component, its service accounts, its teams, and where pods are injected", async () => {
  const { changes } = (await newPlan()).check();
  assert.deepEqual(changes, [
    "new OIDC issuer: URL: https://oidc.eks.us-west-2.amazonaws.com/id/EXAMPLED539D4633E53DE1B71EXAMPLE",
    "new OIDC issuer: organization: acme",
    "new OIDC issuer: Pulumi Cloud: https://api.pulumi.com",
    "new OIDC issuer: maximum lifetime: 7200 s",
    "new ci/deployer: token: team:a",
    "new ci/deployer: lifetime: 7200 s",
    "new ci/deployer: required audience: urn:pulumi:org:acme",
    'new ci/deployer: further rules: "kubernetes.io".pod.name = deploy-*',
    "new ci/deployer: injection: into its pods",
    "new ci/deployer: role: irsa",
    `new ci/deployer: role policies: ${READ_ONLY}`,
    `new ci/deployer: permissions boundary: ${READ_ONLY}`,
    "new ci/deployer: Job: pulumi whoami, in pulumi/pulumi-base:3.274.1",
    "new ops/drift: token: user:alice",
    "new ops/drift: lifetime: 7200 s",
    "new ops/drift: role: pod-identity",
    `new ops/drift: permissions boundary: ${READ_ONLY}`,
    "new ops/drift: Job: pulumi whoami, in pulumi/pulumi-base:3.274.1",
    "new web/secrets: token: organization",
    "new web/secrets: lifetime: 7200 s",
    "new web/secrets: Job: pulumi whoami, in pulumi/pulumi-base:3.274.1",
    "new web/runner: token: runner:eks",
    "new web/runner: lifetime: 7200 s",
    "new team a: stack app/prod: edit",
    "new team a: environment app/prod: open",
    "new injection: namespaces: ci",
    "new injection: service accounts: ci/deployer",
  ]);
});
