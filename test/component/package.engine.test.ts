// The package of component/ on Pulumi's engine: programs in other processes use it through an SDK.

import assert from "node:assert/strict";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { parse } from "yaml";
import { storedKind } from "../../simulator/emulators/emulator";
import type { Simulation, SimulationOptions } from "../../simulator/emulators/simulation";
import { changes, EXCHANGED, failed, resourcesOf, statuses, succeeded } from "../support/engineOutcome";
import { type Stack, stackOfProgram, startEngine } from "../support/engineStack";
import { codeIn, read } from "../support/project";
import { missingCli } from "../support/pulumiCli";
import { cloneOf, createRepository, LINK_PACKAGES } from "../support/repository";
import { startCluster } from "../support/stack";
import { installSdk, startPackage } from "./plugin";

// The component would not compile with these options. The SDK passes those of the program that uses it to ts-node.
const TSCONFIG = JSON.stringify({
  compilerOptions: { target: "es5", lib: ["es5"], module: "commonjs", strict: true },
});

/** A program in JavaScript, whose component has the arguments and options of the stack's configuration. */
const PROGRAM = `
const aws = require("@pulumi/aws");
const eks = require("@pulumi/eks");
const kubernetes = require("@pulumi/kubernetes");
const pulumi = require("@pulumi/pulumi");
const { PulumiCloudAccess } = require("@OWNER/eks-pulumi-oidc");

const cluster = new eks.Cluster("own", { name: "own", createOidcProvider: true });
const kubernetesProvider = new kubernetes.Provider("own", { kubeconfig: cluster.kubeconfigJson });
const base = {
  organization: "acme",
  issuerName: "own",
  issuerUrl: cluster.oidcProviderUrl,
  oidcProviderArn: cluster.oidcProviderArn,
};
const serviceAccounts = new pulumi.Config().getObject("accounts");
`;
const ONE = `
const access = new PulumiCloudAccess("access", { ...base, serviceAccounts }, { providers: [kubernetesProvider] });
new aws.iam.RolePolicyAttachment("own", {
  role: access.serviceAccounts.apply((accounts) => accounts["team-a/deployer"].roleName),
  policyArn: "arn:aws:iam::aws:policy/ReadOnlyAccess",
});
exports.oidcIssuerId = access.oidcIssuerId;
exports.serviceAccounts = access.serviceAccounts;
`;

const DEPLOYER = { namespace: "team-a", name: "deployer", tokenType: "personal", userLogin: "alice" };
const DRIFT = { namespace: "team-b", name: "drift", tokenType: "team", teamName: "platform" };

describe("the package of the component", { skip: missingCli }, () => {
  test("creates, keeps, changes, and destroys two service accounts, whatever tsconfig.json the program has", async (t) => {
    const { simulation, pulumi, set, up } = await stackOf(t, ONE, [DEPLOYER, DRIFT]);
    succeeded(await pulumi("preview"));

    succeeded(await up());
    assert.deepEqual(statuses(simulation), [...EXCHANGED, ...EXCHANGED]);
    succeeded(await pulumi("preview", "--expect-no-changes"));
    const { stdout } = succeeded(await pulumi("stack", "output", "--json"));
    const outputs = JSON.parse(stdout);
    assert.deepEqual(Object.keys(outputs.serviceAccounts).sort(), ["team-a/deployer", "team-b/drift"]);
    assert.match(outputs.serviceAccounts["team-b/drift"].roleName, /^pulumi-oidc-team-b-drift-/);
    assert.equal(outputs.oidcIssuerId, simulation.existing().pulumiCloud[0]);

    await set("accounts", [DEPLOYER, { ...DRIFT, teamName: "security" }]);
    assert.deepEqual(changes(await up()), [
      "access.oidc-issuer updated",
      "access.team-b.drift replaced",
      "access.team-b.drift.pulumi-token-exchange updated",
    ]);
    assert.equal(simulation.pulumiCloud.exchanges.at(-1)?.reason, "team token, scope team:security");

    succeeded(await pulumi("destroy", "--yes"));
    assert.deepEqual(simulation.existing(), { aws: [], kubernetes: [], pulumiCloud: [] });
  });

  test("stops before its first resource if pulumiApiUrl has changed since it was deployed", async (t) => {
    const program = `
      const args = { ...base, serviceAccounts, pulumiApiUrl: new pulumi.Config().get("url") };
      new PulumiCloudAccess("access", { ...args, createNamespaces: ["team-a"] }, { providers: [kubernetesProvider] });
    `;
    const { simulation, pulumi, set, up } = await stackOf(t, program, [DEPLOYER]);
    succeeded(await up());
    const deployed = simulation.existing();

    await set("url", "https://pulumi.example.com");
    await set("accounts", [{ ...DEPLOYER, name: "other" }]);
    for (const outcome of [await pulumi("preview"), await up()]) {
      const screen = failed(
        outcome,
        /pulumiApiUrl is https:\/\/pulumi\.example\.com, but .* https:\/\/api\.pulumi\.com/,
      );
      assert.doesNotMatch(screen, /access\.team-a/);
    }
    assert.deepEqual(simulation.existing(), deployed);
  });

  test("is rejected with every problem at once, also when a value is unknown in the preview or a provider missing", async (t) => {
    const program = `
      const args = {
        ...base,
        issuerUrl: undefined,
        maxExpirationSeconds: 0,
        serviceAccounts: [{ ...serviceAccounts[0], namespace: cluster.oidcProviderUrl, tokenTyp: "team" }, serviceAccounts[1]],
      };
      new PulumiCloudAccess("access", args);
    `;
    const stack = await stackOf(t, program, [DEPLOYER, { ...DRIFT, teamName: undefined }]);
    const screen = failed(
      await stack.pulumi("preview"),
      /'access' has a problem: Invalid arguments of PulumiCloudAccess "access" \(6 problems\)\. Nothing was changed\./,
      /issuerUrl: required/,
      /maxExpirationSeconds = 0: must be at least 1 second/,
      /serviceAccounts\[0\]\.tokenTyp: unknown setting; did you mean "tokenType"\?/,
      /serviceAccounts\[0\]\.namespace: must be a plain value, not an output or a secret\. Write the name as a string/,
      /serviceAccounts\[1\]\.teamName: required with tokenType team/,
      // Pulumi would use the current context of the kubeconfig.
      /providers: this resource option must contain the Kubernetes provider/,
    );
    assert.doesNotMatch(screen, /panic|goroutine/);
  });

  test("rejects secrets and invalid outputs with one message, before any of its resources exists", async (t) => {
    const program = `
      const args = {
        ...base,
        issuerUrl: pulumi.secret(base.issuerUrl),
        image: cluster.oidcProviderUrl,
        serviceAccounts: [{ ...serviceAccounts[0], userLogin: pulumi.secret("hunter2") }],
      };
      new PulumiCloudAccess("access", args, { providers: [kubernetesProvider] });
    `;
    const { simulation, pulumi, up } = await stackOf(t, program, [DEPLOYER]);
    const screen = failed(
      await up(),
      /Invalid arguments of PulumiCloudAccess "access" \(3 problems\)\. None of its resources was changed\./,
      /serviceAccounts\[0\]\.userLogin: must not be a secret/,
      /issuerUrl: must not be a secret/,
      /image = "https:.*": must be /,
    );
    assert.equal(screen.split("\nDiagnostics:")[1]?.match(/Invalid arguments of/g)?.length, 1, screen);
    const { kubernetes, pulumiCloud } = simulation.existing();
    assert.deepEqual([kubernetes, pulumiCloud], [[], []]);

    const state = JSON.stringify(await resourcesOf(pulumi));
    assert.doesNotMatch(screen + state, /hunter2/);
    assert.doesNotMatch(state, /eks-pulumi-oidc:index/);
  });

  test("says that a service account has one organization", async (t) => {
    const two = `
      const options = { providers: [kubernetesProvider] };
      const one = new PulumiCloudAccess("one", { ...base, serviceAccounts }, options);
      new PulumiCloudAccess("two", { ...base, organization: "other", serviceAccounts }, { ...options, dependsOn: [one] });
    `;
    const { pulumi } = await stackOf(t, two, [DEPLOYER]);
    failed(
      await pulumi("preview"),
      /'two' has a problem: Two components configure service account team-a\/deployer: "one" and "two"\./,
    );
  });

  test("has its dependencies where `pulumi package add` installs them, and no directory of node_modules is a link", async (t) => {
    const { cli } = await startEngine(t);
    const clone = await cloneOf(cli, await createRepository(cli));
    // The root of the workspace, with what Pulumi passes to npm for a plugin with `production: true`.
    const { packages } = parse(await readFile(join(clone, "pnpm-workspace.yaml"), "utf8"));
    assert.deepEqual(packages, ["component"]);
    succeeded(await cli.run(clone, "bash", "-c", LINK_PACKAGES));
    succeeded(await cli.run(clone, "npm", "install", "--loglevel=error", "--production"));

    assert.match(await startPackage(t, cli.directory, clone), /^eks-pulumi-oidc:\d+$/);
    // `pulumi new` of a directory stops at such a link.
    const entries = await readdir(join(clone, "node_modules"), { withFileTypes: true });
    assert.deepEqual(
      entries.filter((entry) => entry.isSymbolicLink()).map(({ name }) => name),
      [],
    );
    const { stdout } = succeeded(await cli.run(clone, "git", "status", "--short"));
    assert.equal(stdout, "");
  });

  test("examples/component/typescript deploys as it is printed", async (t) => {
    const program = { "index.ts": read("examples/component/typescript/index.ts") };
    const { simulation, pulumi, up } = await stackOfFiles(t, program);
    simulation.resources["aws:iam/policy:Policy"] = storedKind(
      new Map(),
      (_, name) => `arn:aws:iam::123456789012:policy/${name}`,
      (arn, inputs) => ({ ...inputs, arn }),
    );
    simulation.resources["pulumiservice:index:Team"] = storedKind(new Map(), (_, name) => name);
    succeeded(await pulumi("preview"));
    succeeded(await up());
    assert.deepEqual(statuses(simulation), [...EXCHANGED, ...EXCHANGED]);
    succeeded(await pulumi("preview", "--expect-no-changes"));
    const attached = simulation
      .existing()
      .aws.filter((name) => name.endsWith("/arn:aws:iam::123456789012:policy/read-reports"));
    assert.match(attached.join(), /^pulumi-oidc-team-a-deployer-/);
    const granted = simulation.pulumiCloud.exchanges.map(({ reason }) => reason);
    assert.ok(granted.includes("team token, scope team:platform"), granted.join());
  });

  test("examples/component/many-clusters removes one cluster, and touches nothing of the other", async (t) => {
    const program = read("examples/component/many-clusters/index.ts");
    const cluster = (name: string) => ({ cluster: { name, hasOidcProvider: true } });
    const { simulation, directory, pulumi, up } = await stackOfFiles(
      t,
      { "index.ts": program },
      cluster("blue"),
    );
    const other = await startCluster(cluster("green"));
    t.after(other.close);
    const blue = { ...simulation, resources: { ...simulation.resources }, calls: { ...simulation.calls } };
    divide(simulation, { blue, green: other });

    succeeded(await up());
    assert.deepEqual(statuses(blue), [...EXCHANGED, ...EXCHANGED]);
    assert.deepEqual(statuses(other), EXCHANGED);
    assert.deepEqual(other.existing().kubernetes.sort(), [
      "team-a/app",
      "team-a/app-pulumi-token-exchange",
      "team-a/app-token-exchange",
    ]);
    for (const { kubernetes } of [blue, other]) assert.ok(kubernetes.existing().includes("team-a/app"));
    succeeded(await pulumi("preview", "--expect-no-changes"));

    const kept = other.existing();
    await writeFile(join(directory, "index.ts"), program.replace("  blue: [app, secrets],\n", ""));
    assert.deepEqual(
      changes(await up()).filter((change) => !/^blue\b.* deleted$/.test(change)),
      [],
    );
    assert.deepEqual(blue.existing().kubernetes, []);
    assert.deepEqual(blue.existing().pulumiCloud, []);
    assert.deepEqual(other.existing(), kept);
    succeeded(await pulumi("preview", "--expect-no-changes"));
  });

  // Each program of the page, the path of its issuer, and the stand-in for the package that looks up the cluster.
  const [GKE = "", AKS = ""] = codeIn(read("docs/other-clusters.md"), "typescript");
  const OTHER_CLUSTERS = {
    "GKE, whose issuer has a path": {
      program: GKE,
      issuerPath: "/v1/projects/acme/locations/us-central1/clusters/prod",
      sdk: "gcp",
      lookups: () => `exports.container = {
        getClusterOutput: () => pulumi.output({ endpoint: "127.0.0.1", masterAuths: [{ clusterCaCertificate: "a" }] }),
      };`,
    },
    "AKS, whose issuer ends in a slash": {
      program: AKS,
      issuerPath: "/11111111-1111-1111-1111-111111111111/22222222-2222-2222-2222-222222222222/",
      sdk: "azure-native",
      lookups: (issuerURL: string) => `exports.containerservice = {
        getManagedClusterOutput: () => pulumi.output({ oidcIssuerProfile: { issuerURL: "${issuerURL}" } }),
        listManagedClusterUserCredentialsOutput: () => pulumi.output({ kubeconfigs: [{ value: "e30=" }] }),
      };`,
    },
  };
  for (const [name, { program, issuerPath, sdk, lookups }] of Object.entries(OTHER_CLUSTERS)) {
    test(`grants a token on ${name}, and needs nothing of AWS`, async (t) => {
      const { simulation, directory, pulumi, up } = await stackOfFiles(t, {}, { issuerPath });
      const { url } = simulation.issuer;
      const index = program.replace("https://container.googleapis.com", new URL(url).origin);
      await writeFile(join(directory, "index.ts"), index);
      const modules = join(directory, "node_modules", "@pulumi", sdk);
      await mkdir(modules);
      await writeFile(
        join(modules, "index.js"),
        `const pulumi = require("@pulumi/pulumi");\n${lookups(url)}`,
      );

      succeeded(await up());
      assert.deepEqual(statuses(simulation), EXCHANGED);
      const [{ registration } = assert.fail()] = simulation.pulumiCloud.list();
      assert.equal(registration.url, `${new URL(url).origin}${issuerPath}`);
      succeeded(await pulumi("preview", "--expect-no-changes"));
      // A call of a function registers its provider, too.
      const used = (await resourcesOf(pulumi)).filter(({ type }) => /^(pulumi:providers:)?aws\b/.test(type));
      assert.deepEqual(used, []);
    });
  }
});

/** Creates a stack of a program that continues after its cluster. */
async function stackOf(t: TestContext, program: string, accounts: object[]): Promise<Stack> {
  const main = JSON.stringify({ main: "index.js" });
  const stack = await stackOfFiles(t, {
    "index.js": PROGRAM + program,
    "package.json": main,
    "tsconfig.json": TSCONFIG,
  });
  await stack.set("accounts", accounts);
  return stack;
}

function stackOfFiles(
  t: TestContext,
  files: Record<string, string>,
  options?: Partial<SimulationOptions>,
): Promise<Stack> {
  const prepare = async (directory: string) => {
    await installSdk(directory);
    return [await startPackage(t, directory)];
  };
  return stackOfProgram(t, files, prepare, options);
}

/** Lets one simulation pass on each resource to that of the cluster with which its name begins, and each call to all. */
function divide({ resources, calls }: Simulation, clusters: Record<string, Simulation>): void {
  // The ID of a resource begins with the cluster, too.
  const kindOf = (name: string, type: string) => {
    return clusters[name.split(/[.:]/)[0] ?? ""]?.resources[type] ?? assert.fail(`${type} ${name}`);
  };
  const ownId = (id: string) => id.slice(id.indexOf(":") + 1);
  for (const type of Object.keys(resources)) {
    resources[type] = {
      async create(name, inputs) {
        const { id, outputs } = await kindOf(name, type).create(name, inputs);
        return { id: `${name.split(".")[0]}:${id}`, outputs };
      },
      update: (id, inputs) => kindOf(id, type).update(ownId(id), inputs),
      read: (id) => kindOf(id, type).read(ownId(id)),
      delete: (id) => kindOf(id, type).delete(ownId(id)),
    };
  }
  for (const token of Object.keys(calls)) {
    const answers = Object.values(clusters).map((cluster) => cluster.calls[token] ?? assert.fail(token));
    calls[token] = { answer: (inputs) => firstAnswer(answers, inputs) };
  }
}

function firstAnswer([call, ...others]: Simulation["calls"][string][], inputs: object): object {
  try {
    return call?.answer(inputs) ?? assert.fail();
  } catch (error) {
    if (others.length === 0) throw error;
    return firstAnswer(others, inputs);
  }
}
