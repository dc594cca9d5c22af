// The component's arguments and options: all problems at once, before anything is registered, and outputs for plain values.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Provider as AwsProvider } from "@pulumi/aws/provider";
import { Namespace } from "@pulumi/kubernetes/core/v1";
import { Provider } from "@pulumi/kubernetes/provider";
import type { output } from "@pulumi/kubernetes/types";
import * as pulumi from "@pulumi/pulumi";
import { unknown } from "@pulumi/pulumi/output";
import { Provider as PulumiCloudProvider } from "@pulumi/pulumiservice/provider";
import { PulumiCloudAccess, type PulumiCloudAccessArgs } from "../../pulumiCloudAccess";
import type { ServiceAccountOutputs } from "../../workloadIdentity";
import { known, labelOf, type Options, type Registered, runProgram } from "../core/program";
import { failureOf } from "../support/failure";

type Job = output.batch.v1.Job;
type MutatingAdmissionPolicy = output.admissionregistration.v1.MutatingAdmissionPolicy;

const ENTRY = { namespace: "ci", name: "deployer", tokenType: "organization", awsRole: "none" } as const;
const ARGS: PulumiCloudAccessArgs = {
  organization: "acme",
  issuerName: "eks-prod",
  issuerUrl: pulumi.output("https://oidc.example/id/A"),
  serviceAccounts: [ENTRY],
};

const OIDC_PROVIDER = "arn:aws:iam::123456789012:oidc-provider/oidc.example/id/A";
const CLUSTER = "arn:aws-cn:eks:cn-north-1:123456789012:cluster/my-cluster";

/** The component of the last program, and what that registered. */
let component: PulumiCloudAccess | undefined;
let registered: Registered[] = [];

test("reports every problem of the arguments at once, and registers nothing", async () => {
  const args = {
    ...ARGS,
    issuerUrl: undefined,
    issuerNmae: "a",
    teams: [],
    maxExpirationSeconds: 0,
    serviceAccounts: [
      { ...ENTRY, awsRole: undefined, rolePolicyArns: [], tokenExpirationSeconds: "a" },
      { ...ENTRY, name: "other", awsRole: "pod-identity", clusterName: "b" },
    ],
  };
  assert.equal(
    await rejected(args, () => ({})),
    `Invalid arguments of PulumiCloudAccess "access" (9 problems). Nothing was changed.

  issuerNmae: unknown setting; did you mean "issuerName"?
  teams: is not a setting: a team belongs to the organization, not to a cluster. Create teams and their permissions with a program of their own, such as examples/fleet/teams
  maxExpirationSeconds = 0: must be at least 1 second
  serviceAccounts[0] (ci/deployer).tokenExpirationSeconds = "a": must be a whole number of seconds
  serviceAccounts[1] (ci/other).clusterName: unknown setting
  issuerUrl: required
  oidcProviderArn: required, because an awsRole is irsa, the default with rolePolicyArns
  clusterArn: required, because an awsRole is pod-identity
  providers: this resource option must contain the Kubernetes provider of the cluster
`,
  );
  assert.deepEqual(registered, []);
});

test("accepts no output where a plain value is needed, and says what to write instead", async () => {
  const later = pulumi.output("a");
  const policyRules = pulumi.output({ sub: "a*" });
  const roles = { awsRole: "irsa", rolePolicyArns: [later] };
  const names = { namespace: later, name: later };
  const serviceAccounts = [{ ...ENTRY, ...roles, ...names, policyRules, command: later }];
  const args = { ...ARGS, oidcProviderArn: later, serviceAccounts, jobPodSpec: { nodeSelector: later } };
  const reason = "must be a plain value, not an output or a secret";
  assert.equal(
    await rejected(args),
    `Invalid arguments of PulumiCloudAccess "access" (6 problems). Nothing was changed.

  jobPodSpec.nodeSelector: ${reason}
  serviceAccounts[0].namespace: ${reason}. Write the name as a string. If the program creates the namespace, add it to dependsOn of this component
  serviceAccounts[0].name: ${reason}. Write the name as a string. If the program creates the service account, set createServiceAccount to false, add it to dependsOn of this component, and set runJob to false for the first update
  serviceAccounts[0].policyRules: ${reason}. Only its values can be outputs
  serviceAccounts[0].rolePolicyArns[0]: ${reason}. If the program creates the policy, attach it to roleName of the output serviceAccounts with a RolePolicyAttachment
  serviceAccounts[0].command: ${reason}
`,
  );
  assert.match(await rejected({ ...ARGS, serviceAccounts: pulumi.output([ENTRY]) }), /\(1 problem\)/);
});

test("accepts only a URL and ARNs of the right kind", async () => {
  const swapped = { issuerUrl: "https://a b", oidcProviderArn: CLUSTER, clusterArn: OIDC_PROVIDER };
  assert.match(
    await rejected({ ...ARGS, ...swapped }),
    /\(3 problems\).* issuerUrl = .*: must be a URL\n.* oidcProviderArn = .*: must be the ARN of an IAM OIDC provider\n.* clusterArn = .*: must be the ARN of an EKS cluster\n/s,
  );
});

test("names what is required if a program passes no arguments", async () => {
  assert.match(await rejected(undefined), /\(4 problems\).* organization: required\n/s);
});

/** Outputs that are invalid, each with the problem. */
const INVALID_OUTPUTS: [changes: object, problem: string][] = [
  [
    { issuerUrl: Promise.resolve("http://oidc.example/id/A") },
    'issuerUrl = "http://oidc.example/id/A": must begin with https://, as oidcProviderUrl of @pulumi/eks does',
  ],
  [
    { permissionsBoundaryArn: pulumi.output("") },
    "permissionsBoundaryArn: is an output without a value. Leave the setting out, or set a value",
  ],
  [
    { serviceAccounts: [{ ...ENTRY, tokenAudience: pulumi.secret("hunter 2") }] },
    "serviceAccounts[0] (ci/deployer).tokenAudience: must not be a secret, because Pulumi Cloud and the cluster store it in plaintext. If it is not confidential, remove the mark with pulumi.unsecret",
  ],
  [
    {
      serviceAccounts: [
        { ...ENTRY, name: "a" },
        { ...ENTRY, policyRules: { sub: pulumi.output("*") } },
      ],
    },
    'serviceAccounts[1] (ci/deployer).policyRules.sub = "*": must not consist only of wildcards',
  ],
  [
    { serviceAccounts: [{ ...ENTRY, tokenAudience: pulumi.output("sts.amazonaws.com") }] },
    'serviceAccounts[0] (ci/deployer).tokenAudience = "sts.amazonaws.com": must begin with urn:pulumi:, or be https://api.pulumi.com',
  ],
];

for (const [changes, problem] of INVALID_OUTPUTS) {
  test(`registers nothing with an invalid output: ${problem.slice(0, 60)}`, async () => {
    assert.equal(
      await rejected({ ...ARGS, ...changes }),
      `Invalid arguments of PulumiCloudAccess "access" (1 problem). None of its resources was changed.\n\n  ${problem}\n`,
    );
    assert.deepEqual(
      registered.map(({ type }) => type),
      ["pulumi:providers:kubernetes"],
    );
  });
}

test("uses outputs wherever the plain values would be", async () => {
  const later = (value: string) => pulumi.output(Promise.resolve(value));
  const args: PulumiCloudAccessArgs = {
    ...ARGS,
    organization: later("acme"),
    oidcProviderArn: later(`${OIDC_PROVIDER}/`),
    clusterArn: later(CLUSTER),
    permissionsBoundaryArn: later("arn:aws:iam::123456789012:policy/boundary"),
    serviceAccounts: [
      { ...ENTRY, awsRole: "irsa", policyRules: { sub: later("a*") } },
      { ...ENTRY, name: "person", tokenType: "personal", userLogin: later("alice") },
      { ...ENTRY, name: "team", tokenType: "team", teamName: later("ops") },
      { ...ENTRY, name: "pool", tokenType: "runner", runnerId: later("id-1"), runnerName: later("pool-1") },
      { ...ENTRY, name: "audience", tokenAudience: later("urn:pulumi:other"), injectToken: true },
    ],
  };
  const plain = await known<PulumiCloudAccessArgs>(args);
  assert.equal(plain.organization, "acme");

  const withOutputs = await registeredBy(args);
  const withPlainValues = await registeredBy(plain);
  assert.ok(Object.keys(withOutputs).length > 15);
  assert.deepEqual(withOutputs, withPlainValues);
});

test("an admission policy is known as soon as the audiences are", async () => {
  const later = pulumi.output<unknown>(unknown) as pulumi.Output<string>;
  const serviceAccounts: PulumiCloudAccessArgs["serviceAccounts"] = [
    { ...ENTRY, policyRules: { sub: later }, injectToken: true },
    { ...ENTRY, name: "person", tokenType: "personal", userLogin: later, injectToken: true },
    { ...ENTRY, name: "team", tokenType: "team", teamName: later, injectToken: true },
  ];
  const inputs = await registeredBy({ ...ARGS, serviceAccounts });
  const { spec } = inputs["MutatingAdmissionPolicy access.inject-token"] as MutatingAdmissionPolicy;
  const audiences = ["deployer", "person", "team"].map((name) => `"ci/${name}": "urn:pulumi:org:acme"`);
  assert.equal(spec.variables[0]?.expression, `{\n${audiences.join(",\n")}\n}`);
});

const kubernetes = () => new Provider("cluster", { kubeconfig: "{}" });

test("takes the Kubernetes provider from any option that passes it on", async () => {
  const parent = () =>
    new pulumi.ComponentResource("test:index:Parent", "parent", {}, { providers: [kubernetes()] });
  for (const options of [
    () => ({ providers: [kubernetes()] }),
    () => ({ providers: { kubernetes: kubernetes() } }),
    () => ({ provider: kubernetes() }),
    () => ({ parent: parent() }),
  ]) {
    const names = Object.keys(await registeredBy(ARGS, options));
    assert.ok(names.includes("ServiceAccount access.ci.deployer"), names.join());
  }
});

test("registers the issuer through the provider of Pulumi Cloud that it creates, without one of the caller", async () => {
  await registeredBy({ ...ARGS, pulumiApiUrl: "https://pulumi.example" });
  const own = registered.filter(({ name }) => name === "access.oidc-issuer");
  const [provider, issuer] = own.sort((a, b) => (a.type < b.type ? -1 : 1));
  assert.deepEqual(provider?.inputs, { apiUrl: "https://pulumi.example" });
  assert.match(issuer?.provider ?? "", /pulumi:providers:pulumiservice::access\.oidc-issuer$/);
});

test("requires a login for the Pulumi Cloud of a provider that it creates", async () => {
  assert.match(
    await rejected(ARGS, withProvider, { loginUrl: "https://a.example" }),
    /\(1 problem\).*pulumiApiUrl = .*\(PULUMI_API\) is https:\/\/a\.example/s,
  );
});

test("uses the providers of the caller, and waits with everything for what it depends on", async () => {
  const serviceAccounts = [{ ...ENTRY, awsRole: "irsa" } as const];
  const options = () => {
    const provider = kubernetes();
    const others = [
      new AwsProvider("own"),
      new PulumiCloudProvider("cloud", { apiUrl: "https://a.example" }),
    ];
    return { providers: [provider, ...others], dependsOn: new Namespace("ci", {}, { provider }) };
  };
  const created: string[] = [];
  const beforeCreation = async (label: string) => {
    if (label === "Namespace ci") await sleep(100);
    created.push(label);
  };
  const args = { ...ARGS, oidcProviderArn: OIDC_PROVIDER, serviceAccounts };
  await registeredBy(args, options, { beforeCreation });
  const used = registered.flatMap(({ provider }) => provider?.match(/pulumi:providers:(.*)/)?.[1] ?? []);
  assert.equal([...new Set(used)].sort().join(" "), "aws::own kubernetes::cluster pulumiservice::cloud");
  const last = created.indexOf("Namespace ci");
  assert.ok(
    created.slice(0, last).every((label) => !label.includes(" access")),
    created.join(),
  );
});

test("warns of nothing while the pods of the cluster itself stay as they are", async () => {
  const args = { ...ARGS, serviceAccounts: [{ ...ENTRY, namespace: "kube-system" }] };
  const { warnings } = await runProgram(
    async () => new PulumiCloudAccess("access", args, withProvider()),
    {},
  );
  assert.deepEqual(warnings, []);
});

test("two components in one program have no resource in common", async () => {
  const injected = { ...ENTRY, injectToken: true };
  const args = { ...ARGS, serviceAccounts: [injected], createNamespaces: ["ci"] };
  const { registered } = await runProgram(async () => {
    const options = withProvider();
    for (const name of ["blue", "green"]) new PulumiCloudAccess(name, args, options);
    return {};
  }, {});
  const labels = registered.map(({ type, name }) => labelOf(type, name));
  assert.equal(new Set(labels).size, labels.length);
});

// package.engine.test.ts has the others.
test("its outputs have what its Job mounts as other pods do", async () => {
  const inputs = await registeredBy(ARGS);
  const outputs = component?.serviceAccounts["ci/deployer"] ?? assert.fail();
  const { env, volume, volumeMount } = await known<ServiceAccountOutputs>(outputs);
  const { spec } = inputs["Job access.ci.deployer"] as Job;
  const { volumes, containers } = spec.template.spec;
  assert.deepEqual(volumes.slice(1), [volume]);
  assert.deepEqual(containers[0]?.env.slice(-1), env);
  assert.deepEqual(containers[0]?.volumeMounts.slice(1), [volumeMount]);
});

test("what is undefined in jobPodSpec leaves the Job's pod as it is", async () => {
  const job = "Job access.ci.deployer";
  const { [job]: expected } = await registeredBy(ARGS);
  const jobPodSpec = { securityContext: undefined, containers: undefined };
  assert.deepEqual((await registeredBy({ ...ARGS, jobPodSpec }))[job], expected);
});

// place.engine.test.ts has all other values and commands.
test("stops in another organization, although a preview does not know the issuer of the cluster", async () => {
  const first = { organization: "other", issuerUrl: "https://oidc.example/id/B" };
  const outputs = { "Stash access.first-deployment": { output: first } };
  const args = { ...ARGS, issuerUrl: pulumi.output(unknown) };
  const message = await rejected(args, withProvider, { outputs, isPreview: true });
  const named = message.match(/(?<=^ {2}).*: deployed with .*/gm);
  assert.deepEqual(named, ['organization = "acme": deployed with "other"']);
  const names = registered.map(({ name }) => name);
  assert.deepEqual(names, ["cluster", "access", "access.first-deployment"]);
});

const MISSING = "this resource option must contain the Kubernetes provider of the cluster";
const ABSENT = "must be a provider";

for (const [what, problem, providers] of [
  ["only another provider", `providers: ${MISSING}`, () => [new PulumiCloudProvider("cloud")]],
  ["an empty record of providers", `providers: ${MISSING}`, () => ({})],
  ["a provider that is null", `providers.aws: ${ABSENT}`, () => ({ kubernetes: kubernetes(), aws: null })],
  [
    "a Kubernetes provider that is undefined",
    `providers.kubernetes: ${ABSENT}`,
    () => ({ kubernetes: undefined }),
  ],
  ["a list with a provider that is undefined", `providers[1]: ${ABSENT}`, () => [kubernetes(), undefined]],
] as const) {
  test(`a component is rejected with ${what}`, async () => {
    const options = () => ({ providers: providers() }) as pulumi.ComponentResourceOptions;
    const message = await rejected(ARGS, options);
    assert.ok(message.endsWith(`(1 problem). Nothing was changed.\n\n  ${problem}\n`), message);
  });
}

function withProvider(): pulumi.ComponentResourceOptions {
  return { providers: [kubernetes()] };
}

/** Returns the message with which a program with the component fails. The engine prints only the message of such an error. */
async function rejected(
  args: object | undefined,
  optionsOf = withProvider,
  options: Options = {},
): Promise<string> {
  const error = await failureOf(() => registeredBy(args as PulumiCloudAccessArgs, optionsOf, options));
  assert.ok(pulumi.RunError.isInstance(error), String(error));
  // The SDK formats a stack even if it does not print it, which can take half a minute.
  assert.equal(error.stack, undefined);
  registered = Object(error).registered;
  return error.message;
}

/** Returns the inputs of everything that a program with the component registers, by the names of the resources. */
async function registeredBy(
  args: PulumiCloudAccessArgs,
  optionsOf = withProvider,
  options: Options = {},
): Promise<Record<string, unknown>> {
  const program = async () => {
    component = new PulumiCloudAccess("access", args, optionsOf());
    return {};
  };
  const loginUrl = Object(args).pulumiApiUrl;
  const run = await runProgram(program, {}, { ...(loginUrl && { loginUrl }), ...options });
  ({ registered } = run);
  return Object.fromEntries(registered.map(({ type, name, inputs }) => [labelOf(type, name), inputs]));
}
