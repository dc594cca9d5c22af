// What an update does outside the components: all of it is listed. Each of these could change what a component grants, and a program
// can do anything, so that nothing of it is judged.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { elsewhereLines } from "../../accessCheck/elsewhere";
import { planFrom } from "../../accessCheck/plan";
import { add, type Draft, deployedPlan, type Edit, type Inputs, remove, SECRET, set, UNKNOWN } from "./draft";
import { inOneLine } from "./liveTools";

const ROLE_NAME = `pulumi-oidc-ci-deployer-${"0".repeat(26)}`;
const OF_ROLE = { role: UNKNOWN, policyArn: "arn:aws:iam::aws:policy/AdministratorAccess" };
const WITH_UPSERT = { provider: "urn:pulumi:dev::eks-pulumi-oidc::pulumi:providers:kubernetes::other::id" };
const OBJECT = { metadata: { name: UNKNOWN, namespace: "ci" } };

/** Returns an edit that adds a resource that exists. */
function change(op: string, type: string, name: string, inputs: Inputs, old: object = {}): Edit {
  return (draft) => {
    draft.edit(add(type, name, inputs));
    const step = draft.step(`${type.split(":").at(-1)} ${name}`);
    Object.assign(step, { op, oldState: { inputs: {}, id: "id", ...old } });
  };
}

function linesOf({ steps }: Draft, config: Record<string, string> = {}): string[] {
  return elsewhereLines(planFrom(steps, config));
}

/** Edits of the rest of a program, and the lines that show them. */
const CASES: [what: string, edit: Edit, lines: string[]][] = [
  [
    "a ConfigMap whose name is known after the update only",
    add("kubernetes:core/v1:ConfigMap", "app", OBJECT, WITH_UPSERT),
    ["creates kubernetes:core/v1:ConfigMap app (ci/known after the update)"],
  ],
  [
    "a service account whose name is known after the update only",
    add("kubernetes:core/v1:ServiceAccount", "app", OBJECT, WITH_UPSERT),
    ["creates kubernetes:core/v1:ServiceAccount app (ci/known after the update)"],
  ],
  [
    "a second Role that imports that of the component",
    change("import", "aws:iam/role:Role", "app", { name: ROLE_NAME }, { id: ROLE_NAME }),
    [`imports aws:iam/role:Role app (ID: ${ROLE_NAME}, name: ${ROLE_NAME})`],
  ],
  [
    "a second Role that changes that of the component",
    change("update", "aws:iam/role:Role", "app", { name: ROLE_NAME }, { id: ROLE_NAME }),
    [`changes aws:iam/role:Role app (ID: ${ROLE_NAME}, name: ${ROLE_NAME})`],
  ],
  [
    "a policy that is attached by a name that is known later",
    add("aws:iam/rolePolicyAttachment:RolePolicyAttachment", "app", OF_ROLE),
    [
      "creates aws:iam/rolePolicyAttachment:RolePolicyAttachment app (role: known after the update, policyArn: arn:aws:iam::aws:policy/AdministratorAccess)",
    ],
  ],
  [
    "an inline policy of a role in other case",
    add("aws:iam/rolePolicy:RolePolicy", "app", { role: ROLE_NAME.toUpperCase(), policy: "{}" }),
    ["creates aws:iam/rolePolicy:RolePolicy app (role: PULUMI-OIDC-CI-DEPLOYER-00000000000000000000000000)"],
  ],
  [
    "a role by CloudControl",
    add("aws:cloudcontrol/resource:Resource", "app", {
      typeName: "AWS::IAM::RolePolicy",
      desiredState: "{}",
    }),
    ["creates aws:cloudcontrol/resource:Resource app (typeName: AWS::IAM::RolePolicy)"],
  ],
  [
    "a role by CloudFormation",
    add("aws:cloudformation/stack:Stack", "app", { templateBody: ROLE_NAME }),
    ["creates aws:cloudformation/stack:Stack app"],
  ],
  [
    "a patch of a ConfigMap",
    add("kubernetes:core/v1:ConfigMapPatch", "app", { metadata: { name: "deployer-pulumi-token-exchange" } }),
    ["creates kubernetes:core/v1:ConfigMapPatch app (deployer-pulumi-token-exchange)"],
  ],
  [
    "a patch of a service account, by a provider whose kubeconfig is secret",
    (draft) =>
      draft.edit(
        add("kubernetes:core/v1:ServiceAccountPatch", "app", OBJECT, WITH_UPSERT),
        add("pulumi:providers:kubernetes", "other", { kubeconfig: SECRET }),
      ),
    [
      "creates kubernetes:core/v1:ServiceAccountPatch app (ci/known after the update)",
      "creates pulumi:providers:kubernetes other",
    ],
  ],
  [
    "another role that trusts the provider of the cluster",
    add("aws:iam/role:Role", "app", { assumeRolePolicy: "{}" }),
    ["creates aws:iam/role:Role app"],
  ],
  [
    "an add-on with associations for EKS Pod Identity",
    change("update", "aws:eks/addon:Addon", "app", { clusterName: "prod", podIdentityAssociations: [{}] }),
    ["changes aws:eks/addon:Addon app (ID: id, clusterName: prod)"],
  ],
  [
    "an association for EKS Pod Identity",
    add("aws:eks/podIdentityAssociation:PodIdentityAssociation", "app", {
      namespace: "ci",
      serviceAccount: "deployer",
      roleArn: "arn",
    }),
    [
      "creates aws:eks/podIdentityAssociation:PodIdentityAssociation app (namespace: ci, serviceAccount: deployer, roleArn: arn)",
    ],
  ],
  [
    "a role of the organization",
    change("update", "pulumiservice:index:OrganizationRole", "app", { organizationName: "acme", name: "a" }),
    ["changes pulumiservice:index:OrganizationRole app (ID: id, name: a, organizationName: acme)"],
  ],
  [
    "a second Team with members",
    add("pulumiservice:index:Team", "app", { organizationName: "acme", name: "a", members: ["mallory"] }),
    ["creates pulumiservice:index:Team app (name: a, organizationName: acme)"],
  ],
  [
    "teams of a stack",
    add("pulumiservice:api/stacks:Stack", "app", { teams: ["a"] }),
    ["creates pulumiservice:api/stacks:Stack app"],
  ],
  [
    "a member of the organization",
    change("update", "pulumiservice:index:OrganizationMember", "app", {
      organizationName: "acme",
      role: "admin",
    }),
    ["changes pulumiservice:index:OrganizationMember app (ID: id, role: admin, organizationName: acme)"],
  ],
  [
    "a patch of the component's admission policy",
    add("kubernetes:admissionregistration.k8s.io/v1:MutatingAdmissionPolicyPatch", "app", {
      metadata: { name: "access-inject-token" },
    }),
    [
      "creates kubernetes:admissionregistration.k8s.io/v1:MutatingAdmissionPolicyPatch app (access-inject-token)",
    ],
  ],
  [
    "what becomes another type",
    change("update", "a:b:C", "app", {}, { type: "aws:iam/role:Role" }),
    ["changes a:b:C app (was aws:iam/role:Role, ID: id)"],
  ],
  [
    "what is read for the first time",
    (draft) => draft.edit(add("a:b:C", "app", {}), op("read")),
    ["reads a:b:C app"],
  ],
  ["what is replaced", change("replace", "a:b:C", "app", {}), ["replaces a:b:C app (ID: id)"]],
  [
    "what is deleted",
    (draft) => draft.edit(change("same", "a:b:C", "app", {}), remove("C app")),
    ["deletes a:b:C app (ID: id)"],
  ],
  [
    "what leaves the program, and stays",
    (draft) => draft.edit(change("same", "a:b:C", "app", {}), remove("C app", { retainOnDelete: true })),
    ["leaves a:b:C app (ID: id, not deleted in its service)"],
  ],
];

function op(name: string): Edit {
  return (draft) => Object.assign(draft.step("C app"), { op: name });
}

describe("lists", () => {
  for (const [what, edit, lines] of CASES) {
    test(what, async () => {
      const draft = await deployedPlan(edit);
      const text = inOneLine(linesOf(draft).join(" "));
      assert.equal(text.slice(0, lines.join(" ").length + 1), ` ${lines.join(" ")}`);
      assert.deepEqual(draft.check().findings, []);
    });
  }
});

test("lists nothing that stays, or that is only read again or refreshed", async () => {
  const draft = await deployedPlan(
    change("same", "a:b:C", "app", {}),
    change("read", "a:b:D", "app", {}),
    change("refresh", "a:b:E", "app", {}),
  );
  assert.deepEqual(linesOf(draft), ["", "  Nothing changes elsewhere."]);
});

test("lists what leaves a component, and changes", async () => {
  const draft = await deployedPlan(set("Job access.web.secrets", "spec.backoffLimit", 1), (it) =>
    Object.assign(it.step("Job access.web.secrets").newState ?? {}, { parent: undefined }),
  );
  assert.match(linesOf(draft).join("\n"), /^ {2}changes {3}kubernetes:batch\/v1:Job access\.web\.secrets/m);
});

test("begins with the settings of default providers, without credentials", async () => {
  const config = {
    "aws:profile": "other",
    "aws:assumeRoles": '[{"roleArn":"arn","externalId":"x","webIdentityToken":"secret"}]',
    "aws:secretKey": "secret",
    "kubernetes:context": "other",
    "kubernetes:kubeconfig": "secret",
    "pulumiservice:apiUrl": "https://other.example",
    "app:replicas": "3",
  };
  assert.deepEqual(linesOf(await deployedPlan(), config).slice(0, -2), [
    '  aws:assumeRoles: [ { "roleArn": "arn", "externalId": "x", "webIdentityToken":',
    '    "not shown" } ]',
    "  aws:profile: other",
    "  aws:secretKey: not shown",
    "  kubernetes:context: other",
    "  kubernetes:kubeconfig: not shown",
    "  pulumiservice:apiUrl: https://other.example",
  ]);
});

test("has a line for many resources of a type, but not for identities and patches, which come first", async () => {
  const many = (type: string) => Array.from({ length: 21 }, (_, index) => add(type, `app${index}`, {}));
  const draft = await deployedPlan(
    ...many("random:index:RandomId"),
    ...many("kubernetes:apps/v1:DeploymentPatch"),
    ...many("aws:iam/role:Role"),
    ...many("aws:s3/bucket:Bucket"),
    ...many("kubernetes:apps/v1:Deployment").slice(1),
    remove("Job access.web.secrets"),
  );
  const lines = linesOf(draft);
  const starting = (text: string) => lines.filter((line) => line.startsWith(`  creates   ${text}`)).length;
  assert.equal(starting("21 × aws:s3/bucket:Bucket"), 1);
  assert.equal(
    lines.findIndex((line) => line.endsWith("21 × random:index:RandomId")),
    63,
  );
  for (const [type, number] of [
    ["kubernetes:apps/v1:DeploymentPatch app", 21],
    ["aws:iam/role:Role app", 21],
    ["kubernetes:apps/v1:Deployment app", 20],
  ] as const) {
    assert.equal(starting(type), number, type);
  }
  assert.match(lines.join(" "), / 104 resources, of which 21 concern identities: IAM, /);
});
