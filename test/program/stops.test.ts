// What stops the stack before it registers anything, and what its message says. config.test.ts has the settings that it rejects.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { ANSWERS, clusterWith, inputsOf, type Options, runStack, stopOf } from "../core/program";
import { ROOT } from "../support/project";

/** Fails as a function of the AWS provider does: pulumi/pulumi-terraform-bridge, pkg/tfbridge/provider.go. */
const failWith = (message: string) => () => {
  throw Object.assign(new Error(), { details: `invoking: 1 error occurred:\n\t* ${message}\n\n` });
};

const entry = (settings: object) => ({
  serviceAccounts: [
    { namespace: "default", name: "app", tokenType: "personal", userLogin: "alice", ...settings },
  ],
});

const TOO_OLD = /^EKS cluster "my-cluster" has Kubernetes \S+, but injectToken requires 1\.36 or later\.\n/;

const STOPS: [what: string, settings: object, options: Options, message: RegExp][] = [
  [
    "a login to another Pulumi Cloud",
    {},
    { loginUrl: "https://a.example" },
    /Nothing was changed\..*pulumiApiUrl = .*\(PULUMI_API\) is https:\/\/a\.example/s,
  ],
  [
    "the template's login in an update",
    entry({ userLogin: "sample-login" }),
    {},
    /serviceAccounts\[0\]\.userLogin = "sample-login": is the template's/,
  ],
  [
    "a cluster that does not exist",
    {},
    { answers: { ...ANSWERS, "aws:eks/getCluster:getCluster": failWith("reading EKS Cluster: not found") } },
    /^Failed to look up EKS cluster "my-cluster" in us-west-2: .*not found\n.*clusterName\.\n.*aws:region\.\n.*createCluster /s,
  ],
  [
    "a new cluster without a region",
    { createCluster: true },
    { answers: { ...ANSWERS, "aws:index/getRegion:getRegion": failWith("Invalid AWS Region:") } },
    /^Failed to look up the AWS region of the new EKS cluster: .*Invalid AWS Region.*set aws:region/s,
  ],
  [
    "a cluster without an issuer",
    {},
    { answers: clusterWith({ status: "CREATING", identities: [] }) },
    /"my-cluster" has no OIDC issuer yet\. Its status is CREATING: /,
  ],
  [
    "an IRSA role on a cluster without an IAM OIDC provider",
    entry({ awsRole: "irsa" }),
    {
      answers: {
        ...ANSWERS,
        "aws:iam/getOpenIdConnectProvider:getOpenIdConnectProvider": failWith("not found"),
      },
    },
    /^Failed to look up the IAM OIDC provider of EKS cluster "my-cluster": .*set createOidcProvider.*remove awsRole.*set awsRole/s,
  ],
  [
    "injectToken with Kubernetes 1.35",
    entry({ injectToken: true }),
    { answers: clusterWith({ version: "1.35" }) },
    TOO_OLD,
  ],
  [
    "injectToken with Kubernetes 1.9",
    entry({ injectToken: true }),
    { answers: clusterWith({ version: "1.9" }) },
    TOO_OLD,
  ],
];

for (const [what, settings, options, message] of STOPS) {
  test(`stops before anything is registered: ${what}`, async () => {
    assert.match(await stopOf(runStack(settings, options)), message);
  });
}

test("accepts injectToken with every version after 1.36, and any version without it", async () => {
  for (const version of ["1.100", "2.0"]) {
    const run = await runStack(entry({ injectToken: true }), { answers: clusterWith({ version }) });
    assert.equal(inputsOf(run, "MutatingAdmissionPolicy").length, 1);
  }
  await runStack({}, { answers: clusterWith({ version: "1.35" }) });
});

test("the template's login only warns in a preview", async () => {
  const { warnings } = await runStack(entry({ userLogin: "sample-login" }), { isPreview: true });
  assert.match(warnings.join("\n"), /is the template's.*An update stops here\./);
});

test("a stack that creates the IAM OIDC provider does not look it up", async () => {
  const answers = {
    ...ANSWERS,
    "aws:iam/getOpenIdConnectProvider:getOpenIdConnectProvider": failWith("not found"),
  };
  const run = await runStack({ ...entry({ awsRole: "irsa" }), createOidcProvider: true }, { answers });
  assert.equal(inputsOf(run, "OpenIdConnectProvider").length, 1);
});

test("a stack without IRSA roles needs no IAM OIDC provider, and a new cluster gets none", async () => {
  const answers = {
    ...ANSWERS,
    "aws:iam/getOpenIdConnectProvider:getOpenIdConnectProvider": failWith("not found"),
  };
  const settings = entry({ awsRole: "pod-identity" });
  for (const createCluster of [false, true]) {
    const run = await runStack({ ...settings, createCluster }, { answers });
    assert.deepEqual(inputsOf(run, "OpenIdConnectProvider"), []);
  }
});

test("a new cluster has the agent of EKS Pod Identity only if a service account needs it", async () => {
  for (const [awsRole, agents] of [
    ["pod-identity", 1],
    ["irsa", 0],
  ] as const) {
    const run = await runStack({ ...entry({ awsRole }), createCluster: true });
    assert.equal(inputsOf(run, "Addon").length, agents, awsRole);
  }
});

for (const [setting, first] of [
  ["issuerUrl", "https://oidc.example/id/GONE"],
  ["clusterName", "gone"],
] as const) {
  test(`a stack of another ${setting} says how to destroy it if its cluster no longer exists`, async () => {
    const outputs = { "Stash first-deployment": { output: { [setting]: first } } };
    await assert.rejects(
      runStack({}, { outputs }),
      /no longer exists, run `pulumi destroy` with PULUMI_K8S_DELETE_UNREACHABLE=true in the environment/,
    );
  });
}

test("a stack stays in the region of its cluster, whatever that comes from, whose name and whose creator stay the same", async () => {
  const first = { clusterName: "first", createCluster: true, region: "eu-west-1" };
  await assert.rejects(
    runStack({}, { outputs: { "Stash first-deployment": { output: first } } }),
    /clusterName = "my-cluster": deployed with "first"\n.*createCluster = false: deployed with true\n.*region = "us-west-2": deployed with "eu-west-1".*AWS_REGION/s,
  );
});

test("a stack whose cluster existed does not create one of the same name", async () => {
  const first = { createCluster: false };
  await assert.rejects(
    runStack({ createCluster: true }, { outputs: { "Stash first-deployment": { output: first } } }),
    /createCluster = true: deployed with false\n/,
  );
});

test("@pulumi/eks, which loads all of @pulumi/aws, is not loaded for a cluster that exists", () => {
  // In another process, where no test has loaded it.
  const program = `
    const cluster = { identities: [{ oidcs: [{ issuer: "https://a" }] }], certificateAuthorities: [{ data: "a" }] };
    require("@pulumi/pulumi").runtime.setMocks({ call: () => cluster, newResource() {} });
    require("./cluster").findCluster({ clusterName: "a", aws: {} }, []).then(() => {
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
