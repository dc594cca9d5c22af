// Runs the program under the SDK's mocks, and records what it registers, with the resource options.

import assert from "node:assert/strict";
import { mock, type TestContext } from "node:test";
import * as pulumi from "@pulumi/pulumi";
import { type Registration, runProgram } from "../simulator/mocks";
import { type Simulation, type SimulationOptions, startSimulation } from "../simulator/simulation";

export type Settings = Record<string, unknown>;

/** A resource as the mocks receive it: `Inputs` is what the test looks at. */
export type Registered<Inputs = Record<string, unknown>> = Omit<Registration, "inputs" | "outputs"> & {
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

export interface StartOptions extends Partial<SimulationOptions> {
  /** The service accounts that exist already, as `NAMESPACE/NAME`. */
  serviceAccounts?: string[];
  /** Runs the Jobs' script as a process; by default, every Job succeeds at once. */
  runJobs?: boolean;
}

/** Starts a simulation for one test. */
export async function start(t: TestContext, options: StartOptions = {}): Promise<Simulation> {
  const { serviceAccounts = [], runJobs = false, ...others } = options;
  const simulation = await startSimulation({
    region: "us-west-2",
    cluster: { name: "my-cluster", hasOidcProvider: true },
    registrationMilliseconds: 0,
    ...others,
  });
  t.after(() => simulation.close());
  for (const id of serviceAccounts) {
    const [namespace, name] = id.split("/");
    await kindOf(simulation, "kubernetes:core/v1:ServiceAccount").create("", {
      metadata: { namespace, name },
    });
  }
  if (!runJobs) {
    const succeed = async (
      _name: string,
      inputs: { metadata: { namespace: string; generateName: string } },
    ) => {
      const { namespace, generateName } = inputs.metadata;
      const metadata = { ...inputs.metadata, name: `${generateName}abcde` };
      return { id: `${namespace}/${metadata.name}`, outputs: { ...inputs, metadata } };
    };
    t.mock.method(kindOf(simulation, "kubernetes:batch/v1:Job"), "create", succeed);
  }
  return simulation;
}

/** Runs the program in a new simulation. */
export async function up(t: TestContext, settings: Settings = {}, options?: StartOptions): Promise<Stack> {
  return run(await start(t, options), settings);
}

/** Runs the program with these settings on top of the required ones. */
export async function run(simulation: Simulation, settings: Settings = {}): Promise<Stack> {
  const options = new Map<string, pulumi.CustomResourceOptions>();
  // The SDK's mocks see no resource options; a transformation of the stack does.
  const { runInPulumiStack } = pulumi.runtime;
  const spy = mock.method(pulumi.runtime, "runInPulumiStack", (program: () => Promise<unknown>) =>
    runInPulumiStack(async () => {
      pulumi.runtime.registerStackTransformation(({ type, name, opts }) => {
        options.set(`${type} ${name}`, opts);
        return undefined;
      });
      return program();
    }),
  );
  const { registered, outputs } = await runProgram(simulation, stackOf(settings)).finally(() =>
    spy.mock.restore(),
  );
  const withOptions = registered.map((it) => ({
    ...it,
    options: options.get(`${it.type} ${it.name}`) ?? {},
  }));
  return { simulation, outputs: outputs as Stack["outputs"], registered: withOptions };
}

/** Returns the message that the program stops with; the test fails if it has registered anything. */
export async function messageOf(
  simulation: Simulation,
  settings: Settings,
  organization?: string,
): Promise<string> {
  const before = simulation.existing();
  const { error, registered } = await failureOf(simulation, settings, organization);
  assert.deepEqual(registered, []);
  assert.deepEqual(simulation.existing(), before);
  // The engine prints the message of such an error, and no stack trace.
  assert.ok(pulumi.RunError.isInstance(error), error.message);
  return error.message;
}

/** Returns the error that the program fails with, and the types of what it registered until then. */
export async function failureOf(simulation: Simulation, settings: Settings, organization = "acme") {
  const registered: string[] = [];
  // The SDK reports a failure once more in unhandled rejections, which the test runner would take for its own.
  const listeners = process.rawListeners("unhandledRejection");
  process.removeAllListeners("unhandledRejection").on("unhandledRejection", () => {});
  const options = { ...stackOf(settings), organization };
  const error = await runProgram(simulation, {
    ...options,
    onRegistered: ({ type }) => registered.push(type),
  }).then(
    () => assert.fail("the program succeeded"),
    (error: Error) => error,
  );
  await new Promise(setImmediate);
  process.removeAllListeners("unhandledRejection");
  for (const listener of listeners) process.on("unhandledRejection", (...args) => listener(...args));
  return { error, registered };
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

function kindOf(simulation: Simulation, type: string) {
  return simulation.resources[type] ?? assert.fail(`the simulation has no ${type}`);
}

function stackOf(settings: Settings) {
  const config: Record<string, string> = {};
  const required = { clusterName: "my-cluster", userLogin: "my-login", "aws:region": "us-west-2" };
  for (const [key, value] of Object.entries({ ...required, ...settings })) {
    if (value === undefined) continue;
    const text = typeof value === "string" ? value : JSON.stringify(value);
    config[key.includes(":") ? key : `eks-pulumi-oidc:${key}`] = text;
  }
  return { project: "eks-pulumi-oidc", stack: "dev", organization: "acme", config };
}
