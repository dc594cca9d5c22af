// Presents the simulation to Pulumi's SDK: the program runs unchanged, and its resources exist only in the emulators.

import { setImmediate } from "node:timers/promises";
import * as pulumi from "@pulumi/pulumi";
import { type Emulator, type Resource, storedKind, Unready } from "./emulator";

export interface Registration {
  urn: string;
  type: string;
  name: string;
  /** The URN of the component that it is in. */
  parent: string | undefined;
  id: string;
  inputs: Record<string, unknown>;
  outputs: object;
  /** The URN of an explicit provider. */
  provider: string | undefined;
  ignoreChanges: string[];
  /** Why it exists and failed, such as a Job. */
  failure?: string;
}

/** What `index.ts` exports. */
export type Program = () => Promise<Record<string, unknown>>;

interface StackOptions {
  project: string;
  stack: string;
  organization: string;
  /** The configuration, as the engine passes it: a string for each `project:key`. */
  config: Record<string, string>;
  /** The keys of its encrypted values. */
  secretKeys?: string[];
  /** By default, the one in index.ts. */
  program?: Program;
  /** Runs as an update, which reads the certificate of the issuer. By default, the program runs as in a preview. */
  isUpdate?: boolean;
  /** Receives what the program warns of, which the SDK otherwise prints on standard error. */
  onWarning?: (message: string) => void;
}

/** What a program has done. */
export interface Run {
  /** The outputs that are known, even if the program failed. */
  outputs: Record<string, unknown>;
  /** What it registered, in the order in which it was created. */
  registered: Registration[];
  /** Why the program or a resource failed, with the message that the engine would print. */
  failure?: unknown;
}

/** Runs the program as the first deployment of a stack. Does not throw. */
export async function runProgram(
  simulation: Pick<Emulator, "resources" | "calls">,
  options: StackOptions,
): Promise<Run> {
  const { project, stack, organization, config, secretKeys, program, isUpdate = false, onWarning } = options;
  const registered: Registration[] = [];
  const outputs: Run["outputs"] = {};
  const pending = new Set<Promise<unknown>>();
  // One failure comes back as many: every resource that depends on it fails too.
  let firstFailure: unknown;
  const keepFirst = (error: unknown) => {
    firstFailure ??= error;
  };

  const tree = resourceTree(`urn:pulumi:${stack}::${project}`);
  const create = async (args: pulumi.runtime.MockResourceArgs) => {
    const { type, name, id: existing } = args;
    const kind = simulation.resources[type] ?? ENGINE[type];
    const inputs: Registration["inputs"] = { ...args.inputs, ...kind?.check?.(args.inputs) };
    if (existing) {
      const state = await kind?.read(existing);
      if (state) return { id: existing, state };
      throw new Error(`resource '${existing}' does not exist`);
    }
    const record = ({ id, outputs }: Resource, reason?: string) => {
      if (type === STACK) return;
      const provider = tree.urnOf(args.provider ?? "");
      const created = { ...tree.placeOf(type, name), type, name, id, inputs, outputs, provider };
      registered.push(reason === undefined ? created : { ...created, failure: reason });
    };
    try {
      const created = kind ? await kind.create(name, inputs) : { id: name, outputs: inputs };
      record(created);
      return { id: created.id, state: created.outputs };
    } catch (error) {
      if (error instanceof Unready) record(error.resource, error.reason);
      throw error;
    }
  };

  const mocks: pulumi.runtime.Mocks = {
    newResource(args) {
      const created = create(args);
      created.catch(keepFirst);
      pending.add(created);
      return created;
    },
    call({ token, inputs }) {
      const call = simulation.calls[token];
      if (!call) throw new Error(`${token} is not emulated`);
      try {
        return call.answer(inputs);
      } catch (error) {
        if (!(error instanceof Error)) throw error;
        // The SDK shows the `details` of a failed call, as gRPC has them: pulumi/pulumi-terraform-bridge, pkg/tfbridge/provider.go.
        const details = `invoking ${token}: 1 error occurred:\n\t* ${error.message}\n\n`;
        throw Object.assign(error, { details });
      }
    },
  };
  await pulumi.runtime.setMocks(mocks, project, stack, !isUpdate, organization);
  pulumi.runtime.setAllConfig(config, secretKeys);

  const { warn } = console;
  if (onWarning) console.warn = (text) => onWarning(String(text).replace(SDK_PREFIX, ""));
  process.on("unhandledRejection", keepFirst);
  try {
    const main: Program = program ?? require("../../index");
    await pulumi.runtime.runInPulumiStack(async () => {
      pulumi.runtime.registerStackTransformation(tree.add);
      const declared = await main();
      for (const [name, output] of Object.entries(declared)) {
        pulumi.all([output]).apply(([value]) => {
          outputs[name] = value;
        });
      }
      return declared;
    });
    await pulumi.runtime.disconnect();
  } catch (error) {
    keepFirst(error);
  } finally {
    // What began beside a failure still uses the simulation, and Node.js reports a rejection a turn later.
    await Promise.allSettled(pending);
    await setImmediate();
    process.off("unhandledRejection", keepFirst);
    console.warn = warn;
  }
  return { outputs, registered, failure: firstFailure };
}

const STACK = "pulumi:pulumi:Stack";

type Place = Pick<Registration, "urn" | "parent" | "ignoreChanges">;

/** Knows the URNs of the resources as the engine has them: the SDK passes neither those nor the parents to mocks. */
function resourceTree(stack: string) {
  const urns = new Map<pulumi.Resource, string>();
  const places = new Map<string, Place>();
  const placeOf = (type: string, name: string): Place => {
    const unknown = { urn: `${stack}::${type}::${name}`, parent: undefined, ignoreChanges: [] };
    return places.get(`${type} ${name}`) ?? unknown;
  };
  return {
    placeOf,
    /** Adds a resource. The SDK calls it as a transformation, before the resource is registered. */
    add({ resource, type, name, opts }: pulumi.ResourceTransformationArgs): undefined {
      const parent = opts.parent && urns.get(opts.parent);
      const [, , types] = parent?.split("::") ?? [];
      const urn = [stack, types ? `${types}$${type}` : type, name].join("::");
      urns.set(resource, urn);
      const { ignoreChanges = [] } = opts as pulumi.CustomResourceOptions;
      places.set(`${type} ${name}`, { urn, parent, ignoreChanges });
    },
    /** Returns the URN of a provider as the engine has it. @param reference `URN::ID`, with the URN of the mocks. */
    urnOf(reference: string): string | undefined {
      const [, , types, name] = reference.split("::");
      return types && name ? placeOf(types.split("$").at(-1) ?? "", name).urn : undefined;
    },
  };
}

/** The engine's own resources. */
const ENGINE: Emulator["resources"] = {
  "pulumi:index:Stash": storedKind(
    new Map<string, { input: unknown }>(),
    (_inputs, name) => name,
    (_id, inputs) => ({ ...inputs, output: inputs.input }),
  ),
};

/** What the SDK writes in front of a warning if there is no engine. */
const SDK_PREFIX = /^warning: (\[runtime\] )?/;
