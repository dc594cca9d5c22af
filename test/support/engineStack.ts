// A stack on Pulumi's engine, of the program or of another one, with a simulation in place of the providers.

import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { stringify } from "yaml";
import type { Simulation, SimulationOptions } from "../../simulator/emulators/simulation";
import { succeeded } from "./engineOutcome";
import { runPodSpecWithCli } from "./podSpec";
import { serveProvider } from "./provider";
import { type Cli, createProject, type Outcome, openCli } from "./pulumiCli";
import { startCluster } from "./stack";
import { temporaryDirectory } from "./temporaryDirectory";

export interface Stack {
  simulation: Simulation;
  directory: string;
  /** What the pods of the simulation have printed. */
  log: string[];
  pulumi(...args: string[]): Promise<Outcome>;
  /** Runs `pulumi up` without the preview in front of it. */
  up(...args: string[]): Promise<Outcome>;
  /** Changes a setting of the stack. */
  set(key: string, value: unknown): Promise<void>;
  cli: Cli;
}

const SETTINGS = {
  "aws:region": "us-west-2",
  clusterName: "my-cluster",
  userLogin: "alice",
  // A file-backed stack has no organization.
  organization: "acme",
};

let currentSimulation: Simulation | undefined;
/** A process can serve providers only once. */
let debugProviders: Promise<string> | undefined;

/**
 * Starts a simulation of a cluster, and a CLI that uses it. Both end with the test.
 *
 * @param plugins further providers that run already, as `NAME:PORT`.
 */
export async function startEngine(
  t: TestContext,
  options: Partial<SimulationOptions> = {},
  plugins: string[] = [],
) {
  // As slow as Pulumi Cloud, so that an order of resources that is wrong fails.
  const engine = { registrationMilliseconds: 1000, runPod: runPodSpecWithCli };
  const simulation = await startCluster({ ...engine, ...options });
  t.after(simulation.close);
  currentSimulation = simulation;
  debugProviders ??= serveProvider(() => currentSimulation ?? assert.fail("no simulation is running"));
  const cli = await openCli([await debugProviders, ...plugins].join(","));
  t.after(cli.remove);
  return { simulation, cli };
}

/** Creates a stack with these settings, and no resources. */
export async function emptyStack(
  t: TestContext,
  settings: object = {},
  options: Partial<SimulationOptions> = {},
): Promise<Stack> {
  const log: string[] = [];
  const { simulation, cli } = await startEngine(t, { ...options, onLog: (line) => log.push(line) });
  const directory = await createProject(cli, { ...SETTINGS, ...settings });
  return { simulation, directory, log, cli, ...commandsIn(directory, cli) };
}

/**
 * Creates a stack of another program, in an AWS account without a cluster, and no resources.
 *
 * @param files of the program's directory; `Pulumi.yaml` is there already.
 * @param prepare is called with the directory before the CLI starts, and returns providers that run already.
 */
export async function stackOfProgram(
  t: TestContext,
  files: Record<string, string>,
  prepare: (directory: string) => Promise<string[]>,
  further: Partial<SimulationOptions> = {},
): Promise<Stack> {
  const directory = temporaryDirectory(t);
  const project = stringify({ name: "platform", runtime: "nodejs" });
  for (const [name, content] of Object.entries({ "Pulumi.yaml": project, ...files })) {
    await writeFile(join(directory, name), content);
  }
  const plugins = await prepare(directory);

  const log: string[] = [];
  const options = { cluster: undefined, onLog: (line: string) => log.push(line), ...further };
  const { simulation, cli } = await startEngine(t, options, plugins);
  const commands = commandsIn(directory, cli);
  succeeded(await commands.pulumi("stack", "init", "dev"));
  return { simulation, directory, log, cli, ...commands };
}

/** Returns the commands of a stack. */
function commandsIn(directory: string, cli: Cli): Pick<Stack, "pulumi" | "up" | "set"> {
  const pulumi: Stack["pulumi"] = (...args) => cli.pulumi(directory, ...args);
  return {
    pulumi,
    up: (...args) => pulumi("up", "--yes", "--skip-preview", ...args),
    async set(key, value) {
      const text = typeof value === "string" ? value : JSON.stringify(value);
      succeeded(await pulumi("config", "set", key, text));
    },
  };
}

/** Creates a stack with its resources. */
export async function createdStack(...options: Parameters<typeof emptyStack>): Promise<Stack> {
  const stack = await emptyStack(...options);
  succeeded(await stack.up());
  return stack;
}

/** Lets the creation of a namespace take longer than that of everything else. */
export function delayNamespaces(t: TestContext, { resources }: Simulation): void {
  const namespaces = resources["kubernetes:core/v1:Namespace"] ?? assert.fail();
  const create = namespaces.create.bind(namespaces);
  t.mock.method(namespaces, "create", async (name: string, inputs: object) => {
    await sleep(3000);
    return create(name, inputs);
  });
}
