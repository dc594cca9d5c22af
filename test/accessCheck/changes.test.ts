// What a plan changes, as a reviewer reads it. plan.engine.test.ts has the changes of the stack's settings on the real engine.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  ASSOCIATION,
  ATTACHMENT,
  add,
  COMPONENT,
  CONFIG_MAP,
  deployedPlan,
  type Edit,
  INJECTION,
  INSIDE,
  IRSA,
  ISSUER,
  ISSUER_URL,
  JOB,
  newPlan,
  POD_IDENTITY,
  PULUMI_CLOUD,
  READ_ONLY,
  remove,
  SECRET,
  set,
  setDeployed,
  UNKNOWN,
} from "./draft";

const CHECKSUM = "pulumi.com/token-exchange-checksum";
const CONTAINER = "spec.template.spec.containers.0";
const TYPE = "pulumiservice:index:OidcIssuer";
const ASSOCIATION_TYPE = "aws:eks/podIdentityAssociation:PodIdentityAssociation";
const ROLE_NAME = `pulumi-oidc-ci-deployer-${"0".repeat(26)}`;
const OTHER_POLICY = { decision: "allow", tokenType: "personal", userLogin: "mallory", rules: { sub: "x" } };
const OTHER_POLICY_TEXT =
  '{ "decision": "allow", "tokenType": "personal", "userLogin": "mallory", "rules": { "sub": "x" } }';
const OTHER_URL = "https://oidc.eks.eu-west-1.amazonaws.com/id/OTHER";

/** Changes of a plan, and all that a reviewer then reads. */
const CASES: [what: string, edits: Edit[], changes: string[]][] = [
  [
    "tokens, lifetimes, and the rules of allow policies",
    [
      set(CONFIG_MAP, "data.tokenScope", "team:b"),
      set(ISSUER, "policies.0.teamName", "b"),
      set(CONFIG_MAP, "data.tokenExpirationSeconds", "60"),
      set(ISSUER, "policies.0.rules.aud"),
      set(ISSUER, "policies.1.rules.sub", "*:drift"),
      set(COMPONENT, "serviceAccounts.1.tokenAudience", "b"),
      set(CONFIG_MAP.replace("ci.deployer", "web.secrets"), "data.tokenScope", "admin"),
      set(ISSUER, "policies.2.authorizedPermissions", ["admin"]),
      set(ISSUER, "policies.3.runnerID", "other"),
      setDeployed(ISSUER, "policies.4", OTHER_POLICY),
    ],
    [
      "changed ci/deployer: token: team:a → team:b",
      "changed ci/deployer: lifetime: 7200 s → 60 s",
      "changed ci/deployer: required audience: urn:pulumi:org:acme → none",
      "changed ops/drift: further rules: none → sub = *:drift",
      "changed ops/drift: audience of its ID token: urn:pulumi:org:acme → b",
      "changed web/secrets: token: organization → organization (admin)",
      "changed web/runner: runner pool: id → other",
      `removed policy ${OTHER_POLICY_TEXT}`,
    ],
  ],
  [
    "what a ConfigMap has, and an allow policy grants, where these do not match",
    [
      setDeployed(CONFIG_MAP, "data.tokenType"),
      setDeployed(ISSUER, "policies.1.userLogin", "mallory"),
      setDeployed(CONFIG_MAP.replace("ci.deployer", "web.secrets"), "data.tokenScope", "x"),
      set(CONFIG_MAP, ["data", "exchange-token.sh"], "#!/bin/sh\n"),
    ],
    [
      "changed ci/deployer: token: none:team:a → team:a",
      "changed ci/deployer: script: that of this clone → a8076d3d28d2",
      'changed ci/deployer: allow policy grants: { "decision": "allow", "teamName": "a", "tokenType": "team" } → this token',
      'changed ops/drift: allow policy grants: { "decision": "allow", "tokenType": "personal", "userLogin": "mallory" } → this token',
      "changed web/secrets: token: organization:x → organization",
    ],
  ],
  [
    "issuers, also those of the same name below another parent, whose type looks like the end of a URN",
    [
      set(PULUMI_CLOUD, "apiUrl", "https://example.com"),
      set(ISSUER, "maxExpirationSeconds", 7201),
      set(ISSUER, "name", "other"),
      set(ISSUER, "thumbprints", ["1"]),
      setDeployed(ISSUER, "thumbprints", ["2"]),
      add(TYPE, "other", { organization: "acme", url: OTHER_URL, policies: [OTHER_POLICY] }),
      add(`a:b:c::d$${TYPE}`, "other", { url: UNKNOWN }, { type: TYPE }),
    ],
    [
      "changed OIDC issuer: Pulumi Cloud: https://api.pulumi.com → https://example.com",
      "changed OIDC issuer: maximum lifetime: 7200 s → 7201 s",
      'changed OIDC issuer: thumbprints 0: "2" → "1"',
      'changed OIDC issuer: name: "eks-my-cluster" → "other"',
      "new OidcIssuer other: organization: acme",
      `new OidcIssuer other: url: ${OTHER_URL}`,
      `new OidcIssuer other: policies 0: ${OTHER_POLICY_TEXT}`,
      "new OidcIssuer other (2): url: known after the update",
    ],
  ],
  [
    "what a role allows, to whom, and what else uses it",
    [
      set(IRSA, "assumeRolePolicy.Statement.0.Action", "sts:*"),
      set(ATTACHMENT, "role", "other"),
      add("aws:iam/rolePolicyAttachment:RolePolicyAttachment", "more", { role: ROLE_NAME, policyArn: "arn" }),
      add("aws:iam/rolePolicy:RolePolicy", "logs", { role: ROLE_NAME, policy: '{"Statement":[]}' }),
      add("aws:iam/policyAttachment:PolicyAttachment", "all", { roles: [ROLE_NAME] }),
      add("aws:iam/instanceProfile:InstanceProfile", "nodes", { role: ROLE_NAME }),
    ],
    [
      `changed ci/deployer: role policies: ${READ_ONLY} → arn, ${READ_ONLY} of other`,
      `changed ci/deployer: RolePolicy logs: none → { "role": "${ROLE_NAME}", "policy": { "Statement": [] } }`,
      `changed ci/deployer: PolicyAttachment all: none → { "roles": [ "${ROLE_NAME}" ] }`,
      `changed ci/deployer: InstanceProfile nodes: none → { "role": "${ROLE_NAME}" }`,
      'changed ci/deployer: trust policy Statement.0.Action: "sts:AssumeRoleWithWebIdentity" → "sts:*"',
    ],
  ],
  [
    "no role, and another one, for the pods of a service account",
    [
      remove(ASSOCIATION),
      add(ASSOCIATION_TYPE, "other", { namespace: UNKNOWN, serviceAccount: UNKNOWN, roleArn: "x" }),
      add(ASSOCIATION_TYPE, "app", { namespace: "ci", serviceAccount: "app" }),
      add(ASSOCIATION_TYPE, "elsewhere", { namespace: "web", serviceAccount: "deployer" }),
    ],
    [
      `changed ops/drift: association: { "clusterName": "my-cluster", "namespace": "ops", "region": "us-west-2", "roleArn": "arn:aws:iam::123456789012:role/${ROLE_NAME.replace("ci-deployer", "ops-drift")}", "serviceAccount": "drift" } → none`,
      "new PodIdentityAssociation other: namespace: known after the update",
      "new PodIdentityAssociation other: serviceAccount: known after the update",
      "new PodIdentityAssociation other: roleArn: x",
    ],
  ],
  [
    "what leaves the program, and stays",
    [
      remove(IRSA, { retainOnDelete: true }),
      remove(ATTACHMENT),
      remove(POD_IDENTITY),
      remove(ASSOCIATION),
      remove("Namespace access.ops", { retainOnDelete: true }),
    ],
    [
      "changed ci/deployer: role: irsa → none",
      `changed ci/deployer: role policies: ${READ_ONLY} → none`,
      `changed ci/deployer: permissions boundary: ${READ_ONLY} → none`,
      "changed ops/drift: role: pod-identity → none",
      `changed ops/drift: permissions boundary: ${READ_ONLY} → none`,
      'changed other resources: Namespace ops: { "apiVersion": "v1", "kind": "Namespace", "metadata": { "labels": { "pod-security.kubernetes.io/enforce": "restricted" }, "name": "ops" } } → none',
      "kept Role access.ci.deployer: leaves the program, and is not deleted",
    ],
  ],
  [
    "Jobs, and service accounts",
    [
      set(JOB, `${CONTAINER}.image`, "mallory/base:1"),
      set(JOB, `${CONTAINER}.args.1`, "up"),
      set(JOB, "spec.template.spec.hostNetwork", true),
      set("Job access.ops.drift", `${CONTAINER}.image`, SECRET),
      remove("Job access.web.secrets"),
      remove("ServiceAccount access.web.secrets"),
    ],
    [
      'changed ci/deployer: Job containers.0.args.1: "whoami" → "up"',
      'changed ci/deployer: Job containers.0.image: "pulumi/pulumi-base:3.274.1" → "mallory/base:1"',
      "changed ci/deployer: Job hostNetwork: none → true",
      'changed ops/drift: Job containers.0.image: "pulumi/pulumi-base:3.274.1" → secret',
      "changed web/secrets: Job: pulumi whoami, in pulumi/pulumi-base:3.274.1 → none",
      'changed web/secrets: service account: { "apiVersion": "v1", "automountServiceAccountToken": false, "kind": "ServiceAccount", "metadata": { "name": "secrets", "namespace": "web" } } → none',
    ],
  ],
  [
    "everything else that the component has",
    [
      set(INJECTION, "spec.failurePolicy", "Fail"),
      set(COMPONENT, "createNamespaces.1", "more"),
      add("kubernetes:core/v1:Namespace", "access.more", { metadata: {} }, INSIDE),
      set("kubernetes cluster", "kubeconfig", "{}"),
      setDeployed("kubernetes cluster", "kubeconfig", "[]"),
      setDeployed(COMPONENT, "more", true),
    ],
    [
      "removed what is not read: more: a setting of another version of this project",
      'changed injection: MutatingAdmissionPolicy inject-token spec.failurePolicy: "Ignore" → "Fail"',
      'changed other resources: provider of kubernetes kubeconfig: "4f53cda18c2b" → "44136fa355b3"',
      'changed other resources: Namespace more: none → { "metadata": {} }',
    ],
  ],
  [
    "nothing that a refresh or a provider only adds, or that is secret",
    [
      set("Job access.ops.drift", `${CONTAINER}.image`, SECRET),
      setDeployed("Job access.ops.drift", `${CONTAINER}.image`, SECRET),
      set("Job access.ops.drift", "spec.template.spec.tolerations", []),
      set(JOB, ["spec", "template", "metadata", "annotations", CHECKSUM], "x"),
      setDeployed(IRSA, "tags", { team: "a" }),
      setDeployed(IRSA, "__defaults", []),
      setDeployed(CONFIG_MAP, "__fieldManager", "pulumi"),
      setDeployed(ISSUER, "policies.2.authorizedPermissions", []),
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

test("cuts a long value so that the difference shows", async () => {
  const path = "spec.mutations.0.jsonPatch.expression";
  const addEnd: Edit = (draft) => draft.edit(set(INJECTION, path, `${draft.get(INJECTION, path)} + []`));
  const [change = "", ...others] = (await deployedPlan(addEnd)).check().changes;
  assert.match(change, /jsonPatch\.expression: ….{100,200}" → ….{100,200} \+ \[\]"$/);
  assert.deepEqual(others, []);
});

test("lists a new component, its service accounts with all containers of their Jobs, and an admission policy that differs from the clone's", async () => {
  const sidecar = { name: "more", image: "mallory/base:1", command: ["sh", "-c", "curl"] };
  const script = set(
    CONFIG_MAP.replace("ci.deployer", "ops.drift"),
    ["data", "exchange-token.sh"],
    "#!/bin/sh\n",
  );
  const edits = [
    set(JOB, "spec.template.spec.containers.1", sidecar),
    set(JOB, "spec.template.spec.hostNetwork", true),
    set(JOB, `${CONTAINER}.securityContext`, { privileged: true }),
    set(JOB, "spec.template.spec.securityContext.runAsUser", 0),
    set(JOB, "spec.template.spec.volumes.2", { name: "node", hostPath: { path: "/" } }),
    set(INJECTION, "spec.mutations.0.jsonPatch.expression", "[]"),
  ];
  const usesRole: Edit = (draft) => {
    const propertyDependencies = { role: [draft.step(IRSA).urn] };
    return draft.edit(
      add("aws:iam/rolePolicy:RolePolicy", "logs", { role: UNKNOWN }, { propertyDependencies }),
    );
  };
  const { changes } = (await newPlan(script, usesRole, ...edits)).check();
  const job = "Job: pulumi whoami, in pulumi/pulumi-base:3.274.1";
  assert.deepEqual(changes, [
    `new OIDC issuer: URL: https://${ISSUER_URL}`,
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
    'new ci/deployer: RolePolicy logs: { "role": "known after the update" }',
    `new ci/deployer: ${job}; sh -c curl, in mallory/base:1`,
    `new ci/deployer: Job's securityContext: { "runAsGroup": 1000, "runAsNonRoot": true, "runAsUser": 0, "seccompProfile": { "type": "RuntimeDefault" } }`,
    "new ci/deployer: Job's hostNetwork: true",
    `new ci/deployer: Job's volumes 0: { "name": "node", "hostPath": { "path": "/" } }`,
    `new ci/deployer: Job's container token-exchange securityContext: { "privileged": true }`,
    "new ops/drift: token: user:alice",
    "new ops/drift: lifetime: 7200 s",
    "new ops/drift: role: pod-identity",
    `new ops/drift: permissions boundary: ${READ_ONLY}`,
    `new ops/drift: ${job}`,
    "new ops/drift: script: a8076d3d28d2",
    "new web/secrets: token: organization",
    "new web/secrets: lifetime: 7200 s",
    `new web/secrets: ${job}`,
    "new web/runner: token: runner:eks",
    "new web/runner: lifetime: 7200 s",
    "new injection: what it adds: cdc754f4ec83",
    'new injection: binding: { "policyName": "access-inject-token-9eb00901" }',
  ]);
});

test("does not list what an admission policy of this clone adds to pods", async () => {
  const { changes } = (await newPlan()).check();
  assert.deepEqual(
    changes.filter((it) => it.includes("what it adds")),
    [],
  );
});
