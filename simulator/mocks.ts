// Presents the simulation to Pulumi's SDK: the program runs as it is, and its resources are made in the simulation.

import { setTimeout as sleep } from "node:timers/promises";
import * as pulumi from "@pulumi/pulumi";
import type { Emulator } from "./emulator";

export interface Registration {
  type: string;
  name: string;
  id: string;
  inputs: Record<string, unknown>;
  outputs: object;
  /** The URN and the id of an explicit provider. */
  provider: string;
}

export interface StackOptions {
  project: string;
  stack: string;
  organization: string;
  /** The settings, as the engine hands them to a program: a text for each `project:key`. */
  config: Record<string, string>;
  /** The module that exports the program; the stack's when left out. */
  program?: string;
  onRegistered?(registration: Registration): void;
}

/**
 * Runs the program as an update of an empty stack.
 *
 * @returns the stack's outputs, and what it registered, in the order in which the simulation made it.
 * @throws Error with the message that the engine would print, when the program or a resource failed.
 */
export async function runProgram(
  simulation: Pick<Emulator, "resources" | "calls">,
  { project, stack, organization, config, program = "../index", onRegistered = () => {} }: StackOptions,
): Promise<{ outputs: Record<string, unknown>; registered: Registration[] }> {
  const registered: Registration[] = [];
  let failure: Error | undefined;

  const underWay = new Set<Promise<unknown>>();

  const register = async ({ type, name, inputs, provider, id: read }: pulumi.runtime.MockResourceArgs) => {
    try {
      const kind = simulation.resources[type];
      if (read) {
        const state = kind?.read(read);
        if (!state) throw new Error(`resource '${read}' does not exist`);
        return { id: read, state };
      }
      const { id, outputs } = kind ? await kind.create(name, inputs) : { id: `${name}-id`, outputs: inputs };
      if (type !== "pulumi:pulumi:Stack") {
        const registration = { type, name, id, inputs, outputs, provider: provider ?? "" };
        registered.push(registration);
        onRegistered(registration);
      }
      return { id, state: outputs };
    } catch (error) {
      // One failure comes back as many: every resource that waits for this one fails too.
      failure ??= error as Error;
      throw error;
    }
  };

  const mocks: pulumi.runtime.Mocks = {
    newResource(args) {
      const made = register(args);
      underWay.add(made);
      return made;
    },
    call({ token, inputs }) {
      const call = simulation.calls[token];
      if (!call) throw new Error(`the simulation does not answer ${token}`);
      try {
        return call.answer(inputs);
      } catch (error) {
        // Of a call that failed the SDK shows the `details`, as gRPC has them.
        throw error instanceof Error ? Object.assign(error, { details: error.message }) : error;
      }
    },
  };
  await pulumi.runtime.setMocks(mocks, project, stack, false, organization);
  pulumi.runtime.setAllConfig(config);

  const quiet = (error: unknown) => {
    failure ??= error as Error;
  };
  process.on("unhandledRejection", quiet);
  try {
    const main: () => Promise<Record<string, unknown>> = require(program);
    let outputs: Record<string, unknown> = {};
    await pulumi.runtime.runInPulumiStack(async () => {
      const declared = await main();
      pulumi.output(declared).apply((values) => {
        outputs = values;
      });
      return declared;
    });
    await pulumi.runtime.disconnect();
    if (failure) throw failure;
    return { outputs, registered };
  } catch (error) {
    throw failure ?? error;
  } finally {
    // The simulation is still needed by what began beside a failure, and Node.js tells of a rejection a turn later.
    await Promise.allSettled(underWay);
    await sleep(20);
    process.off("unhandledRejection", quiet);
  }
}
