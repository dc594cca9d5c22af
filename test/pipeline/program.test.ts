// The pipeline's program: which ID tokens its identities trust, what they can do, and what stops it before it creates anything.

import assert from "node:assert/strict";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import type { PolicyDocument } from "@pulumi/aws/iam";
import Ajv from "ajv";
import { parse } from "yaml";
import { rolePolicies } from "../../pipeline/aws";
import { teamName } from "../../pipeline/pulumiCloud";
import type { AuthPolicy } from "../../simulator/emulators/authPolicy";
import { type Program, runProgram } from "../../simulator/runProgram";
import { writePrograms } from "../support/programs";
import { ROOT, read } from "../support/project";
import { configOf } from "../support/rawSettings";
import { failureOf } from "../support/stack";
import { temporaryDirectory } from "../support/temporaryDirectory";
import { setVariables } from "../support/variables";
import { ACCOUNT, GITHUB_PROVIDER, SETTINGS, STACK, SUBJECT_PREFIX, startPipelineCloud } from "./cloud";
import { pipelineSchema } from "./stackFileSchema";

const program: Program = require("../../pipeline");

const arn = (resource: string) => `arn:aws:iam::${ACCOUNT}:${resource}`;
const NAMED = arn("policy/ci-cache");
const BOUNDARY = arn("policy/boundary");
const TAGS = ["team", "cost-center"];

/** What belongs to the stacks. */
const CLUSTER = `arn:aws:eks:us-west-2:${ACCOUNT}:cluster/my-cluster`;
const ASSOCIATIONS = `arn:aws:eks:us-west-2:${ACCOUNT}:podidentityassociation/my-cluster/*`;
const PROVIDER = arn("oidc-provider/oidc.example.com/id/A");
const ROLES = arn("role/ci/pulumi-oidc-*");

const UNTAGGED = { Null: { "aws:TagKeys": "true" } };
const TAGGED_OR_NOT = { "ForAllValues:StringEquals": { "aws:TagKeys": TAGS } };
const TAGGED = { ...TAGGED_OR_NOT, Null: { "aws:TagKeys": "false" } };
const BOUNDED = { StringEquals: { "iam:PermissionsBoundary": BOUNDARY } };
const IS_NAMED = { ArnEquals: { "iam:PolicyARN": [NAMED] } };
const PASSED_TO_EKS = {
  StringEquals: { "iam:PassedToService": "pods.eks.amazonaws.com" },
  // No page says whether EKS sends the cluster.
  ArnEqualsIfExists: { "iam:AssociatedResourceARN": [CLUSTER] },
};

const READ = [
  statement(CLUSTER, ["eks:DescribeCluster"]),
  statement("*", ["iam:ListOpenIDConnectProviders"]),
  statement(PROVIDER, ["iam:GetOpenIDConnectProvider"]),
  statement(ROLES, [
    "iam:GetRole",
    "iam:ListRolePolicies",
    "iam:GetRolePolicy",
    "iam:ListAttachedRolePolicies",
  ]),
];
// terraform-provider-aws, internal/service/iam/role.go
const CHANGE_ROLES = [
  statement(ROLES, ["iam:UpdateRole", "iam:UpdateRoleDescription", "iam:UpdateAssumeRolePolicy"]),
  statement(ROLES, ["iam:ListInstanceProfilesForRole", "iam:DeleteRole"]),
  // Roles below a path that begins with pulumi-oidc- belong to no stack.
  statement(`${ROLES}/*`, ["Deny iam:*"]),
];
const READ_ASSOCIATIONS = statement(ASSOCIATIONS, ["eks:DescribePodIdentityAssociation"]);
// terraform-provider-aws, internal/service/eks/pod_identity_association.go
const CHANGE_ASSOCIATIONS = [
  READ_ASSOCIATIONS,
  statement(CLUSTER, ["eks:CreatePodIdentityAssociation"], TAGGED_OR_NOT),
  statement(ASSOCIATIONS, ["eks:UpdatePodIdentityAssociation", "eks:DeletePodIdentityAssociation"]),
  statement(ASSOCIATIONS, ["eks:TagResource", "eks:UntagResource"], TAGGED),
  statement(ROLES, ["iam:PassRole"], PASSED_TO_EKS),
];

test("by default, the roles can do what a stack needs with what belongs to the stacks, and nothing else", () => {
  const none = { rolePolicyArns: [], permissionsBoundaryArn: undefined, tagKeys: [] };
  const { preview, deploy } = policiesOf({ ...none, createOidcProvider: false, podIdentity: false });
  assert.deepEqual(preview, READ.flat().sort());
  assert.deepEqual(
    deploy,
    [...READ, ...CHANGE_ROLES, statement(ROLES, ["iam:CreateRole"], UNTAGGED)].flat().sort(),
  );
});

test("with every setting, the deploy role is limited to the named policies, tags, and boundary", () => {
  const named = { rolePolicyArns: [NAMED], permissionsBoundaryArn: BOUNDARY, tagKeys: TAGS };
  const { preview, deploy } = policiesOf({ ...named, createOidcProvider: true, podIdentity: true });
  assert.deepEqual(preview, [...READ, READ_ASSOCIATIONS].flat().sort());
  const expected = [
    ...READ,
    ...CHANGE_ROLES,
    statement(ROLES, ["iam:CreateRole"], { ...BOUNDED, ...TAGGED_OR_NOT }),
    statement(ROLES, ["iam:PutRolePermissionsBoundary"], BOUNDED),
    statement(ROLES, ["iam:TagRole", "iam:UntagRole"], TAGGED),
    statement(ROLES, ["iam:AttachRolePolicy", "iam:DetachRolePolicy"], IS_NAMED),
    statement(PROVIDER, ["iam:CreateOpenIDConnectProvider"], TAGGED_OR_NOT),
    statement(PROVIDER, ["iam:TagOpenIDConnectProvider"], TAGGED),
    ...CHANGE_ASSOCIATIONS,
  ];
  assert.deepEqual(deploy, expected.flat().sort());
});

test("AWS and Pulumi Cloud trust each workflow's ID tokens, and no other repository, event, or audience", async (t) => {
  const { run, cloud } = await newPipeline(t);
  const { inputs, outputs } = await run();
  const preview = [`${SUBJECT_PREFIX}:pull_request`, `${SUBJECT_PREFIX}:ref:refs/heads/main`];
  const deploy = `${SUBJECT_PREFIX}:environment:production`;

  const issuer = "token.actions.githubusercontent.com";
  assert.deepEqual(inputs("OpenIdConnectProvider github").clientIdLists, ["sts.amazonaws.com"]);
  for (const [name, sub] of Object.entries({ preview, deploy })) {
    const [{ Principal, Condition }, ...others] = inputs(`Role github-${name}`).assumeRolePolicy.Statement;
    assert.deepEqual([Principal, others], [{ Federated: GITHUB_PROVIDER }, []]);
    assert.deepEqual(Condition, {
      StringEquals: { [`${issuer}:sub`]: sub, [`${issuer}:aud`]: "sts.amazonaws.com" },
      // AWS STS knows the claim in some of its partitions only.
      StringEqualsIfExists: { [`${issuer}:repository_id`]: "42" },
    });
  }

  const policyFor = (sub: string, granted: object) => {
    return { decision: "allow", ...granted, rules: { aud: "urn:pulumi:org:acme", repository_id: "42", sub } };
  };
  const acme = [
    ...preview.map((sub) => policyFor(sub, { tokenType: "team", teamName: "eks-pulumi-oidc-preview" })),
    policyFor(deploy, { tokenType: "organization", authorizedPermissions: ["admin"] }),
  ];
  assert.deepEqual(outputs.policies, { acme });
  assert.deepEqual(cloud.issuers.get("acme/1")?.policies, acme);
});

test("previews can view the namespaces and the stacks, deployments can edit the namespaces, for an hour", async (t) => {
  assert.equal(teamName("acme/a.b"), "a-b-preview", "a dot is a wildcard in an allow policy");
  // An empty value counts as not given.
  const stacks = [{ ...STACK, namespaces: null }];
  const { run, cloud } = await newPipeline(t, { stacks, permissionsBoundaryArn: BOUNDARY, rolePath: "" });
  const { inputs } = await run();
  for (const [name, accessPolicy] of Object.entries({ preview: "View", deploy: "Edit" })) {
    const { policyArn, accessScope } = inputs(`AccessPolicyAssociation ${name}.us-west-2.my-cluster`);
    assert.equal(policyArn, `arn:aws:eks::aws:cluster-access-policy/AmazonEKS${accessPolicy}Policy`);
    assert.deepEqual(accessScope, { type: "namespace", namespaces: ["default"] });
    const changesRoles = JSON.stringify(inputs(`RolePolicy github-${name}`)).includes("iam:CreateRole");
    assert.equal(changesRoles, name === "deploy");
    // The deploy role can change the roles whose names begin with pulumi-oidc-. Their boundary is the stacks' own.
    const { name: roleName, namePrefix, permissionsBoundary } = inputs(`Role github-${name}`);
    assert.deepEqual([roleName, namePrefix, permissionsBoundary], [undefined, undefined, undefined]);
  }
  assert.equal(inputs("TeamStackPermission acme/eks-pulumi-oidc/dev").permission, 101);
  assert.equal(inputs("TeamRoleAssignment acme").teamName, "eks-pulumi-oidc-preview");
  const { permissions } = inputs("OrganizationRole acme").permissions;
  assert.deepEqual(permissions, ["auth_policies:read", "oidc_issuers:read"]);
  assert.equal(cloud.issuers.get("acme/1")?.maxExpirationSeconds, 3600);
});

test("the workflows' roles can have their own permissions boundary", async (t) => {
  const { run } = await newPipeline(t, { ownPermissionsBoundaryArn: BOUNDARY });
  const { inputs } = await run();
  for (const name of ["preview", "deploy"]) {
    assert.equal(inputs(`Role github-${name}`).permissionsBoundary, BOUNDARY);
  }
});

test("a login that is not for pulumiApiUrl creates nothing", async (t) => {
  const { run, cloud } = await newPipeline(t);
  const restore = setVariables({ PULUMI_BACKEND_URL: "https://other.example.com" });
  const error = await failureOf(run).finally(restore);
  assert.match(String(error), /pulumiApiUrl = .*PULUMI_BACKEND_URL is https:\/\/other\.example\.com/);
  assert.deepEqual(cloud.existing(), []);
});

test("the workflows' file says for each stack what is deployed, where, and as whom", async (t) => {
  const pulumiApiUrl = "https://pulumi.example.com";
  const prod = { ...STACK, stack: "acme/eks-pulumi-oidc/prod", region: "us-gov-east-1" };
  const { run } = await newPipeline(t, { pulumiApiUrl, stacks: [STACK, prod] });
  const { inputs, outputs } = await run();
  const common = {
    organization: "acme",
    pulumiApiUrl,
    previewTeam: "eks-pulumi-oidc-preview",
    previewRoleArn: arn("role/github-preview-1a2b3c4"),
    deployRoleArn: arn("role/github-deploy-1a2b3c4"),
  };
  const stacks = [STACK, prod].map(({ stack, region }) => ({ ...common, stack, region }));
  assert.deepEqual(outputs.workflows, { repositoryId: "42", stacks });
  assert.equal(inputs("pulumiservice pulumi-cloud").apiUrl, pulumiApiUrl);
});

test("stacks that share a cluster share its access entries, and nothing else", async (t) => {
  const acme = { ...STACK, namespaces: ["a", "b"] };
  const globex = { ...STACK, stack: "globex/eks-pulumi-oidc/dev", namespaces: ["b", "c"] };
  const { run } = await newPipeline(t, { stacks: [acme, globex] });
  const { all, outputs } = await run();
  const namespaces = all("AccessPolicyAssociation").map(({ accessScope }) => accessScope.namespaces.join());
  assert.deepEqual(namespaces, ["a,b,c", "a,b,c"]);
  const permissions = all("TeamStackPermission").map(({ organization, team }) => `${organization} ${team}`);
  assert.deepEqual(permissions, ["acme eks-pulumi-oidc-preview", "globex eks-pulumi-oidc-preview"]);
  assert.deepEqual(Object.keys(outputs.policies as object), ["acme", "globex"]);
  for (const { organization, policies } of all("OidcIssuer")) {
    const audiences = policies.map(({ rules }: AuthPolicy) => rules.aud);
    assert.deepEqual(audiences, Array(3).fill(`urn:pulumi:org:${organization}`));
  }
});

test("clusters of the same name in two regions have separate access entries, in the partition of the account", async (t) => {
  const regions = ["us-gov-west-1", "us-gov-east-1"];
  const stacks = regions.map((region) => {
    return { ...STACK, stack: `acme/a/${region}`, region, namespaces: [region] };
  });
  const { run } = await newPipeline(t, { stacks });
  const { inputs } = await run();
  const readable = JSON.stringify(inputs("RolePolicy github-preview"));
  for (const region of regions) {
    assert.equal(inputs(`AccessEntry deploy.${region}.my-cluster`).region, region);
    const access = inputs(`AccessPolicyAssociation deploy.${region}.my-cluster`);
    assert.deepEqual([access.region, access.accessScope.namespaces], [region, [region]]);
    assert.match(access.policyArn, /^arn:aws-us-gov:eks::aws:cluster-access-policy/);
    assert.ok(readable.includes(`arn:aws-us-gov:eks:${region}:`));
  }
  assert.match(readable, /arn:aws-us-gov:iam::\d+:role\/pulumi-oidc-/);
});

const INVALID: Record<string, [value: unknown, ...problems: string[]]> = {
  repository: ["", "repository: required"],
  permissionsBoundaryArn: [
    "s3cret",
    "permissionsBoundaryArn: contains an encrypted value, which would be stored in plaintext in the stack's state",
    "permissionsBoundaryArn: must be the ARN of an IAM policy",
  ],
  subjectPrefix: ["repo:acme/*", 'subjectPrefix = "repo:acme/*": must be the prefix that GitHub reports'],
  stacks: [
    [
      { ...STACK, stack: "dev", namespace: "default", namespaces: [] },
      { ...STACK, region: "Frankfurt" },
      STACK,
    ],
    'stacks[0].namespace: unknown setting; did you mean "namespaces"?',
    "stacks[0].namespaces: must not be empty",
    'stacks[0].stack = "dev": must be ORGANIZATION/PROJECT/STACK',
    'stacks[1].region = "Frankfurt": must be an AWS region, such as us-west-2',
    'stacks[2].stack = "acme/eks-pulumi-oidc/dev": must not be listed twice',
  ],
  githubIssuer: ["maybe", 'githubIssuer = "maybe": must be create or existing'],
  stack: [STACK, 'stack: unknown setting; did you mean "stacks"?'],
  tagKeys: [["team*"], 'tagKeys[0] = "team*": must be the key of a tag in AWS'],
  reviewers: [["a b"], 'reviewers[0] = "a b": must be a login, or a team as ORGANIZATION/TEAM'],
};

test("an invalid configuration is reported as a whole, without the value of an encrypted setting", async (t) => {
  const settings = Object.entries(INVALID).map(([name, [value]]) => [name, value]);
  const secretKeys = ["pipeline:permissionsBoundaryArn"];
  const { run, cloud } = await newPipeline(t, Object.fromEntries(settings), { secretKeys });
  const [title = "", ...problems] = String(await failureOf(run)).split("\n");
  assert.match(
    title,
    /Invalid configuration in Pulumi\.github\.yaml \(13 problems\)\. Nothing was changed\./,
  );
  const expected = Object.values(INVALID).flatMap(([, ...messages]) => messages.map((it) => `  ${it}`));
  assert.deepEqual(problems.filter(Boolean).sort(), expected.sort());
  assert.deepEqual(cloud.existing(), []);
});

test("editors find the schema, which accepts the stack's file, and is that of the settings", () => {
  const text = read("pipeline/Pulumi.github.yaml");
  assert.match(text, /^# yaml-language-server: \$schema=stack\.schema\.json\n/);
  const schema = JSON.parse(read("pipeline/stack.schema.json"));
  assert.deepEqual(schema, JSON.parse(pipelineSchema()));
  const ajv = new Ajv({ strictTypes: false, allowMatchingProperties: true });
  assert.ok(ajv.addKeyword("patternErrorMessage").validate(schema, parse(text)), ajv.errorsText());
});

test("both Pulumi.yaml pass the same nodeargs", () => {
  const [own, stack] = ["pipeline/", ""].map((path) => parse(read(`${path}Pulumi.yaml`)).runtime.options);
  assert.equal(own.nodeargs, stack.nodeargs.replace("./", "../"));
});

test("everything that is missing is reported at once, and nothing is created", async (t) => {
  const old = { ...STACK, stack: "acme/eks-pulumi-oidc/old", clusterName: "old-cluster" };
  const reviewers = ["octocat", "acme/platform"];
  const stacks = [{ ...STACK, clusterName: "no" }, old];
  const settings = { reviewers, stacks, githubOidcProvider: "existing" };
  const check = `printf '%s\\n' "$@" 'The workflows can approve' >&2; exit 1`;
  const { run, cloud } = await newPipeline(t, settings, { check });
  cloud.clusters.set("us-west-2 old-cluster", "CONFIG_MAP");
  const message = String(await failureOf(run));
  const command = [join(ROOT, "pipeline", "github.sh"), "check", SETTINGS.repository, SUBJECT_PREFIX];
  for (const part of [
    ["acme/eks-pulumi-oidc with gh:", ...command, ...reviewers, "The workflows can approve"].join("\n"),
    "EKS Cluster (no)",
    "aws eks update-cluster-config --region us-west-2 --name old-cluster",
    "IAM OIDC Provider",
  ]) {
    assert.ok(message.includes(part), message);
  }
  assert.deepEqual(cloud.existing(), []);
});

/** Starts a pipeline, with changes to its settings, and to what replaces `github.sh check`. */
async function newPipeline(
  t: TestContext,
  settings: Record<string, unknown> = {},
  { check = "echo 42", secretKeys = [] }: { check?: string; secretKeys?: string[] } = {},
) {
  const cloud = await startPipelineCloud(t);
  for (const region of ["us-gov-west-1", "us-gov-east-1"]) cloud.clusters.set(`${region} my-cluster`, "API");
  const tls: typeof import("node:tls") = require("node:tls");
  const { connect } = tls;
  t.mock.method(tls, "connect", (options: object) =>
    connect({ ...options, host: "127.0.0.1", port: cloud.port }),
  );

  // It runs `bash github.sh check`. github.engine.test.ts runs the real one.
  t.after(setVariables({ PATH: writePrograms(temporaryDirectory(t), { bash: check }, "/bin/sh") }));

  const config = configOf("pipeline", { ...SETTINGS, ...settings });
  const stack = { project: "pipeline", stack: "github", organization: "acme", config, secretKeys, program };
  return {
    cloud,
    /** Runs the program, and returns what it registered. */
    async run() {
      const { registered, outputs } = await runProgram(cloud, stack);
      const plain = registered.map(({ type, name, inputs }) => {
        return { name: `${type.split(":").pop()} ${name}`, inputs: JSON.parse(JSON.stringify(inputs)) };
      });
      return {
        outputs,
        /** Returns the inputs of all resources of a type. */
        all: (type: string) => plain.filter(({ name }) => name.startsWith(`${type} `)).map((it) => it.inputs),
        /** Returns the inputs of a resource, such as `Role github-preview`. */
        inputs: (resource: string) =>
          plain.find(({ name }) => name === resource)?.inputs ?? assert.fail(resource),
      };
    },
  };
}

/** Returns what the policies of both roles say, for the stacks of one cluster. */
function policiesOf(settings: Omit<Parameters<typeof rolePolicies>[0], "rolePath">) {
  const cluster = { arn: CLUSTER, identities: [{ oidcs: [{ issuer: "https://oidc.example.com/id/A" }] }] };
  const { preview, deploy } = rolePolicies({ rolePath: "/ci/", ...settings }, [cluster]);
  return { preview: statementsOf(preview), deploy: statementsOf(deploy) };
}

/** Returns what a policy says, one line for each action, in alphabetical order. */
function statementsOf(policy: PolicyDocument): string[] {
  const lines: string[] = [];
  for (const { Effect, Action, Resource, Condition } of JSON.parse(JSON.stringify(policy.Statement))) {
    const actions = [Action].flat().map((action) => (Effect === "Allow" ? action : `${Effect} ${action}`));
    lines.push(...statement(Resource, actions, Condition));
  }
  return lines.sort();
}

/** Returns a line for each action of a statement. */
function statement(resource: string, actions: string[], condition: object = {}): string[] {
  return actions.map((action) => `${action} ${resource} ${JSON.stringify(condition)}`);
}
