// The pipeline's identities: who gets them, and what they can do, by an evaluation of the generated policies.

import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { type TestContext, test } from "node:test";
import type { PolicyDocument } from "@pulumi/aws/iam";
import type { JWTPayload } from "jose";
import { rolePolicies, trustPolicy } from "../pipeline/aws";
import { subjects } from "../pipeline/github";
import { type AuthPolicy, decide } from "../simulator/authPolicy";
import { openCertificateAuthority } from "../simulator/certificates";
import { type Program, runProgram } from "../simulator/mocks";
import { ACCOUNT, type PipelineCloud, REPOSITORY, SUBJECT_PREFIX, startPipelineCloud } from "./pipelineCloud";

const program: Program = require("../pipeline");

const arn = (resource: string) => `arn:aws:iam::${ACCOUNT}:${resource}`;
const CLUSTER = `arn:aws:eks:us-west-2:${ACCOUNT}:cluster/my-cluster`;
const CLUSTER_PROVIDER = arn("oidc-provider/oidc.eks.us-west-2.amazonaws.com/id/A");
const NAMED = arn("policy/ci-cache");
const ADMINISTRATOR = "arn:aws:iam::aws:policy/AdministratorAccess";
const BOUNDARY = arn("policy/boundary");
const STACK_ROLE = arn("role/pulumi-oidc-default-runner-1a2b3c4");
const DEPLOY_ROLE = arn("role/github-deploy-1a2b3c4");

const ACCOUNT_STATE = {
  accountId: ACCOUNT,
  partition: "aws",
  oidcProviderArn: undefined,
  clusters: [
    {
      clusterName: "my-cluster",
      region: "us-west-2",
      namespaces: ["default"],
      arn: CLUSTER,
      issuer: "oidc.eks.us-west-2.amazonaws.com/id/A",
    },
  ],
};
const MINIMUM = {
  rolePath: "/",
  rolePolicyArns: [],
  permissionsBoundaryArn: undefined,
  createOidcProvider: false,
};
const EVERYTHING = {
  ...MINIMUM,
  rolePolicyArns: [NAMED],
  permissionsBoundaryArn: BOUNDARY,
  createOidcProvider: true,
};

// What a stack does with a role, in the words of terraform-provider-aws, internal/service/iam/role.go.
const ROLE_CALLS = [
  "iam:CreateRole",
  "iam:GetRole",
  "iam:ListRolePolicies",
  "iam:GetRolePolicy",
  "iam:ListAttachedRolePolicies",
  "iam:UpdateRole",
  "iam:UpdateRoleDescription",
  "iam:UpdateAssumeRolePolicy",
  "iam:TagRole",
  "iam:UntagRole",
  "iam:ListInstanceProfilesForRole",
  "iam:DeleteRole",
];

test("the preview role only reads", () => {
  const { preview } = rolePolicies(EVERYTHING, ACCOUNT_STATE);
  for (const action of actionsOf(preview)) assert.match(action, /^\w+:(Describe|Get|List)[A-Z]\w+$/);
  assert.ok(allows(preview, "eks:DescribeCluster", CLUSTER));
  assert.ok(!allows(preview, "eks:DescribeCluster", CLUSTER.replace("my-", "other-")));
});

test("the deploy role makes the calls of the stacks, and without further settings no others", () => {
  const { deploy } = rolePolicies(MINIMUM, ACCOUNT_STATE);
  for (const action of ROLE_CALLS) assert.ok(allows(deploy, action, STACK_ROLE), action);
  assert.ok(allows(deploy, "iam:ListOpenIDConnectProviders", "*"));
  assert.ok(allows(deploy, "iam:GetOpenIDConnectProvider", CLUSTER_PROVIDER));
  const reads = ["eks:DescribeCluster", "iam:ListOpenIDConnectProviders", "iam:GetOpenIDConnectProvider"];
  assert.deepEqual(actionsOf(deploy), [...ROLE_CALLS, ...reads].sort());
});

test("policies, a boundary and IAM OIDC providers are reached only where they are configured", () => {
  const { deploy } = rolePolicies(EVERYTHING, ACCOUNT_STATE);
  const bounded = { "iam:PermissionsBoundary": BOUNDARY };
  for (const action of ["iam:CreateRole", "iam:PutRolePermissionsBoundary"]) {
    assert.ok(allows(deploy, action, STACK_ROLE, bounded));
    assert.ok(!allows(deploy, action, STACK_ROLE), `${action} without a boundary`);
    assert.ok(!allows(deploy, action, STACK_ROLE, { "iam:PermissionsBoundary": ADMINISTRATOR }), action);
  }
  for (const action of ["iam:AttachRolePolicy", "iam:DetachRolePolicy"]) {
    assert.ok(allows(deploy, action, STACK_ROLE, { "iam:PolicyARN": NAMED }));
    assert.ok(!allows(deploy, action, STACK_ROLE, { "iam:PolicyARN": ADMINISTRATOR }));
    assert.ok(!allows(deploy, action, STACK_ROLE, { "iam:PolicyARN": `${NAMED}-2` }));
  }
  assert.ok(allows(deploy, "iam:CreateOpenIDConnectProvider", CLUSTER_PROVIDER));
  const foreign = arn("oidc-provider/oidc.example.com");
  assert.ok(!allows(deploy, "iam:CreateOpenIDConnectProvider", foreign));
});

for (const [name, settings] of [
  ["the least", MINIMUM],
  ["everything", EVERYTHING],
  ["a role path", { ...EVERYTHING, rolePath: "/ci/" }],
] as const) {
  test(`with ${name} configured, no call widens the deployer's rights beyond the named policies`, () => {
    const { deploy } = rolePolicies(settings, ACCOUNT_STATE);
    // An action has no wildcard, so that the document's own list is all that can be called.
    for (const action of actionsOf(deploy)) assert.doesNotMatch(action, /[*?]/);
    for (const { Effect, ...rest } of statementsOf(deploy)) {
      assert.equal(Effect, "Allow");
      assert.ok(Object.keys(rest).every((key) => ["Action", "Resource", "Condition"].includes(key)));
    }
    const others = [DEPLOY_ROLE, "role/admin", "role/x-pulumi-oidc-", "user/me", "group/all", "policy/ci-cache"]
      .map((resource) => (resource.startsWith("arn:") ? resource : arn(resource)))
      .concat(arn("instance-profile/node"), arn("oidc-provider/token.actions.githubusercontent.com"), `${CLUSTER}/x`);
    const own = STACK_ROLE.replace("role/", `role${settings.rolePath}`);
    const contexts = [NAMED, ADMINISTRATOR, BOUNDARY].flatMap((policy) =>
      [BOUNDARY, ADMINISTRATOR, undefined].map((boundary) => ({
        "iam:PolicyARN": policy,
        ...(boundary && { "iam:PermissionsBoundary": boundary }),
      })),
    );
    const changes = actionsOf(deploy).filter((action) => !/:(Describe|Get|List)/.test(action));
    for (const action of changes) {
      for (const context of contexts) {
        for (const resource of others) assert.ok(!allows(deploy, action, resource, context), `${action} ${resource}`);
        // What a stack's role can be given is a named policy, and nothing else adds a right to a role.
        const attaches = action === "iam:AttachRolePolicy" && allows(deploy, action, own, context);
        if (attaches) assert.equal(context["iam:PolicyARN"], NAMED);
      }
    }
    for (const action of GRANTING_CALLS) assert.ok(!actionsOf(deploy).includes(action), action);
  });
}

// The calls by which rights are known to be widened in AWS, apart from attaching a policy to a stack's role.
const GRANTING_CALLS = [
  "iam:PutRolePolicy",
  "iam:DeleteRolePolicy",
  "iam:DeleteRolePermissionsBoundary",
  "iam:CreatePolicy",
  "iam:CreatePolicyVersion",
  "iam:SetDefaultPolicyVersion",
  "iam:AttachUserPolicy",
  "iam:AttachGroupPolicy",
  "iam:PutUserPolicy",
  "iam:PutGroupPolicy",
  "iam:AddUserToGroup",
  "iam:CreateUser",
  "iam:CreateAccessKey",
  "iam:CreateLoginProfile",
  "iam:UpdateLoginProfile",
  "iam:AddRoleToInstanceProfile",
  "iam:CreateServiceLinkedRole",
  "iam:PassRole",
  "iam:AddClientIDToOpenIDConnectProvider",
  "iam:UpdateOpenIDConnectProviderThumbprint",
  "sts:AssumeRole",
  "eks:CreateAccessEntry",
  "eks:AssociateAccessPolicy",
];

const ISSUER = "https://token.actions.githubusercontent.com";
const PROVIDER = arn("oidc-provider/token.actions.githubusercontent.com");

for (const [identity, subject, allowed] of [
  ["preview", `${SUBJECT_PREFIX}:pull_request`, true],
  ["preview", `${SUBJECT_PREFIX}:ref:refs/heads/main`, true],
  ["preview", `${SUBJECT_PREFIX}:ref:refs/heads/feature`, false],
  ["preview", `${SUBJECT_PREFIX}:environment:production`, false],
  ["deploy", `${SUBJECT_PREFIX}:environment:production`, true],
  ["deploy", `${SUBJECT_PREFIX}:environment:production-2`, false],
  ["deploy", `${SUBJECT_PREFIX}:pull_request`, false],
  ["deploy", `${SUBJECT_PREFIX}:ref:refs/heads/main`, false],
  ["deploy", "repo:acme@11/other@43:environment:production", false],
] as const) {
  test(`the ${identity} role ${allowed ? "trusts" : "does not trust"} ${subject}`, () => {
    const policy = trustPolicy(PROVIDER, ISSUER, subjects(SUBJECT_PREFIX)[identity]);
    const claims = (aud: string) => ({
      "token.actions.githubusercontent.com:sub": subject,
      "token.actions.githubusercontent.com:aud": aud,
    });
    const call = "sts:AssumeRoleWithWebIdentity";
    assert.equal(allows(policy, call, undefined, claims("sts.amazonaws.com")), allowed);
    assert.equal(allows(policy, call, undefined, claims("https://github.com/acme")), false);
  });
}

test("a fresh account gets the provider, both roles, access to the clusters, a team and the issuer", async (t) => {
  const { run, cloud } = await newPipeline(t);
  const { registered } = await run();
  const names = registered
    .filter(({ type }) => !type.startsWith("pulumi:"))
    .map(({ type, name }) => `${type.split(":").pop()} ${name}`);
  assert.deepEqual(names.sort(), [
    "AccessEntry deploy.us-west-2.my-cluster",
    "AccessEntry preview.us-west-2.my-cluster",
    "AccessPolicyAssociation deploy.us-west-2.my-cluster",
    "AccessPolicyAssociation preview.us-west-2.my-cluster",
    "OidcIssuer acme",
    "OpenIdConnectProvider github",
    "OrganizationRole acme",
    "Role github-deploy",
    "Role github-preview",
    "RolePolicy github-deploy",
    "RolePolicy github-preview",
    "Team acme",
    "TeamRoleAssignment acme",
    "TeamStackPermission acme/eks-pulumi-oidc/dev",
  ]);
  const inputsOf = (type: string, name: string) =>
    JSON.stringify(registered.find((it) => it.type.endsWith(`:${type}`) && it.name === name)?.inputs);
  for (const [name, subject, write] of [
    ["preview", "pull_request", false],
    ["deploy", "environment:production", true],
  ] as const) {
    assert.match(inputsOf("Role", `github-${name}`), new RegExp(`:sub.*:${subject}"`));
    assert.equal(inputsOf("RolePolicy", `github-${name}`).includes("iam:CreateRole"), write);
    const association = inputsOf("AccessPolicyAssociation", `${name}.us-west-2.my-cluster`);
    assert.match(association, write ? /AmazonEKSEditPolicy/ : /AmazonEKSViewPolicy/);
  }
  assert.doesNotMatch(inputsOf("Role", "github-deploy"), /pull_request|refs\/heads/);
  // TeamStackPermissionScope.Read
  assert.match(inputsOf("TeamStackPermission", "acme/eks-pulumi-oidc/dev"), /"permission":101,/);
  const [issuer] = cloud.issuers.values();
  assert.equal((issuer as unknown as { maxExpirationSeconds: number }).maxExpirationSeconds, 3600);
  // No role of the pipeline may be one that the deployer can change.
  for (const { inputs } of registered.filter(({ type }) => type.endsWith(":Role"))) {
    assert.doesNotMatch(String(inputs.namePrefix ?? inputs.name ?? ""), /^pulumi-oidc-/);
  }
});

test("Pulumi Cloud grants each workflow its token, and no other repository, event or audience", async (t) => {
  const { run } = await newPipeline(t);
  const { outputs } = await run();
  const { acme: policies = [] } = outputs.policies as Record<string, AuthPolicy[]>;
  const team = { tokenType: "team", scope: "team:eks-pulumi-oidc-preview" };
  const admin = { tokenType: "organization", scope: "admin" };
  const claims = { aud: "urn:pulumi:org:acme", repository_id: "42" };
  const token = (event: string) => ({ ...claims, sub: `${SUBJECT_PREFIX}:${event}` });
  const allowed = (...[from, asked]: [JWTPayload, { tokenType: string; scope: string }]) =>
    decide(policies, from, asked).allowed;

  assert.ok(allowed(token("pull_request"), team));
  assert.ok(allowed(token("ref:refs/heads/main"), team));
  assert.ok(allowed(token("environment:production"), admin));
  for (const event of ["pull_request", "ref:refs/heads/main", "environment:staging", "ref:refs/heads/feature"]) {
    assert.ok(!allowed(token(event), admin), event);
    assert.ok(!allowed(token(event), { tokenType: "organization", scope: "" }), event);
  }
  assert.ok(!allowed(token("ref:refs/heads/feature"), team));
  assert.ok(!allowed(token("pull_request"), { tokenType: "team", scope: "team:admins" }));
  assert.ok(!allowed({ ...token("environment:production"), repository_id: "43" }, admin));
  assert.ok(!allowed({ ...token("environment:production"), aud: "urn:pulumi:org:globex" }, admin));
});

test("stacks of two organizations that share a cluster share its access entries, and nothing else", async (t) => {
  const { run } = await newPipeline(t, {
    stacks: [
      {
        stack: "acme/eks-pulumi-oidc/dev",
        clusterName: "my-cluster",
        region: "us-west-2",
        namespaces: ["a", "b"],
      },
      {
        stack: "globex/eks-pulumi-oidc/dev",
        clusterName: "my-cluster",
        region: "us-west-2",
        namespaces: ["b", "c"],
      },
    ],
  });
  const { registered, outputs } = await run();
  const scopes = registered.flatMap(({ inputs }) => inputs.accessScope ?? []);
  assert.deepEqual(scopes, Array(2).fill({ type: "namespace", namespaces: ["a", "b", "c"] }));
  assert.deepEqual(Object.keys(outputs.policies as object), ["acme", "globex"]);
  assert.equal(registered.filter(({ type }) => type.endsWith(":TeamStackPermission")).length, 2);
  assert.equal(registered.filter(({ type }) => type.endsWith(":OidcIssuer")).length, 2);
});

test("a user's token replaces the team where an edition has none", async (t) => {
  const { run } = await newPipeline(t, { previewUserLogin: "octocat" });
  const { registered, outputs } = await run();
  assert.ok(!registered.some(({ type }) => type.includes("Team")));
  const { acme: policies = [] } = outputs.policies as Record<string, AuthPolicy[]>;
  assert.deepEqual(
    policies.slice(0, 2).map(({ tokenType, userLogin }) => `${tokenType} ${userLogin}`),
    ["personal octocat", "personal octocat"],
  );
});

test("an invalid configuration is reported as a whole, and nothing is registered", async (t) => {
  const { run, cloud } = await newPipeline(t, {
    repository: "",
    subjectPrefix: "repo:acme/*",
    stacks: [{ stack: "dev", clusterName: "my-cluster", region: "us-west-2", namespace: "default" }],
    githubIssuer: "maybe",
    githubIsuer: "create",
  });
  const message = await failureOf(run);
  assert.match(message, /repository: required\n +pulumi config set repository VALUE/);
  assert.match(message, /subjectPrefix = "repo:acme\/\*": must be the prefix that GitHub reports/);
  assert.match(message, /stacks\[0\]\.stack = "dev": must be ORGANIZATION\/PROJECT\/STACK/);
  assert.match(message, /pulumi config set --path 'stacks\[0\]\.stack' VALUE/);
  assert.match(message, /stacks\[0\]\.namespace: unknown setting/);
  assert.match(message, /githubIssuer = "maybe": must be "create" or "existing"/);
  assert.match(message, /githubIsuer = "create": unknown setting; did you mean "githubIssuer"\?/);
  assert.deepEqual(cloud.existing(), []);
});

for (const [problem, answers, message] of [
  ["allows every branch", { environments: "" }, /must allow the branch main only, but has no list of branches/],
  ["allows another branch", { policies: "branch main, branch release/*" }, /but allows branch main, branch release/],
  ["allows a tag of that name", { policies: "tag main" }, /but allows tag main/],
  ["has a customized subject", { sub: "" }, /customizes the subject of its ID tokens/],
  ["reports another prefix", { sub: "repo:acme/new" }, /pulumi config set subjectPrefix 'repo:acme\/new'/],
] satisfies [string, Partial<Record<keyof typeof ANSWERS, string>>, RegExp][]) {
  test(`a repository that ${problem} stops the program before anything trusts it`, async (t) => {
    const { run, cloud } = await newPipeline(t, {}, answers);
    assert.match(await failureOf(run), message);
    assert.deepEqual(cloud.existing(), []);
  });
}

/** What `gh api --jq` prints for a repository that is set up; the last element of the path is the key. */
const ANSWERS = {
  "eks-pulumi-oidc": "42",
  sub: SUBJECT_PREFIX,
  environments: "true",
  policies: "branch main",
};

async function newPipeline(
  t: TestContext,
  config: Record<string, unknown> = {},
  answers: Partial<typeof ANSWERS> = {},
): Promise<{ cloud: PipelineCloud; run(): ReturnType<typeof runProgram> }> {
  const cloud = await startPipelineCloud(await openCertificateAuthority(process.env.SIMULATOR_DIRECTORY));
  t.after(cloud.close);
  cloud.clusters.set("us-west-2 my-cluster", {
    authenticationMode: "API",
    issuer: "https://oidc.example.com/id/A",
  });
  const bin = await mkdtemp(join(tmpdir(), "gh-"));
  t.after(() => rm(bin, { recursive: true }));
  const cases = Object.entries({ ...ANSWERS, ...answers }).map(
    ([path, answer]) => `*${path}|*${path}\\?*) echo "${answer}" ;;`,
  );
  await writeFile(join(bin, "gh"), `#!/usr/bin/env bash\ncase $2 in\n${cases.join("\n")}\nesac\n`, {
    mode: 0o755,
  });
  const { PATH } = process.env;
  process.env.PATH = `${bin}${delimiter}${PATH}`;
  t.after(() => {
    process.env.PATH = PATH;
  });
  const settings = {
    repository: REPOSITORY,
    subjectPrefix: SUBJECT_PREFIX,
    githubIssuerUrl: cloud.url,
    stacks: [{ stack: "acme/eks-pulumi-oidc/dev", clusterName: "my-cluster", region: "us-west-2" }],
    ...config,
  };
  const entries = Object.entries(settings).map(([key, value]) => [
    `pipeline:${key}`,
    typeof value === "string" ? value : JSON.stringify(value),
  ]);
  return {
    cloud,
    run: () =>
      runProgram(cloud, {
        project: "pipeline",
        stack: "github",
        organization: "acme",
        config: Object.fromEntries(entries),
        program,
      }),
  };
}

/** Runs the program to its failure, which the SDK repeats in rejections that no one handles. */
async function failureOf(run: () => Promise<unknown>): Promise<string> {
  const listeners = process.rawListeners("unhandledRejection");
  process.removeAllListeners("unhandledRejection").on("unhandledRejection", () => {});
  const failure = await run().catch((error: Error) => error);
  await new Promise(setImmediate);
  process.removeAllListeners("unhandledRejection");
  for (const listener of listeners) process.on("unhandledRejection", (...args) => listener(...args));
  assert.ok(failure instanceof Error, "the program did not fail");
  return failure.message;
}

interface Statement {
  Effect: string;
  Action: string | string[];
  Resource?: string | string[];
  Condition?: Record<string, Record<string, string | string[]>>;
}

function statementsOf(policy: PolicyDocument): Statement[] {
  return JSON.parse(JSON.stringify(policy)).Statement;
}

function actionsOf(policy: PolicyDocument): string[] {
  return statementsOf(policy)
    .flatMap(({ Action }) => Action)
    .sort();
}

/** Evaluates a policy as IAM does, for the operators that are in it; a missing condition key matches nothing. */
function allows(
  policy: PolicyDocument,
  action: string,
  resource?: string,
  context: Record<string, string> = {},
): boolean {
  const matches = (pattern: string, value: string) =>
    new RegExp(
      `^${pattern
        .replace(/[.+^${}()|[\]\\]/g, "\\$&")
        .replaceAll("*", ".*")
        .replaceAll("?", ".")}$`,
    ).test(value);
  return statementsOf(policy).some(({ Action, Resource = [], Condition = {} }) => {
    if (![Action].flat().some((pattern) => matches(pattern, action))) return false;
    if (resource !== undefined && ![Resource].flat().some((pattern) => matches(pattern, resource))) return false;
    return Object.entries(Condition).every(([operator, keys]) => {
      assert.ok(["StringEquals", "ArnEquals"].includes(operator), `no evaluation of ${operator}`);
      return Object.entries(keys).every(([key, expected]) => {
        const value = context[key];
        const same = (pattern: string) =>
          value !== undefined && (operator === "ArnEquals" ? matches(pattern, value) : pattern === value);
        return [expected].flat().some(same);
      });
    });
  });
}
