// What the stack registers, with the resource options, what its outputs are, and what stops it before it registers anything.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
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
  up,
} from "../support/stack";
import { setVariables } from "../support/variables";

const ACCOUNT = "arn:aws:iam::123456789012";
const POLICIES = ["arn:aws:iam::aws:policy/ReadOnlyAccess", `${ACCOUNT}:policy/b`];
const LONG = "n".repeat(63);
const TEAM = { tokenType: "team", teamName: "ops" };
const CLUSTER_ARN = "arn:aws:eks:us-west-2:123456789012:cluster/my-cluster";
const NO_PROVIDER = { name: "my-cluster", hasOidcProvider: false };
const GET_TOKEN = ["eks", "get-token", "--cluster-name", "my-cluster", "--output", "json"];

test("a stack with a login registers one service account with its role, ConfigMap, and Job", async (t) => {
  const stack = await up(t);
  assert.deepEqual(stack.registered.map(({ type, name }) => `${type} ${name}`).sort(), [
    "aws:iam/role:Role access.default.pulumi-service-account",
    "eks-pulumi-oidc:index:PulumiCloudAccess access",
    "eks-pulumi-oidc:index:WorkloadIdentity access.default.pulumi-service-account",
    "kubernetes:batch/v1:Job access.default.pulumi-service-account",
    "kubernetes:core/v1:ConfigMap access.default.pulumi-service-account.pulumi-token-exchange",
    "kubernetes:core/v1:ServiceAccount access.default.pulumi-service-account",
    "pulumi:index:Stash pulumi-cloud.url",
    "pulumi:providers:kubernetes cluster",
    "pulumi:providers:pulumiservice pulumi-cloud",
    "pulumiservice:index:OidcIssuer access.oidc-issuer",
  ]);
  const isEks = (path: string) => path.includes("/node_modules/@pulumi/eks/");
  assert.equal(Object.keys(require.cache).some(isEks), false, "@pulumi/eks loads all of @pulumi/aws");
});

test("several service accounts share the issuer, their namespace, and nothing else", async (t) => {
  const a = entry({ name: "a", namespace: "ci" });
  const serviceAccounts = [
    a,
    entry({ name: "b", namespace: "ci", ...TEAM }),
    entry({ name: "a", namespace: LONG }),
  ];
  const stack = await up(t, { serviceAccounts, createNamespaces: ["ci"] });
  const issuer = only<{ policies: { rules: object; teamName?: string }[] }>(stack, "OidcIssuer");
  const granted = issuer.inputs.policies.map(({ rules, teamName }) => [...Object.values(rules), teamName]);
  assert.equal(granted.join("; "), `ci,a,; ci,b,ops; ${LONG},a,`);
  assert.equal(all(stack, "Namespace").length, 1);
  for (const name of ["access.ci.a", "access.ci.b", `access.${LONG}.a`]) {
    const own = stack.registered.filter((it) => it.name === name || it.name.startsWith(`${name}.`));
    const parents = await Promise.all(own.map(({ options }) => labelsOf(options.parent)));
    // The component, and below it the role, the service account, the ConfigMap, and the Job.
    const expected = ["PulumiCloudAccess access", ...Array(4).fill(`WorkloadIdentity ${name}`)];
    assert.deepEqual(parents.flat().sort(), expected);
  }
});

test("a second stack of the cluster, for another organization, deploys beside the first", async (t) => {
  const { simulation } = await up(t);
  const { outputs } = await run(simulation, { organization: "other", ...stackWith({ name: "b" }) });
  assert.match(String(outputs.oidcIssuerId), /^other\//);
});

test("a namespace exists before anything is created in it", async (t) => {
  const simulation = await start(t);
  const namespaces = simulation.resources["kubernetes:core/v1:Namespace"] ?? assert.fail();
  const { create } = namespaces;
  // It takes longer than what does not wait for it.
  const slowly = (name: string, inputs: object) => sleep(200).then(() => create(name, inputs));
  t.mock.method(namespaces, "create", slowly);
  const stack = await run(simulation, { createNamespaces: ["ci"], ...stackWith({ namespace: "ci" }) });
  const [namespace, ...others] = stack.registered.filter(({ type }) => type.startsWith("kubernetes:"));
  const labels = { "pod-security.kubernetes.io/enforce": "restricted" };
  assert.deepEqual(namespace?.inputs.metadata, { name: "ci", labels });
  assert.equal(others.length, 3);
  // To delete it would delete the workloads in it.
  assert.equal(namespace?.options.retainOnDelete, true);
});

test("a namespace can have the name of a method", async (t) => {
  const stack = await up(t, stackWith({ namespace: "constructor" }));
  const { metadata } = only<{ metadata: { namespace: string } }>(stack, "ServiceAccount").inputs;
  assert.equal(metadata.namespace, "constructor");
});

test("a role has a path, a boundary, policies, and a name of at most 64 characters", async (t) => {
  const settings = { permissionsBoundaryArn: POLICIES[1], rolePath: "/pulumi/" };
  const serviceAccounts = [
    entry({ name: "b", rolePolicyArns: POLICIES }),
    entry({ name: LONG, namespace: LONG, rolePolicyArns: [] }),
  ];
  const stack = await up(t, { ...settings, serviceAccounts });
  const { id, inputs } = only(stack, "Role", "access.default.b");
  assert.deepEqual([inputs.path, inputs.permissionsBoundary], ["/pulumi/", POLICIES[1]]);
  assert.equal(inputs.namePrefix, "pulumi-oidc-default-b-");
  // Other programs attach policies, too. With one, AWS would not delete the role of a removed entry.
  assert.equal(inputs.forceDetachPolicies, true);
  const attached = all(stack, "RolePolicyAttachment").map((it) => [it.inputs.role, it.inputs.policyArn]);
  assert.equal(attached.join(), [id, POLICIES[0], id, POLICIES[1]].join());
  const long = only(stack, "Role", `access.${LONG}.${LONG}`);
  assert.match(String(long.inputs.namePrefix), /^pulumi-oidc-n{25}-$/);
  assert.ok(long.id.length <= 64);
});

for (const flags of ["", "RJ", "SR", "SJ", "SRJ"]) {
  const [createServiceAccount, hasRole, runJob] = [..."SRJ"].map((flag) => flags.includes(flag));
  const settings = { createServiceAccount, awsRole: hasRole ? "irsa" : "none", runJob };
  test(`${JSON.stringify(settings)} work together`, async (t) => {
    const serviceAccounts = createServiceAccount ? [] : ["default/pulumi-service-account"];
    const stack = await up(t, stackWith(settings), { serviceAccounts });
    const counts = ["ServiceAccount", "Role", "Job"].map((type) => all(stack, type).length);
    assert.deepEqual(counts, [createServiceAccount, hasRole, runJob].map(Number));

    const roleArn = all(stack, "Role")[0]?.outputs.arn;
    const annotations = hasRole && { annotations: { "eks.amazonaws.com/role-arn": roleArn } };
    for (const { inputs } of all(stack, "ServiceAccount")) {
      assert.deepEqual(inputs.metadata, {
        name: "pulumi-service-account",
        namespace: "default",
        ...annotations,
      });
      assert.equal(inputs.automountServiceAccountToken, false);
    }
    const [output] = Object.values(stack.outputs.serviceAccounts);
    assert.deepEqual([output?.roleArn, output?.jobName !== undefined], [roleArn, runJob]);
  });
}

test("an existing service account is read only for a Job, and must exist", async (t) => {
  const message = await messageOf(await start(t), stackWith({ createServiceAccount: false }));
  assert.match(message, /'default\/pulumi-service-account' does not exist/);
  await up(t, stackWith({ createServiceAccount: false, runJob: false }));
});

test("a Job waits for what its exchange needs, and runs again for a new issuer or its own policy", async (t) => {
  const a = entry({ name: "a", rolePolicyArns: POLICIES });
  const stack = await up(t, { serviceAccounts: [a, entry({ name: "b", ...TEAM })] });
  const { options } = only(stack, "Job", "access.default.a");
  assert.deepEqual(await labelsOf(options.dependsOn), [
    "OidcIssuer access.oidc-issuer",
    "ServiceAccount access.default.a",
    ...POLICIES.map((arn) => `RolePolicyAttachment access.default.a.${arn}`),
  ]);
  const issuer = only<{ policies: object[] }>(stack, "OidcIssuer");
  assert.deepEqual(await known(options.replacementTrigger), [issuer.id, issuer.inputs.policies[0]]);
  assert.deepEqual(options.customTimeouts, { create: "360s", update: "360s" });
  // A new Job cannot have the name of the one that it replaces.
  assert.equal(options.deleteBeforeReplace, true);
  // Workloads keep their settings until those can be granted.
  const configMap = only(stack, "ConfigMap", "access.default.a.pulumi-token-exchange");
  assert.deepEqual(await labelsOf(configMap.options.dependsOn), ["OidcIssuer access.oidc-issuer"]);
});

test("the issuer is registered with its thumbprint, through a provider for the configured Pulumi Cloud", async (t) => {
  const apiUrl = "https://pulumi.example";
  const limit = { maxExpirationSeconds: "9000", pulumiApiUrl: apiUrl };
  const stack = await up(t, { organization: "other", issuerName: "mine", ...limit });
  const { inputs, provider, options } = only(stack, "OidcIssuer");
  const { policies, ...others } = inputs;
  const { url, thumbprint } = stack.simulation.issuer;
  const named = { organization: "other", name: "mine", url, maxExpirationSeconds: 9000 };
  assert.deepEqual(others, { ...named, thumbprints: [thumbprint()] });
  assert.match(provider, /pulumi:providers:pulumiservice::/);
  assert.deepEqual(only(stack, "pulumiservice").inputs, { apiUrl });
  // The old one stays in force until the new one exists.
  assert.equal(options.deleteBeforeReplace, undefined);
  // A rotated certificate changes nothing, and a refresh shows no drift.
  assert.deepEqual(options.ignoreChanges, ["thumbprints"]);
});

test("every Kubernetes object goes through a provider with the AWS provider's cluster and credentials", async (t) => {
  const roleArn = `${ACCOUNT}:role/deploy`;
  const aws = { "aws:profile": "dev", "aws:assumeRoles": [{ roleArn, sessionName: "ci" }] };
  const stack = await up(t, { ...aws, createNamespaces: ["ci"], ...stackWith({ namespace: "ci" }) });
  const credentials = ["--region", "us-west-2", "--profile", "dev", "--role-arn", roleArn];
  assert.deepEqual(connectionOf(stack), [stack.simulation.aws.endpoint, [...GET_TOKEN, ...credentials]]);
  const { enableConfigMapMutable, clusterIdentifier } = only(stack, "kubernetes").inputs;
  // Another endpoint of the same cluster replaces nothing.
  assert.deepEqual(
    [String(enableConfigMapMutable), clusterIdentifier],
    ["true", stack.simulation.issuer.url],
  );
  const objects = stack.registered.filter(({ type }) => type.startsWith("kubernetes:"));
  assert.equal(objects.length, 4);
  for (const { provider } of objects) assert.match(provider, /pulumi:providers:kubernetes::cluster::/);

  const [, args] = connectionOf(await up(t, { "aws:region": undefined }));
  assert.deepEqual(args, GET_TOKEN);
});

test("a stack without IRSA roles works on a cluster without an IAM OIDC provider", async (t) => {
  const serviceAccounts = [entry({ awsRole: "none" }), entry({ name: "b", awsRole: "pod-identity" })];
  const stack = await up(t, { serviceAccounts }, { cluster: NO_PROVIDER });
  assert.deepEqual(all(stack, "OpenIdConnectProvider"), []);
  assert.equal(all(stack, "Job").length, 2);
});

test("an IRSA role trusts only this issuer, and the service account with the audience of AWS STS", async (t) => {
  const stack = await up(t);
  const { assumeRolePolicy: policy } = only<{ assumeRolePolicy: string | object }>(stack, "Role").inputs;
  const issuer = stack.simulation.issuer.url.replace("https://", "");
  assert.deepEqual(typeof policy === "string" ? JSON.parse(policy) : policy, {
    Version: "2012-10-17",
    Statement: [
      {
        Effect: "Allow",
        Principal: { Federated: `${ACCOUNT}:oidc-provider/${issuer}` },
        Action: "sts:AssumeRoleWithWebIdentity",
        Condition: {
          StringEquals: {
            [`${issuer}:sub`]: "system:serviceaccount:default:pulumi-service-account",
            [`${issuer}:aud`]: "sts.amazonaws.com",
          },
        },
      },
    ],
  });
});

test("a role of EKS Pod Identity trusts only this cluster, namespace, and service account", async (t) => {
  const stack = await up(t, stackWith({ awsRole: "pod-identity", rolePolicyArns: POLICIES }));
  const role = only<{ assumeRolePolicy: string | object }>(stack, "Role");
  const { assumeRolePolicy: policy } = role.inputs;
  assert.deepEqual(typeof policy === "string" ? JSON.parse(policy) : policy, {
    Version: "2012-10-17",
    Statement: [
      {
        Effect: "Allow",
        Principal: { Service: "pods.eks.amazonaws.com" },
        Action: ["sts:AssumeRole", "sts:TagSession"],
        Condition: {
          StringEquals: {
            "aws:RequestTag/eks-cluster-arn": CLUSTER_ARN,
            "aws:RequestTag/kubernetes-namespace": "default",
            "aws:RequestTag/kubernetes-service-account": "pulumi-service-account",
          },
        },
      },
    ],
  });
  const association = only(stack, "PodIdentityAssociation");
  assert.deepEqual(association.inputs, {
    region: "us-west-2",
    clusterName: "my-cluster",
    namespace: "default",
    serviceAccount: "pulumi-service-account",
    roleArn: role.outputs.arn,
  });
  // The EKS webhook would add the credentials of IRSA, too.
  assert.deepEqual(only<{ metadata: object }>(stack, "ServiceAccount").inputs.metadata, {
    name: "pulumi-service-account",
    namespace: "default",
  });
  const { dependsOn } = only(stack, "Job").options;
  assert.deepEqual((await labelsOf(dependsOn)).slice(2), [
    ...POLICIES.map((arn) => `RolePolicyAttachment access.default.pulumi-service-account.${arn}`),
    "PodIdentityAssociation access.default.pulumi-service-account",
  ]);
});

test("an association is in the region of the cluster's ARN, whatever the AWS provider's region is", async (t) => {
  const settings = { "aws:region": "eu-central-1", ...stackWith({ awsRole: "pod-identity" }) };
  const { region, clusterName } = only(await up(t, settings), "PodIdentityAssociation").inputs;
  assert.deepEqual([region, clusterName], ["us-west-2", "my-cluster"]);
});

test("createOidcProvider creates the IAM OIDC provider, retained on destroy, and the role trusts it", async (t) => {
  const stack = await up(t, { createOidcProvider: true }, { cluster: NO_PROVIDER });
  const { id, inputs, options } = only(stack, "OpenIdConnectProvider");
  assert.deepEqual(inputs, { url: stack.simulation.issuer.url, clientIdLists: ["sts.amazonaws.com"] });
  assert.equal(options.retainOnDelete, true);
  assert.ok(JSON.stringify(only(stack, "Role").inputs).includes(`"Federated":"${id}"`));
});

test("createCluster creates a cluster without passing credentials, and an IAM OIDC provider that is not retained", async (t) => {
  const settings = { createCluster: true, "aws:profile": "dev" };
  const stack = await up(t, settings, { cluster: undefined });
  const { name, authenticationMode, instanceType, ...others } = only(stack, "Cluster").inputs;
  assert.deepEqual([name, authenticationMode, instanceType], ["my-cluster", "API", "t3.medium"]);
  assert.deepEqual([others.providerCredentialOpts, others.createOidcProvider], [undefined, undefined]);
  const provider = only(stack, "OpenIdConnectProvider");
  assert.notEqual(provider.options.retainOnDelete, true);
  assert.ok(JSON.stringify(only(stack, "Role").inputs).includes(`"Federated":"${provider.id}"`));

  const credentials = ["--region", "us-west-2", "--profile", "dev"];
  assert.deepEqual(connectionOf(stack), [stack.simulation.aws.endpoint, [...GET_TOKEN, ...credentials]]);
  const kubernetes = only(stack, "kubernetes");
  assert.deepEqual(await labelsOf(kubernetes.options.dependsOn), ["Cluster eks-cluster"]);
  assert.deepEqual(only(stack, "OidcIssuer").inputs.thumbprints, [stack.simulation.issuer.thumbprint()]);
});

test("createCluster creates the agent of EKS Pod Identity, and an IAM OIDC provider, only if a role needs it", async (t) => {
  const settings = { createCluster: true, ...stackWith({ awsRole: "pod-identity" }) };
  const stack = await up(t, settings, { cluster: undefined });
  const { inputs, options } = only(stack, "Addon");
  assert.deepEqual(inputs, { clusterName: "my-cluster", addonName: "eks-pod-identity-agent" });
  assert.deepEqual(await labelsOf(options.dependsOn), ["Cluster eks-cluster"]);
  assert.deepEqual(all(stack, "OpenIdConnectProvider"), []);
  // A pod that is created before the agent runs has no role.
  const kubernetes = only(stack, "kubernetes");
  assert.deepEqual(await labelsOf(kubernetes.options.dependsOn), [
    "Cluster eks-cluster",
    "Addon eks-pod-identity-agent",
  ]);

  const irsa = await up(t, { createCluster: true }, { cluster: undefined });
  assert.deepEqual([all(irsa, "Addon").length, all(irsa, "OpenIdConnectProvider").length], [0, 1]);
});

test("the outputs name what each service account has", async (t) => {
  const a = entry({ name: "a", runJob: false, awsRole: "none" });
  const stack = await up(t, { serviceAccounts: [a, entry({ name: "b", ...TEAM })] });
  const { serviceAccounts, ...others } = stack.outputs;
  assert.deepEqual(Object.keys(serviceAccounts), ["default/a", "default/b"]);
  assert.deepEqual(serviceAccounts["default/a"], {
    tokenType: "personal",
    ...podParts("a-pulumi-token-exchange"),
  });
  const role = only(stack, "Role");
  assert.deepEqual(serviceAccounts["default/b"], {
    roleArn: role.outputs.arn,
    roleName: role.id,
    jobName: "b-token-exchange",
    tokenType: "team",
    ...podParts("b-pulumi-token-exchange"),
  });
  const oidcIssuerId = stack.simulation.pulumiCloud.list()[0]?.id;
  const issuerUrl = stack.simulation.issuer.url;
  assert.deepEqual(others, { issuerUrl, oidcIssuerId });
});

/** What the outputs have for a pod, with Kubernetes' own keys. */
function podParts(configMap: string) {
  const serviceAccountToken = { audience: "urn:pulumi:org:acme", expirationSeconds: 600, path: "token" };
  const sources = [{ configMap: { name: configMap } }, { serviceAccountToken }];
  const directory = "/var/run/secrets/pulumi.com";
  return {
    configMap,
    env: [{ name: "PULUMI_CREDENTIAL_HELPER", value: `${directory}/exchange-token.sh` }],
    volume: { name: "pulumi-token-exchange", projected: { defaultMode: 0o555, sources } },
    volumeMount: { name: "pulumi-token-exchange", mountPath: directory, readOnly: true },
  };
}

test("no token is in what is registered, or in the outputs, though Jobs have exchanged theirs", async (t) => {
  t.after(setVariables({ PULUMI_ACCESS_TOKEN: ACCESS_TOKEN }));
  const { simulation, registered, outputs } = await up(t, stackWith({ awsRole: "none" }), { runJobs: true });
  assert.equal(simulation.pulumiCloud.exchanges.at(-1)?.status, 200);
  const everything = JSON.stringify([registered.map(({ options, ...it }) => it), outputs]);
  // A JSON Web Token, an access token such as the deployer's, or the mark of a secret.
  assert.doesNotMatch(everything, /eyJ[\w-]+\.[\w-]+|pul-[0-9a-f]{20}|4dabf18193072939515e22adb298388d/);
});

test("an invalid configuration stops the program with every problem, before anything is registered", async (t) => {
  const serviceAccounts = [entry({ nmae: "a", command: [] })];
  assert.equal(
    await messageOf(await start(t), { serviceAccounts }, "organization"),
    `Invalid configuration in Pulumi.dev.yaml (3 problems). Nothing was changed.

  serviceAccounts[0].nmae: unknown setting; did you mean "name"?
  serviceAccounts[0].command: must name a program, such as ["pulumi","whoami"]
  organization: required, because the stack has no organization
`,
  );
});

test("an audience that is the issuer of the existing cluster stops the program before anything is registered", async (t) => {
  const simulation = await start(t);
  const message = await messageOf(simulation, stackWith({ tokenAudience: simulation.issuer.url }));
  assert.match(message, /^Invalid configuration in Pulumi\.dev\.yaml \(1 problem\)\. Nothing was changed\./);
  assert.match(message, /serviceAccounts\[0\]\.tokenAudience = .*: must not be the cluster's OIDC issuer/);
});

test("a cluster that does not exist stops the program with what to set", async (t) => {
  const message = await messageOf(await start(t), { clusterName: "nowhere" });
  assert.match(message, /^Failed to look up EKS cluster "nowhere" in us-west-2: reading EKS Cluster/);
  for (const setting of ["clusterName", "aws:region", "createCluster"]) assert.ok(message.includes(setting));
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
  for (const way of ["createOidcProvider to true", "awsRole to none", "awsRole to pod-identity"]) {
    assert.ok(message.includes(`set ${way}`), message);
  }
});

/** Returns the API server and the arguments of `aws` in the Kubernetes provider's kubeconfig. */
function connectionOf(stack: Stack): [server: unknown, args: unknown] {
  const { clusters, users } = JSON.parse(String(only(stack, "kubernetes").inputs.kubeconfig));
  return [clusters[0].cluster.server, users[0].user.exec.args];
}
