// What the stack registers, with the resource options, and what stops it before it registers anything.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import * as pulumi from "@pulumi/pulumi";
import { createCertificateAuthority } from "../simulator/certificates";
import { all, failureOf, known, labelsOf, messageOf, only, run, start, up } from "./stack";

const ACCOUNT = "arn:aws:iam::123456789012";
const POLICIES = ["arn:aws:iam::aws:policy/ReadOnlyAccess", `${ACCOUNT}:policy/b`];
const LONG = "n".repeat(63);
const TEAM = { tokenType: "team", teamName: "ops" };
const NO_PROVIDER = { name: "my-cluster", hasOidcProvider: false };
const GET_TOKEN = ["eks", "get-token", "--cluster-name"];

type KubernetesProvider = { kubeconfig: string; enableConfigMapMutable: unknown };

interface Role {
  namePrefix: string;
  path: string;
  description: string;
  permissionsBoundary?: string;
  assumeRolePolicy: {
    Statement: { Principal: { Federated: string }; Condition: { StringEquals: Record<string, string> } }[];
  };
}

test("a stack with a login registers one service account with its role, ConfigMaps, and Job", async (t) => {
  const stack = await up(t);
  assert.deepEqual(stack.registered.map(({ type, name }) => `${type} ${name}`).sort(), [
    "aws:iam/role:Role default.pulumi-service-account",
    "eks-pulumi-oidc:index:WorkloadIdentity default.pulumi-service-account",
    "kubernetes:batch/v1:Job default.pulumi-service-account",
    "kubernetes:core/v1:ConfigMap default.pulumi-service-account.pulumi-token",
    "kubernetes:core/v1:ConfigMap default.pulumi-service-account.pulumi-token-exchange",
    "kubernetes:core/v1:ServiceAccount default.pulumi-service-account",
    "pulumi:providers:kubernetes cluster",
    "pulumi:providers:pulumiservice oidc-issuer",
    "pulumiservice:index:OidcIssuer oidc-issuer",
  ]);
  const isEks = (path: string) => path.includes("/node_modules/@pulumi/eks/");
  assert.equal(Object.keys(require.cache).some(isEks), false, "@pulumi/eks loads all of @pulumi/aws");
});

test("several service accounts share the issuer, their namespace, and nothing else", async (t) => {
  const create = { namespace: "ci", createNamespace: true };
  const serviceAccounts = [
    { name: "a", ...create },
    { name: "b", ...create, ...TEAM },
    { name: "a", namespace: LONG },
  ];
  const stack = await up(t, { serviceAccounts }, { namespaces: [LONG] });
  const issuer = only<{ policies: { rules: object; teamName?: string }[] }>(stack, "OidcIssuer");
  assert.deepEqual(
    issuer.inputs.policies.map(({ rules, teamName }) => [...Object.values(rules), teamName]),
    [
      ["ci", "a", undefined],
      ["ci", "b", "ops"],
      [LONG, "a", undefined],
    ],
  );
  assert.deepEqual(issuer.options.ignoreChanges, []);
  assert.equal(all(stack, "Namespace").length, 1);
  const stackWide = ["Namespace", "WorkloadIdentity", "OidcIssuer", "kubernetes", "pulumiservice"];
  const isStackWide = (type: string) => stackWide.some((suffix) => type.endsWith(`:${suffix}`));
  for (const { type, name, options } of stack.registered) {
    const parents = await labelsOf(options.parent);
    const owner = name.replace(/\.pulumi-token.*$/, "");
    assert.deepEqual(parents, isStackWide(type) ? [] : [`WorkloadIdentity ${owner}`], name);
  }
  for (const identity of ["ci.a", "ci.b", `${LONG}.a`]) {
    const own = stack.registered.filter(({ name }) => name === identity || name.startsWith(`${identity}.`));
    assert.equal(own.length, 6, identity);
  }
});

test("a namespace exists before anything is created in it", async (t) => {
  const simulation = await start(t);
  const namespaces = simulation.resources["kubernetes:core/v1:Namespace"] ?? assert.fail();
  const { create } = namespaces;
  t.mock.method(namespaces, "create", async (name: string, inputs: object) => {
    // It takes longer than what does not wait for it.
    await sleep(200);
    return create(name, inputs);
  });
  const stack = await run(simulation, { createNamespace: true, namespace: "ci" });
  assert.deepEqual(only(stack, "Namespace").inputs.metadata, {
    name: "ci",
    labels: { "pod-security.kubernetes.io/enforce": "restricted" },
  });
  const objects = stack.registered.filter(({ type }) => type.startsWith("kubernetes:"));
  assert.equal(objects[0]?.type, "kubernetes:core/v1:Namespace");
  for (const { id } of objects.slice(1)) assert.match(id, /^ci\//);
});

test("a second stack of the cluster, for another organization, comes up beside the first", async (t) => {
  const { simulation } = await up(t);
  const second = await run(simulation, { organization: "other", serviceAccountName: "b" });
  assert.match(String(second.outputs.oidcIssuerId), /^other\//);
  const { error } = await failureOf(simulation, { serviceAccountName: "c" });
  assert.match(error.message, /409 API error/);
});

test("a role has a path, a boundary, policies, and a name of at most 64 characters", async (t) => {
  const settings = { rolePolicyArns: POLICIES, permissionsBoundaryArn: POLICIES[1], rolePath: "/pulumi/" };
  const serviceAccounts = [{ name: "b" }, { name: LONG, namespace: LONG, rolePolicyArns: [] }];
  const stack = await up(t, { ...settings, serviceAccounts }, { namespaces: [LONG] });
  const { id, inputs } = only<Role>(stack, "Role", "default.b");
  assert.deepEqual([inputs.path, inputs.permissionsBoundary], ["/pulumi/", POLICIES[1]]);
  assert.equal(inputs.namePrefix, "pulumi-oidc-default-b-");
  assert.equal(inputs.description, `IRSA role for default/b (issuer ${stack.simulation.issuer.url})`);
  const issuer = stack.simulation.issuer.url.replace("https://", "");
  const [{ Principal, Condition } = assert.fail()] = inputs.assumeRolePolicy.Statement;
  assert.equal(Principal.Federated, `${ACCOUNT}:oidc-provider/${issuer}`);
  assert.equal(Condition.StringEquals[`${issuer}:sub`], "system:serviceaccount:default:b");
  assert.deepEqual(
    all(stack, "RolePolicyAttachment").map(({ inputs }) => inputs),
    POLICIES.map((policyArn) => ({ role: id, policyArn })),
  );

  const long = only<Role>(stack, "Role", `${LONG}.${LONG}`);
  assert.match(long.inputs.namePrefix, /^pulumi-oidc-n{25}-$/);
  assert.ok(long.id.length <= 64);
});

// In every combination: which resources there are, and whether pods mount a separate ID token.
for (const createServiceAccount of [true, false]) {
  for (const createRole of [true, false]) {
    for (const runJob of [true, false]) {
      const settings = { createServiceAccount, createRole, runJob };
      test(`${JSON.stringify(settings)} work together`, async (t) => {
        const existing = createServiceAccount ? [] : ["default/pulumi-service-account"];
        const stack = await up(t, settings, { serviceAccounts: existing });
        const [role] = all<Role>(stack, "Role");
        const [account] = all<{ metadata: { annotations?: object } }>(stack, "ServiceAccount");
        const annotations = role && { "eks.amazonaws.com/role-arn": role.outputs.arn };
        const [{ jobName, roleArn } = assert.fail()] = Object.values(stack.outputs.serviceAccounts);
        assert.deepEqual([role !== undefined, account !== undefined], [createRole, createServiceAccount]);
        assert.deepEqual(
          account?.inputs.metadata.annotations,
          createServiceAccount ? annotations : undefined,
        );
        assert.deepEqual([roleArn, typeof jobName], [role?.outputs.arn, runJob ? "string" : "undefined"]);
        assert.equal(all(stack, "Job").length, Number(runJob));
        const [{ inputs } = assert.fail()] = all<{ data: object }>(stack, "ConfigMap").filter(({ name }) =>
          name.endsWith(".pulumi-token"),
        );
        assert.equal("PULUMI_OIDC_TOKEN_FILE" in inputs.data, !(createServiceAccount && createRole));
      });
    }
  }
}

test("a service account that exists is read only for a Job, and has to be there", async (t) => {
  const { error } = await failureOf(await start(t), { createServiceAccount: false });
  assert.match(error.message, /'default\/pulumi-service-account' does not exist/);
  await up(t, { createServiceAccount: false, runJob: false });
});

test("a Job waits for what its exchange needs, and runs again for a new issuer or its own policy", async (t) => {
  const serviceAccounts = [
    { name: "a", rolePolicyArns: POLICIES },
    { name: "b", ...TEAM },
  ];
  const stack = await up(t, { serviceAccounts });
  const { options } = only(stack, "Job", "default.a");
  assert.deepEqual(await labelsOf(options.dependsOn), [
    "OidcIssuer oidc-issuer",
    ...POLICIES.map((arn) => `RolePolicyAttachment default.a.${arn}`),
    "ServiceAccount default.a",
  ]);
  const issuer = only<{ policies: object[] }>(stack, "OidcIssuer");
  assert.deepEqual(await known(options.replacementTrigger), [issuer.id, issuer.inputs.policies[0]]);
  assert.deepEqual(options.customTimeouts, { create: "360s", update: "360s" });
});

test("the issuer is registered with its thumbprint, through a provider for the configured Pulumi Cloud", async (t) => {
  const settings = {
    issuerName: "mine",
    maxExpirationSeconds: "9000",
    pulumiApiUrl: "https://pulumi.example",
  };
  const stack = await up(t, settings);
  const { policies, ...inputs } = only(stack, "OidcIssuer").inputs;
  const { url, thumbprint } = stack.simulation.issuer;
  const thumbprints = [thumbprint()];
  const expected = { organization: "acme", name: "mine", url, maxExpirationSeconds: 9000, thumbprints };
  assert.deepEqual(inputs, expected);
  const { provider, options } = only(stack, "OidcIssuer");
  assert.match(provider, /pulumi:providers:pulumiservice::/);
  assert.deepEqual(only(stack, "pulumiservice").inputs, { apiUrl: "https://pulumi.example" });
  // An organization accepts each URL once.
  assert.equal(options.deleteBeforeReplace, true);
});

test("an issuer whose certificate cannot be verified keeps its registered thumbprints", async (t) => {
  const warn = t.mock.method(pulumi.log, "warn", () => {});
  const simulation = await start(t);
  await simulation.issuer.rotateCertificate({ authority: await createCertificateAuthority() });
  const issuers = simulation.resources["pulumiservice:index:OidcIssuer"] ?? assert.fail();
  t.mock.method(issuers, "create", async (id: string, outputs: object) => ({ id, outputs }));
  const { inputs, options } = only(await run(simulation), "OidcIssuer");
  assert.equal("thumbprints" in inputs, false);
  assert.deepEqual(options.ignoreChanges, ["thumbprints"]);
  assert.equal(warn.mock.callCount(), 1);
});

test("every Kubernetes object goes through a provider for the trusted cluster, with the AWS provider's credentials", async (t) => {
  const roleArn = `${ACCOUNT}:role/deploy`;
  const settings = {
    "aws:profile": "dev",
    "aws:assumeRoles": [{ roleArn }],
    namespace: "ci",
    createNamespace: true,
  };
  const stack = await up(t, settings);
  const { kubeconfig, enableConfigMapMutable } = only<KubernetesProvider>(stack, "kubernetes").inputs;
  assert.equal(String(enableConfigMapMutable), "true");
  const { clusters, users } = JSON.parse(kubeconfig);
  assert.equal(clusters[0].cluster.server, stack.simulation.aws.endpoint);
  const credentials = ["--region", "us-west-2", "--profile", "dev", "--role-arn", roleArn];
  assert.deepEqual(users[0].user.exec.args, [...GET_TOKEN, "my-cluster", "--output", "json", ...credentials]);
  const objects = stack.registered.filter(({ type }) => type.startsWith("kubernetes:"));
  assert.equal(objects.length, 5);
  for (const { provider } of objects) assert.match(provider, /pulumi:providers:kubernetes::cluster::/);

  const plain = only<KubernetesProvider>(await up(t, { "aws:region": undefined }), "kubernetes");
  const [{ user }] = JSON.parse(plain.inputs.kubeconfig).users;
  assert.deepEqual(user.exec.args, [...GET_TOKEN, "my-cluster", "--output", "json"]);
});

test("createOidcProvider creates the IAM OIDC provider, retained on destroy, and the role trusts it", async (t) => {
  const stack = await up(t, { createOidcProvider: true }, { cluster: NO_PROVIDER });
  const { id, inputs, options } = only(stack, "OpenIdConnectProvider");
  assert.deepEqual(inputs, { url: stack.simulation.issuer.url, clientIdLists: ["sts.amazonaws.com"] });
  assert.equal(options.retainOnDelete, true);
  assert.equal(only<Role>(stack, "Role").inputs.assumeRolePolicy.Statement[0]?.Principal.Federated, id);
});

test("createCluster creates a cluster without passing credentials, and an IAM OIDC provider that is deleted with it", async (t) => {
  const settings = { createCluster: true, clusterName: "new", "aws:profile": "dev" };
  const stack = await up(t, settings, { cluster: undefined });
  const { inputs } = only(stack, "Cluster");
  assert.deepEqual([inputs.name, inputs.authenticationMode], ["new", "API"]);
  const { providerCredentialOpts, createOidcProvider } = inputs;
  assert.deepEqual([providerCredentialOpts, createOidcProvider], [undefined, undefined]);
  const provider = only(stack, "OpenIdConnectProvider");
  assert.equal(provider.options.retainOnDelete, false);
  assert.equal(
    only<Role>(stack, "Role").inputs.assumeRolePolicy.Statement[0]?.Principal.Federated,
    provider.id,
  );

  const kubernetes = only<KubernetesProvider>(stack, "kubernetes");
  const { clusters, users } = JSON.parse(kubernetes.inputs.kubeconfig);
  assert.equal(clusters[0].cluster.server, stack.simulation.aws.endpoint);
  assert.deepEqual(users[0].user.exec.args.slice(-2), ["--profile", "dev"]);
  assert.deepEqual(await labelsOf(kubernetes.options.dependsOn), ["Cluster eks-cluster"]);

  const issuer = only(stack, "OidcIssuer");
  assert.deepEqual(issuer.inputs.thumbprints, [stack.simulation.issuer.thumbprint()]);
  assert.deepEqual(issuer.options.ignoreChanges, ["thumbprints"]);
});

test("the outputs name what each service account has, and the first Job", async (t) => {
  const second = { name: "b", ...TEAM };
  const stack = await up(t, { serviceAccounts: [{ name: "a", runJob: false, createRole: false }, second] });
  const b = {
    roleArn: only<Role>(stack, "Role").outputs.arn,
    jobName: "b-token-abcde",
    tokenType: "team",
    tokenScope: "team:ops",
    environmentConfigMap: "b-pulumi-token",
    scriptConfigMap: "b-pulumi-token-exchange",
  };
  const { serviceAccounts, ...outputs } = stack.outputs;
  assert.deepEqual(serviceAccounts["default/b"], b);
  assert.deepEqual(Object.keys(serviceAccounts), ["default/a", "default/b"]);
  const [oidcIssuerId] = stack.simulation.pulumiCloud.list().map(({ id }) => id);
  assert.deepEqual(outputs, { jobName: b.jobName, issuerUrl: stack.simulation.issuer.url, oidcIssuerId });
});

test("no token is in what is registered, or in the outputs, though Jobs have exchanged theirs", async (t) => {
  const deployer = "pul-0123456789abcdef0123456789abcdef01234567";
  const { PULUMI_ACCESS_TOKEN = "" } = process.env;
  process.env.PULUMI_ACCESS_TOKEN = deployer;
  t.after(() => Object.assign(process.env, { PULUMI_ACCESS_TOKEN }));
  const { simulation, registered, outputs } = await up(t, { createRole: false }, { runJobs: true });
  assert.equal(simulation.pulumiCloud.exchanges.at(-1)?.status, 200);
  const everything = JSON.stringify([registered.map(({ options, ...it }) => it), outputs]);
  assert.equal(everything.includes(deployer), false);
  assert.doesNotMatch(everything, /eyJ[\w-]+\.[\w-]+/, "a JSON Web Token");
  assert.doesNotMatch(everything, /pul-[0-9a-f]{20}/, "an access token");
  assert.doesNotMatch(everything, /4dabf18193072939515e22adb298388d/, "the mark of a secret");
});

test("an invalid configuration stops the program with every problem, before anything is registered", async (t) => {
  const settings = { namespace: "A", command: "[]", serviceAccounts: [{ nmae: "a" }] };
  assert.equal(
    await messageOf(await start(t), settings, "organization"),
    `Invalid configuration for stack "dev" (4 problems). No changes were made.

  organization: required, because the stack has no organization
      pulumi config set organization ORGANIZATION
  namespace = "A": must be 1 to 63 lowercase letters, digits, or hyphens, and must not begin or end with a hyphen
      pulumi config set namespace NAMESPACE
  command = []: must name a program
      pulumi config set --path 'command[0]' pulumi
  serviceAccounts[0].nmae = "a": unknown setting; did you mean "name"?
      pulumi config rm --path 'serviceAccounts[0].nmae'
`,
  );
});

test("a cluster that does not exist stops the program with what to set", async (t) => {
  const message = await messageOf(await start(t), { clusterName: "nowhere" });
  assert.match(message, /^Failed to look up EKS cluster "nowhere" in us-west-2: reading EKS Cluster/);
  for (const fix of ["clusterName CLUSTER", "aws:region REGION", "createCluster true"]) {
    assert.ok(
      message.includes(`: pulumi config set ${fix}\n`) || message.includes(` pulumi config set ${fix}\n`),
    );
  }
});

test("a cluster without an issuer stops the program with the command to wait for it, in its region", async (t) => {
  const simulation = await start(t);
  const getCluster = simulation.calls["aws:eks/getCluster:getCluster"] ?? assert.fail();
  const { answer } = getCluster;
  const creating = (inputs: object) => ({ ...answer(inputs), status: "CREATING", identities: [] });
  t.mock.method(getCluster, "answer", creating);
  const message = await messageOf(simulation, {});
  assert.match(message, /"my-cluster" has no OIDC issuer yet; its status is CREATING/);
  assert.match(message, /^ {2}aws eks wait cluster-active --name my-cluster --region us-west-2$/m);
});

test("a cluster without an IAM OIDC provider stops the program with the ways to create one", async (t) => {
  const message = await messageOf(await start(t, { cluster: NO_PROVIDER }), {});
  assert.match(message, /^Failed to look up the IAM OIDC provider of EKS cluster "my-cluster": /);
  assert.match(message, /pulumi config set createOidcProvider true$/m);
  assert.match(message, /associate-iam-oidc-provider --cluster my-cluster --region us-west-2 --approve$/m);
});
