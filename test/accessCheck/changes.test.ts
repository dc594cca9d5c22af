// What a plan changes, as a reviewer reads it. plan.engine.test.ts has the changes of the stack's settings on the real engine.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
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
  PULUMI_CLOUD,
  READ_ONLY,
  remove,
  set,
  setDeployed,
  TEAM_A,
  UNKNOWN,
} from "./draft";

const CONTAINER = "spec.template.spec.containers.0";
const NAMESPACE =
  '{ "apiVersion": "v1", "kind": "Namespace", "metadata": { "labels": { "pod-security.kubernetes.io/enforce": "restricted" }, "name": "ops" } }';
const ROLE_NAME = `pulumi-oidc-ci-deployer-${"0".repeat(26)}`;
const OTHER_POLICY = { decision: "allow", tokenType: "personal", userLogin: "mallory", rules: { sub: "x" } };
const OTHER_POLICY_TEXT =
  '{ "decision": "allow", "tokenType": "personal", "userLogin": "mallory", "rules": { "sub": "x" } }';
const OTHER_URL = "https://oidc.eks.eu-west-1.amazonaws.com/id/OTHER";
const READ_OF_TEAM = { organization: "acme", team: "a", project: "app", stack: "prod", permission: 101 };

type Case = [what: string, edits: Edit[], changes: string[]];

const TOKENS: Case[] = [
  [
    "a token",
    [set(CONFIG_MAP, "data.tokenScope", "team:b"), set(ISSUER, "policies.0.teamName", "b")],
    ["changed ci/deployer: token: team:a → team:b"],
  ],
  [
    "a request that is not complete",
    [setDeployed(CONFIG_MAP, "data.tokenType")],
    [
      "changed ci/deployer: token: none:team:a → team:a",
      'changed ci/deployer: allow policy grants: { "decision": "allow", "teamName": "a", "tokenType": "team" } → this token',
    ],
  ],
  [
    "what an allow policy grants, where it is not what is requested",
    [setDeployed(ISSUER, "policies.0.teamName", "admins")],
    [
      'changed ci/deployer: allow policy grants: { "decision": "allow", "teamName": "admins", "tokenType": "team" } → this token',
    ],
  ],
  [
    "an administrator",
    [
      set(CONFIG_MAP.replace("ci.deployer", "web.secrets"), "data.tokenScope", "admin"),
      set(ISSUER, "policies.2.authorizedPermissions", ["admin"]),
    ],
    ["changed web/secrets: token: organization → organization (admin)"],
  ],
  [
    "a lifetime",
    [set(CONFIG_MAP, "data.tokenExpirationSeconds", "60")],
    ["changed ci/deployer: lifetime: 7200 s → 60 s"],
  ],
  [
    "a claim",
    [set(ISSUER, "policies.1.rules.sub", "*:drift")],
    ["changed ops/drift: further rules: none → sub = *:drift"],
  ],
  [
    "an audience rule",
    [set(ISSUER, "policies.0.rules.aud")],
    ["changed ci/deployer: required audience: urn:pulumi:org:acme → none"],
  ],
  [
    "an audience",
    [set(COMPONENT, "serviceAccounts.1.tokenAudience", "b")],
    ["changed ops/drift: audience of its ID token: urn:pulumi:org:acme → b"],
  ],
  [
    "the pool of a runner",
    [set(ISSUER, "policies.3.runnerID", "other")],
    ["changed web/runner: runner pool: id → other"],
  ],
  [
    "an allow policy of no one that is removed",
    [setDeployed(ISSUER, "policies.4", OTHER_POLICY)],
    [`removed policy ${OTHER_POLICY_TEXT}`],
  ],
  [
    "a file of a ConfigMap",
    [set(CONFIG_MAP, "data.more", "x")],
    ['changed ci/deployer: request more: none → "x"'],
  ],
  [
    "the exchange script",
    [set(CONFIG_MAP, ["data", "exchange-token.sh"], "#!/bin/sh\n")],
    ["changed ci/deployer: script: that of this clone → a8076d3d28d2"],
  ],
];

const ISSUERS: Case[] = [
  [
    "the limit",
    [set(ISSUER, "maxExpirationSeconds", 7201)],
    ["changed OIDC issuer: maximum lifetime: 7200 s → 7201 s"],
  ],
  [
    "thumbprints",
    [set(ISSUER, "thumbprints", ["1"]), setDeployed(ISSUER, "thumbprints", ["2"])],
    ['changed OIDC issuer: thumbprints 0: "2" → "1"'],
  ],
  [
    "another Pulumi Cloud",
    [set(PULUMI_CLOUD, "apiUrl", "https://example.com")],
    ["changed OIDC issuer: Pulumi Cloud: https://api.pulumi.com → https://example.com"],
  ],
  [
    "an issuer of another cluster, with its policies",
    [
      add("pulumiservice:index:OidcIssuer", "other", {
        organization: "acme",
        url: OTHER_URL,
        policies: [OTHER_POLICY],
      }),
    ],
    [
      "new OidcIssuer other: organization: acme",
      `new OidcIssuer other: url: ${OTHER_URL}`,
      `new OidcIssuer other: policies 0: ${OTHER_POLICY_TEXT}`,
    ],
  ],
  [
    "an issuer whose URL is not known yet",
    [add("pulumiservice:index:OidcIssuer", "other", { url: UNKNOWN })],
    ["new OidcIssuer other: url: known after the update"],
  ],
  [
    "two issuers of the same name, one of them below a parent whose type looks like the end of a URN",
    [
      add("pulumiservice:api/auth:OidcIssuer", "other", { url: "a" }),
      add(
        "a:b:c::d$pulumiservice:index:OidcIssuer",
        "other",
        { url: "b" },
        { type: "pulumiservice:index:OidcIssuer" },
      ),
    ],
    ["new OidcIssuer other: url: a", "new OidcIssuer other (2): url: b"],
  ],
];

const ROLES: Case[] = [
  [
    "a role that is no longer there",
    [remove(IRSA), remove(ATTACHMENT)],
    [
      "changed ci/deployer: role: irsa → none",
      `changed ci/deployer: role policies: ${READ_ONLY} → none`,
      `changed ci/deployer: permissions boundary: ${READ_ONLY} → none`,
    ],
  ],
  [
    "a trust policy, by path and value",
    [set(IRSA, "assumeRolePolicy.Statement.0.Action", "sts:*")],
    ['changed ci/deployer: trust policy Statement.0.Action: "sts:AssumeRoleWithWebIdentity" → "sts:*"'],
  ],
  [
    "a policy that is attached elsewhere",
    [add("aws:iam/rolePolicyAttachment:RolePolicyAttachment", "more", { role: ROLE_NAME, policyArn: "arn" })],
    [`changed ci/deployer: role policies: ${READ_ONLY} → arn, ${READ_ONLY}`],
  ],
  [
    "an inline policy elsewhere",
    [add("aws:iam/rolePolicy:RolePolicy", "logs", { role: ROLE_NAME, policy: '{"Statement":[]}' })],
    [
      `changed ci/deployer: RolePolicy logs: none → { "role": "${ROLE_NAME}", "policy": { "Statement": [] } }`,
    ],
  ],
  [
    "a policy attachment elsewhere",
    [add("aws:iam/policyAttachment:PolicyAttachment", "all", { roles: [ROLE_NAME] })],
    [`changed ci/deployer: PolicyAttachment all: none → { "roles": [ "${ROLE_NAME}" ] }`],
  ],
  [
    "another role for its pods",
    [
      add("aws:eks/podIdentityAssociation:PodIdentityAssociation", "other", {
        namespace: "ci",
        serviceAccount: UNKNOWN,
        roleArn: "x",
      }),
      add("aws:eks/podIdentityAssociation:PodIdentityAssociation", "app", {
        namespace: "ci",
        serviceAccount: "app",
      }),
    ],
    [
      "new PodIdentityAssociation other: namespace: ci",
      "new PodIdentityAssociation other: serviceAccount: known after the update",
      "new PodIdentityAssociation other: roleArn: x",
    ],
  ],
  [
    "an instance profile",
    [add("aws:iam/instanceProfile:InstanceProfile", "nodes", { role: ROLE_NAME })],
    [`changed ci/deployer: InstanceProfile nodes: none → { "role": "${ROLE_NAME}" }`],
  ],
];

const TEAMS: Case[] = [
  [
    "a permission",
    [set("TeamStackPermission access.a.app/prod", "permission", 103)],
    ["changed team a: stack app/prod: edit → admin"],
  ],
  [
    "a permission by two resources",
    [add("pulumiservice:index:TeamStackPermission", "other", READ_OF_TEAM)],
    ["changed team a: stack app/prod: edit → edit and read, by 2 resources"],
  ],
  [
    "a permission of a team that no entry names",
    [
      add(
        "pulumiservice:index:TeamStackPermission",
        "access.b.app/prod",
        { ...READ_OF_TEAM, team: "b", permission: 103 },
        INSIDE,
      ),
    ],
    ["new team b: stack app/prod: admin"],
  ],
  [
    "a role",
    [
      add("pulumiservice:index:TeamRoleAssignment", "role", {
        organizationName: "acme",
        teamName: "a",
        roleId: "r",
      }),
    ],
    [
      'changed team a: TeamRoleAssignment role: none → { "organizationName": "acme", "teamName": "a", "roleId": "r" }',
    ],
  ],
  [
    "a token",
    [add("pulumiservice:index:TeamAccessToken", "token", { organizationName: "acme", teamName: "A" })],
    ['changed team a: TeamAccessToken token: none → { "organizationName": "acme", "teamName": "A" }'],
  ],
  [
    "that it leaves the program, and stays",
    [remove(TEAM_A, { retainOnDelete: true })],
    ["changed team a: team: created by this program → not deleted, and not of this program"],
  ],
  [
    "that this update deletes it",
    [remove(TEAM_A, { retainOnDelete: false })],
    ["changed team a: team: created by this program → deleted by this update"],
  ],
];

const OTHERS: Case[] = [
  [
    "the image of a Job",
    [set(JOB, `${CONTAINER}.image`, "mallory/base:1")],
    ['changed ci/deployer: Job containers.0.image: "pulumi/pulumi-base:3.274.1" → "mallory/base:1"'],
  ],
  [
    "the command of a Job",
    [set(JOB, `${CONTAINER}.args.1`, "up")],
    ['changed ci/deployer: Job containers.0.args.1: "whoami" → "up"'],
  ],
  [
    "the pod spec of a Job",
    [set(JOB, "spec.template.spec.hostNetwork", true)],
    ["changed ci/deployer: Job hostNetwork: none → true"],
  ],
  [
    "a Job that is no longer there",
    [remove(JOB)],
    ["changed ci/deployer: Job: pulumi whoami, in pulumi/pulumi-base:3.274.1 → none"],
  ],
  [
    "a service account that is given up",
    [remove("ServiceAccount access.web.secrets")],
    [
      'changed web/secrets: service account: { "apiVersion": "v1", "automountServiceAccountToken": false, "kind": "ServiceAccount", "metadata": { "name": "secrets", "namespace": "web" } } → none',
    ],
  ],
  [
    "the admission policy",
    [set(INJECTION, "spec.failurePolicy", "Fail")],
    ['changed injection: MutatingAdmissionPolicy inject-token spec.failurePolicy: "Ignore" → "Fail"'],
  ],
  [
    "a new namespace",
    [add("kubernetes:core/v1:Namespace", "access.more", { metadata: {} }, INSIDE)],
    ['changed other resources: Namespace more: none → { "metadata": {} }'],
  ],
  [
    "the connection to the cluster",
    [set("kubernetes cluster", "kubeconfig", "{}"), setDeployed("kubernetes cluster", "kubeconfig", "[]")],
    ['changed other resources: provider of kubernetes kubeconfig: "4f53cda18c2b" → "44136fa355b3"'],
  ],
  [
    "what leaves the program, and is retained",
    [
      remove(IRSA, { retainOnDelete: true }),
      remove(ATTACHMENT),
      remove("Namespace access.ops", { retainOnDelete: true }),
    ],
    [
      "changed ci/deployer: role: irsa → none",
      `changed ci/deployer: role policies: ${READ_ONLY} → none`,
      `changed ci/deployer: permissions boundary: ${READ_ONLY} → none`,
      `changed other resources: Namespace ops: ${NAMESPACE} → none`,
      "changed what is removed: Role access.ci.deployer: leaves the program, and is not deleted",
    ],
  ],
  [
    "settings of another version, which are not read",
    [setDeployed(COMPONENT, "more", true)],
    ["changed what is deployed: more: a setting of another version of this project, which is not read"],
  ],
  [
    "nothing that a refresh or a provider only adds",
    [
      setDeployed(IRSA, "tags", { team: "a" }),
      setDeployed(IRSA, "__defaults", []),
      setDeployed(CONFIG_MAP, "__fieldManager", "pulumi"),
      setDeployed(ISSUER, "policies.2.authorizedPermissions", []),
    ],
    [],
  ],
];

for (const [subject, cases] of [
  ["of a token", TOKENS],
  ["of an issuer", ISSUERS],
  ["of a role", ROLES],
  ["of a team", TEAMS],
  ["of what else a component has", OTHERS],
] as const) {
  describe(`shows the change ${subject}:`, () => {
    for (const [what, edits, expected] of cases) {
      test(what, async () => {
        assert.deepEqual((await deployedPlan(...edits)).check().changes, expected);
      });
    }
  });
}

test("cuts a long value so that the difference shows", async () => {
  const path = "spec.mutations.0.jsonPatch.expression";
  const addEnd: Edit = (draft) => draft.edit(set(INJECTION, path, `${draft.get(INJECTION, path)} + []`));
  const [change = "", ...others] = (await deployedPlan(addEnd)).check().changes;
  assert.match(change, /jsonPatch\.expression: ….{100,200}" → ….{100,200} \+ \[\]"$/);
  assert.deepEqual(others, []);
});

test("lists every container of a new Job, and the members of a new team", async () => {
  const sidecar = { name: "more", image: "mallory/base:1", command: ["sh", "-c", "curl"] };
  const edits = [set(JOB, "spec.template.spec.containers.1", sidecar), set(TEAM_A, "members", ["mallory"])];
  const { changes } = (await newPlan(...edits)).check();
  const command = "pulumi whoami, in pulumi/pulumi-base:3.274.1; sh -c curl, in mallory/base:1";
  assert.ok(changes.includes(`new ci/deployer: Job: ${command}`), changes.join("\n"));
  assert.ok(changes.includes("new team a: members 0: mallory"));
});

for (const [selector, namespaces] of [
  [undefined, "all"],
  [{ matchLabels: { team: "a" } }, '{ "matchLabels": { "team": "a" } }'],
] as const) {
  test(`lists the namespaces of injection: ${namespaces}`, async () => {
    const edit = set(INJECTION, "spec.matchConstraints.namespaceSelector", selector);
    const { changes } = (await newPlan(edit)).check();
    assert.ok(changes.includes(`new injection: namespaces: ${namespaces}`), changes.join("\n"));
  });
}

test("lists a new component, its service accounts, its teams, and where pods are injected", async () => {
  const { changes } = (await newPlan()).check();
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
    `new ci/deployer: ${job}`,
    "new ops/drift: token: user:alice",
    "new ops/drift: lifetime: 7200 s",
    "new ops/drift: role: pod-identity",
    `new ops/drift: permissions boundary: ${READ_ONLY}`,
    `new ops/drift: ${job}`,
    "new web/secrets: token: organization",
    "new web/secrets: lifetime: 7200 s",
    `new web/secrets: ${job}`,
    "new web/runner: token: runner:eks",
    "new web/runner: lifetime: 7200 s",
    "new team a: stack app/prod: edit",
    "new team a: environment app/prod: open",
    "new injection: namespaces: ci",
    "new injection: service accounts: ci/deployer",
  ]);
});
