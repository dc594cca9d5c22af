// A stack of the program on Pulumi's engine, with a simulation in place of the providers.

import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import { type Simulation, type SimulationOptions, startSimulation } from "../simulator/emulators/simulation";
import { serveProvider } from "./provider";
import { type Cli, createProject, type Outcome, openCli } from "./pulumiCli";

export interface Stack {
  simulation: Simulation;
  directory: string;
  /** What the pods of the simulation have printed. */
  log: string[];
  pulumi(...args: string[]): Promise<Outcome>;
  /** Runs `pulumi up` without the preview in front of it. */
  up(...args: string[]): Promise<Outcome>;
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

/** Starts a simulation of a cluster, and a CLI that uses it. Both end with the test. */
export async function startEngine(t: TestContext, options: Partial<SimulationOptions> = {}) {
  const cluster = { name: "my-cluster", hasOidcProvider: true };
  const simulation = await startSimulation({ region: "us-west-2", cluster, runsPodSpecs: true, ...options });
  t.after(simulation.close);
  currentSimulation = simulation;
  debugProviders ??= serveProvider(() => currentSimulation ?? assert.fail("no simulation is running"));
  const cli = await openCli(await debugProviders);
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
  const pulumi = (...args: string[]) => cli.pulumi(directory, ...args);
  return { simulation, directory, log, pulumi, up: (...args) => pulumi("up", "--yes", "--skip-preview", ...args), cli };
}

/** Creates a stack with its resources. */
export async function createdStack(...options: Parameters<typeof emptyStack>): Promise<Stack> {
  const stack = await emptyStack(...options);
  succeeded(await stack.up());
  return stack;
}

/** @throws AssertionError with all that a command has printed if it failed. */
export function succeeded(outcome: Outcome): Outcome {
  assert.equal(outcome.exitCode, 0, outcome.screen);
  return outcome;
}
