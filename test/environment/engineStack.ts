// A stack on Pulumi's engine, of the program or of another one, with a simulation in place of the providers.

import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { stringify } from "yaml";
import { runPodSpec } from "../support/podSpec";
import { copyProject, ROOT } from "../support/project";
import { temporaryDirectory } from "../support/temporaryDirectory";
import { succeeded } from "./engineOutcome";
import { serveProvider } from "./provider";
import { type Cli, createProject, openCli } from "./pulumiCli";
import { type Simulation, type SimulationOptions, startSimulation } from "./simulation";

export type Stack = Awaited<ReturnType<typeof emptyStack>>;

/** The settings of a stack with one service account. A file-backed stack has no organization. */
export const SETTINGS = {
  "aws:region": "us-west-2",
  clusterName: "my-cluster",
  serviceAccounts: [
    { namespace: "default", name: "pulumi-service-account", tokenType: "organization", awsRole: "irsa" },
  ],
  organization: "acme",
};

/** Starts a simulation with a cluster, on which every Job succeeds at once. */
export function startCluster(options: Partial<SimulationOptions> = {}): Promise<Simulation> {
  return startSimulation({
    region: "us-west-2",
    cluster: { name: "my-cluster" },
    registrationMilliseconds: 0,
    runPod: async () => ({ exitCode: 0, log: [] }),
    ...options,
  });
}

let currentSimulation: Simulation | undefined;
/** A process can serve providers only once. */
let debugProviders: Promise<string> | undefined;

/** Starts a simulation of a cluster, and a CLI that uses it. Both end with the test. */
export async function startEngine(t: TestContext, options: Partial<SimulationOptions> = {}) {
  // As slow as Pulumi Cloud, so that an order of resources that is wrong fails.
  const engine = { registrationMilliseconds: 1000, runPod: runPodSpec };
  debugProviders ??= serveProvider(() => currentSimulation ?? assert.fail("no simulation is running"));
  const cli = openCli(await debugProviders);
  t.after(cli.remove);
  const { thumbprint: thumbprintOf } = cli.issuerCertificate;
  const simulation = await startCluster({ ...engine, thumbprintOf, ...options });
  t.after(simulation.close);
  currentSimulation = simulation;
  return { simulation, cli };
}

/** Creates a stack with these settings, and no resources. */
export async function emptyStack(
  t: TestContext,
  settings: { createNamespaces?: string[]; [key: string]: unknown } = {},
  options?: Partial<SimulationOptions>,
) {
  const { createNamespaces: newNamespaces = [] } = settings;
  const { simulation, cli } = await startEngine(t, { newNamespaces, ...options });
  return { simulation, ...stackIn(cli, await createProject(cli, { ...SETTINGS, ...settings })) };
}

/** Creates a stack of another program, in an AWS account without a cluster, and no resources. */
export async function stackOfProgram(t: TestContext, files: Record<string, string>): Promise<Stack> {
  const directory = temporaryDirectory(t);
  const { simulation, cli } = await startEngine(t, { cluster: undefined });
  const project = stringify({ name: "platform", runtime: "nodejs" });
  for (const [name, content] of Object.entries({ "Pulumi.yaml": project, ...files })) {
    await writeFile(join(directory, name), content);
  }
  const stack = stackIn(cli, directory);
  succeeded(await stack.pulumi("stack", "init", "dev"));
  return { simulation, ...stack };
}

function stackIn(cli: Cli, directory: string) {
  const pulumi = (...args: string[]) => cli.pulumi(directory, ...args);
  const set = async (key: string, value: unknown) => {
    const text = typeof value === "string" ? value : JSON.stringify(value);
    succeeded(await pulumi("config", "set", key, text));
  };
  return {
    cli,
    directory,
    pulumi,
    /** Runs `pulumi up` without the preview in front of it. */
    up: (...args: string[]) => pulumi("up", "--yes", "--skip-preview", ...args),
    /** Changes a setting of the stack. */
    set,
    /** Lets the next update replace every role, by the setting that does so. */
    replaceRoles: () => set("rolePath", "/pulumi/"),
  };
}

const PACKAGES = join(ROOT, "node_modules");

/**
 * A command that installs the packages of this checkout in the current directory, which npm takes half a minute for. npm
 * writes its list of them in place: it must not be the same file.
 */
export const LINK_PACKAGES = `
  rm -rf node_modules
  cp -al '${PACKAGES}' . 2>/dev/null || cp -a '${PACKAGES}' .
  rm node_modules/.package-lock.json
  cp '${PACKAGES}/.package-lock.json' node_modules/
`;

/** Commits what a clone contains to a new repository, which git finds at the URL of the README. @returns its directory. */
export async function createRepository(cli: Cli): Promise<string> {
  const repository = await copyProject(join(cli.directory, "repository"));
  const author = ["-c", "user.name=author", "-c", "user.email=author@example.com"];
  succeeded(await cli.run(repository, "git", "init", "--quiet", "--initial-branch", "main"));
  succeeded(await cli.run(repository, "git", "add", "--all"));
  succeeded(await cli.run(repository, "git", ...author, "commit", "--quiet", "--message", "template"));
  const url = "https://github.com/OWNER/eks-pulumi-oidc.git";
  await writeFile(join(cli.directory, ".gitconfig"), `[url "${repository}"]\n\tinsteadOf = ${url}\n`);
  return repository;
}
