// Runs the program under the SDK's mocks, and records what it registers, with the resource options.

import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import * as pulumi from "@pulumi/pulumi";
import { ignoringRejections } from "../support/failure";
import { configOf } from "../support/rawSettings";
import { type Registration, type Run, runProgram } from "./runProgram";
import { type Simulation, type SimulationOptions, startSimulation } from "./simulation";

export type Settings = Record<string, unknown>;

/** A resource as the mocks receive it: `Inputs` is what the test looks at. */
type Registered<Inputs = Record<string, unknown>> = Omit<Registration, "inputs" | "outputs"> & {
  inputs: Inputs;
  outputs: { arn?: string };
  options: pulumi.CustomResourceOptions;
};

export interface Stack {
  simulation: Simulation;
  registered: Registered[];
  outputs: Record<string, unknown> & {
    serviceAccounts: Record<string, { roleArn?: string; jobName?: string }>;
  };
}

/** The cluster of a stack in these tests. */
export const CLUSTER = { name: "my-cluster", hasOidcProvider: true };

/** Starts a simulation with a cluster, on which every Job succeeds at once. */
export function startCluster(options: Partial<SimulationOptions> = {}): Promise<Simulation> {
  return startSimulation({
    region: "us-west-2",
    cluster: CLUSTER,
    registrationMilliseconds: 0,
    runPod: async () => ({ exitCode: 0, log: [] }),
    ...options,
  });
}

/** Starts a simulation for one test. */
export async function start(t: TestContext, options: Partial<SimulationOptions> = {}) {
  const simulation = await startCluster(options);
  t.after(() => simulation.close());
  return simulation;
}

/** Runs the program in a new simulation. */
export async function up(t: TestContext, settings: Settings = {}, options?: Partial<SimulationOptions>) {
  return run(await start(t, options), settings);
}

/** Runs the program with these settings on top of the required ones. */
export async function run(simulation: Simulation, settings: Settings = {}): Promise<Stack> {
  const options = new Map<string, pulumi.CustomResourceOptions>();
  const program = async () => {
    // The SDK's mocks see no resource options; a transformation of the stack does.
    pulumi.runtime.registerStackTransformation(({ type, name, opts }) => {
      options.set(`${type} ${name}`, opts);
      return undefined;
    });
    return require("../../index")();
  };
  const { registered, outputs } = await succeeded(runProgram(simulation, { ...stackOf(settings), program }));
  const withOptions = registered.map((it) => ({ ...it, options: options.get(`${it.type} ${it.name}`) }));
  return { simulation, outputs, registered: withOptions } as Stack;
}

/**
 * Returns the message that the program stops with: nothing is registered, and the engine prints only the message. A
 * resource that fails later is reported as `Error: MESSAGE`.
 */
export async function messageOf(simulation: Simulation, settings: Settings) {
  const options = { ...stackOf(settings), isUpdate: true };
  const { registered, failure: error } = await ignoringRejections(() => runProgram(simulation, options));
  assert.notEqual(error, undefined);
  if (!pulumi.RunError.isInstance(error)) return String(error);
  assert.deepEqual(registered, []);
  return error.message;
}

/** Returns all resources whose type ends in this name. */
export function all<Inputs = Record<string, unknown>>({ registered }: Stack, type: string) {
  return registered.filter((it) => it.type.endsWith(`:${type}`)) as Registered<Inputs>[];
}

/** Returns the one resource whose type ends in this name, and whose own name is the given one. */
export function only<Inputs = Record<string, unknown>>(stack: Stack, type: string, name?: string) {
  const [found, ...others] = all<Inputs>(stack, type).filter((it) => name === undefined || it.name === name);
  assert.deepEqual(others, []);
  return found ?? assert.fail(`no ${type} ${name ?? ""} was registered`);
}

/** Returns `TYPE NAME` of each resource that an option refers to. */
export async function labelsOf(option: unknown): Promise<string[]> {
  const resources = [option].flat().filter((it) => pulumi.Resource.isInstance(it));
  const urns = await Promise.all(resources.map(({ urn }) => known<string>(urn)));
  return urns.map((urn) => {
    const [, , types = "", ...name] = urn.split("::");
    return `${types.split(/[:$]/).at(-1)} ${name.join("::")}`;
  });
}

/** Returns the plain value of an input. */
export function known<Value>(value: unknown): Promise<Value> {
  return new Promise((resolve) => pulumi.all([value]).apply(([plain]) => resolve(plain as Value)));
}

/** Returns an entry of `serviceAccounts` with a personal token, or with the token that the settings describe. */
export function entry(settings: Settings = {}): Settings {
  const personal = { tokenType: "personal", userLogin: "my-login" };
  const token = "tokenType" in settings ? {} : personal;
  return { namespace: "default", name: "pulumi-service-account", ...token, ...settings };
}

/** Returns settings of a stack with one entry. */
export function stackWith(settings: Settings): Settings {
  return { serviceAccounts: [entry(settings)] };
}

/** Returns the stack of a test, whose settings are on top of the required ones. */
export function stackOf(settings: Settings) {
  const serviceAccounts = [entry({ awsRole: "irsa" })];
  const required = { clusterName: "my-cluster", serviceAccounts, "aws:region": "us-west-2" };
  const project = "eks-pulumi-oidc";
  const config = configOf(project, { ...required, ...settings });
  return { project, stack: "dev", organization: "acme", config };
}

/** Returns what a program has done. @throws what it failed with. */
export async function succeeded(running: Promise<Run>): Promise<Run> {
  const run = await running;
  if (run.failure !== undefined) throw run.failure;
  return run;
}
