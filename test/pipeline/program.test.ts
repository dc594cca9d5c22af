// The pipeline's program: which ID tokens its identities trust, what they can do, and what stops it before it creates anything.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { type TestContext, test } from "node:test";
import Ajv from "ajv";
import { parse } from "yaml";
import { rolePolicies } from "../../pipeline/aws";
import { readSettings } from "../../pipeline/config";
import { teamName } from "../../pipeline/pulumiCloud";
import { type AuthPolicy, decide } from "../../simulator/emulators/authPolicy";
import { type Program, runProgram } from "../../simulator/runProgram";
import { ROOT, read } from "../support/project";
import { configOf } from "../support/rawSettings";
import { failureOf } from "../support/stack";
import { temporaryDirectory } from "../support/temporaryDirectory";
import { setVariables } from "../support/variables";
import { ACCOUNT, SETTINGS, STACK, SUBJECT_PREFIX, startPipelineCloud } from "./cloud";
import { actionsOf, allows, type Context } from "./iamPolicy";
import { pipelineSchema } from "./stackFileSchema";

const program: Program = require("../../pipeline");

const arn = (resource: string) => `arn:aws:iam::${ACCOUNT}:${resource}`;
const CLUSTER = `arn:aws:eks:us-west-2:${ACCOUNT}:cluster/my-cluster`;
const ASSOCIATION = `arn:aws:eks:us-west-2:${ACCOUNT}:podidentityassociation/my-cluster/a-1`;
const CLUSTERS = [{ arn: CLUSTER, identities: [{ oidcs: [{ issuer: "https://oidc.example.com/id/A" }] }] }];
const OIDC_PROVIDER = arn("oidc-provider/oidc.example.com/id/A");
const ISSUER = "token.actions.githubusercontent.com";
const NAMED = arn("policy/ci-cache");
const ADMINISTRATOR = "arn:aws:iam::aws:policy/AdministratorAccess";
const BOUNDARY = arn("policy/boundary");
const NOTHING: Parameters<typeof rolePolicies>[0] = {
  rolePath: "/",
  rolePolicyArns: [],
  permissionsBoundaryArn: undefined,
  tagKeys: [],
  createOidcProvider: false,
  podIdentity: false,
};
const EVERYTHING = {
  rolePath: "/ci/",
  rolePolicyArns: [NAMED],
  permissionsBoundaryArn: BOUNDARY,
  tagKeys: ["team", "cost-center"],
  createOidcProvider: true,
  podIdentity: true,
};
const ROLE = arn("role/ci/pulumi-oidc-default-runner-1");

/** What a stack does with a role: terraform-provider-aws, internal/service/iam/role.go. */
const ROLE_CHANGES = ["Create", "Update", "Delete"]
  .map((change) => `iam:${change}Role`)
  .concat("iam:UpdateRoleDescription", "iam:UpdateAssumeRolePolicy", "iam:ListInstanceProfilesForRole");
const ATTACHMENTS = ["iam:AttachRolePolicy", "iam:DetachRolePolicy"];
const TAGGING = ["iam:TagRole", "iam:UntagRole", "eks:TagResource", "eks:UntagResource"].concat(
  "iam:TagOpenIDConnectProvider",
);
/** terraform-provider-aws, internal/service/eks/pod_identity_association.go */
const ASSOCIATION_CHANGES = ["eks:UpdatePodIdentityAssociation", "eks:DeletePodIdentityAssociation"];
const CREATING = ["iam:CreateRole", "iam:CreateOpenIDConnectProvider", "eks:CreatePodIdentityAssociation"];

/** Returns the policies with every setting, except for these. */
const policiesWith = (changes: object = {}) => rolePolicies({ ...EVERYTHING, ...changes }, CLUSTERS);

test("the roles can do what a stack needs, and no action more", () => {
  const reads = ["eks:DescribeCluster", "iam:GetOpenIDConnectProvider", "iam:GetRole", "iam:GetRolePolicy"];
  reads.push("iam:ListAttachedRolePolicies", "iam:ListOpenIDConnectProviders", "iam:ListRolePolicies");
  const minimum = rolePolicies(NOTHING, CLUSTERS);
  assert.deepEqual(actionsOf(minimum.preview), reads);
  assert.deepEqual(actionsOf(minimum.deploy), [...reads, ...ROLE_CHANGES].sort());

  const { preview, deploy } = policiesWith();
  assert.deepEqual(actionsOf(preview), [...reads, "eks:DescribePodIdentityAssociation"].sort());
  const further = [...ATTACHMENTS, ...TAGGING, ...ASSOCIATION_CHANGES, "iam:PassRole"];
  further.push("iam:PutRolePermissionsBoundary", ...CREATING.slice(1));
  assert.deepEqual(actionsOf(deploy), [...actionsOf(preview), ...ROLE_CHANGES, ...further].sort());
});

for (const [action, resource, others] of [
  ["eks:DescribeCluster", CLUSTER, [`${CLUSTER}-2`]],
  ["iam:GetOpenIDConnectProvider", OIDC_PROVIDER, [arn(`oidc-provider/${ISSUER}`)]],
  ["iam:GetRole", ROLE, [arn("role/pulumi-oidc-default-runner-1")]],
  ["eks:DescribePodIdentityAssociation", ASSOCIATION, [ASSOCIATION.replace("my-", "other-")]],
  ["eks:CreatePodIdentityAssociation", CLUSTER, [`${CLUSTER}-2`]],
  ["eks:UpdatePodIdentityAssociation", ASSOCIATION, [ASSOCIATION.replace("my-", "other-"), CLUSTER]],
  ["eks:DeletePodIdentityAssociation", ASSOCIATION, [ASSOCIATION.replace("my-", "other-"), CLUSTER]],
  ["iam:CreateOpenIDConnectProvider", OIDC_PROVIDER, [arn(`oidc-provider/${ISSUER}`)]],
] as const) {
  test(`${action} is limited to what belongs to the stacks`, () => {
    const { preview, deploy } = policiesWith();
    const isRead = /:(Get|Describe)/.test(action);
    for (const policy of isRead ? [preview, deploy] : [deploy]) {
      assert.ok(allows(policy, action, resource));
      for (const other of others) assert.ok(!allows(policy, action, other), other);
    }
  });
}

test("the deploy role changes only the stacks' roles, which never exceed the named policies and the boundary", () => {
  const { deploy } = policiesWith();
  const others = ["github-deploy-1", "x-pulumi-oidc-1", "pulumi-oidc-team/admin"]
    .map((name) => `role/ci/${name}`)
    .concat("role/other/x", "role/x/pulumi-oidc-1", "user/me", "group/all", "policy/ci-cache")
    .map(arn);
  for (const action of [...ROLE_CHANGES, ...ATTACHMENTS, "iam:PutRolePermissionsBoundary"]) {
    for (const policy of [NAMED, `${NAMED}-2`, ADMINISTRATOR, BOUNDARY]) {
      for (const boundary of [BOUNDARY, ADMINISTRATOR, undefined]) {
        const set = boundary && { "iam:PermissionsBoundary": boundary };
        const context: Context = { "iam:PolicyARN": policy, ...set };
        const isNamed = policy === NAMED || !ATTACHMENTS.includes(action);
        const isBounded = boundary === BOUNDARY || !/CreateRole|Boundary/.test(action);
        const message = `${action} ${JSON.stringify(context)}`;
        assert.equal(allows(deploy, action, ROLE, context), isNamed && isBounded, message);
        for (const other of others) assert.ok(!allows(deploy, action, other, context), `${action} ${other}`);
      }
    }
  }
});

test("the deploy role can set only the named tags, and none by default", () => {
  const withTags = policiesWith().deploy;
  const withoutTags = policiesWith({ tagKeys: [] }).deploy;
  for (const action of [...TAGGING, ...CREATING]) {
    const ofAssociation = action.includes("Create") ? CLUSTER : ASSOCIATION;
    const ofIam = action.includes("Role") ? ROLE : OIDC_PROVIDER;
    const resource = action.startsWith("eks:") ? ofAssociation : ofIam;
    for (const [keys, isNamed] of [
      [[], CREATING.includes(action)],
      [["team"], true],
      [["team", "cost-center"], true],
      [["admin"], false],
      [["team", "admin"], false],
      [["Team"], false],
    ] as [string[], boolean][]) {
      const context = {
        "iam:PermissionsBoundary": BOUNDARY,
        ...(keys.length > 0 && { "aws:TagKeys": keys }),
      };
      assert.equal(allows(withTags, action, resource, context), isNamed, `${action} ${keys}`);
      const isUntagged = isNamed && keys.length === 0;
      assert.equal(allows(withoutTags, action, resource, context), isUntagged, `${action} ${keys}`);
    }
  }
});

test("the deploy role passes the stacks' roles to EKS Pod Identity, for these clusters, and nothing else", () => {
  const { deploy } = policiesWith();
  const service = "pods.eks.amazonaws.com";
  for (const [resource, passedTo, associated, expected] of [
    [ROLE, service, CLUSTER, true],
    // No page says whether EKS sends the cluster.
    [ROLE, service, undefined, true],
    [ROLE, service, `${CLUSTER}-2`, false],
    [ROLE, "ec2.amazonaws.com", CLUSTER, false],
    [ROLE, "eks.amazonaws.com", CLUSTER, false],
    [arn("role/ci/github-deploy-1"), service, CLUSTER, false],
    [arn("role/ci/pulumi-oidc-x/admin"), service, CLUSTER, false],
  ] as const) {
    const to = { "iam:PassedToService": passedTo };
    const context = { ...to, ...(associated && { "iam:AssociatedResourceARN": associated }) };
    assert.equal(allows(deploy, "iam:PassRole", resource, context), expected, `${resource} ${passedTo}`);
  }
});

test("AWS and Pulumi Cloud trust each workflow's ID tokens, and no other repository, event, or audience", async (t) => {
  const { run } = await newPipeline(t);
  const { inputs, outputs } = await run();
  const { acme: policies = [] } = outputs.policies as Record<string, AuthPolicy[]>;
  // AWS STS knows the claim repository_id in some of its partitions only.
  const assumes = (
    role: string,
    sub: string,
    aud = "sts.amazonaws.com",
    repositoryId: string | undefined = "42",
  ) => {
    const { assumeRolePolicy } = JSON.parse(inputs.get(`Role ${role}`) ?? "");
    const id = repositoryId && { [`${ISSUER}:repository_id`]: repositoryId };
    const context = { [`${ISSUER}:sub`]: sub, [`${ISSUER}:aud`]: aud, ...id };
    return allows(assumeRolePolicy, "sts:AssumeRoleWithWebIdentity", "", context);
  };
  const grants = (tokenType: string, scope: string, sub: string, different: object = {}) => {
    const claims = { sub, aud: "urn:pulumi:org:acme", repository_id: "42", ...different };
    return decide(policies, claims, { tokenType, scope }).allowed;
  };

  for (const [subject, isPreview, isDeploy] of [
    [`${SUBJECT_PREFIX}:pull_request`, true, false],
    [`${SUBJECT_PREFIX}:ref:refs/heads/main`, true, false],
    [`${SUBJECT_PREFIX}:environment:production`, false, true],
    [`${SUBJECT_PREFIX}:environment:production-2`, false, false],
    [`${SUBJECT_PREFIX}:environment:staging`, false, false],
    [`${SUBJECT_PREFIX}:ref:refs/heads/feature`, false, false],
    ["repo:acme@11/other@43:environment:production", false, false],
    ["repo:acme@11/other@43:pull_request", false, false],
  ] as const) {
    for (const [role, tokenType, scope, expected] of [
      ["github-preview", "team", "team:eks-pulumi-oidc-preview", isPreview],
      ["github-deploy", "organization", "admin", isDeploy],
    ] as const) {
      assert.equal(assumes(role, subject), expected, `${role} ${subject}`);
      assert.equal(grants(tokenType, scope, subject), expected, `${scope} ${subject}`);
      assert.equal(assumes(role, subject, "sts.amazonaws.com", ""), expected, `${role} ${subject}`);
      assert.ok(!assumes(role, subject, "sts.amazonaws.com", "43"), subject);
      assert.ok(!assumes(role, subject, "https://github.com/acme"), subject);
      assert.ok(!grants(tokenType, scope, subject, { repository_id: "43" }), subject);
      assert.ok(!grants(tokenType, scope, subject, { aud: "urn:pulumi:org:globex" }), subject);
    }
    assert.ok(!grants("team", "team:admins", subject), subject);
  }
});

test("previews can view the namespaces and the stacks, deployments can edit the namespaces, for an hour", async (t) => {
  assert.equal(teamName("acme/a.b"), "a-b-preview", "a dot is a wildcard in an allow policy");
  const { run, cloud } = await newPipeline(t);
  const { inputs } = await run();
  for (const [name, accessPolicy, canWrite] of [
    ["preview", /:cluster-access-policy\/AmazonEKSViewPolicy"/, false],
    ["deploy", /:cluster-access-policy\/AmazonEKSEditPolicy"/, true],
  ] as const) {
    assert.equal(inputs.get(`RolePolicy github-${name}`)?.includes("iam:CreateRole"), canWrite);
    assert.match(inputs.get(`AccessPolicyAssociation ${name}.us-west-2.my-cluster`) ?? "", accessPolicy);
    // The deploy role can change the roles whose names begin with pulumi-oidc-.
    assert.doesNotMatch(inputs.get(`Role github-${name}`) ?? "", /"name(Prefix)?":/);
  }
  assert.match(inputs.get("TeamStackPermission acme/eks-pulumi-oidc/dev") ?? "", /"permission":101,/);
  assert.match(inputs.get("TeamRoleAssignment acme") ?? "", /"teamName":"eks-pulumi-oidc-preview"/);
  assert.match(inputs.get("OrganizationRole acme") ?? "", /\["auth_policies:read","oidc_issuers:read"\]/);
  assert.equal(cloud.issuers.get("acme/1")?.maxExpirationSeconds, 3600);
});

for (const [name, settings, expected] of [
  ["no permissions boundary by default", { permissionsBoundaryArn: BOUNDARY }, undefined],
  ["their own permissions boundary", { ownPermissionsBoundaryArn: BOUNDARY }, BOUNDARY],
] as const) {
  test(`the workflows' roles have ${name}`, async (t) => {
    const { run } = await newPipeline(t, settings);
    const { inputs } = await run();
    for (const role of ["github-preview", "github-deploy"]) {
      assert.equal(JSON.parse(inputs.get(`Role ${role}`) ?? "").permissionsBoundary, expected, role);
    }
  });
}

test("a login that is not for pulumiApiUrl creates nothing", async (t) => {
  const { run } = await newPipeline(t);
  const restore = setVariables({ PULUMI_BACKEND_URL: "https://other.example.com" });
  const error = await failureOf(run).finally(restore);
  assert.match(String(error), /pulumiApiUrl = .*PULUMI_BACKEND_URL is https:\/\/other\.example\.com/);
});

test("the workflows' file says for each stack what is deployed, where, and as whom", async (t) => {
  const pulumiApiUrl = "https://pulumi.example.com";
  const stacks = [STACK, { ...STACK, stack: "acme/eks-pulumi-oidc/prod", region: "eusc-de-east-1" }];
  const { run, cloud } = await newPipeline(t, { pulumiApiUrl, stacks });
  cloud.clusters.set("eusc-de-east-1 my-cluster", "API");
  const { inputs, outputs } = await run();
  const common = {
    organization: "acme",
    pulumiApiUrl,
    previewTeam: "eks-pulumi-oidc-preview",
    previewRoleArn: arn("role/github-preview-1a2b3c4"),
    deployRoleArn: arn("role/github-deploy-1a2b3c4"),
  };
  assert.deepEqual(outputs.workflows, {
    repositoryId: "42",
    stacks: [
      { ...common, stack: "acme/eks-pulumi-oidc/dev", region: "us-west-2" },
      { ...common, stack: "acme/eks-pulumi-oidc/prod", region: "eusc-de-east-1" },
    ],
  });
  assert.match(inputs.get("pulumiservice pulumi-cloud") ?? "", /"apiUrl":"https:\/\/pulumi\.example\.com"/);
});

test("stacks that share a cluster share its access entries, and nothing else", async (t) => {
  const acme = { ...STACK, namespaces: ["a", "b"] };
  const globex = { ...STACK, stack: "globex/eks-pulumi-oidc/dev", namespaces: ["b", "c"] };
  const { run } = await newPipeline(t, { stacks: [acme, globex] });
  const { inputs, outputs } = await run();
  const scopes = [...inputs.values()].flatMap((it) => JSON.parse(it).accessScope?.namespaces.join() ?? []);
  assert.deepEqual(scopes, ["a,b,c", "a,b,c"]);
  assert.deepEqual(Object.keys(outputs.policies as object), ["acme", "globex"]);
  for (const organization of ["acme", "globex"]) {
    const audiences = inputs.get(`OidcIssuer ${organization}`)?.match(/urn:pulumi:org:\w+/g);
    assert.deepEqual(audiences, Array(3).fill(`urn:pulumi:org:${organization}`));
    assert.ok(inputs.has(`TeamStackPermission ${organization}/eks-pulumi-oidc/dev`));
  }
});

test("clusters of the same name in two regions have separate access entries, in the partition of the account", async (t) => {
  const [west, east] = ["us-gov-west-1", "us-gov-east-1"];
  const stacks = [west, east].map((region) => ({
    ...STACK,
    stack: `acme/a/${region}`,
    region,
    namespaces: [region],
  }));
  const { run } = await newPipeline(t, { stacks });
  const { inputs } = await run();
  for (const region of [west, east]) {
    assert.ok(inputs.get(`AccessEntry deploy.${region}.my-cluster`)?.includes(`"region":"${region}"`));
    const { accessScope, policyArn, ...association } = JSON.parse(
      inputs.get(`AccessPolicyAssociation deploy.${region}.my-cluster`) ?? "",
    );
    assert.deepEqual([association.region, accessScope.namespaces], [region, [region]]);
    assert.match(policyArn, /^arn:aws-us-gov:eks::aws:cluster-access-policy/);
    assert.ok(inputs.get("RolePolicy github-preview")?.includes(`arn:aws-us-gov:eks:${region}:`));
  }
  assert.match(inputs.get("RolePolicy github-deploy") ?? "", /arn:aws-us-gov:iam::\d+:role\/pulumi-oidc-/);
});

test("an invalid configuration is reported as a whole, without the value of an encrypted setting", async (t) => {
  const { run, cloud } = await newPipeline(t, {
    secretKeys: ["pipeline:permissionsBoundaryArn"],
    repository: "",
    permissionsBoundaryArn: "s3cret",
    subjectPrefix: "repo:acme/*",
    stacks: [
      { ...STACK, stack: "dev", namespace: "default", namespaces: [] },
      { ...STACK, region: "Frankfurt" },
      { ...STACK, clusterName: 511 },
    ],
    rolePolicyArns: ["AdministratorAccess"],
    githubIssuer: "maybe",
    permissionBoundaryArn: BOUNDARY,
    tagKeys: ["team*"],
    podIdentity: "yes",
    createOidcProvider: null,
  });
  const lines = String(await failureOf(run)).split("\n");
  const [title = "", empty, ...problems] = lines;
  assert.match(
    title,
    /Invalid configuration in Pulumi\.github\.yaml \(15 problems\)\. Nothing was changed\.$/,
  );
  assert.equal(empty, "");
  assert.deepEqual(problems.filter(Boolean).sort(), [
    '  githubIssuer = "maybe": must be create or existing',
    '  permissionBoundaryArn: unknown setting; did you mean "permissionsBoundaryArn"?',
    "  permissionsBoundaryArn: contains an encrypted value, which would be stored in plaintext in the stack's state",
    "  permissionsBoundaryArn: must be the ARN of an IAM policy",
    '  podIdentity = "yes": must be true or false',
    "  repository: required",
    '  rolePolicyArns[0] = "AdministratorAccess": must be the ARN of an IAM policy',
    '  stacks[0].namespace: unknown setting; did you mean "namespaces"?',
    "  stacks[0].namespaces: must not be empty",
    '  stacks[0].stack = "dev": must be ORGANIZATION/PROJECT/STACK',
    '  stacks[1].region = "Frankfurt": must be an AWS region, such as us-west-2',
    "  stacks[2].clusterName = 511: must be a string, but YAML reads it as a number; quote it, or set it with --type string",
    '  stacks[2].stack = "acme/eks-pulumi-oidc/dev": must not be listed twice',
    '  subjectPrefix = "repo:acme/*": must be the prefix that GitHub reports',
    '  tagKeys[0] = "team*": must be the key of a tag in AWS',
  ]);
  assert.deepEqual(cloud.existing(), []);
});

test("an empty value counts as not given, also in an entry of stacks", async (t) => {
  const stacks = [{ ...STACK, namespaces: null }];
  const { run } = await newPipeline(t, { stacks, rolePath: "", tagKeys: null });
  await run();
  const settings = readSettings();
  assert.deepEqual(
    [settings.stacks[0]?.namespaces, settings.rolePath, settings.tagKeys],
    [["default"], "/", []],
  );
});

test("editors find the schema from the stack's file, which it accepts; it rejects other names and types", () => {
  const text = read("pipeline/Pulumi.github.yaml");
  assert.match(text, /^# yaml-language-server: \$schema=stack\.schema\.json\n/);
  const ajv = new Ajv({ strictTypes: false, allowMatchingProperties: true });
  const isValid = ajv
    .addKeyword("patternErrorMessage")
    .compile(JSON.parse(read("pipeline/stack.schema.json")));
  assert.deepEqual(JSON.parse(read("pipeline/stack.schema.json")), JSON.parse(pipelineSchema()));
  const { config } = parse(text);
  assert.equal(isValid({ config }), true, ajv.errorsText(isValid.errors));
  const [stack] = config.stacks;
  for (const change of [
    { repositories: "a/b" },
    { githubIssuer: "exists" },
    { podIdentity: "yes" },
    { rolePath: { secure: "AAA" } },
    { stacks: [{ ...stack, regions: "a" }] },
    { stacks: [{ ...stack, region: undefined }] },
    { "eks-pulumi-oidc-pipeline:repositories": "a/b" },
  ]) {
    // As in a file: without a key that is undefined.
    const file = JSON.parse(JSON.stringify({ config: { ...config, ...change } }));
    assert.equal(isValid(file), false, JSON.stringify(change));
  }
});

test("Pulumi compiles the program as it compiles the stack's, in a directory of the project", () => {
  const [own, stack] = ["pipeline/Pulumi.yaml", "Pulumi.yaml"].map(
    (path) => parse(read(path)).runtime.options,
  );
  assert.equal(own.nodeargs, stack.nodeargs.replace("./", "../"));
  assert.ok(existsSync(join(ROOT, "pipeline", own.tsconfig)));
});

test("everything that is missing is reported at once, and nothing is created", async (t) => {
  const check = "echo 'The workflows can approve' >&2; exit 1";
  const { run, cloud } = await newPipeline(t, { check, clusterName: "no", githubOidcProvider: "existing" });
  const message = String(await failureOf(run));
  assert.deepEqual(cloud.existing(), []);
  const named = /repository acme\/eks-pulumi-oidc with gh:\nThe workflows can approve\n/;
  for (const part of [named, /EKS Cluster \(no\)/, /IAM OIDC Provider/]) assert.match(message, part);
});

test("a cluster without access entries stops the program before anything is created", async (t) => {
  const { run, cloud } = await newPipeline(t, { clusterName: "old-cluster" });
  assert.match(String(await failureOf(run)), /aws eks update-cluster-config --region us-west-2/);
  assert.deepEqual(cloud.existing(), []);
});

test("github.sh checks the configured repository, prefix, and reviewers", async (t) => {
  const { run, checked } = await newPipeline(t, { reviewers: ["octocat", "acme/platform"] });
  await run();
  const args = [join(ROOT, "pipeline", "github.sh"), "check", SETTINGS.repository, SUBJECT_PREFIX];
  assert.equal(await checked(), [...args, "octocat", "acme/platform", ""].join("\n"));
});

/** Starts a pipeline, with changes to its settings or its cluster, and to what replaces `github.sh check`. */
async function newPipeline(
  t: TestContext,
  { clusterName = "my-cluster", check = "echo 42", secretKeys, ...changes }: Record<string, unknown> = {},
) {
  const cloud = await startPipelineCloud(t);
  cloud.clusters.set("us-west-2 old-cluster", "CONFIG_MAP");
  for (const region of ["us-gov-west-1", "us-gov-east-1"]) cloud.clusters.set(`${region} my-cluster`, "API");
  const tls: typeof import("node:tls") = require("node:tls");
  const { connect } = tls;
  t.mock.method(tls, "connect", (options: object) =>
    connect({ ...options, host: "127.0.0.1", port: cloud.port }),
  );

  const bin = temporaryDirectory(t);
  t.after(setVariables({ PATH: `${bin}${delimiter}${process.env.PATH}` }));
  // github.engine.test.ts runs the real one.
  const checked = join(bin, "checked");
  await writeFile(join(bin, "bash"), `#!/bin/sh\nprintf '%s\\n' "$@" >'${checked}'\n${check}\n`, {
    mode: 0o755,
  });

  const stacks = [{ ...STACK, clusterName }];
  const config = configOf("pipeline", { ...SETTINGS, stacks, ...changes });
  const stack = {
    project: "pipeline",
    stack: "github",
    organization: "acme",
    secretKeys: secretKeys as string[],
  };
  return {
    cloud,
    /** Returns the arguments of `bash`. */
    checked: () => readFile(checked, "utf8"),
    /** Runs the program, and returns what each resource was registered with, as JSON, by `Type name`. */
    async run() {
      const { registered, outputs } = await runProgram(cloud, { ...stack, config, program });
      const inputs = new Map<string, string>();
      for (const it of registered)
        inputs.set(`${it.type.split(":").pop()} ${it.name}`, JSON.stringify(it.inputs));
      return { inputs, outputs };
    },
  };
}
