// Runs a program with the SDK's mocks, of which an emulator, or a real API server, keeps the resources.

import * as pulumi from "@pulumi/pulumi";
import type { Emulator } from "./emulator";

export interface Registration {
  type: string;
  name: string;
  // biome-ignore lint/suspicious/noExplicitAny: each type has its own inputs.
  inputs: any;
}

interface StackOptions {
  project: string;
  stack: string;
  organization: string;
  /** The configuration, as the engine passes it: a string for each `project:key`. */
  config: Record<string, string>;
  /** By default, the one in index.ts. */
  program?: () => Promise<Record<string, unknown>>;
}

/** Runs a program as the first preview of a stack. @returns what it registers. @throws Error if it or a resource fails. */
export async function runProgram(
  { resources, calls }: Pick<Emulator, "resources" | "calls">,
  { project, stack, organization, config, program = require("../../index") }: StackOptions,
): Promise<Registration[]> {
  const registered: Registration[] = [];
  // One failure comes back as many: every resource that depends on it fails too.
  let failure: unknown;
  const keepFirst = (error: unknown) => {
    failure ??= error;
  };
  async function create({ type, name, inputs, id: existing }: pulumi.runtime.MockResourceArgs) {
    const kind = resources[type];
    if (existing) return { id: existing, state: { ...(await kind?.read(existing)) } };
    // A Stash has an output.
    const stored = { id: name, outputs: { ...inputs, output: inputs.input } };
    const { id, outputs } = kind ? await kind.create(name, { ...inputs, ...kind.check?.(inputs) }) : stored;
    registered.push({ type, name, inputs });
    return { id, state: outputs };
  }
  const mocks: pulumi.runtime.Mocks = {
    newResource(args) {
      const created = create(args);
      created.catch(keepFirst);
      return created;
    },
    call: ({ token, inputs }) => calls[token]?.answer(inputs) ?? {},
  };
  await pulumi.runtime.setMocks(mocks, project, stack, true, organization);
  pulumi.runtime.setAllConfig(config);
  const run = async () => {
    await pulumi.runtime.runInPulumiStack(program);
    await pulumi.runtime.disconnect();
  };
  await run().catch(keepFirst);
  if (failure !== undefined) throw failure;
  return registered;
}
