// The pipeline's program: which ID tokens its identity trusts, what it can do, and what stops it before it creates anything.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { teamName } from "../../pipeline/pulumiCloud";
import type { AuthPolicy } from "../../simulator/pulumiCloud";
import { type Program, runProgram } from "../environment/runProgram";
import { succeeded } from "../environment/stack";
import { failureOf } from "../support/failure";
import { read } from "../support/project";
import { configOf } from "../support/rawSettings";
import { setVariables } from "../support/variables";
import { ACCOUNT, GITHUB_PROVIDER, SETTINGS, STACK, SUBJECT_PREFIX, startPipelineCloud } from "./cloud";

const program: Program = require("../../pipeline");

const ISSUER = "token.actions.githubusercontent.com";
const TEAM = "eks-pulumi-oidc-preview";
const arn = (resource: string) => `arn:aws:iam::${ACCOUNT}:${resource}`;
const ROLE_ARN = arn("role/github-preview-1a2b3c4");

test("AWS and Pulumi Cloud trust ID tokens for previews and main, and no other repository, event, or audience", async (t) => {
  const { inputs, outputs } = await newPipeline(t, { githubIssuer: "create" }).run();
  const subjects = [`${SUBJECT_PREFIX}:pull_request`, `${SUBJECT_PREFIX}:ref:refs/heads/main`];
  assert.deepEqual(inputs("OpenIdConnectProvider github").clientIdLists, ["sts.amazonaws.com"]);
  assert.deepEqual(inputs("Role github-preview").assumeRolePolicy.Statement, [
    {
      Effect: "Allow",
      Principal: { Federated: GITHUB_PROVIDER },
      Action: "sts:AssumeRoleWithWebIdentity",
      Condition: {
        StringEquals: { [`${ISSUER}:sub`]: subjects, [`${ISSUER}:aud`]: "sts.amazonaws.com" },
        // AWS STS knows the claim in some of its partitions only.
        StringEqualsIfExists: { [`${ISSUER}:repository_id`]: "42" },
      },
    },
  ]);

  const acme = subjects.map((sub) => {
    const rules = { aud: "urn:pulumi:org:acme", repository_id: "42", sub };
    return { decision: "allow", tokenType: "team", teamName: TEAM, rules };
  });
  assert.deepEqual(inputs("OidcIssuer acme").policies, acme);
  assert.deepEqual(outputs.policies, {});

  const { all, outputs: ofExisting } = await newPipeline(t, { githubIssuer: "existing" }).run();
  assert.deepEqual(all("OidcIssuer"), []);
  assert.deepEqual(ofExisting.policies, { acme });
});

test("the role can read what belongs to the stacks, and nothing else", async (t) => {
  const { all, inputs } = await newPipeline(t, { rolePath: "/ci/" }).run();
  const cluster = `us-west-2:${ACCOUNT}:cluster/my-cluster`;
  const roles = ["iam:GetRole", "iam:ListRolePolicies", "iam:GetRolePolicy", "iam:ListAttachedRolePolicies"];
  const [{ policy = assert.fail() } = {}, ...others] = all("RolePolicy");
  assert.deepEqual(policy.Statement, [
    allow(["eks:DescribeCluster"], [`arn:aws:eks:${cluster}`]),
    allow(
      ["eks:DescribePodIdentityAssociation"],
      [`arn:aws:eks:us-west-2:${ACCOUNT}:podidentityassociation/my-cluster/*`],
    ),
    allow(["iam:ListOpenIDConnectProviders"], "*"),
    allow(["iam:GetOpenIDConnectProvider"], [arn("oidc-provider/oidc.example.com/id/us-west-2.my-cluster")]),
    allow(roles, arn("role/ci/pulumi-oidc-*")),
  ]);
  assert.deepEqual([others, all("Role").length, all("RolePolicyAttachment")], [[], 1, []]);
  assert.equal(inputs("RolePolicy github-preview").role, "github-preview");
});

function allow(Action: string[], Resource: string | string[]) {
  return { Effect: "Allow", Action, Resource };
}

test("the role can view the namespaces, and the team can read the stacks and the issuers", async (t) => {
  assert.equal(teamName("acme/a.b"), "a-b-preview", "a dot is a wildcard in an allow policy");
  assert.equal(teamName(`acme/${"a".repeat(100)}`), `${"a".repeat(92)}-preview`, "at most 100 characters");
  // An empty value counts as not given.
  const { all, inputs } = await newPipeline(t, {
    stacks: [{ ...STACK, namespaces: null }],
    rolePath: "",
  }).run();
  const entry = { clusterName: "my-cluster", region: "us-west-2", principalArn: ROLE_ARN };
  // clusterRole.cluster.test.ts tests what the group can read.
  assert.deepEqual(all("AccessEntry"), [{ ...entry, kubernetesGroups: ["eks-pulumi-oidc-preview"] }]);
  const policyArn = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy";
  const accessScope = { type: "namespace", namespaces: ["default"] };
  assert.deepEqual(all("AccessPolicyAssociation"), [{ ...entry, policyArn, accessScope }]);
  const stack = { project: "eks-pulumi-oidc", stack: "dev", permission: 101 };
  assert.deepEqual(all("TeamStackPermission"), [{ organization: "acme", team: TEAM, ...stack }]);
  assert.equal(inputs("TeamRoleAssignment acme").teamName, TEAM);
  const { permissions } = inputs("OrganizationRole acme").permissions;
  assert.deepEqual(permissions, ["auth_policies:read", "oidc_issuers:read"]);
});

test("the workflows' file says for each stack what is previewed, where, and as whom, as the workflows request it", async (t) => {
  const pulumiApiUrl = "https://pulumi.example.com";
  const prod = { ...STACK, stack: "acme/eks-pulumi-oidc/prod", region: "us-gov-east-1" };
  const { inputs, outputs } = await newPipeline(t, { pulumiApiUrl, stacks: [STACK, prod] }).run();
  const common = {
    organization: "acme",
    directory: ".",
    namespaces: ["default"],
    pulumiApiUrl,
    previewTeam: TEAM,
    previewRoleArn: ROLE_ARN,
  };
  const stacks = [STACK, prod].map(({ stack, region }) => ({ ...common, stack, region }));
  assert.deepEqual(outputs.workflows, { repositoryId: "42", stacks });
  const { policies, maxExpirationSeconds } = inputs("OidcIssuer acme");
  for (const name of ["drift", "preview"]) {
    const workflow = read(`.github/workflows/${name}.yml`);
    const names = new Set(workflow.match(/(?<=\bmatrix\.)\w+/g));
    // The file itself has the policy pack; the namespaces are for its readers.
    const { namespaces: _, ...used } = { ...stacks[0], policyPack: {} };
    assert.deepEqual([...names].sort(), Object.keys(used).sort(), name);
    const tokenType = `requested-token-type: urn:pulumi:token-type:access_token:${policies[0].tokenType}\n`;
    assert.ok(workflow.includes(tokenType), name);
    assert.ok(workflow.includes(`token-expiration: ${maxExpirationSeconds}\n`), name);
  }
  assert.equal(inputs("pulumiservice pulumi-cloud").apiUrl, pulumiApiUrl);
});

test("stacks that share a cluster share its access entries, and nothing else", async (t) => {
  const acme = { ...STACK, namespaces: ["a", "b"] };
  const globex = { ...STACK, stack: "globex.com/eks-pulumi-oidc/dev", namespaces: ["b", "c"] };
  const { all } = await newPipeline(t, { stacks: [acme, globex] }).run();
  const namespaces = all("AccessPolicyAssociation").map(({ accessScope }) => accessScope.namespaces.join());
  assert.deepEqual(namespaces, ["a,b,c"]);
  const permissions = all("TeamStackPermission").map(({ organization, team }) => `${organization} ${team}`);
  assert.deepEqual(permissions, [`acme ${TEAM}`, `globex.com ${TEAM}`]);
  for (const { organization, policies } of all("OidcIssuer")) {
    const audiences = policies.map(({ rules }: AuthPolicy) => rules.aud);
    assert.deepEqual(audiences, Array(2).fill(`urn:pulumi:org:${organization}`));
  }
});

test("of several AWS accounts, one pipeline stack creates the team for all stacks, and each the role for its own", async (t) => {
  const elsewhere = { stack: "acme/eks-pulumi-oidc/elsewhere", directory: "prod" };
  const first = await newPipeline(t, { stacks: [STACK, elsewhere], environments: ["acme/app/prod"] }).run();
  assert.deepEqual(
    first.all("TeamStackPermission").map(({ stack }) => stack),
    ["dev", "elsewhere"],
  );
  assert.deepEqual(first.all("TeamEnvironmentPermission"), [
    { organization: "acme", project: "app", environment: "prod", team: TEAM, permission: "open" },
  ]);
  assert.deepEqual(stacksOf(first.outputs), [STACK.stack]);

  const other = { ...elsewhere, clusterName: "my-cluster", region: "us-west-2" };
  const second = await newPipeline(t, { stacks: [other], pulumiCloud: false }).run();
  assert.deepEqual(second.pulumiCloud, []);
  assert.deepEqual(second.all("Role").length, 1);
  assert.deepEqual(stacksOf(second.outputs), [elsewhere.stack]);
});

test("a pipeline stack without clusters needs no IAM OIDC provider", async (t) => {
  const stacks = [{ stack: "acme/eks-pulumi-oidc/elsewhere" }];
  for (const githubOidcProvider of ["create", "existing"]) {
    const pipeline = newPipeline(t, { stacks, githubOidcProvider });
    pipeline.cloud.stored.clear();
    const { all, pulumiCloud } = await pipeline.run();
    assert.deepEqual([all("OpenIdConnectProvider"), all("Role")], [[], []]);
    assert.ok(pulumiCloud.includes("pulumiservice:index:OidcIssuer"));
  }
});

function stacksOf(outputs: Record<string, unknown>): string[] {
  const { stacks } = outputs.workflows as { stacks: { stack: string }[] };
  return stacks.map(({ stack }) => stack);
}

test("clusters of the same name in two regions have separate access entries, in the partition of the account", async (t) => {
  const regions = ["us-gov-west-1", "us-gov-east-1"];
  const stacks = regions.map((region) => {
    return { ...STACK, stack: `acme/a/${region}`, region, namespaces: [region] };
  });
  const { inputs } = await newPipeline(t, { stacks }).run();
  const readable = JSON.stringify(inputs("RolePolicy github-preview"));
  for (const region of regions) {
    assert.equal(inputs(`AccessEntry preview.${region}.my-cluster`).region, region);
    const access = inputs(`AccessPolicyAssociation preview.${region}.my-cluster`);
    assert.deepEqual([access.region, access.accessScope.namespaces], [region, [region]]);
    assert.match(access.policyArn, /^arn:aws-us-gov:eks::aws:cluster-access-policy/);
    assert.ok(readable.includes(`arn:aws-us-gov:eks:${region}:`));
  }
  assert.match(readable, /arn:aws-us-gov:iam::\d+:role\/pulumi-oidc-/);
});

test("an invalid configuration is reported as a whole, without the value of an encrypted setting", async (t) => {
  const invalid = {
    repository: "",
    repositoryId: "acme",
    subjectPrefix: "repo:acme/*",
    stacks: [
      { ...STACK, stack: "dev", namespace: "default", namespaces: [] },
      { ...STACK, region: "Frankfurt" },
      STACK,
      { stack: "acme/a/b", clusterName: "a" },
    ],
    environments: ["acme/app"],
    githubIssuer: "maybe",
    rolePath: "s3cret",
    stack: STACK,
  };
  const message = await newPipeline(t, invalid, ["rolePath"]).failure();
  const [title = "", ...problems] = message.split("\n").filter(Boolean);
  assert.match(title, /Invalid configuration of stack github \(14 problems\)\. Nothing was changed\./);
  assert.deepEqual(problems.sort(), [
    '  environments[0] = "acme/app": must be ORGANIZATION/PROJECT/ENVIRONMENT',
    '  githubIssuer = "maybe": must be create or existing',
    "  repository: required",
    '  repositoryId = "acme": must be the number that GitHub reports',
    "  rolePath: contains an encrypted value, which would be stored in plaintext in the stack's state: set it without --secret",
    '  rolePath: must be "/", or begin and end with "/", such as "/pulumi/"',
    '  stack: unknown setting; did you mean "stacks"?',
    '  stacks[0].namespace: unknown setting; did you mean "namespaces"?',
    "  stacks[0].namespaces: must not be empty",
    '  stacks[0].stack = "dev": must be ORGANIZATION/PROJECT/STACK',
    '  stacks[1].region = "Frankfurt": must be an AWS region, such as us-west-2',
    '  stacks[2].stack = "acme/eks-pulumi-oidc/dev": must not be listed twice',
    "  stacks[3].region: required with clusterName",
    '  subjectPrefix = "repo:acme/*": must be the prefix that GitHub reports',
  ]);
});

test("a login that is not for pulumiApiUrl creates nothing", async (t) => {
  t.after(setVariables({ PULUMI_API: "https://other.example.com" }));
  const message = await newPipeline(t).failure();
  assert.match(message, /pulumiApiUrl = .*\(PULUMI_API\) is https:\/\/other\.example\.com/);
});

test("everything that is missing is reported at once, and nothing is created", async (t) => {
  const old = { ...STACK, stack: "acme/eks-pulumi-oidc/old", clusterName: "old-cluster" };
  const stacks = [{ ...STACK, clusterName: "no" }, old];
  const { cloud, failure } = newPipeline(t, { stacks, githubOidcProvider: "existing" });
  cloud.clusters.set("us-west-2 old-cluster", "CONFIG_MAP");
  assert.match(
    await failure(),
    /EKS Cluster \(no\).*"old-cluster" in us-west-2 has no access entries: .*IAM OIDC Provider/s,
  );
});

/** Returns a pipeline, with changes to its settings. */
function newPipeline(t: TestContext, settings: Record<string, unknown> = {}, encrypted: string[] = []) {
  // Of a mock that is mocked again, only the first one would be restored.
  t.mock.restoreAll();
  const cloud = startPipelineCloud();
  for (const region of ["us-gov-west-1", "us-gov-east-1"]) cloud.clusters.set(`${region} my-cluster`, "API");
  const options = {
    project: "pipeline",
    stack: "github",
    organization: "acme",
    config: configOf("pipeline", { ...SETTINGS, ...settings }),
    secretKeys: encrypted.map((key) => `pipeline:${key}`),
    program,
    onWarning: () => {},
  };
  return {
    cloud,
    /** Runs the program, and returns what it registered. */
    async run() {
      const { registered, outputs } = await succeeded(runProgram(cloud, options));
      const plain = registered.map(({ type, name, inputs }) => {
        return { name: `${type.split(":").pop()} ${name}`, inputs: JSON.parse(JSON.stringify(inputs)) };
      });
      return {
        outputs,
        /** The types of what it registered in Pulumi Cloud. */
        pulumiCloud: registered.flatMap(({ type }) => (type.startsWith("pulumiservice:") ? type : [])),
        /** Returns the inputs of all resources of a type. */
        all: (type: string) => plain.filter(({ name }) => name.startsWith(`${type} `)).map((it) => it.inputs),
        /** Returns the inputs of a resource, such as `Role github-preview`. */
        inputs: (resource: string) =>
          plain.find(({ name }) => name === resource)?.inputs ?? assert.fail(resource),
      };
    },
    /** Returns the message with which the program stops, before it creates anything. */
    async failure(): Promise<string> {
      const error = await failureOf(() => succeeded(runProgram(cloud, options)));
      assert.deepEqual(cloud.existing(), []);
      return String(error);
    },
  };
}
