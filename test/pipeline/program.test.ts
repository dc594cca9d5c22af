// The pipeline's program: which ID tokens its identities trust, what they can do, and what stops it before it creates anything.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { type TestContext, test } from "node:test";
import type { PolicyDocument } from "@pulumi/aws/iam";
import { parse } from "yaml";
import { rolePolicies } from "../../pipeline/aws";
import { readSettings } from "../../pipeline/config";
import { teamName } from "../../pipeline/pulumiCloud";
import { type AuthPolicy, decide } from "../../simulator/emulators/authPolicy";
import { evaluateIamPolicy, type IamStatement } from "../../simulator/emulators/iamPolicy";
import { type Program, runProgram } from "../../simulator/runProgram";
import { declarationsOf, meaningAndDefault } from "../support/declarations";
import { codeIn, ROOT, read } from "../support/project";
import { configOf } from "../support/rawSettings";
import { failureOf } from "../support/stack";
import { temporaryDirectory } from "../support/temporaryDirectory";
import { setVariables } from "../support/variables";
import { ACCOUNT, SETTINGS, STACK, SUBJECT_PREFIX, startPipelineCloud } from "./cloud";

const program: Program = require("../../pipeline");

const arn = (resource: string) => `arn:aws:iam::${ACCOUNT}:${resource}`;
const CLUSTER = `arn:aws:eks:us-west-2:${ACCOUNT}:cluster/my-cluster`;
const ASSOCIATION = `arn:aws:eks:us-west-2:${ACCOUNT}:podidentityassociation/my-cluster/a-1`;
const CLUSTERS = [{ arn: CLUSTER, identities: [{ oidcs: [{ issuer: "https://oidc.example.com/id/A" }] }] }];
const ISSUER = "token.actions.githubusercontent.com";
const NAMED = arn("policy/ci-cache");
const ADMINISTRATOR = "arn:aws:iam::aws:policy/AdministratorAccess";
const BOUNDARY = arn("policy/boundary");
const MINIMUM = {
  rolePath: "/",
  rolePolicyArns: [] as string[],
  permissionsBoundaryArn: undefined,
  tagKeys: [] as string[],
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

const READS = [
  ...["eks:DescribeCluster", "iam:GetOpenIDConnectProvider", "iam:GetRole", "iam:GetRolePolicy"],
  ...["iam:ListAttachedRolePolicies", "iam:ListOpenIDConnectProviders", "iam:ListRolePolicies"],
];
// What a stack does with a role: terraform-provider-aws, internal/service/iam/role.go.
const CHANGES = [
  ...["iam:CreateRole", "iam:UpdateRole", "iam:UpdateRoleDescription", "iam:UpdateAssumeRolePolicy"],
  ...["iam:ListInstanceProfilesForRole", "iam:DeleteRole"],
];
const ATTACHMENTS = ["iam:AttachRolePolicy", "iam:DetachRolePolicy"];
const ROLE_TAGS = ["iam:TagRole", "iam:UntagRole"];
const PROVIDERS = ["iam:CreateOpenIDConnectProvider", "iam:TagOpenIDConnectProvider"];
// terraform-provider-aws, internal/service/eks/pod_identity_association.go
const ASSOCIATION_CHANGES = ["eks:UpdatePodIdentityAssociation", "eks:DeletePodIdentityAssociation"];
const ASSOCIATION_TAGS = ["eks:TagResource", "eks:UntagResource"];
const ASSOCIATIONS = [
  ...["eks:CreatePodIdentityAssociation", "iam:PassRole"],
  ...[...ASSOCIATION_CHANGES, ...ASSOCIATION_TAGS],
];
/** What a request contains that sets no tag, and one that sets this tag. */
const NO_TAG = {};
const TAG = { "aws:TagKeys": ["team"] };

test("the preview role only reads, and only these clusters, their providers, and the stacks' roles", () => {
  const { preview } = rolePolicies(EVERYTHING, CLUSTERS);
  assert.deepEqual(actionsOf(rolePolicies(MINIMUM, CLUSTERS).preview), READS);
  assert.deepEqual(actionsOf(preview), [...READS, "eks:DescribePodIdentityAssociation"].sort());
  for (const [action, resource, expected] of [
    ["eks:DescribeCluster", CLUSTER, true],
    ["eks:DescribeCluster", `${CLUSTER}-2`, false],
    ["iam:GetOpenIDConnectProvider", arn("oidc-provider/oidc.example.com/id/A"), true],
    ["iam:GetOpenIDConnectProvider", arn(`oidc-provider/${ISSUER}`), false],
    ["iam:GetRole", arn("role/ci/pulumi-oidc-default-runner-1"), true],
    ["iam:GetRole", arn("role/pulumi-oidc-default-runner-1"), false],
    ["eks:DescribePodIdentityAssociation", ASSOCIATION, true],
    ["eks:DescribePodIdentityAssociation", ASSOCIATION.replace("my-cluster", "my-cluster-2"), false],
  ] as const) {
    assert.equal(allows(preview, action, resource), expected, `${action} ${resource}`);
  }
});

for (const [name, settings, further] of [
  ["with the defaults", MINIMUM, []],
  ["with every setting", EVERYTHING, [...ATTACHMENTS, ...ROLE_TAGS, "iam:PutRolePermissionsBoundary"]],
] as const) {
  test(`${name}, the deploy role can make a stack's calls, none of which exceeds the named policies`, () => {
    const { preview, deploy } = rolePolicies(settings, CLUSTERS);
    const providers = settings.createOidcProvider ? PROVIDERS : [];
    const associations = settings.podIdentity ? ASSOCIATIONS : [];
    const expected = [...actionsOf(preview), ...CHANGES, ...further, ...providers, ...associations].sort();
    assert.deepEqual(actionsOf(deploy), expected);
    for (const action of providers) {
      assert.ok(allows(deploy, action, arn("oidc-provider/oidc.example.com/id/A"), TAG), action);
      assert.ok(!allows(deploy, action, arn(`oidc-provider/${ISSUER}`), TAG), action);
    }
    const path = `role${settings.rolePath}`;
    const own = arn(`${path}pulumi-oidc-default-runner-1`);
    const others = [
      `${path}github-deploy-1`,
      `${path}x-pulumi-oidc-1`,
      `${path}pulumi-oidc-team/admin`,
      "role/other/x",
    ]
      .concat("user/me", "group/all", "policy/ci-cache", "instance-profile/node", "role/x/pulumi-oidc-1")
      .concat(`oidc-provider/${ISSUER}`, "oidc-provider/oidc.example.com/id/A")
      .map(arn);
    for (const action of [...CHANGES, ...further]) {
      for (const policy of [NAMED, `${NAMED}-2`, ADMINISTRATOR, BOUNDARY]) {
        for (const boundary of [BOUNDARY, ADMINISTRATOR, undefined]) {
          const tags = ROLE_TAGS.includes(action) ? TAG : NO_TAG;
          const context = {
            "iam:PolicyARN": policy,
            ...(boundary && { "iam:PermissionsBoundary": boundary }),
            ...tags,
          };
          const isBounded = settings === EVERYTHING && /CreateRole|Boundary/.test(action);
          const expected =
            (!ATTACHMENTS.includes(action) || policy === NAMED) && (!isBounded || boundary === BOUNDARY);
          assert.equal(
            allows(deploy, action, own, context),
            expected,
            `${action} ${JSON.stringify(context)}`,
          );
          for (const other of others)
            assert.ok(!allows(deploy, action, other, context), `${action} ${other}`);
        }
      }
    }
  });
}

test("the deploy role can set only the named tags, and none by default", () => {
  const role = arn("role/ci/pulumi-oidc-default-runner-1");
  const provider = arn("oidc-provider/oidc.example.com/id/A");
  const withoutTags = rolePolicies({ ...EVERYTHING, tagKeys: [] }, CLUSTERS).deploy;
  const withTags = rolePolicies(EVERYTHING, CLUSTERS).deploy;
  const tagging = [...ROLE_TAGS, ...ASSOCIATION_TAGS, "iam:TagOpenIDConnectProvider"];
  const creating = ["iam:CreateRole", "iam:CreateOpenIDConnectProvider", "eks:CreatePodIdentityAssociation"];
  const resourceOf = (action: string) => {
    if (action.startsWith("eks:")) return action.includes("Create") ? CLUSTER : ASSOCIATION;
    return action.includes("Role") ? role : provider;
  };

  for (const action of [...tagging, ...creating]) {
    for (const [keys, isNamed] of [
      [undefined, true],
      [["team"], true],
      [["team", "cost-center"], true],
      [["admin"], false],
      [["team", "admin"], false],
      [["Team"], false],
    ] as const) {
      const tags = keys && { "aws:TagKeys": [...keys] };
      const context = { "iam:PermissionsBoundary": BOUNDARY, ...tags };
      const isCreation = creating.includes(action);
      const message = `${action} ${keys}`;
      assert.equal(allows(withoutTags, action, resourceOf(action), context), isCreation && !keys, message);
      assert.equal(
        allows(withTags, action, resourceOf(action), context),
        isNamed && (isCreation || !!keys),
        message,
      );
    }
  }
});

test("for EKS Pod Identity, the deploy role can associate the stacks' roles with these clusters, and nothing else", () => {
  const { deploy } = rolePolicies(EVERYTHING, CLUSTERS);
  const role = arn("role/ci/pulumi-oidc-default-runner-1");
  const otherCluster = `${CLUSTER}-2`;
  assert.ok(allows(deploy, "eks:CreatePodIdentityAssociation", CLUSTER));
  assert.ok(!allows(deploy, "eks:CreatePodIdentityAssociation", otherCluster));
  for (const action of ASSOCIATION_CHANGES) {
    assert.ok(allows(deploy, action, ASSOCIATION), action);
    assert.ok(!allows(deploy, action, ASSOCIATION.replace("my-cluster", "my-cluster-2")), action);
    assert.ok(!allows(deploy, action, CLUSTER), action);
  }

  const passes = (resource: string, service: string, associated?: string) =>
    allows(deploy, "iam:PassRole", resource, {
      "iam:PassedToService": service,
      ...(associated && { "iam:AssociatedResourceARN": associated }),
    });
  const service = "pods.eks.amazonaws.com";
  assert.ok(passes(role, service, CLUSTER));
  assert.ok(passes(role, service), "no page says that EKS sends the cluster");
  assert.ok(!passes(role, service, otherCluster));
  assert.ok(!passes(role, "ec2.amazonaws.com", CLUSTER));
  assert.ok(!passes(role, "eks.amazonaws.com", CLUSTER));
  for (const other of ["role/ci/github-deploy-1", "role/ci/pulumi-oidc-x/admin", "role/admin"]) {
    assert.ok(!passes(arn(other), service, CLUSTER), other);
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
  ["have no permissions boundary by default", { permissionsBoundaryArn: BOUNDARY }, undefined],
  ["accept the same permissions boundary as the stacks'", { ownPermissionsBoundaryArn: BOUNDARY }, BOUNDARY],
] as const) {
  test(`the workflows' own roles ${name}`, async (t) => {
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
  const lines = String(await failureOf(() => run(["pipeline:permissionsBoundaryArn"]))).split("\n");
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
  const stacks = [
    { ...STACK, namespaces: null },
    { ...STACK, stack: "acme/eks-pulumi-oidc/prod", namespaces: "" },
  ];
  const { run } = await newPipeline(t, { stacks, rolePath: "", tagKeys: null });
  await run();
  const settings = readSettings();
  assert.deepEqual(
    settings.stacks.map(({ namespaces }) => namespaces),
    [["default"], ["default"]],
  );
  assert.equal(settings.rolePath, "/");
  assert.deepEqual(settings.tagKeys, []);
});

test("the credentials of the AWS provider can be encrypted", async (t) => {
  const { run } = await newPipeline(t);
  await run(["aws:secretKey"]);
  assert.equal(readSettings().stacks.length, 1);
});

test("docs/pipeline.md gives the code owners only paths that exist", () => {
  const [owners = ""] = codeIn(read("docs/pipeline.md"), "text");
  const paths = owners
    .trim()
    .split("\n")
    .map((line) => line.split(/ +/)[0] ?? "");
  assert.ok(paths.includes("/pipeline/"));
  for (const path of paths) assert.ok(existsSync(join(ROOT, path.replace("*", ""))), path);
});

test("the example allows one AWS account only", () => {
  const { config } = parse(read("pipeline/Pulumi.github.yaml"));
  assert.deepEqual(config["aws:allowedAccountIds"], [ACCOUNT]);
});

test("the defaults in the interfaces are those of the pipeline", async (t) => {
  const declared = ["PipelineSettings", "StackSettings"].flatMap(declarationsOf);
  const { run } = await newPipeline(t);
  await run();
  const { stacks, ...settings } = readSettings();
  for (const [key, value] of Object.entries({ ...settings, namespaces: stacks[0]?.namespaces })) {
    const { comment } = declared.find(({ name }) => name === key) ?? assert.fail(key);
    const [, documented] = meaningAndDefault(comment);
    const text = typeof value === "string" ? value : JSON.stringify(value);
    // Without a default, the value is the test's.
    if (documented) assert.equal(text, documented.replaceAll("`", ""), key);
  }
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
  { clusterName = "my-cluster", check = "echo 42", ...changes }: Record<string, unknown> = {},
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
  const stack = { project: "pipeline", stack: "github", organization: "acme" };
  return {
    cloud,
    /** Returns the arguments of `bash`. */
    checked: () => readFile(checked, "utf8"),
    /**
     * Runs the program, and returns what each resource was registered with, as JSON, by `Type name`.
     *
     * @param secretKeys of the encrypted settings.
     */
    async run(secretKeys: string[] = []) {
      const { registered, outputs } = await runProgram(cloud, { ...stack, config, secretKeys, program });
      const inputs = new Map<string, string>();
      for (const it of registered)
        inputs.set(`${it.type.split(":").pop()} ${it.name}`, JSON.stringify(it.inputs));
      return { inputs, outputs };
    },
  };
}

type Context = Record<string, string | string[]>;

function statementsOf(policy: PolicyDocument): IamStatement[] {
  return JSON.parse(JSON.stringify(policy)).Statement;
}

/** Returns the actions that a policy allows. */
function actionsOf(policy: PolicyDocument): string[] {
  const allowing = statementsOf(policy).filter(({ Effect }) => Effect === "Allow");
  return allowing.flatMap(({ Action }) => Action).sort();
}

/** Returns whether a policy allows a request. */
function allows(policy: PolicyDocument, action: string, resource: string, context: Context = {}): boolean {
  const values = (key: string) => [context[key] ?? []].flat();
  return evaluateIamPolicy({ Statement: statementsOf(policy) }, { action, resource, values }).allowed;
}
