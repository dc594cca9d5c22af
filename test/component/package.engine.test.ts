// The package of component/ on Pulumi's engine: what another process, another language, and the examples change. What the component
// does is the same as in the stack, which test/engine has.

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
import { EXCHANGED, failed, newStatuses, resourcesOf, succeeded } from "../environment/engineOutcome";
import {
  createRepository,
  LINK_PACKAGES,
  type Stack,
  stackOfProgram,
  startEngine,
} from "../environment/engineStack";
import { type Cli, missingCli, pathOf } from "../environment/pulumiCli";
import { PACK, violationsIn } from "../policy/pack";
import { blocksOf, ROOT, read } from "../support/project";

const missingYaml =
  pathOf("pulumi-language-yaml") === "" && "pulumi-language-yaml, a part of the Pulumi CLI, is not on PATH";

const missingWorkflows =
  !existsSync(join(ROOT, ".github", "workflows")) && "the workflows are removed, which a fleet copies";

// The SDK passes the options of the program that uses the component to ts-node. With these, it would not compile.
const TSCONFIG = JSON.stringify({ compilerOptions: { module: "nodenext", lib: ["es5"], types: [] } });

describe("the package of the component", { skip: missingCli }, () => {
  test("examples/component/typescript deploys as it is printed, whatever tsconfig.json the program has", async (t) => {
    const program = read("examples/component/typescript/index.ts");
    const { simulation, pulumi, up } = await stackOf(t, { "index.ts": program, "tsconfig.json": TSCONFIG });
    const arnOf = (_: object, name: string) => `arn:aws:iam::123456789012:policy/${name}`;
    simulation.resources["aws:iam/policy:Policy"] = storedKind(new Map(), arnOf, (arn) => ({ arn }));

    // Of a cluster that does not exist yet, the preview knows neither the issuer nor the trust policy.
    const preview = succeeded(await pulumi("preview", ...PACK));
    assert.match(
      preview.stdout,
      /^ +team-a\/deployer: "team:team-a, 3600 s, IAM role by IRSA \(boundary known after the update\)"$/m,
    );
    assert.deepEqual(violationsIn(preview), []);
    assert.deepEqual(violationsIn(succeeded(await up(...PACK))), []);
    assert.deepEqual(newStatuses(simulation), [...EXCHANGED, ...EXCHANGED]);
    // By an output, the program has attached a policy to a role.
    const { aws } = simulation.existing();
    assert.match(
      aws.join(),
      /\bpulumi-oidc-team-a-deployer-\w+\/arn:aws:iam::123456789012:policy\/read-reports\b/,
    );
    succeeded(await pulumi("preview", "--expect-no-changes"));
    succeeded(await pulumi("destroy", "--yes"));
    assert.deepEqual(simulation.existing(), { aws: [], kubernetes: [], pulumiCloud: [] });
  });

  // pulumiCloudAccess.test.ts has the messages.
  test("a program in YAML fails for an invalid argument, before any resource exists", {
    skip: missingYaml,
  }, async (t) => {
    const args = { issuerName: "eks-prod", issuerUrl: "https://oidc.example", serviceAccounts: [] };
    const resources = {
      kubernetes: { type: "pulumi:providers:kubernetes", properties: { kubeconfig: "{}" } },
      access: {
        type: "eks-pulumi-oidc:PulumiCloudAccess",
        properties: { ...args, organization: { "fn::secret": "hunter2" } },
        options: { providers: [`$\{kubernetes}`] },
      },
    };
    const project = stringify({ name: "platform", runtime: "yaml", resources });
    const { simulation, pulumi, up } = await stackOf(t, { "Pulumi.yaml": project });
    const screen = failed(
      await up(),
      /'access' has a problem: Invalid arguments of PulumiCloudAccess "access" \(1 problem\)\./,
    );
    const { kubernetes, pulumiCloud } = simulation.existing();
    assert.deepEqual([kubernetes, pulumiCloud], [[], []]);
    const state = JSON.stringify(await resourcesOf(pulumi));
    assert.doesNotMatch(screen + state, /hunter2/);
    assert.doesNotMatch(state, /eks-pulumi-oidc:index/);
  });

  test("has its dependencies where `pulumi package add` installs them, and no directory of node_modules is a link", async (t) => {
    const { cli } = await startEngine(t);
    const clone = join(cli.directory, "clone");
    succeeded(await cli.run(cli.directory, "git", "clone", "--quiet", await createRepository(cli), clone));
    // The root of the workspace, with what Pulumi passes to npm for a plugin with `production: true`.
    const { packages } = parse(await readFile(join(clone, "pnpm-workspace.yaml"), "utf8"));
    assert.deepEqual(packages, ["component"]);
    succeeded(await cli.run(clone, "bash", "-c", LINK_PACKAGES));
    succeeded(await cli.run(clone, "npm", "install", "--loglevel=error", "--production"));

    assert.match(await startPackage(t, cli, cli.directory, clone), /^eks-pulumi-oidc:\d+$/);
    // `pulumi new` of a directory stops at such a link.
    const entries = await readdir(join(clone, "node_modules"), { withFileTypes: true });
    assert.ok(entries.every((entry) => !entry.isSymbolicLink()));
    const { stdout } = succeeded(await cli.run(clone, "git", "status", "--short"));
    assert.equal(stdout, "");
  });

  test("a stage of examples/fleet", { skip: missingYaml || missingWorkflows }, async (t) => {
    const { simulation, fleet, pulumi, deploy, documented } = await stageOf(t, "dev", "dev-us-1");
    const before = simulation.existing();
    const projectOf = (stage: string) => readFile(join(fleet, stage, "Pulumi.yaml"), "utf8");

    await t.test("grants what its plan says, and is quiet then", async () => {
      const preview = succeeded(await pulumi("preview", ...PACK));
      assert.match(
        preview.stdout,
        /^ +team-a\/app: "team:team-a-dev, 3600 s, .*boundary arn:aws:iam::\d{12}:policy\/pulumi-oidc-boundary\)"$/m,
      );
      assert.deepEqual(violationsIn(preview), []);
      succeeded(await deploy());
      assert.deepEqual(newStatuses(simulation), EXCHANGED);
      succeeded(await pulumi("preview", "--expect-no-changes"));
    });

    await t.test("denies every entry of a cluster by one setting", async () => {
      const [command = assert.fail()] =
        /pulumi config (set suspended true)/.exec(read("docs/incidents.md")) ?? [];
      succeeded(await pulumi(...command.split(" ").slice(1)));
      const { stdout } = succeeded(await pulumi("up", "--yes"));
      assert.match(
        stdout,
        /^ +~ team-a\/app: "team:team-a-dev, .*" => "suspended \(team:team-a-dev, .*\)"$/m,
      );
      const [issuer] = simulation.pulumiCloud.list();
      assert.deepEqual(
        issuer?.registration.policies?.map(({ decision }) => decision),
        ["deny"],
      );
      succeeded(await pulumi("config", "rm", "suspended"));
      succeeded(await deploy());
      assert.deepEqual(newStatuses(simulation), EXCHANGED);
    });

    await t.test("gets the newest component and its policy pack, then the next stage", async () => {
      const [newest, later] = [await projectOf("dev"), await projectOf("staging")];
      const [ref = assert.fail()] = /(?<=component@)[0-9a-f]{40}/.exec(newest) ?? [];
      const outdated = (project: string) => project.replace(ref, "0".repeat(40));
      await writeFile(join(fleet, "dev", "Pulumi.yaml"), outdated(newest));
      await writeFile(join(fleet, "staging", "Pulumi.yaml"), outdated(later));
      await documented("upgrade");
      assert.deepEqual([await projectOf("dev"), await projectOf("staging")], [newest, outdated(later)]);

      const pipeline = join(fleet, ".github", "pipeline.json");
      const [ofStage, ofLater] = [{ directory: "dev" }, { directory: "staging" }];
      const none = { directory: "staging", policyPack: "none" };
      await writeFile(pipeline, JSON.stringify({ stacks: [ofStage, ofLater, none] }));
      await documented("upgrade");
      const policyPack = { repository: "OWNER/eks-pulumi-oidc", ref };
      const upgraded = { ...ofStage, policyPack };
      assert.deepEqual(JSON.parse(await readFile(pipeline, "utf8")).stacks, [upgraded, ofLater, none]);

      await documented("later-stage");
      assert.equal(await projectOf("staging"), later);
      const { stacks } = JSON.parse(await readFile(pipeline, "utf8"));
      assert.deepEqual(stacks, [upgraded, { ...ofLater, policyPack }, none]);
    });

    succeeded(await pulumi("destroy", "--yes"));
    assert.deepEqual(simulation.existing(), before);
  });
});

/** Sets up a fleet as docs/clusters.md says, and creates the stack of a cluster, which exists. */
async function stageOf(t: TestContext, stage: string, cluster: string) {
  const { simulation, cli } = await startEngine(t, { cluster: { name: cluster } });
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
  /** Runs commands of the page. */
  const documented = async (name: string) => {
    const commands = page.find(({ info }) => info === `bash ${name}`)?.text ?? assert.fail(name);
    succeeded(await cli.run(fleet, "bash", "-euo", "pipefail", "-c", commands));
  };
  /** Deploys the stage by the commands of the page. A state in files knows only one organization, and the package runs already. */
  const deploy = () => {
    const pack = `export PULUMI_OPTION_POLICY_PACK=${PACK.at(-1)}\n`;
    const commands = page.find(({ info }) => info === "bash stage");
    const script = commands?.text
      .replace(/^stage=.*/, `stage=${stage}`)
      .replace('"acme/', `"organization/clusters-${stage}/`)
      .replace("pulumi install\n", "")
      .replace("|| break", "|| exit");
    return cli.run(join(fleet, "teams"), "bash", "-euo", "pipefail", "-c", pack + (script ?? assert.fail()));
  };
  return { simulation, fleet, pulumi, deploy, documented };
}

/** Creates a stack of a program that uses the package. */
async function stackOf(t: TestContext, files: Record<string, string>): Promise<Stack> {
  const stack = await stackOfProgram(t, files);
  await installSdks(stack.directory);
  stack.cli.environment.PULUMI_DEBUG_PROVIDERS += `,${await startPackage(t, stack.cli, stack.directory)}`;
  return stack;
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

/** Gives a program the packages of this project, and the SDK of the component. */
async function installSdks(directory: string): Promise<void> {
  const modules = join(directory, "node_modules");
  const component = join(modules, "@OWNER", "eks-pulumi-oidc");
  await mkdir(component, { recursive: true });
  await writeFile(join(component, "index.js"), SDK);
  await symlink(join(ROOT, "node_modules", "@pulumi"), join(modules, "@pulumi"));
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
