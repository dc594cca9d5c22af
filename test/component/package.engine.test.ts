// The package of component/ on Pulumi's engine: programs in other processes use it through an SDK.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, symlink, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { describe, type TestContext, test } from "node:test";
import { parse, stringify } from "yaml";
import { storedKind } from "../environment/emulator";
import {
  changes,
  EXCHANGED,
  failed,
  newStatuses,
  resourcesOf,
  succeeded,
} from "../environment/engineOutcome";
import {
  createRepository,
  LINK_PACKAGES,
  type Stack,
  stackOfProgram,
  startEngine,
} from "../environment/engineStack";

import { type Cli, missingCli, pathOf } from "../environment/pulumiCli";
import type { Simulation, SimulationOptions } from "../environment/simulation";
import { startCluster } from "../environment/stack";
import { allowing, PACK, violationsIn } from "../policy/pack";

import { blocksOf, ROOT, read } from "../support/project";

const missingYaml =
  pathOf("pulumi-language-yaml") === "" && "pulumi-language-yaml, a part of the Pulumi CLI, is not on PATH";

const missingWorkflows =
  !existsSync(join(ROOT, ".github", "workflows")) && "the workflows are removed, which a fleet copies";

// The SDK passes the options of the program that uses the component to ts-node. With these, it would not compile.
const TSCONFIG = JSON.stringify({ compilerOptions: { module: "nodenext", lib: ["es5"], types: [] } });

// Packages that look up a cluster.
const GCP = `
const pulumi = require("@pulumi/pulumi");
exports.container = {
  getClusterOutput: () => pulumi.output({ endpoint: "127.0.0.1", masterAuths: [{ clusterCaCertificate: "a" }] }),
};`;
const AZURE = `
const pulumi = require("@pulumi/pulumi");
exports.containerservice = {
  getManagedClusterOutput: () => pulumi.output({ oidcIssuerProfile: { issuerURL: process.env.ISSUER_URL } }),
  listManagedClusterUserCredentialsOutput: () => {
    return pulumi.output({ kubeconfigs: [{ value: Buffer.from("key of an administrator").toString("base64") }] });
  },
};`;

/** A program with a component for each issuer in ISSUERS. */
const TWO_COMPONENTS = `
import { PulumiCloudAccess } from "@OWNER/eks-pulumi-oidc";
import * as kubernetes from "@pulumi/kubernetes";

for (const [name, issuerUrl] of Object.entries(JSON.parse(process.env.ISSUERS ?? ""))) {
  const kubeconfig = JSON.stringify({ clusters: [name] });
  const provider = new kubernetes.Provider(name, { kubeconfig, clusterIdentifier: issuerUrl });
  const serviceAccounts = [{ namespace: "team-a", name: "app", tokenType: "team", teamName: "team-a" }];
  const args = { organization: "acme", issuerName: name, issuerUrl, serviceAccounts };
  new PulumiCloudAccess(name, args, { providers: [provider] });
}`;

const GKE_ISSUER = "https://container.googleapis.com/v1/projects/acme/locations/us-central1/clusters/prod";

/** The namespace whose UID the program for GKE takes for the cluster's. */
const KUBE_SYSTEM = { metadata: { name: "kube-system", uid: "7d1f8c0e-5a43-4b8e-9f6d-2c1b0a9e8d7c" } };

/** The programs in examples/component/ for GKE and AKS, with their issuers, and what identifies their clusters. */
const OTHER_CLUSTERS = [
  ["gke", "has a path", GKE_ISSUER, { gcp: GCP }, () => KUBE_SYSTEM.metadata.uid],
  [
    "aks",
    "ends in a slash",
    "https://eastus.oic.prod-aks.azure.com/11111111/22222222/",
    { "azure-native": AZURE },
    (url: string) => url,
  ],
] as const;

describe("the package of the component", { skip: missingCli }, () => {
  test("examples/component/typescript deploys as it is printed, whatever tsconfig.json the program has", async (t) => {
    const program = read("examples/component/typescript/index.ts");
    const stack = await stackOf(t, { "index.ts": program, "tsconfig.json": TSCONFIG });
    const { simulation, directory, pulumi, up } = stack;
    const arnOf = (_: object, name: string) => `arn:aws:iam::123456789012:policy/${name}`;
    simulation.resources["aws:iam/policy:Policy"] = storedKind(new Map(), arnOf, (arn) => ({ arn }));

    // Of a cluster that does not exist yet, the preview knows neither the issuer nor the trust policy.
    const first = succeeded(await pulumi("preview", ...PACK));
    assert.match(
      first.stdout,
      /^ +team-a\/deployer: "team:team-a, 3600 s, IAM role by IRSA \(boundary known after the update\)"$/m,
    );
    assert.deepEqual(violationsIn(first), []);
    assert.deepEqual(violationsIn(succeeded(await up(...PACK))), []);
    assert.deepEqual(newStatuses(simulation), [...EXCHANGED, ...EXCHANGED]);
    succeeded(await pulumi("preview", "--expect-no-changes"));

    await t.test("has outputs, by which the program has attached a policy to a role", async () => {
      const { stdout } = succeeded(await pulumi("stack", "output", "--json"));
      const { aws, pulumiCloud } = simulation.existing();
      const { oidcIssuerId, serviceAccounts } = JSON.parse(stdout);
      assert.equal(oidcIssuerId, pulumiCloud[0]);
      // docs/incidents.md denies these roles.
      assert.match(serviceAccounts["team-a/deployer"].roleName, /^pulumi-oidc-team-a-deployer-/);
      const attached = aws.find((name) => name.endsWith("/arn:aws:iam::123456789012:policy/read-reports"));
      assert.match(attached ?? "", /^pulumi-oidc-team-a-deployer-/);
    });

    await t.test("runs only the Job of the one whose team changes", async () => {
      const changed = program.replace(
        /("deployer",\s+tokenType: "team",\s+teamName: )"team-a"/,
        '$1"team-b"',
      );
      await writeFile(join(directory, "index.ts"), changed);
      const preview = succeeded(await pulumi("preview", ...PACK));
      assert.match(
        preview.stdout,
        /^ +~ team-a\/deployer: "team:team-a, .*" => "team:team-b, 3600 s, IAM role by IRSA \(boundary arn:aws:iam::123456789012:policy\/boundary\)"$/m,
      );
      assert.doesNotMatch(preview.stdout, /~ team-a\/app/);
      assert.deepEqual(violationsIn(preview), []);
      assert.deepEqual(changes(await up()), [
        "access.oidc-issuer updated",
        "access.team-a.deployer replaced",
        "access.team-a.deployer.pulumi-token-exchange updated",
      ]);
      assert.equal(simulation.pulumiCloud.exchanges.at(-1)?.reason, "team token, scope team:team-b");
    });

    succeeded(await pulumi("destroy", "--yes"));
    assert.deepEqual(simulation.existing(), { aws: [], kubernetes: [], pulumiCloud: [] });
  });

  test("a program in YAML", { skip: missingYaml }, async (t) => {
    const stack = await stackOf(t, { "Pulumi.yaml": stringify({ name: "platform", runtime: "yaml" }) });
    const { simulation, directory, pulumi, up } = stack;
    const pack = [...PACK, ...(await allowing(directory, simulation.pulumiCloud.apiUrl))];
    const write = (changes: object) =>
      writeFile(join(directory, "Pulumi.yaml"), programInYaml(simulation, changes));

    await t.test(
      "shows who gets what in a preview, but for the name of a team that it does not know",
      async () => {
        const entry = { namespace: "team-a", tokenType: "team" };
        const serviceAccounts = [
          { ...entry, name: "deployer", teamName: reference("kubernetes.id") },
          { ...entry, name: "app", teamName: "team-a" },
        ];
        await write({ serviceAccounts });
        const preview = succeeded(await pulumi("preview", ...pack));
        assert.match(preview.stdout, /^ +team-a\/app +: "team:team-a, 3600 s"$/m);
        assert.match(preview.stdout, /^ +team-a\/deployer: "team:known after the update, 3600 s"$/m);
        assert.deepEqual(violationsIn(preview), []);
      },
    );

    // pulumiCloudAccess.test.ts has the messages.
    await t.test("fails for an invalid argument, before any resource exists", async () => {
      await write({ organization: { "fn::secret": "hunter2" } });
      const screen = failed(
        await up(),
        /'access' has a problem: Invalid arguments of PulumiCloudAccess "access" \(1 problem\)\./,
      );
      // Pulumi's provider process answers with the error, and also logs it, which only sometimes reaches the engine in time.
      const messages = atEndOf(screen).match(/Invalid arguments of/g)?.length ?? 0;
      assert.ok(messages === 1 || messages === 2, screen);
      const { kubernetes, pulumiCloud } = simulation.existing();
      assert.deepEqual([kubernetes, pulumiCloud], [[], []]);

      const state = JSON.stringify(await resourcesOf(pulumi));
      assert.doesNotMatch(screen + state, /hunter2/);
      assert.doesNotMatch(state, /eks-pulumi-oidc:index/);
    });

    await t.test("creates what its preview says, and exists as its program says", async () => {
      await write({});
      assert.deepEqual(violationsIn(succeeded(await pulumi("preview", ...pack))), []);
      assert.deepEqual(violationsIn(succeeded(await up(...pack))), []);
      assert.deepEqual(newStatuses(simulation), [...EXCHANGED, ...EXCHANGED]);

      // Its provider has in its inputs what the real one adds to them.
      const drift = await allowing(
        directory,
        simulation.pulumiCloud.apiUrl,
        JSON.parse(read("policy/drift.json")),
      );
      const existing = await pulumi("preview", "--refresh", "--expect-no-changes", ...PACK, ...drift);
      assert.deepEqual(violationsIn(succeeded(existing)), []);
    });
  });

  for (const [creator, code] of [
    [
      "the program",
      `new k8s.core.v1.ServiceAccount("app", { metadata: { namespace: "ci", name: "app" } }, options)`,
    ],
    ["a chart", `new k8s.helm.v3.Release("app", { chart: "app", namespace: "ci" }, options)`],
  ] as const) {
    test(`tests a service account that ${creator} creates once it exists`, {
      skip: missingCli,
    }, async (t) => {
      const stack = await stackOf(t, { "index.js": programWithAccount(code) });
      const { simulation, cli, pulumi, up } = stack;
      cli.environment.ISSUER_URL = simulation.issuer.url;
      const accounts = simulation.resources["kubernetes:core/v1:ServiceAccount"] ?? assert.fail();
      const release = (_: object, name: string) => name;
      const releases = storedKind(new Map<string, object>(), release);
      simulation.resources["kubernetes:helm.sh/v3:Release"] = {
        ...releases,
        async create(name, inputs) {
          await accounts.create(name, { metadata: { namespace: "ci", name } });
          return releases.create(name, inputs);
        },
      };

      failed(await pulumi("preview"), /resource 'ci\/app' does not exist/);
      cli.environment.RUN_JOB = "false";
      succeeded(await pulumi("preview"));
      succeeded(await up());
      cli.environment.RUN_JOB = "true";
      succeeded(await pulumi("preview"));
      succeeded(await up());
      assert.deepEqual(newStatuses(simulation), EXCHANGED);
      succeeded(await pulumi("preview", "--expect-no-changes"));
    });
  }

  test("has its dependencies where `pulumi package add` installs them, and no directory of node_modules is a link", async (t) => {
    const { cli } = await startEngine(t);
    const clone = join(cli.directory, "clone");
    succeeded(await cli.run(cli.directory, "git", "clone", "--quiet", await createRepository(cli), clone));
    // The root of the workspace, with what Pulumi passes to npm for a plugin with `production: true`.
    const { packages } = parse(await readFile(join(clone, "pnpm-workspace.yaml"), "utf8"));
    assert.deepEqual(packages, ["component"]);
    succeeded(await cli.run(clone, "bash", "-c", LINK_PACKAGES));
    succeeded(await cli.run(clone, "npm", "install", "--loglevel=error", "--production"));

    assert.match(await startPackage(t, cli, cli.directory, clone), PACKAGE);
    // `pulumi new` of a directory stops at such a link.
    const entries = await readdir(join(clone, "node_modules"), { withFileTypes: true });
    assert.ok(entries.every((entry) => !entry.isSymbolicLink()));
    const { stdout } = succeeded(await cli.run(clone, "git", "status", "--short"));
    assert.equal(stdout, "");
  });

  test("several components in one program have the access of their clusters, each by itself", async (t) => {
    const { simulation, cli, pulumi } = await stackOf(t, { "index.ts": TWO_COMPONENTS });
    const green = await startCluster();
    t.after(green.close);
    const issuers = { blue: simulation.issuer.url, green: green.issuer.url };
    cli.environment.ISSUERS = JSON.stringify(issuers);

    const preview = succeeded(await pulumi("preview", ...PACK));
    for (const name of Object.keys(issuers)) assert.ok(preview.stdout.includes(`${name}.oidc-issuer create`));
    assert.deepEqual(violationsIn(preview), []);
  });

  test("a stack's file of examples/component/existing-cluster sets what the program's configuration declares, and nothing else", {
    skip: missingYaml,
  }, async (t) => {
    const example = "examples/component/existing-cluster";
    const project = read(`${example}/Pulumi.yaml`).replace("@COMMIT", `@${"0".repeat(40)}`);
    const cluster = { name: "my-cluster", hasOidcProvider: true };
    const stack = await stackOf(t, { "Pulumi.yaml": project }, { cluster });
    const given = {
      createNamespaces: ["team-a"],
      maxExpirationSeconds: 900,
      audienceRule: false,
      permissionsBoundaryArn: "arn:aws:iam::111111111111:policy/boundary",
      rolePath: "/pulumi/",
      image: "acme/base:1",
      pulumiApiUrl: stack.simulation.pulumiCloud.apiUrl,
    };
    const config = {
      ...parse(read(`${example}/Pulumi.dev.yaml`)).config,
      ...given,
      maxExpirationsSeconds: 600,
    };
    await writeFile(join(stack.directory, "Pulumi.dev.yaml"), stringify({ config }));

    const withoutAudience = { "one-service-account": { requireAudience: false } };
    const pack = [...PACK, ...(await allowing(stack.directory, given.pulumiApiUrl, withoutAudience))];
    const preview = succeeded(await stack.pulumi("preview", "--json", ...pack));
    const { steps } = JSON.parse(preview.stdout);
    const component = steps.find(({ urn }: { urn: string }) => urn.includes(":PulumiCloudAccess::"));
    const { serviceAccounts, ...settings } = component.newState.inputs;
    for (const [name, value] of Object.entries(given)) assert.deepEqual(settings[name], value);
    assert.ok(!("maxExpirationsSeconds" in settings));
  });

  test("a stage of examples/fleet", { skip: missingYaml || missingWorkflows }, async (t) => {
    const stage = "dev";
    const { simulation, cli, fleet, directory, pulumi, deploy } = await stageOf(t, stage, "dev-us-1");
    const before = simulation.existing();

    await t.test("is a directory of a repository that is complete, but for pipeline.json", async () => {
      for (const it of ["dev", "staging", "prod"]) {
        const project = parse(await readFile(join(fleet, it, "Pulumi.yaml"), "utf8"));
        assert.match(project.packages["eks-pulumi-oidc"], /component@[0-9a-f]{40}$/);
      }
      const files = await readdir(join(fleet, ".github"), { recursive: true });
      const workflows = ["drift.yml", "preview.yml", "stacks.yml"].map((it) => join("workflows", it));
      assert.deepEqual(files.sort(), ["CODEOWNERS", "workflows", ...workflows]);
    });

    await t.test("grants what its plan says, and is quiet then", async () => {
      const preview = succeeded(await pulumi("preview", ...PACK));
      assert.match(
        preview.stdout,
        /^ +team-a\/app: "team:team-a-dev, 3600 s, .* within arn:aws:iam::\d{12}:policy\/pulumi-oidc-boundary"$/m,
      );
      assert.deepEqual(violationsIn(preview), []);
      succeeded(await deploy());
      assert.deepEqual(newStatuses(simulation), EXCHANGED);
      succeeded(await pulumi("preview", "--expect-no-changes"));
    });

    await t.test(
      "is the start of another stage, by the documented commands, without its clusters and teams",
      async () => {
        const commands = blocksOf(read("docs/clusters.md")).find(({ info }) => info === "bash new-stage");
        const run = ["bash", "-euo", "pipefail", "-c", commands?.text ?? assert.fail()] as const;
        succeeded(await cli.run(fleet, ...run));
        assert.deepEqual(await readdir(join(fleet, "test")), ["Pulumi.yaml"]);
        const { name, config } = parse(await readFile(join(fleet, "test", "Pulumi.yaml"), "utf8"));
        assert.equal(name, "clusters-test");
        assert.equal(config.serviceAccounts.default[0].teamName, "team-a-test");
      },
    );

    await t.test(
      "gets the newest component and its policy pack by the documented commands, and the next stage from it",
      async () => {
        const pages = blocksOf(read("docs/clusters.md"));
        const upgrade = async (mark: string) => {
          const { text = assert.fail() } = pages.find(({ info }) => info === mark) ?? {};
          succeeded(await cli.run(fleet, "bash", "-euo", "pipefail", "-c", text));
        };
        const fileOf = (it: string) => join(fleet, it, "Pulumi.yaml");
        const before = await readFile(fileOf(stage), "utf8");
        const later = await readFile(fileOf("staging"), "utf8");
        const [commit = assert.fail()] = /(?<=component@)[0-9a-f]{40}/.exec(before) ?? [];
        const old = "0".repeat(40);
        for (const it of [stage, "staging"]) {
          await writeFile(fileOf(it), (it === stage ? before : later).replace(commit, old));
        }
        await upgrade("bash upgrade");
        assert.equal(await readFile(fileOf(stage), "utf8"), before);
        assert.deepEqual(await readdir(join(fleet, ".github")), ["CODEOWNERS", "workflows"]);

        const pipeline = join(fleet, ".github", "pipeline.json");
        const none = { directory: "staging", policyPack: "none" };
        const stacks = [{ directory: stage }, { directory: "staging" }, none, { directory: "prod" }];
        await writeFile(pipeline, JSON.stringify({ stacks }));
        await upgrade("bash upgrade");
        const policyPack = { repository: "OWNER/eks-pulumi-oidc", ref: commit };
        const [ofStage, ...others] = stacks;
        const upgraded = [{ ...ofStage, policyPack }, ...others];
        assert.deepEqual(JSON.parse(await readFile(pipeline, "utf8")), { stacks: upgraded });
        assert.equal(await readFile(fileOf("staging"), "utf8"), later.replace(commit, old));

        await upgrade("bash later-stage");
        assert.equal(await readFile(fileOf("staging"), "utf8"), later);
        const [, next, ...rest] = upgraded;
        assert.deepEqual(JSON.parse(await readFile(pipeline, "utf8")), {
          stacks: [upgraded[0], { ...next, policyPack }, ...rest],
        });
        await writeFile(pipeline, JSON.stringify({ policyPack: "none", stacks }));
        await upgrade("bash upgrade");
        assert.deepEqual(JSON.parse(await readFile(pipeline, "utf8")), { policyPack: "none", stacks });
      },
    );

    await t.test(
      "takes its lists and settings from its cluster's file, but none that production owns",
      async () => {
        const file = join(directory, "Pulumi.dev-us-1.yaml");
        const before = await readFile(file, "utf8");
        const { config } = parse(before);
        const ignored = { maxExpirationSeconds: 7200, audienceRule: false, permissionsBoundaryArn: "arn" };
        const list = [{ namespace: "ops", name: "drift", tokenType: "organization" }];
        const lists = { createNamespaces: ["ops"], serviceAccounts: list };
        const given = { ...lists, rolePath: "/pulumi/", ...ignored };
        await writeFile(file, stringify({ config: { ...config, ...given } }));

        const preview = succeeded(await pulumi("preview", ...PACK));
        assert.match(preview.stdout, / ~ .*:PulumiCloudAccess .*\[diff: .*\]$/m);
        const [, diff] = /:PulumiCloudAccess .*\[diff: (.*)\]$/m.exec(preview.stdout) ?? [];
        assert.equal(diff, "~createNamespaces,rolePath,serviceAccounts");
        assert.match(preview.stdout, /^ +\+ ops\/drift *: "organization, 3600 s"$/m);
        assert.deepEqual(violationsIn(preview), []);
        await writeFile(file, before);
      },
    );

    await t.test("has the names of the roles as outputs", async () => {
      const { stdout } = succeeded(await pulumi("stack", "output", "serviceAccounts", "--json"));
      assert.match(JSON.parse(stdout)["team-a/app"].roleName, /^pulumi-oidc-team-a-app-/);
    });

    await t.test("follows its list", async () => {
      const file = join(directory, "Pulumi.yaml");
      const project = parse(await readFile(file, "utf8"));
      project.config.serviceAccounts.default.push({
        namespace: "ops",
        name: "drift",
        tokenType: "organization",
      });
      await writeFile(file, stringify(project));

      const preview = succeeded(await pulumi("preview", ...PACK));
      assert.match(preview.stdout, /^ +\+ ops\/drift *: "organization, 3600 s"$/m);
      assert.doesNotMatch(preview.stdout, /[~+-] team-a\/app/);
      assert.deepEqual(violationsIn(preview), []);
      succeeded(await deploy());
      assert.deepEqual(newStatuses(simulation), EXCHANGED);
    });

    succeeded(await pulumi("destroy", "--yes"));
    assert.deepEqual(simulation.existing(), before);
  });

  for (const [name, what, issuerUrl, packages, identifierOf] of OTHER_CLUSTERS) {
    test(`examples/component/${name} grants a token, where the issuer ${what}, and needs nothing of AWS`, async (t) => {
      const stack = await stackOf(t, {}, { issuerUrl }, packages);
      const { simulation, cli, directory, pulumi, up } = stack;
      cli.environment.ISSUER_URL = issuerUrl;
      const namespaces = simulation.resources["kubernetes:core/v1:Namespace"] ?? assert.fail();
      simulation.resources["kubernetes:core/v1:Namespace"] = { ...namespaces, read: () => KUBE_SYSTEM };
      const program = read(`examples/component/${name}/index.ts`);
      await writeFile(join(directory, "index.ts"), program);

      succeeded(await up());
      assert.deepEqual(newStatuses(simulation), EXCHANGED);
      assert.equal(simulation.pulumiCloud.list()[0]?.registration.url, issuerUrl);
      succeeded(await pulumi("preview", "--expect-no-changes"));
      const { stdout: state } = succeeded(await pulumi("stack", "export"));
      assert.ok(!state.includes("key of an administrator"), "the kubeconfig must be encrypted");
      const resources = await resourcesOf(pulumi);
      // A call of a function registers its provider, too.
      const types = resources.map(({ type }) => type);
      assert.doesNotMatch(types.join(" "), /(^| )(pulumi:providers:)?aws\b/);
      const provider = resources.find(({ inputs }) => inputs?.enableConfigMapMutable);
      assert.equal(provider?.inputs?.clusterIdentifier, identifierOf(issuerUrl));
    });
  }
});

/** The package in `PULUMI_DEBUG_PROVIDERS`. */
const PACKAGE = /eks-pulumi-oidc:\d+/;

/** Returns what a command prints at its end, where each error is once. */
function atEndOf(screen: string): string {
  return screen.split("Diagnostics:")[1] ?? assert.fail(screen);
}

/** Returns a program in YAML without AWS, with these changes of the arguments of its component. */
function programInYaml({ issuer, pulumiCloud }: Simulation, changes: object): string {
  const serviceAccounts = [
    { namespace: "team-a", name: "deployer", tokenType: "team", teamName: "team-a" },
    { namespace: "team-a", name: "app", tokenType: "team", teamName: "team-a" },
  ];
  const place = { organization: "acme", issuerUrl: issuer.url, pulumiApiUrl: pulumiCloud.apiUrl };
  const example = parse(read("examples/component/existing-cluster/Pulumi.yaml")).resources.access;
  const access = {
    ...example,
    properties: { issuerName: "eks-prod", serviceAccounts, ...place, ...changes },
  };
  const provider = { type: "pulumi:providers:kubernetes", properties: { kubeconfig: "{}" } };
  return stringify({
    name: "platform",
    runtime: "yaml",
    resources: { kubernetes: provider, access },
    outputs: { grants: reference("access.grants") },
  });
}

/** Returns an expression of Pulumi YAML. */
function reference(path: string): string {
  return `$\{${path}}`;
}

/** Sets up a fleet as docs/clusters.md says, and creates the stack of a cluster, which exists. */
async function stageOf(t: TestContext, stage: string, cluster: string) {
  const { simulation, cli } = await startEngine(t, { cluster: { name: cluster, hasOidcProvider: true } });
  await createRepository(cli);
  const page = blocksOf(read("docs/clusters.md"));
  const setUp = page.find(({ info }) => info === "bash fleet")?.text ?? assert.fail();
  succeeded(await cli.run(cli.directory, "bash", "-euo", "pipefail", "-c", setUp));

  const fleet = join(cli.directory, "clusters");
  succeeded(await cli.run(fleet, "git", "init", "--quiet"));
  const directory = join(fleet, stage);
  cli.environment.PULUMI_DEBUG_PROVIDERS += `,${await startPackage(t, cli, directory)}`;
  cli.environment.PULUMI_SKIP_CONFIRMATIONS = "true";
  const pulumi = (...args: string[]) => cli.pulumi(directory, ...args);
  succeeded(await pulumi("stack", "init", cluster));
  /** Deploys the stage by the commands of the page. A state in files knows only one organization, and the package runs already. */
  const deploy = () => {
    const commands = page.find(({ info }) => info === "bash stage");
    const script = commands?.text
      .replace(/^stage=.*/, `stage=${stage}`)
      .replace('"acme/', `"organization/clusters-${stage}/`)
      .replace("pulumi install\n", "")
      .replace("|| break", "|| exit");
    return cli.run(join(fleet, "teams"), "bash", "-euo", "pipefail", "-c", script ?? assert.fail());
  };
  return { simulation, cli, fleet, directory, pulumi, deploy };
}

/** Creates a stack of a program that uses the package, and further packages of @pulumi with their code. */
async function stackOf(
  t: TestContext,
  files: Record<string, string>,
  options?: Partial<SimulationOptions>,
  packages: Record<string, string> = {},
): Promise<Stack> {
  const stack = await stackOfProgram(t, files, options);
  await installSdks(stack.directory, packages);
  stack.cli.environment.PULUMI_DEBUG_PROVIDERS += `,${await startPackage(t, stack.cli, stack.directory)}`;
  return stack;
}

/** Returns a program with a component for a service account that something else in it creates. */
function programWithAccount(creation: string): string {
  return `
const k8s = require("@pulumi/kubernetes");
const { PulumiCloudAccess } = require("@OWNER/eks-pulumi-oidc");
const provider = new k8s.Provider("cluster", { kubeconfig: "{}" });
const options = { provider };
const created = ${creation};
const account = { namespace: "ci", name: "app", createServiceAccount: false };
new PulumiCloudAccess("access", {
  organization: "acme",
  issuerName: "eks-prod",
  issuerUrl: process.env.ISSUER_URL,
  serviceAccounts: [{ ...account, tokenType: "organization", runJob: process.env.RUN_JOB !== "false" }],
}, { providers: [provider], dependsOn: [created] });
`;
}

// What Pulumi generates for TypeScript, reduced to what every SDK does: it registers a remote component.
const SDK = `
const pulumi = require("@pulumi/pulumi");

exports.PulumiCloudAccess = class extends pulumi.ComponentResource {
  constructor(name, args, options) {
    const inputs = { ...args, oidcIssuerId: undefined, grants: undefined };
    super("eks-pulumi-oidc:index:PulumiCloudAccess", name, inputs, { version: "0.0.0", ...options }, true);
  }
};
`;

/** Gives a program the packages of this project, the SDK of the component, and further packages of @pulumi with their code. */
async function installSdks(directory: string, further: Record<string, string>): Promise<void> {
  const modules = join(directory, "node_modules");
  const install = async (name: string, code: string) => {
    await mkdir(join(modules, name), { recursive: true });
    await writeFile(join(modules, name, "index.js"), code);
  };
  await install("@OWNER/eks-pulumi-oidc", SDK);
  for (const [name, code] of Object.entries(further)) await install(`@pulumi/${name}`, code);
  await mkdir(join(modules, "@pulumi"), { recursive: true });
  for (const name of await readdir(join(ROOT, "node_modules", "@pulumi"))) {
    await symlink(join(ROOT, "node_modules", "@pulumi", name), join(modules, "@pulumi", name));
  }
}

/**
 * Starts the package as the Pulumi CLI's language host does, and returns it for `PULUMI_DEBUG_PROVIDERS`. The language host
 * that `.ci/pulumi-cli` builds cannot do so. The test fails if the package prints a message about its arguments itself.
 *
 * @param directory of the program that uses it, whose tsconfig.json counts.
 * @param root of the repository that contains the package.
 */
async function startPackage(t: TestContext, cli: Cli, directory: string, root = ROOT): Promise<string> {
  const { PATH, PULUMI_CREDENTIALS_PATH } = process.env;
  const program = join(root, "node_modules", "@pulumi", "pulumi", "cmd", "run-plugin");
  const plugin = spawn(process.execPath, [program, join(root, "component")], {
    cwd: directory,
    env: { PATH, PULUMI_CREDENTIALS_PATH, HOME: homedir(), ...cli.issuerCertificate.environment },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const stderr = text(plugin.stderr);
  t.after(() => void plugin.kill());
  const lines = createInterface(plugin.stdout);
  const [port] = await Promise.race([once(lines, "line"), once(lines, "close")]);
  if (!port) assert.fail(`The package has ended: ${await stderr}`);
  return `eks-pulumi-oidc:${port}`;
}
