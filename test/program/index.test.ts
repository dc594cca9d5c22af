// What the stack registers, with the resource options, what its outputs are, and what stops it before it registers anything.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { output } from "@pulumi/kubernetes/types";
import { ROOT, read } from "../support/project";
import { ACCESS_TOKEN } from "../support/script";
import {
  all,
  entry,
  known,
  labelsOf,
  messageOf,
  only,
  run,
  type Stack,
  stackWith,
  start,
  startCluster,
  up,
} from "../support/stack";
import { CREATOR, CURRENT_USER } from "../support/teams";
import { setVariables } from "../support/variables";

type ConfigMap = output.core.v1.ConfigMap;

const ACCOUNT = "arn:aws:iam::123456789012";
const POLICIES = ["arn:aws:iam::aws:policy/ReadOnlyAccess", `${ACCOUNT}:policy/b`];
const LONG = "n".repeat(63);
const TEAM = { tokenType: "team", teamName: "ops" };
const OPS = {
  name: "ops",
  stacks: [{ stack: "app/prod", permission: "edit" }],
  environments: [{ environment: "app/prod", permission: "open" }],
};
const CLUSTER_ARN = "arn:aws:eks:us-west-2:123456789012:cluster/my-cluster";
const NO_PROVIDER = { name: "my-cluster", hasOidcProvider: false };
const GET_TOKEN = ["eks", "get-token", "--cluster-name", "my-cluster", "--output", "json"];
const API_URL = "https://pulumi.example";
const DEPLOYER = `${ACCOUNT}:role/deploy`;

/** Settings of the stack, each with a value other than its default. */
const SETTINGS = {
  // Not the region of the cluster.
  "aws:region": "eu-central-1",
  "aws:profile": "dev",
  "aws:assumeRoles": [{ roleArn: DEPLOYER, sessionName: "ci" }],
  organization: "other",
  issuerName: "mine",
  maxExpirationSeconds: 9000,
  pulumiApiUrl: API_URL,
  permissionsBoundaryArn: POLICIES[1],
  rolePath: "/pulumi/",
  createNamespaces: ["ci"],
  teams: [OPS],
};
const EXISTING = { createServiceAccount: false };
const SERVICE_ACCOUNTS = [
  entry({ namespace: "ci", name: "a", rolePolicyArns: POLICIES, tokenAudience: "api" }),
  entry({ namespace: "ci", name: "b", ...TEAM, runJob: false, rolePolicyArns: [] }),
  entry({ name: "pod", awsRole: "pod-identity", rolePolicyArns: POLICIES }),
  // `constructor` is the name of a method, and `a` is in another namespace, too.
  entry({ namespace: "constructor", name: "a" }),
  entry({ namespace: "constructor", name: "team", ...TEAM }),
  entry({ name: "existing", ...EXISTING, awsRole: "irsa" }),
  // Neither exists yet.
  entry({ name: "not-read", ...EXISTING, runJob: false }),
  entry({ namespace: "ci", name: "default", ...EXISTING }),
  entry({ namespace: LONG, name: LONG, awsRole: "irsa" }),
];

let simulation: Stack["simulation"];
let stack: Stack;

before(async () => {
  const restore = setVariables({ PULUMI_ACCESS_TOKEN: ACCESS_TOKEN });
  simulation = await startCluster({ serviceAccounts: ["default/existing"] });
  const namespaces = simulation.resources["kubernetes:core/v1:Namespace"] ?? assert.fail();
  const { create } = namespaces;
  // Slow, so that what does not wait for a namespace is registered first.
  namespaces.create = (name, inputs) => sleep(200).then(() => create(name, inputs));
  stack = await run(simulation, { ...SETTINGS, serviceAccounts: SERVICE_ACCOUNTS });
  restore();
});
after(() => simulation.close());

test("several service accounts share the issuer, their namespace, and nothing else", async () => {
  const identities = all(stack, "WorkloadIdentity").map(({ name }) => name);
  const shared: string[] = [];
  for (const { type, name, options } of stack.registered) {
    const owner = identities.find((identity) => name === identity || name.startsWith(`${identity}.`));
    const isOwner = type.endsWith(":WorkloadIdentity");
    const parent = owner && !isOwner ? `WorkloadIdentity ${owner}` : "PulumiCloudAccess access";
    if (name.startsWith("access.")) assert.deepEqual(await labelsOf(options.parent), [parent], name);
    if (!owner) shared.push(`${type} ${name}`);
  }
  assert.deepEqual(shared.sort(), [
    "eks-pulumi-oidc:index:PulumiCloudAccess access",
    "kubernetes:core/v1:Namespace access.ci",
    "pulumi:index:Stash access.oidc-issuer.place",
    "pulumi:index:Stash access.oidc-issuer.url",
    "pulumi:index:Stash pulumi-cloud.place",
    "pulumi:index:Stash pulumi-cloud.url",
    "pulumi:providers:kubernetes cluster",
    "pulumi:providers:pulumiservice pulumi-cloud",
    "pulumiservice:index:OidcIssuer access.oidc-issuer",
    "pulumiservice:index:Team access.ops",
    "pulumiservice:index:TeamEnvironmentPermission access.ops.app/prod",
    "pulumiservice:index:TeamStackPermission access.ops.app/prod",
  ]);

  const issuer = only<{ policies: { rules: object; teamName?: string }[] }>(stack, "OidcIssuer");
  const granted = issuer.inputs.policies.map(({ rules, teamName }) => [...Object.values(rules), teamName]);
  const expected = SERVICE_ACCOUNTS.map(({ namespace, name, teamName }) => [namespace, name, teamName]);
  assert.deepEqual(granted, expected);
});

test("a namespace exists before anything is created in it, and is retained", () => {
  const inNamespace = stack.registered.filter(({ inputs: { metadata } }) => {
    return /"(name|namespace)":"ci"/.test(JSON.stringify(metadata ?? {}));
  });
  const types = inNamespace.map(({ type }) => type.split(":").at(-1)).toSorted();
  assert.equal(
    types.join(" "),
    "ConfigMap ConfigMap ConfigMap Job Job Namespace ServiceAccount ServiceAccount",
  );
  const [namespace = assert.fail()] = inNamespace;
  const labels = { "pod-security.kubernetes.io/enforce": "restricted" };
  assert.deepEqual(namespace.inputs.metadata, { name: "ci", labels });
  // To delete it would delete the workloads in it.
  assert.equal(namespace.options.retainOnDelete, true);
});

test("a role has a path, a boundary, policies, and a name of at most 64 characters", () => {
  const { id, inputs } = only(stack, "Role", "access.ci.a");
  assert.deepEqual([inputs.path, inputs.permissionsBoundary], ["/pulumi/", POLICIES[1]]);
  assert.equal(inputs.namePrefix, "pulumi-oidc-ci-a-");
  // AWS deletes no role to which another program has attached a policy.
  assert.equal(inputs.forceDetachPolicies, true);
  const attached = all(stack, "RolePolicyAttachment").filter(({ name }) => name.startsWith("access.ci.a."));
  assert.deepEqual(
    attached.map((it) => [it.inputs.role, it.inputs.policyArn]),
    POLICIES.map((arn) => [id, arn]),
  );
  const long = only(stack, "Role", `access.${LONG}.${LONG}`);
  assert.match(String(long.inputs.namePrefix), /^pulumi-oidc-n{25}-$/);
  assert.ok(long.id.length <= 64);
});

for (const [account, ...parts] of [
  ["ci/a", "ServiceAccount", "Role", "Job"],
  ["ci/b", "ServiceAccount", "Role"],
  ["constructor/a", "ServiceAccount", "Job"],
  ["default/existing", "Role", "Job"],
  ["default/not-read"],
] as const) {
  test(`${account} has ${parts.join(", ") || "nothing but a ConfigMap"}`, () => {
    const [namespace, name] = account.split("/");
    const own = stack.registered.filter((it) => it.name === `access.${namespace}.${name}`);
    const types = own.map(({ type }) => type.split(":").at(-1) ?? "");
    assert.deepEqual(types.toSorted(), ["WorkloadIdentity", ...parts].toSorted());

    const role = own.find(({ type }) => type.endsWith(":Role"));
    const annotations = role && { annotations: { "eks.amazonaws.com/role-arn": role.outputs.arn } };
    for (const { inputs } of own.filter(({ type }) => type.endsWith(":ServiceAccount"))) {
      assert.deepEqual(inputs.metadata, { name, namespace, ...annotations });
      assert.equal(inputs.automountServiceAccountToken, false);
    }
    const output = stack.outputs.serviceAccounts[account];
    const jobName = parts.some((part) => part === "Job") ? `${name}-token-exchange` : undefined;
    assert.deepEqual([output?.roleArn, output?.jobName], [role?.outputs.arn, jobName]);
  });
}

test("an existing service account must exist if it has a Job", async (t) => {
  const message = await messageOf(await start(t), stackWith(EXISTING));
  assert.match(message, /'default\/pulumi-service-account' does not exist/);
});

test("a Job waits for what its exchange needs, and runs again for a new issuer or its own policy", async () => {
  const { options } = only(stack, "Job", "access.ci.a");
  assert.deepEqual(await labelsOf(options.dependsOn), [
    "OidcIssuer access.oidc-issuer",
    "ServiceAccount access.ci.a",
    ...POLICIES.map((arn) => `RolePolicyAttachment access.ci.a.${arn}`),
  ]);
  const issuer = only<{ policies: object[] }>(stack, "OidcIssuer");
  assert.deepEqual(await known(options.replacementTrigger), [issuer.id, issuer.inputs.policies[0]]);
  assert.deepEqual(options.customTimeouts, { create: "360s", update: "360s" });
  // A new Job cannot have the name of the one that it replaces.
  assert.equal(options.deleteBeforeReplace, true);
  // Workloads keep their settings until those can be granted.
  const configMap = only(stack, "ConfigMap", "access.ci.a.pulumi-token-exchange");
  assert.deepEqual(await labelsOf(configMap.options.dependsOn), ["OidcIssuer access.oidc-issuer"]);
});

test("a team is created with its creator, is retained, and exists before the issuer", async () => {
  const { inputs, options } = only(stack, "Team");
  assert.deepEqual(inputs, {
    organizationName: "other",
    teamType: "pulumi",
    name: "ops",
    members: [CREATOR],
  });
  // People add the others.
  assert.deepEqual(options.ignoreChanges, ["members"]);
  assert.equal(options.retainOnDelete, true);
  assert.deepEqual(await labelsOf(only(stack, "OidcIssuer").options.dependsOn), ["Team access.ops"]);
});

test("a team has its permissions before the ConfigMap and the Job of its service account", async () => {
  const granted = { organization: "other", team: "ops", project: "app" };
  const onStack = only(stack, "TeamStackPermission");
  assert.deepEqual(onStack.inputs, { ...granted, stack: "prod", permission: 102 });
  const onEnvironment = only(stack, "TeamEnvironmentPermission");
  assert.deepEqual(onEnvironment.inputs, { ...granted, environment: "prod", permission: "open" });
  for (const { options, provider } of [onStack, onEnvironment]) {
    assert.equal(options.deleteBeforeReplace, true);
    assert.deepEqual(await labelsOf(options.dependsOn), ["Team access.ops"]);
    assert.match(provider, /pulumi:providers:pulumiservice::/);
  }

  const permissions = [
    "TeamStackPermission access.ops.app/prod",
    "TeamEnvironmentPermission access.ops.app/prod",
  ];
  const required = async (type: string, name: string) => labelsOf(only(stack, type, name).options.dependsOn);
  assert.deepEqual(await required("ConfigMap", "access.ci.b.pulumi-token-exchange"), [
    "OidcIssuer access.oidc-issuer",
    ...permissions,
  ]);
  assert.deepEqual(await required("ConfigMap", "access.ci.a.pulumi-token-exchange"), [
    "OidcIssuer access.oidc-issuer",
  ]);
  assert.deepEqual((await required("Job", "access.constructor.team")).slice(0, 3), [
    "OidcIssuer access.oidc-issuer",
    ...permissions,
  ]);
});

test("a team that exists already gets only permissions, for which no one asks who the user is", async (t) => {
  const simulation = await start(t);
  const teams = simulation.resources["pulumiservice:index:Team"] ?? assert.fail();
  await teams.create("ops", { organizationName: "acme", name: "ops" });
  const questions = t.mock.method(simulation.calls[CURRENT_USER] ?? assert.fail(), "answer");
  const settings = { ...stackWith(TEAM), teams: [{ ...OPS, create: false }] };
  const withTeam = await run(simulation, settings);
  assert.deepEqual(all(withTeam, "Team"), []);
  assert.deepEqual(only(withTeam, "TeamStackPermission").inputs.team, "ops");
  assert.equal(only(withTeam, "TeamEnvironmentPermission").inputs.team, "ops");
  assert.equal(questions.mock.callCount(), 0);
});

for (const [what, answer] of [
  ["fails", () => assert.fail("401 API error")],
  ["is empty", () => ({ username: "" })],
  ["names the organization of its token", () => ({ username: "acme" })],
  ["names the team of its token", () => ({ username: "team-account:1a2b" })],
] as const) {
  test(`a team is created without a member if the answer of getCurrentUser ${what}`, async (t) => {
    const simulation = await start(t);
    t.mock.method(simulation.calls[CURRENT_USER] ?? assert.fail(), "answer", answer);
    const created = await run(simulation, { ...stackWith(TEAM), teams: [OPS] });
    assert.deepEqual(only(created, "Team").inputs.members, []);
  });
}

test("the issuer is registered with its thumbprint, through a provider for the configured Pulumi Cloud", () => {
  const { inputs, provider, options } = only(stack, "OidcIssuer");
  const { policies, ...others } = inputs;
  const { url, thumbprint } = stack.simulation.issuer;
  const named = { organization: "other", name: "mine", url, maxExpirationSeconds: 9000 };
  assert.deepEqual(others, { ...named, thumbprints: [thumbprint] });
  assert.match(provider, /pulumi:providers:pulumiservice::/);
  assert.deepEqual(only(stack, "pulumiservice").inputs, { apiUrl: API_URL });
  // A rotated certificate changes nothing, and a refresh shows no drift.
  assert.deepEqual(options.ignoreChanges, ["thumbprints"]);
});

test("every Kubernetes object goes through a provider with the AWS provider's cluster and credentials", () => {
  const credentials = ["--region", "eu-central-1", "--profile", "dev", "--role-arn", DEPLOYER];
  assert.deepEqual(connectionOf(stack), [stack.simulation.aws.endpoint, [...GET_TOKEN, ...credentials]]);
  const { enableConfigMapMutable, upsertExistingObjects, clusterIdentifier } = only(
    stack,
    "kubernetes",
  ).inputs;
  assert.equal(String(enableConfigMapMutable), "true");
  // Whatever the environment says, nothing that exists is adopted, and deleted later.
  assert.equal(String(upsertExistingObjects), "false");
  // Another endpoint of the same cluster replaces nothing.
  assert.equal(clusterIdentifier, stack.simulation.issuer.url);
  const objects = stack.registered.filter(({ type }) => type.startsWith("kubernetes:"));
  assert.ok(objects.length > SERVICE_ACCOUNTS.length);
  for (const { provider } of objects) assert.match(provider, /pulumi:providers:kubernetes::cluster::/);
});

test("an IRSA role trusts only this issuer, and the service account with the audience of AWS STS", () => {
  const issuer = stack.simulation.issuer.url.replace("https://", "");
  assert.deepEqual(trustOf(stack, "access.ci.a"), {
    Effect: "Allow",
    Principal: { Federated: `${ACCOUNT}:oidc-provider/${issuer}` },
    Action: "sts:AssumeRoleWithWebIdentity",
    Condition: {
      StringEquals: {
        [`${issuer}:sub`]: "system:serviceaccount:ci:a",
        [`${issuer}:aud`]: "sts.amazonaws.com",
      },
    },
  });
});

test("a role of EKS Pod Identity trusts only this cluster, namespace, and service account", async () => {
  const name = "access.default.pod";
  assert.deepEqual(trustOf(stack, name), {
    Effect: "Allow",
    Principal: { Service: "pods.eks.amazonaws.com" },
    Action: ["sts:AssumeRole", "sts:TagSession"],
    Condition: {
      StringEquals: {
        "aws:RequestTag/eks-cluster-arn": CLUSTER_ARN,
        "aws:RequestTag/kubernetes-namespace": "default",
        "aws:RequestTag/kubernetes-service-account": "pod",
      },
    },
  });
  // In the region of the cluster's ARN, whatever the AWS provider's region is.
  assert.deepEqual(only(stack, "PodIdentityAssociation").inputs, {
    region: "us-west-2",
    clusterName: "my-cluster",
    namespace: "default",
    serviceAccount: "pod",
    roleArn: only(stack, "Role", name).outputs.arn,
  });
  // The EKS webhook would add the credentials of IRSA, too.
  const { inputs } = only(stack, "ServiceAccount", name);
  assert.deepEqual(inputs.metadata, { name: "pod", namespace: "default" });
  const { dependsOn } = only(stack, "Job", name).options;
  assert.deepEqual((await labelsOf(dependsOn)).slice(2), [
    ...POLICIES.map((arn) => `RolePolicyAttachment ${name}.${arn}`),
    `PodIdentityAssociation ${name}`,
  ]);
});

test("a cluster without an IAM OIDC provider is enough for a stack without IRSA roles, and has one with createOidcProvider", async (t) => {
  const serviceAccounts = [entry({ awsRole: "none" }), entry({ name: "b", awsRole: "pod-identity" })];
  const without = await up(t, { serviceAccounts }, { cluster: NO_PROVIDER });
  assert.deepEqual(all(without, "OpenIdConnectProvider"), []);

  const created = await up(t, { createOidcProvider: true }, { cluster: NO_PROVIDER });
  const { id, inputs, options } = only(created, "OpenIdConnectProvider");
  assert.deepEqual(inputs, { url: created.simulation.issuer.url, clientIdLists: ["sts.amazonaws.com"] });
  assert.equal(options.retainOnDelete, true);
  assert.deepEqual(trustOf(created).Principal, { Federated: id });
});

test("createCluster creates a cluster without passing credentials, and an IAM OIDC provider that is not retained", async (t) => {
  const settings = { createCluster: true, "aws:profile": "dev" };
  const created = await up(t, settings, { cluster: undefined });
  const { name, authenticationMode, instanceType, version, ...others } = only(created, "Cluster").inputs;
  assert.deepEqual([name, authenticationMode, instanceType], ["my-cluster", "API", "t3.medium"]);
  // What injectToken requires, which therefore changes no version.
  assert.equal(version, "1.36");
  assert.deepEqual([others.providerCredentialOpts, others.createOidcProvider], [undefined, undefined]);
  assert.deepEqual(all(created, "Addon"), []);
  const provider = only(created, "OpenIdConnectProvider");
  assert.notEqual(provider.options.retainOnDelete, true);
  assert.deepEqual(trustOf(created).Principal, { Federated: provider.id });

  const credentials = ["--region", "us-west-2", "--profile", "dev"];
  assert.deepEqual(connectionOf(created), [created.simulation.aws.endpoint, [...GET_TOKEN, ...credentials]]);
  const { dependsOn } = only(created, "kubernetes").options;
  assert.deepEqual(await labelsOf(dependsOn), ["Cluster eks-cluster"]);
  assert.deepEqual(only(created, "OidcIssuer").inputs.thumbprints, [created.simulation.issuer.thumbprint]);
});

test("createCluster creates the agent of EKS Pod Identity, and no IAM OIDC provider, if only that is needed", async (t) => {
  const settings = { createCluster: true, ...stackWith({ awsRole: "pod-identity" }) };
  const created = await up(t, settings, { cluster: undefined });
  const { inputs, options } = only(created, "Addon");
  assert.deepEqual(inputs, { clusterName: "my-cluster", addonName: "eks-pod-identity-agent" });
  assert.deepEqual(await labelsOf(options.dependsOn), ["Cluster eks-cluster"]);
  assert.deepEqual(all(created, "OpenIdConnectProvider"), []);
  // A pod that is created before the agent runs has no role.
  const { dependsOn } = only(created, "kubernetes").options;
  assert.deepEqual(await labelsOf(dependsOn), ["Cluster eks-cluster", "Addon eks-pod-identity-agent"]);
});

test("@pulumi/eks, which loads all of @pulumi/aws, is not loaded for an existing cluster", () => {
  // In another process, where no test has loaded it.
  const program = `
    const cluster = { identities: [{ oidcs: [{ issuer: "https://a" }] }], certificateAuthorities: [{ data: "a" }] };
    require("@pulumi/pulumi").runtime.setMocks({ call: () => cluster, newResource() {} });
    require("./cluster").existingCluster({ clusterName: "a", aws: {} }, {}).then(() => {
      process.stdout.write(Object.keys(require.cache).join("\\n"));
    });`;
  const { stdout, stderr } = spawnSync(
    process.execPath,
    ["--require", "./scripts/compilerCache.cjs", "--import", "tsx", "--eval", program],
    { cwd: ROOT, encoding: "utf8" },
  );
  assert.match(stdout, /\/node_modules\/@pulumi\/aws\/eks\//, stderr);
  assert.doesNotMatch(stdout, /\/node_modules\/@pulumi\/eks\//);
});

test("the outputs only name what each service account has", () => {
  const { serviceAccounts, ...others } = stack.outputs;
  const oidcIssuerId = stack.simulation.pulumiCloud.list()[0]?.id;
  assert.deepEqual(others, { issuerUrl: stack.simulation.issuer.url, oidcIssuerId });
  const ids = SERVICE_ACCOUNTS.map(({ namespace, name }) => `${namespace}/${name}`);
  assert.deepEqual(Object.keys(serviceAccounts), ids);

  const role = only(stack, "Role", "access.ci.a");
  const names = { configMap: "a-pulumi-token-exchange", jobName: "a-token-exchange" };
  const ofRole = { roleArn: role.outputs.arn, roleName: role.id };
  assert.deepEqual(serviceAccounts["ci/a"], { ...ofRole, ...names, tokenType: "personal" });
});

test("a ConfigMap contains a file for each setting of the exchange, and the script as it is", () => {
  const { inputs } = only<ConfigMap>(stack, "ConfigMap", "access.ci.b.pulumi-token-exchange");
  const { namespace, name, annotations } = inputs.metadata;
  assert.deepEqual([namespace, name], ["ci", "b-pulumi-token-exchange"]);
  // `pulumi up --refresh` restores what another field manager has changed.
  assert.deepEqual(annotations, { "pulumi.com/patchForce": "true" });
  assert.deepEqual(inputs.data, {
    organization: "other",
    tokenType: "team",
    tokenScope: "team:ops",
    tokenExpirationSeconds: "9000",
    apiUrl: API_URL,
    "exchange-token.sh": read("scripts/exchange-token.sh"),
  });
});

test("no token is in what is registered, or in the outputs", () => {
  const everything = JSON.stringify([stack.registered.map(({ options, ...it }) => it), stack.outputs]);
  // A JSON Web Token, an access token such as the deployer's, or the mark of a secret.
  assert.doesNotMatch(everything, /eyJ[\w-]+\.[\w-]+|pul-[0-9a-f]{20}|4dabf18193072939515e22adb298388d/);
});

test("a login to another Pulumi Cloud stops the program before anything is registered", async (t) => {
  const simulation = await start(t);
  t.after(setVariables({ PULUMI_ACCESS_TOKEN: ACCESS_TOKEN, PULUMI_API: "https://a.example" }));
  const message = await messageOf(simulation, {});
  assert.match(message, /Nothing was changed\..*pulumiApiUrl = .*\(PULUMI_API\) is https:\/\/a\.example/s);
});

test("an audience that is the issuer of the existing cluster stops the program before anything is registered", async (t) => {
  const simulation = await start(t);
  const message = await messageOf(simulation, stackWith({ tokenAudience: simulation.issuer.url }));
  assert.match(message, /Nothing was changed\..*tokenAudience = .*: must not be the cluster's OIDC issuer/s);
});

test("a cluster that does not exist stops the program with what to set", async (t) => {
  const message = await messageOf(await start(t), { clusterName: "nowhere" });
  assert.match(message, /^Failed to look up EKS cluster "nowhere" in us-west-2: reading EKS Cluster/);
  for (const setting of ["clusterName", "aws:region", "createCluster"]) assert.ok(message.includes(setting));
});

test("a new cluster without a region stops the program with what to set", async (t) => {
  const simulation = await start(t, { cluster: undefined });
  const getRegion = simulation.calls["aws:index/getRegion:getRegion"] ?? assert.fail();
  t.mock.method(getRegion, "answer", () => assert.fail("Invalid AWS Region:"));
  const message = await messageOf(simulation, { createCluster: true });
  assert.match(message, /^Failed to look up the AWS region of the new EKS cluster: Invalid.*set aws:region/s);
});

test("a cluster without an issuer stops the program with the command to wait for it", async (t) => {
  const simulation = await start(t);
  const getCluster = simulation.calls["aws:eks/getCluster:getCluster"] ?? assert.fail();
  const { answer } = getCluster;
  const creating = (inputs: object) => ({ ...answer(inputs), status: "CREATING", identities: [] });
  t.mock.method(getCluster, "answer", creating);
  // `aws eks wait` has no option for a role.
  const aws = { "aws:profile": "dev", "aws:assumeRoles": [{ roleArn: "a" }] };
  const message = await messageOf(simulation, aws);
  assert.match(message, /"my-cluster" has no OIDC issuer yet; its status is CREATING/);
  assert.match(
    message,
    /^ {2}aws eks wait cluster-active --name my-cluster --region us-west-2 --profile dev$/m,
  );
});

test("a cluster without an IAM OIDC provider stops a stack with IRSA roles, with the ways out", async (t) => {
  const message = await messageOf(await start(t, { cluster: NO_PROVIDER }), {});
  assert.match(message, /^Failed to look up the IAM OIDC provider of EKS cluster "my-cluster": /);
  for (const way of ["set createOidcProvider to true", "remove awsRole", "set awsRole to pod-identity"]) {
    assert.ok(message.includes(way), message);
  }
});

/** Returns the API server and the arguments of `aws` in the Kubernetes provider's kubeconfig. */
function connectionOf(stack: Stack): [server: unknown, args: unknown] {
  const { clusters, users } = JSON.parse(String(only(stack, "kubernetes").inputs.kubeconfig));
  return [clusters[0].cluster.server, users[0].user.exec.args];
}

/** Returns the one statement of a role's trust policy. */
function trustOf(stack: Stack, name?: string) {
  const { inputs } = only<{ assumeRolePolicy: string | object }>(stack, "Role", name);
  const policy = inputs.assumeRolePolicy;
  const { Version, Statement } = typeof policy === "string" ? JSON.parse(policy) : policy;
  assert.deepEqual([Version, Statement.length], ["2012-10-17", 1]);
  return Statement[0];
}
