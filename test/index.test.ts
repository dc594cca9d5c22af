// What the stack registers in each of its variants, with the resource options, and what stops it before it registers
// anything.

import assert from "node:assert/strict";
import { after, before, mock, type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import * as pulumi from "@pulumi/pulumi";
import { createCertificateAuthority } from "../simulator/certificates";
import { type Registration, runProgram } from "../simulator/mocks";
import { type Simulation, type SimulationOptions, startSimulation } from "../simulator/simulation";

const PROJECT = "eks-pulumi-oidc";
const RULES = {
  '"kubernetes.io".namespace': "default",
  '"kubernetes.io".serviceaccount.name': "pulumi-service-account",
};

// The stack without any further setting is only looked at. The others come up and go, one after the other, in a simulation
// of their own: to start one takes a while.
let plain: Stack;
let simulation: Simulation;
let plainSimulation: Simulation;
before(async () => {
  simulation = await start();
  plainSimulation = await start();
  plain = { simulation: plainSimulation, ...(await run(plainSimulation, {})) };
});
after(() => Promise.all([simulation.close(), plainSimulation.close()]));

test("an existing cluster gets role, service account, issuer, script and Job, and @pulumi/eks is not loaded", () => {
  const { registered } = plain;
  assert.deepEqual(registered.map(({ type, name }) => `${type} ${name}`).sort(), [
    "aws:iam/role:Role pulumi-oidc",
    "kubernetes:batch/v1:Job runner",
    "kubernetes:core/v1:ConfigMap script",
    "kubernetes:core/v1:ServiceAccount service-account",
    "pulumi:providers:kubernetes cluster",
    "pulumi:providers:pulumiservice pulumi-cloud",
    "pulumiservice:index:OidcIssuer oidc-issuer",
  ]);
  assert.equal(isLoaded("@pulumi/eks"), false);
});

test("the outputs name what was made", () => {
  const { simulation, registered, outputs } = plain;
  assert.deepEqual(outputs, {
    jobName: of(registered, "Job").id.replace("default/", ""),
    roleArn: `arn:aws:iam::123456789012:role/${of(registered, "Role").id}`,
    serviceAccount: "default/pulumi-service-account",
    issuerUrl: simulation.issuer.url,
    oidcIssuerId: simulation.pulumiCloud.list()[0]?.id,
  });
});

test("the role trusts the IAM OIDC provider of the cluster's issuer, and the service account names the role", async (t) => {
  const { simulation, registered } = await up(
    t,
    { namespace: "ci", serviceAccountName: "runner" },
    { namespaces: ["ci"] },
  );
  const issuer = simulation.issuer.url.replace("https://", "");
  const role = of(registered, "Role");
  assert.deepEqual(role.inputs, {
    description: `Pods of ci/runner, by ${simulation.issuer.url}`,
    assumeRolePolicy: {
      Version: "2012-10-17",
      Statement: [
        {
          Effect: "Allow",
          Principal: { Federated: `arn:aws:iam::123456789012:oidc-provider/${issuer}` },
          Action: "sts:AssumeRoleWithWebIdentity",
          Condition: {
            StringEquals: {
              [`${issuer}:sub`]: "system:serviceaccount:ci:runner",
              [`${issuer}:aud`]: "sts.amazonaws.com",
            },
          },
        },
      ],
    },
  });
  assert.deepEqual(of(registered, "ServiceAccount").inputs, {
    apiVersion: "v1",
    kind: "ServiceAccount",
    metadata: {
      name: "runner",
      namespace: "ci",
      annotations: { "eks.amazonaws.com/role-arn": `arn:aws:iam::123456789012:role/${role.id}` },
    },
    automountServiceAccountToken: false,
  });
});

test("the issuer is registered with its thumbprint and one allow policy, through a provider that knows its API", async (t) => {
  const { simulation, registered } = await up(t, { issuerName: "mine", maxExpirationSeconds: "9000" });
  const issuer = of(registered, "OidcIssuer");
  assert.deepEqual(issuer.inputs, {
    organization: "acme",
    name: "mine",
    url: simulation.issuer.url,
    maxExpirationSeconds: 9000,
    thumbprints: [simulation.issuer.thumbprint()],
    policies: [{ decision: "allow", tokenType: "personal", userLogin: "my-login", rules: RULES }],
  });
  assert.match(issuer.provider, /pulumi:providers:pulumiservice::pulumi-cloud::pulumi-cloud-id$/);
  assert.deepEqual(of(registered, "pulumiservice").inputs, { apiUrl: "https://api.pulumi.com" });
});

test("configured thumbprints are registered instead of the issuer's own", async (t) => {
  const thumbprints = ["ab".repeat(32), simulation.issuer.thumbprint()];
  const { registered } = await up(t, { thumbprints: JSON.stringify(thumbprints) });
  assert.deepEqual(of(registered, "OidcIssuer").inputs.thumbprints, thumbprints);
});

test("a self-hosted Pulumi Cloud is what the provider registers with, and what the pod asks", async (t) => {
  const { registered } = await up(t, { pulumiApiUrl: "https://pulumi.example" });
  assert.deepEqual(of(registered, "pulumiservice").inputs, { apiUrl: "https://pulumi.example" });
  assert.equal(variables(registered).PULUMI_BACKEND_URL, "https://pulumi.example");
});

test("the Kubernetes provider reaches the very cluster whose issuer is trusted, as the AWS provider would", async (t) => {
  const { simulation, registered } = await up(t, { "aws:profile": "dev" });
  const { kubeconfig } = of(registered, "kubernetes").inputs;
  const certificateAuthority = Buffer.from("the cluster's authority").toString("base64");
  const args = ["eks", "get-token", "--cluster-name", "my-cluster", "--output", "json"];
  assert.deepEqual(JSON.parse(String(kubeconfig)), {
    apiVersion: "v1",
    kind: "Config",
    clusters: [
      {
        name: "my-cluster",
        cluster: { server: simulation.aws.endpoint, "certificate-authority-data": certificateAuthority },
      },
    ],
    users: [
      {
        name: "my-cluster",
        user: {
          exec: {
            apiVersion: "client.authentication.k8s.io/v1beta1",
            command: "aws",
            args: [...args, "--region", "us-west-2", "--profile", "dev"],
          },
        },
      },
    ],
    contexts: [{ name: "my-cluster", context: { cluster: "my-cluster", user: "my-cluster" } }],
    "current-context": "my-cluster",
  });
});

test("without region and profile of the AWS provider the kubeconfig names none either", async (t) => {
  const { registered } = await up(t, { "aws:region": "" });
  assert.doesNotMatch(String(of(registered, "kubernetes").inputs.kubeconfig), /--region|--profile/);
});

test("every object of Kubernetes goes through that provider", async (t) => {
  const { registered } = await up(t, { createNamespace: "true", namespace: "ci" });
  const objects = registered.filter(({ type }) => type.startsWith("kubernetes:"));
  assert.equal(objects.length, 4);
  for (const { provider } of objects)
    assert.match(provider, /pulumi:providers:kubernetes::cluster::cluster-id$/);
});

test("createOidcProvider makes the IAM OIDC provider, which outlives the stack, and the role trusts it", async (t) => {
  const cluster = { name: "my-cluster", hasOidcProvider: false };
  const { simulation, registered, options } = await up(t, { createOidcProvider: "true" }, { cluster });
  const provider = of(registered, "OpenIdConnectProvider");
  assert.deepEqual(provider.inputs, { url: simulation.issuer.url, clientIdLists: ["sts.amazonaws.com"] });
  assert.equal(options.get("oidc-provider")?.retainOnDelete, true);
  assert.equal(principal(registered), provider.id);
});

test("createCluster makes a cluster with an IAM OIDC provider, and the stack stands on what it gives", async (t) => {
  const settings = { createCluster: "true", clusterName: "new", "aws:profile": "dev" };
  const { simulation, registered, options, names } = await up(t, settings, { cluster: undefined });

  const cluster = of(registered, "Cluster");
  assert.equal(cluster.inputs.name, "new");
  assert.equal(cluster.inputs.createOidcProvider, true);
  assert.deepEqual(cluster.inputs.providerCredentialOpts, { profileName: "dev" });
  assert.ok(isLoaded("@pulumi/eks"));
  assert.equal(
    principal(registered),
    `arn:aws:iam::123456789012:oidc-provider/${simulation.issuer.url.slice(8)}`,
  );

  const { kubeconfig } = of(registered, "kubernetes").inputs;
  assert.equal(JSON.parse(String(kubeconfig)).clusters[0].cluster.server, simulation.aws.endpoint);
  assert.deepEqual(names(options.get("cluster")?.dependsOn), ["eks-cluster"]);

  const issuer = of(registered, "OidcIssuer");
  assert.equal(issuer.inputs.url, simulation.issuer.url);
  assert.deepEqual(issuer.inputs.thumbprints, [simulation.issuer.thumbprint()]);
  assert.equal(simulation.pulumiCloud.exchanges.at(-1)?.status, 200);
});

test("createNamespace makes the namespace under Pod Security restricted, before anything is put into it", async (t) => {
  const namespaces =
    simulation.resources["kubernetes:core/v1:Namespace"] ?? assert.fail("the simulation keeps none");
  const { create } = namespaces;
  t.mock.method(namespaces, "create", async (name: string, inputs: object) => {
    // It takes longer than what does not wait for it.
    await sleep(200);
    return create(name, inputs);
  });
  const { registered } = await up(t, { createNamespace: "true", namespace: "ci" });
  assert.deepEqual(of(registered, "Namespace").inputs.metadata, {
    name: "ci",
    labels: { "pod-security.kubernetes.io/enforce": "restricted" },
  });
  const objects = registered.filter(({ type }) => type.startsWith("kubernetes:"));
  assert.equal(objects[0]?.type, "kubernetes:core/v1:Namespace");
  for (const { id } of objects.slice(1)) assert.match(id, /^ci\//);
});

test("the role gets its policies and its boundary, and the pod waits for the policies", async (t) => {
  const arns = ["arn:aws:iam::aws:policy/ReadOnlyAccess", "arn:aws:iam::123456789012:policy/b"];
  const { registered, options, names } = await up(t, {
    rolePolicyArns: JSON.stringify(arns),
    permissionsBoundaryArn: "arn:aws:iam::123456789012:policy/edge",
  });
  const role = of(registered, "Role");
  assert.equal(role.inputs.permissionsBoundary, "arn:aws:iam::123456789012:policy/edge");
  const attachments = registered.filter(({ type }) => type.endsWith(":RolePolicyAttachment"));
  assert.deepEqual(
    attachments.map(({ inputs }) => inputs),
    arns.map((policyArn) => ({ role: role.id, policyArn })),
  );
  assert.deepEqual(names(options.get("runner")?.dependsOn), [...arns, "service-account", "oidc-issuer"]);
});

test("the pod waits for an issuer whose registration takes long", async (t) => {
  const { simulation } = await up(t, {}, { registrationMilliseconds: 700 });
  assert.deepEqual(
    simulation.pulumiCloud.exchanges.map(({ status }) => status),
    [200],
  );
});

test("the Job runs again when the issuer, its policies, its thumbprints or the trust policy change", async () => {
  const { registered, options } = plain;
  const issuer = of(registered, "OidcIssuer");
  const trigger = await known(options.get("runner")?.replacementTrigger);
  const [id, policies, thumbprints, trustPolicy, ...others] = Array.isArray(trigger) ? trigger : [];
  assert.equal(id, issuer.id);
  assert.deepEqual(policies, issuer.inputs.policies);
  assert.deepEqual(thumbprints, issuer.inputs.thumbprints);
  assert.deepEqual(JSON.parse(trustPolicy), of(registered, "Role").inputs.assumeRolePolicy);
  assert.deepEqual(others, []);
});

test("the update waits for the Job a minute longer than the Job may take", () => {
  const { registered, options } = plain;
  assert.deepEqual(of(registered, "Job").inputs.spec?.activeDeadlineSeconds, 300);
  assert.deepEqual(options.get("runner")?.customTimeouts, { create: "360s", update: "360s" });
});

test("a new registration of the issuer waits for the old one to go", () => {
  const { options } = plain;
  assert.equal(options.get("oidc-issuer")?.deleteBeforeReplace, true);
});

for (const [settings, grant, scope] of [
  [{ userLogin: "alice" }, { tokenType: "personal", userLogin: "alice" }, "user:alice"],
  [{ tokenType: "organization" }, { tokenType: "organization" }, ""],
  [
    { tokenType: "organization", organizationAdmin: "true" },
    { tokenType: "organization", authorizedPermissions: ["admin"] },
    "admin",
  ],
  [{ tokenType: "team", teamName: "ops" }, { tokenType: "team", teamName: "ops" }, "team:ops"],
  [
    { tokenType: "runner", runnerId: "id-1", runnerName: "pool" },
    { tokenType: "runner", runnerID: "id-1" },
    "runner:pool",
  ],
] satisfies [Record<string, string>, Record<string, unknown>, string][]) {
  test(`${JSON.stringify(settings)} grants and gets such a token`, async (t) => {
    const runners = [
      { id: "id-1", name: "pool" },
      { id: "id-2", name: "other" },
    ];
    const { simulation, registered } = await up(t, { userLogin: "", ...settings }, { runners });
    assert.deepEqual(of(registered, "OidcIssuer").inputs.policies, [
      { decision: "allow", ...grant, rules: RULES },
    ]);
    const { PULUMI_TOKEN_TYPE, PULUMI_TOKEN_SCOPE } = variables(registered);
    assert.deepEqual([PULUMI_TOKEN_TYPE, PULUMI_TOKEN_SCOPE], [grant.tokenType, scope]);
    assert.equal(
      simulation.pulumiCloud.exchanges.at(-1)?.reason,
      `${grant.tokenType} token${scope && `, scope ${scope}`}`,
    );
  });
}

test("an audience of its own becomes a rule, and the pod shows a token with it", async (t) => {
  const { simulation, registered } = await up(t, { tokenAudience: "urn:pulumi:org:acme" });
  assert.deepEqual(policy(registered).rules, { ...RULES, aud: "urn:pulumi:org:acme" });
  assert.equal(simulation.pulumiCloud.exchanges.at(-1)?.status, 200);
});

test("audienceRule demands the webhook's audience too, and further rules stand beside it", async (t) => {
  const policyRules = '{"\\"kubernetes.io\\".pod.name":"runner-*"}';
  const { simulation, registered } = await up(t, { audienceRule: "true", policyRules });
  const pod = { '"kubernetes.io".pod.name': "runner-*" };
  assert.deepEqual(policy(registered).rules, { ...RULES, aud: "sts.amazonaws.com", ...pod });
  assert.equal(simulation.pulumiCloud.exchanges.at(-1)?.status, 200);
});

test("the organization of the settings is where the issuer goes and the pod's token comes from", async (t) => {
  const { registered, outputs } = await up(t, { organization: "other" });
  assert.equal(of(registered, "OidcIssuer").inputs.organization, "other");
  assert.equal(variables(registered).PULUMI_ORG, "other");
  assert.match(String(outputs.oidcIssuerId), /^other\//);
});

test("a stack whose state is in files has no organization, and has to name one", async () => {
  const failure = await stopped(simulation, {}, "organization");
  assert.match(
    failure,
    /^One setting of stack dev must be mended; nothing was changed\.\n\n {2}organization: is not set/,
  );
});

test("no token is in what is registered, or in the outputs, though all was made with tokens", async (t) => {
  const deployer = "pul-0123456789abcdef0123456789abcdef01234567";
  const before = process.env.PULUMI_ACCESS_TOKEN;
  process.env.PULUMI_ACCESS_TOKEN = deployer;
  t.after(() => {
    if (before === undefined) delete process.env.PULUMI_ACCESS_TOKEN;
    else process.env.PULUMI_ACCESS_TOKEN = before;
  });
  const { simulation, registered, outputs } = await up(t, { tokenAudience: "urn:pulumi:org:acme" });
  assert.equal(simulation.pulumiCloud.exchanges.at(-1)?.status, 200);

  const everything = JSON.stringify({ registered, outputs });
  assert.ok(!everything.includes(deployer));
  assert.doesNotMatch(everything, /eyJ[\w-]+\.[\w-]+/, "a JSON Web Token");
  assert.doesNotMatch(everything, /pul-[0-9a-f]{20}/, "an access token");
  assert.doesNotMatch(everything, /4dabf18193072939515e22adb298388d/, "the mark of a secret");
});

test("with wrong settings nothing is registered, and one message lists all of them with their remedies", async () => {
  const failure = await stopped(simulation, { namespace: "A", command: "[]", typo: "1" });
  assert.match(failure, /^3 settings of stack dev must be mended; nothing was changed\.\n\n/);
  assert.match(failure, /^ {2}namespace = "A": must be .*\n {6}pulumi config set namespace NAMESPACE$/m);
  assert.match(
    failure,
    /^ {2}command = \[\]: must name .*\n {6}pulumi config set --type string --path 'command\[0\]' pulumi$/m,
  );
  assert.match(failure, /^ {2}typo = "1": is no setting .*\n {6}pulumi config rm typo$/m);
});

test("with a cluster that does not exist nothing is registered, and the message says how to name another one", async () => {
  const failure = await stopped(simulation, { clusterName: "nowhere" });
  assert.equal(
    failure,
    `The EKS cluster "nowhere" cannot be read in us-west-2: reading EKS Cluster (nowhere): couldn't find resource

  another name:    pulumi config set clusterName CLUSTER
  another region:  pulumi config set aws:region REGION
  none exists yet: pulumi config set createCluster true
`,
  );
});

test("with a cluster that has no issuer yet nothing is registered, and the message says how to wait", async (t) => {
  const getCluster = simulation.calls["aws:eks/getCluster:getCluster"];
  assert.ok(getCluster);
  const { answer } = getCluster;
  t.mock.method(getCluster, "answer", (inputs: object) => ({
    ...answer(inputs),
    status: "CREATING",
    identities: [],
  }));
  const failure = await stopped(simulation, {});
  assert.match(failure, /"my-cluster" has no OIDC issuer; its status is CREATING\. Wait until it is ACTIVE:/);
  assert.match(failure, /^ {2}aws eks wait cluster-active --name my-cluster$/m);
});

test("without an IAM OIDC provider nothing is registered, and the message says how to get one", async (t) => {
  const simulation = await start({ cluster: { name: "my-cluster", hasOidcProvider: false } }, t);
  const failure = await stopped(simulation, {});
  assert.match(
    failure,
    /^The EKS cluster "my-cluster" has no IAM OIDC provider that can be read: .*resource\n/,
  );
  assert.match(failure, /: pulumi config set createOidcProvider true$/m);
  assert.match(failure, /: +eksctl utils associate-iam-oidc-provider --cluster my-cluster --approve$/m);
});

test("with a certificate that does not verify nothing is registered, and the message says what to trust", async (t) => {
  const simulation = await start({}, t);
  await simulation.issuer.rotateCertificate({ authority: await createCertificateAuthority() });
  const failure = await stopped(simulation, {});
  assert.match(failure, /^The serving certificate of https:\S+ cannot be trusted:\n/);
  assert.match(failure, /unable to verify the first certificate/);
  assert.match(failure, /^ {2}pulumi config set --path 'thumbprints\[0\]' SHA256$/m);
});

interface Stack {
  simulation: Simulation;
  outputs: Record<string, unknown>;
  registered: Registered[];
  /** By the resource's name. */
  options: Map<string, pulumi.CustomResourceOptions>;
  /** The names of these resources. */
  names(resources: unknown): (string | undefined)[];
}

/** As far as the tests look into it. */
type Registered = Registration & {
  inputs: {
    policies?: { rules: Record<string, string> }[];
    assumeRolePolicy?: { Statement: { Principal: { Federated: string } }[] };
    spec?: {
      activeDeadlineSeconds: number;
      template: { spec: { containers: { env: { name: string; value: string }[] }[] } };
    };
  };
};

/** Brings the stack up with these settings on top of the required ones, and takes it down after the test. */
async function up(
  t: TestContext,
  settings: Record<string, string>,
  options?: Partial<SimulationOptions>,
): Promise<Stack> {
  const own = options ? await start(options, t) : simulation;
  const made: Registration[] = [];
  t.after(() => {
    for (const { type, id } of made.toReversed()) own.resources[type]?.delete(id);
  });
  return { simulation: own, ...(await run(own, settings, (registration) => made.push(registration))) };
}

/** Starts a simulation, which ends with the test if one is given. */
async function start(options: Partial<SimulationOptions> = {}, t?: TestContext): Promise<Simulation> {
  const started = await startSimulation({
    region: "us-west-2",
    cluster: { name: "my-cluster", hasOidcProvider: true },
    registrationMilliseconds: 0,
    ...options,
  });
  t?.after(() => started.close());
  return started;
}

async function run(
  simulation: Simulation,
  settings: Record<string, string>,
  onRegistered: (registration: Registration) => void = () => {},
): Promise<Omit<Stack, "simulation">> {
  const options = new Map<string, pulumi.CustomResourceOptions>();
  const nameOf = new Map<unknown, string>();
  // The SDK's mocks see no resource options; a transformation of the stack does.
  const { runInPulumiStack } = pulumi.runtime;
  const spy = mock.method(pulumi.runtime, "runInPulumiStack", (program: () => Promise<unknown>) =>
    runInPulumiStack(async () => {
      pulumi.runtime.registerStackTransformation(({ resource, name, opts }) => {
        options.set(name, opts);
        nameOf.set(resource, name);
        return undefined;
      });
      return program();
    }),
  );
  const result = await runProgram(simulation, { ...stackOf(settings), onRegistered }).finally(() =>
    spy.mock.restore(),
  );
  const names = (resources: unknown) => [resources].flat().map((resource) => nameOf.get(resource));
  return { ...result, options, names };
}

/** The message with which the program stops; the simulation is as it was. */
async function stopped(
  simulation: Simulation,
  settings: Record<string, string>,
  organization = "acme",
): Promise<string> {
  const before = simulation.existing();
  const registered: string[] = [];
  const onRegistered = ({ type }: Registration) => registered.push(type);
  // A failure is told once more in rejections that nobody handles, each of which the test runner would take for one
  // of its own.
  const listeners = process.rawListeners("unhandledRejection");
  process.removeAllListeners("unhandledRejection").on("unhandledRejection", () => {});
  let failure: unknown;
  await runProgram(simulation, { ...stackOf(settings), organization, onRegistered }).catch(
    (error: unknown) => {
      failure = error;
    },
  );
  await new Promise(setImmediate);
  process.removeAllListeners("unhandledRejection");
  for (const listener of listeners) process.on("unhandledRejection", (...args) => listener(...args));

  assert.deepEqual(registered, []);
  assert.deepEqual(simulation.existing(), before);
  // Of such an error the engine prints the message alone.
  assert.ok(pulumi.RunError.isInstance(failure));
  return failure.message;
}

function stackOf(settings: Record<string, string>) {
  const config: Record<string, string> = {};
  const required = { clusterName: "my-cluster", userLogin: "my-login", "aws:region": "us-west-2" };
  for (const [key, value] of Object.entries({ ...required, ...settings })) {
    if (value !== "") config[key.includes(":") ? key : `${PROJECT}:${key}`] = value;
  }
  return { project: PROJECT, stack: "dev", organization: "acme", config };
}

/** The one resource whose type ends in this name. */
function of(registered: Registered[], type: string): Registered {
  const [found, ...others] = registered.filter((registration) => registration.type.endsWith(`:${type}`));
  assert.deepEqual(others, []);
  return found ?? assert.fail(`no ${type} was registered`);
}

function policy(registered: Registered[]) {
  return of(registered, "OidcIssuer").inputs.policies?.[0] ?? assert.fail("the issuer has no policy");
}

function principal(registered: Registered[]) {
  return of(registered, "Role").inputs.assumeRolePolicy?.Statement[0]?.Principal.Federated;
}

function variables(registered: Registered[]): Record<string, string> {
  const container = of(registered, "Job").inputs.spec?.template.spec.containers[0];
  return Object.fromEntries(container?.env.map(({ name, value }) => [name, value]) ?? []);
}

function known(value: unknown): Promise<unknown> {
  return new Promise((resolve) => pulumi.all([value]).apply(([plain]) => resolve(plain)));
}

function isLoaded(name: string): boolean {
  return Object.keys(require.cache).some((path) => path.includes(`/node_modules/${name}/`));
}
