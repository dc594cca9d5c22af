// What the stack registers, with the resource options, what its outputs are, and what stops it before it registers anything.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { runRules } from "../../policy/runRules";
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
} from "../emulated/stack";
import { ROOT, read } from "../support/project";
import { ACCESS_TOKEN } from "../support/script";
import { setVariables } from "../support/variables";

const ACCOUNT = "arn:aws:iam::123456789012";
const POLICIES = ["arn:aws:iam::aws:policy/ReadOnlyAccess", `${ACCOUNT}:policy/b`];
const LONG = "n".repeat(63);
const TEAM = { tokenType: "team", teamName: "ops" };
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
};
const EXISTING = { createServiceAccount: false };
const RUNNER = { tokenType: "runner", runnerId: "id-1", runnerName: "pool" };
const ADMIN = { tokenType: "organization", organizationAdmin: true };
const SERVICE_ACCOUNTS = [
  entry({ namespace: "ci", name: "a", rolePolicyArns: POLICIES, tokenAudience: "api" }),
  entry({ namespace: "ci", name: "b", ...TEAM, runJob: false, rolePolicyArns: [] }),
  entry({ name: "pod", ...ADMIN, awsRole: "pod-identity", rolePolicyArns: POLICIES }),
  // `constructor` is the name of a method, and `a` is in another namespace, too.
  entry({ namespace: "constructor", name: "a", tokenType: "organization", organizationAdmin: false }),
  entry({ namespace: "constructor", name: "team", ...TEAM }),
  entry({ name: "existing", ...RUNNER, ...EXISTING, awsRole: "irsa" }),
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

test("the policy pack reports nothing of what the stack registers", () => {
  const limits = { organizationAdmins: ["default/pod"], maxExpirationSeconds: 9000 };
  const registered = JSON.stringify(stack.registered.map(({ options: _, ...registration }) => registration));
  assert.deepEqual(runRules(JSON.parse(registered), { limits, login: { apiUrls: [API_URL] } }), []);
});

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
    "pulumi:index:Stash access.first-deployment",
    "pulumi:index:Stash first-deployment",
    "pulumi:providers:kubernetes cluster",
    "pulumi:providers:pulumiservice pulumi-cloud",
    "pulumiservice:index:OidcIssuer access.oidc-issuer",
  ]);
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

test("a role has a name of at most 64 characters, and is deleted with the policies of other programs", () => {
  const { inputs } = only(stack, "Role", "access.ci.a");
  assert.deepEqual([inputs.namePrefix, inputs.forceDetachPolicies], ["pulumi-oidc-ci-a-", true]);
  const long = only(stack, "Role", `access.${LONG}.${LONG}`);
  assert.match(String(long.inputs.namePrefix), /^pulumi-oidc-n{25}-$/);
  assert.ok(long.id.length <= 64);
});

test("the pods of a service account have no token for the Kubernetes API", () => {
  for (const { inputs } of all(stack, "ServiceAccount")) {
    assert.equal(inputs.automountServiceAccountToken, false);
  }
});

test("an existing service account must exist if it has a Job", async (t) => {
  const message = await messageOf(await start(t), stackWith(EXISTING));
  assert.match(message, /'default\/pulumi-service-account' does not exist/);
});

test("workloads keep the settings of their exchange until the issuer grants the new ones", async () => {
  const { options } = only(stack, "ConfigMap", "access.ci.a.pulumi-token-exchange");
  assert.deepEqual(await labelsOf(options.dependsOn), ["OidcIssuer access.oidc-issuer"]);
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

  const pod = only(stack, "Job", "access.default.pod");
  assert.deepEqual((await labelsOf(pod.options.dependsOn)).slice(2), [
    ...POLICIES.map((arn) => `RolePolicyAttachment access.default.pod.${arn}`),
    "PodIdentityAssociation access.default.pod",
  ]);
});

test("the provider of Pulumi Cloud is of a version that accepts the roles of allow policies", () => {
  const { version } = only(stack, "pulumiservice").options;
  assert.equal(version, "1.5.0");
});

// stack.engine.test.ts registers one with its thumbprint.
test("updates keep the thumbprint of the issuer", () => {
  const { inputs, options } = only<{ policies: object[] }>(stack, "OidcIssuer");
  // A rotated certificate changes nothing, and a refresh shows no drift.
  assert.deepEqual(options.ignoreChanges, ["thumbprints"]);
  // Neither does an organization's token without permissions, for which an empty list would be drift.
  assert.deepEqual(Object.keys(inputs.policies[3] ?? {}), ["decision", "rules", "tokenType"]);
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
  for (const { provider } of objects) assert.match(provider ?? "", /pulumi:providers:kubernetes::cluster$/);
});

test("a cluster without an IAM OIDC provider is enough for a stack without IRSA roles, and has one with createOidcProvider", async (t) => {
  const serviceAccounts = [entry({ awsRole: "none" }), entry({ name: "b", awsRole: "pod-identity" })];
  const without = await up(t, { serviceAccounts }, { cluster: NO_PROVIDER });
  assert.deepEqual(all(without, "OpenIdConnectProvider"), []);

  const created = await up(t, { createOidcProvider: true }, { cluster: NO_PROVIDER });
  const { id, inputs, options } = only(created, "OpenIdConnectProvider");
  assert.deepEqual(inputs, { url: created.simulation.issuer.url, clientIdLists: ["sts.amazonaws.com"] });
  assert.equal(options.retainOnDelete, true);
  assert.deepEqual(principalOf(created), { Federated: id });
});

// stack.engine.test.ts deploys and destroys one.
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
  assert.deepEqual(principalOf(created), { Federated: provider.id });
  const credentials = ["--region", "us-west-2", "--profile", "dev"];
  assert.deepEqual(connectionOf(created), [created.simulation.aws.endpoint, [...GET_TOKEN, ...credentials]]);
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
    require("./cluster").existingCluster({ clusterName: "a", aws: {} }, []).then(() => {
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
  const { serviceAccounts, accessTokens, ...others } = stack.outputs;
  const oidcIssuerId = stack.simulation.pulumiCloud.list()[0]?.id;
  assert.deepEqual(others, { issuerUrl: stack.simulation.issuer.url, oidcIssuerId });
  const ids = SERVICE_ACCOUNTS.map(({ namespace, name }) => `${namespace}/${name}`);
  assert.deepEqual(Object.keys(serviceAccounts), ids);
  assert.deepEqual(Object.keys(Object(accessTokens)), ids);

  const role = only(stack, "Role", "access.ci.a");
  assert.deepEqual(serviceAccounts["ci/a"], {
    roleArn: role.outputs.arn,
    roleName: role.id,
    jobName: "a-token-exchange",
    tokenType: "personal",
    configMap: "a-pulumi-token-exchange",
  });
  const withoutJob = { tokenType: "personal", configMap: "not-read-pulumi-token-exchange" };
  assert.deepEqual(serviceAccounts["default/not-read"], withoutJob);
});

test("a ConfigMap contains the exchange script as it is, and is restored by a refresh", () => {
  const { inputs } = only<Record<"metadata" | "data", Record<string, unknown>>>(
    stack,
    "ConfigMap",
    "access.ci.b.pulumi-token-exchange",
  );
  assert.equal(inputs.data["exchange-token.sh"], read("scripts/exchange-token.sh"));
  assert.deepEqual(inputs.metadata.annotations, { "pulumi.com/patchForce": "true" });
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

test("the template's login stops an update of every user", async (t) => {
  const settings = stackWith({ userLogin: "sample-login" });
  assert.match(await messageOf(await start(t), settings), /\.userLogin = "sample-login": is the template's/);
});

test("a cluster that does not exist stops the program with what to set", async (t) => {
  const settings = { clusterName: "nowhere", "aws:region": undefined };
  const message = await messageOf(await start(t), settings);
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

test("a cluster without an issuer stops the program with its status", async (t) => {
  const simulation = await start(t);
  const getCluster = simulation.calls["aws:eks/getCluster:getCluster"] ?? assert.fail();
  const { answer } = getCluster;
  const creating = (inputs: object) => ({ ...answer(inputs), status: "CREATING", identities: [] });
  t.mock.method(getCluster, "answer", creating);
  const message = await messageOf(simulation, {});
  assert.match(message, /"my-cluster" has no OIDC issuer yet\. Its status is CREATING: /);
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

/** Returns whom the one role of a stack trusts. */
function principalOf(stack: Stack): unknown {
  type Role = { assumeRolePolicy: { Statement: Record<string, unknown>[] } };
  return only<Role>(stack, "Role").inputs.assumeRolePolicy.Statement[0]?.Principal;
}
