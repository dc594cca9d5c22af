// The programs in examples/component/ and examples/fleet/ have arguments that the component accepts. package.engine.test.ts runs the one
// for EKS in TypeScript, and a stage of the fleet.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import Module from "node:module";
import { join } from "node:path";
import { test } from "node:test";
import * as pulumi from "@pulumi/pulumi";
import * as v from "valibot";
import { parse } from "yaml";
import { PulumiCloudAccess, type PulumiCloudAccessArgs } from "../../pulumiCloudAccess";
import { settingsEntries } from "../../settings/access";
import { inputsOf, runProgram } from "../core/program";
import { ROOT, read } from "../support/project";

const [TYPESCRIPT, PYTHON, KIND, EXISTING] = [
  "typescript/index.ts",
  "python/__main__.py",
  "kind/Pulumi.yaml",
  "existing-cluster/Pulumi.yaml",
].map((file) => read(`examples/component/${file}`)) as [string, string, string, string];

const FLEET = read("examples/fleet/cluster/Main.yaml");
const STAGES = ["dev", "staging", "prod"];

const filesIn = (directory: string) => readdirSync(join(ROOT, "examples", "fleet", directory));
const stackFilesOf = (stage: string) => filesIn(stage).filter((file) => /^Pulumi\..+\.yaml$/.test(file));

test("the package has the newest version of the changelog, which every page and program names once it is released", () => {
  const changelog = read("CHANGELOG.md");
  const [, newest = assert.fail()] = /^## (\d+\.\d+\.\d+)\b/m.exec(changelog) ?? [];
  assert.equal(JSON.parse(read("component/package.json")).version, newest);
  const args = ["-rhoE", "/component@[0-9A-Za-z.-]+", "README.md", "docs", "examples", "component/README.md"];
  const { stdout } = spawnSync("grep", args, { cwd: ROOT, encoding: "utf8" });
  const named = stdout.trim().split("\n");
  assert.ok(named.length > 1);
  const reference = changelog.includes("Nothing is released yet") ? "COMMIT" : `v${newest}`;
  assert.deepEqual([...new Set(named)], [`/component@${reference}`]);
});

test("the program for kind has valid arguments", () => {
  const { type, properties } = parse(KIND).resources.access;
  assert.equal(type, "eks-pulumi-oidc:PulumiCloudAccess");
  assertValid(properties);
});

test("the program for an existing cluster has valid arguments, with the list of its stack file", () => {
  const { config, resources, variables } = parse(EXISTING);
  // The engine rejects any other list, and the component the entries that are not valid.
  assert.deepEqual(config.serviceAccounts, { type: "array", items: { type: "object" } });
  const stackFile = parse(read("examples/component/existing-cluster/Pulumi.dev.yaml")).config;
  const { serviceAccounts, permissionsBoundaryArn, ...cluster } = stackFile;
  assert.deepEqual(Object.keys(cluster), ["aws:region", "aws:allowedAccountIds", "clusterName"]);

  const { properties } = resources.access;
  assertValid({ ...properties, ...defaultsOf(config), serviceAccounts, permissionsBoundaryArn });

  for (const setting of Object.keys(config)) {
    if (setting in properties) assert.equal(properties[setting], `$\{${setting}}`);
    else assert.equal(setting, "clusterName");
  }
  const known = ["pulumi", ...Object.keys({ ...config, ...resources, ...variables })];
  for (const [, name = ""] of EXISTING.matchAll(/\$\{(\w+)/g)) assert.ok(known.includes(name), name);
});

test("the program for an existing cluster repeats the component's defaults, or gives no value", () => {
  const { createNamespaces, maxExpirationSeconds, audienceRule, suspended } = settingsEntries;
  assert.deepEqual(defaultsOf(parse(EXISTING).config), {
    createNamespaces: v.getDefault(createNamespaces),
    maxExpirationSeconds: v.getDefault(maxExpirationSeconds),
    audienceRule: v.getDefault(audienceRule),
    suspended: v.getDefault(suspended),
    // Not given, to the component.
    ...{ permissionsBoundaryArn: "", rolePath: "", image: "", pulumiApiUrl: "" },
  });
});

// `npm run docs` writes the rest of it.
test("the program of a fleet has the settings of the one for an existing cluster, four as values, and the lists of each stage", () => {
  const { config: existing, resources } = parse(EXISTING);
  const { maxExpirationSeconds, audienceRule, permissionsBoundaryArn: _boundary, ...settings } = existing;
  // By the stack: clusters of a stage can have the same name in two regions.
  const { config, resources: fleet } = parse(FLEET);
  const { permissionsBoundaryArn, issuerName } = fleet.access.properties;
  Object.assign(resources.access.properties, {
    ...defaultsOf({ maxExpirationSeconds, audienceRule }),
    permissionsBoundaryArn,
    issuerName,
  });
  const { default: _, ...createNamespaces } = settings.createNamespaces;
  assert.deepEqual(config, { ...settings, createNamespaces });
  assert.deepEqual(fleet.access, resources.access);

  for (const stage of STAGES) {
    const project = parse(read(`examples/fleet/${stage}/Pulumi.yaml`));
    assert.equal(project.main, "../cluster");
    const list = project.config.serviceAccounts.default;
    // Without the same types in both files, the host of YAML panics.
    const { clusterName, serviceAccounts, createNamespaces } = settings;
    const lists = { serviceAccounts: { ...serviceAccounts, default: list }, createNamespaces };
    assert.deepEqual(project.config, { clusterName, ...lists });
    const properties = { ...resources.access.properties, ...defaultsOf(settings), serviceAccounts: list };
    assertValid({
      ...properties,
      permissionsBoundaryArn: "arn:aws:iam::111111111111:policy/pulumi-oidc-boundary",
    });

    const stackFiles = stackFilesOf(stage);
    assert.ok(stackFiles.length > 0);
    for (const file of stackFiles) {
      const settings = parse(read(`examples/fleet/${stage}/${file}`)).config;
      assert.deepEqual(Object.keys(settings), ["aws:region", "aws:allowedAccountIds", "clusterName"]);
      assert.equal(file, `Pulumi.${settings.clusterName}.yaml`);
    }
  }
});

test("the pipeline of a fleet has each cluster in the file of its AWS account", () => {
  const configOf = (path: string) => parse(read(`examples/fleet/${path}`)).config;
  const clusters = STAGES.flatMap((stage) => {
    const files = stackFilesOf(stage);
    return files.map((file) => {
      const { clusterName, ...config } = configOf(`${stage}/${file}`);
      const [accounts, region] = [config["aws:allowedAccountIds"], config["aws:region"]];
      const stack = `acme/clusters-${stage}/${clusterName}`;
      return { stack, accounts, directory: stage, clusterName, region };
    });
  });
  const pipeline = filesIn("pipeline").map((file) => configOf(`pipeline/${file}`));
  const listed = pipeline.flatMap(({ "aws:allowedAccountIds": accounts, stacks }) => {
    const withCluster = stacks.filter((stack: object) => "clusterName" in stack);
    return withCluster.map(({ namespaces: _, ...stack }: { namespaces: string[] }) => ({
      accounts,
      ...stack,
    }));
  });
  const byStack = (a: { stack: string }, b: { stack: string }) => a.stack.localeCompare(b.stack);
  assert.deepEqual(listed.sort(byStack), clusters.sort(byStack));

  // The team of the workflows reads the stacks of all accounts.
  const [ofPulumiCloud, ...others] = pipeline.filter(({ pulumiCloud }) => pulumiCloud !== false);
  assert.deepEqual(others, []);
  assert.deepEqual(
    ofPulumiCloud.stacks.map(({ stack }: { stack: string }) => stack).sort(),
    clusters.map(({ stack }) => stack),
  );
});

test("the programs in YAML have the version of each provider that this project is tested with", () => {
  const { dependencies } = JSON.parse(read("package.json"));
  for (const program of [KIND, EXISTING, FLEET]) {
    const { variables = {}, resources } = parse(program);
    const functions = Object.values<{ "fn::invoke": object }>(variables).map((it) => it["fn::invoke"]);
    const used = [...functions, ...Object.values<object>(resources)] as Record<string, string & object>[];
    for (const { type, function: name = type, options } of used) {
      const [, provider = ""] = /^(?:pulumi:providers:)?([\w-]+)/.exec(String(name)) ?? [];
      if (provider === "eks-pulumi-oidc") continue;
      assert.equal(Object(options).version, dependencies[`@pulumi/${provider}`], name);
    }
  }
});

test("the programs identify their cluster by its issuer, and no variable makes them adopt objects that exist", () => {
  for (const program of [TYPESCRIPT, PYTHON, KIND, EXISTING]) {
    const [, identifier = assert.fail()] = /cluster_?identifier[:=] ?([^\s,]+)/i.exec(program) ?? [];
    const [, issuerUrl] = /issuer_?url[:=] ?([^\s,]+)/i.exec(program) ?? [];
    assert.equal(identifier, issuerUrl);
    assert.match(program, /upsert_?existing_?objects[:=] ?false/i);
  }
});

const GKE_ISSUER = "https://container.googleapis.com/v1/projects/acme/locations/us-central1/clusters/prod";
const AKS_ISSUER = "https://eastus.oic.prod-aks.azure.com/11111111/22222222/";
const GKE_CLUSTER = { endpoint: "127.0.0.1", masterAuths: [{ clusterCaCertificate: "a" }] };
/** Instead of a kubeconfig. */
const ADMIN_KEY = "key of an administrator";
const AKS_CREDENTIALS = { kubeconfigs: [{ value: Buffer.from(ADMIN_KEY).toString("base64") }] };

/** What the programs for other clusters import. */
const PACKAGES: Record<string, unknown> = {
  "@OWNER/eks-pulumi-oidc": { PulumiCloudAccess },
  "@pulumi/gcp": { container: { getClusterOutput: () => pulumi.output(GKE_CLUSTER) } },
  "@pulumi/azure-native": {
    containerservice: {
      getManagedClusterOutput: () => pulumi.output({ oidcIssuerProfile: { issuerURL: AKS_ISSUER } }),
      listManagedClusterUserCredentialsOutput: () => pulumi.output(AKS_CREDENTIALS),
    },
  },
};

for (const [name, issuerUrl, clusterIdentifier] of [
  ["gke", GKE_ISSUER, "UID"],
  ["aks", AKS_ISSUER, AKS_ISSUER],
] as const) {
  test(`examples/component/${name} trusts its cluster, adopts nothing, and needs nothing of AWS`, async (t) => {
    const loader = Object(Module) as { _load(request: string, ...others: unknown[]): unknown };
    const { _load: load } = loader;
    t.mock.method(loader, "_load", (...args: Parameters<typeof load>) => PACKAGES[args[0]] ?? load(...args));
    const run = await runProgram(
      async () => require(join(ROOT, "examples", "component", name)),
      {},
      { outputs: { "Namespace kube-system": { metadata: { uid: "UID" } } } },
    );
    assert.deepEqual(
      inputsOf(run, "OidcIssuer").map(({ url }) => url),
      [issuerUrl],
    );
    const provider = inputsOf(run, "kubernetes").at(-1);
    assert.equal(provider.clusterIdentifier, clusterIdentifier);
    assert.equal(provider.upsertExistingObjects, "false");
    assert.doesNotMatch(run.registered.map(({ type }) => type).join(" "), /\baws\b/);
    assert.notEqual(provider.kubeconfig, ADMIN_KEY, "must be a secret");
  });
}

test("the program in Python is Python", (t) => {
  const { error, status, stderr } = spawnSync("python3", ["-c", "import ast; ast.parse(open(0).read())"], {
    input: PYTHON,
  });
  if (error) return t.skip("python3 is not on PATH");
  assert.equal(status, 0, String(stderr));
});

/** Returns the settings of a program in YAML that have a default, with it. */
function defaultsOf(config: Record<string, { default?: unknown }>): Record<string, unknown> {
  const declared = Object.entries(config).filter(([, declaration]) => "default" in declaration);
  return Object.fromEntries(declared.map(([name, declaration]) => [name, declaration.default]));
}

/** Requires that the component would accept the arguments of a program in YAML, which has the Kubernetes provider. */
function assertValid(args: object): void {
  // What refers to something is an output.
  const withOutputs: PulumiCloudAccessArgs = JSON.parse(JSON.stringify(args), (_, value) =>
    String(value).startsWith("${") ? pulumi.output(value) : value,
  );
  const message =
    /\(1 problem\).*\n {2}providers: this resource option must contain the Kubernetes provider/s;
  assert.throws(() => new PulumiCloudAccess("access", withOutputs), { message });
}
