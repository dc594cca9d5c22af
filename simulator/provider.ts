// Presents the simulation to Pulumi's engine: one provider that stands for every package of the program.

import { subscribe, unsubscribe } from "node:diagnostics_channel";
import type { AddressInfo, Server } from "node:net";
import { isDeepStrictEqual } from "node:util";
import * as pulumi from "@pulumi/pulumi";
import { type Emulator, type ResourceKind, Unready } from "./emulator";

/**
 * Serves the packages on a free port of the loopback address, for as long as the process lives and without keeping it
 * alive. A process can do so once.
 *
 * Not emulated: the checks of the real providers, their configuration, and that a refresh waits for a Job again.
 *
 * @param currentSimulation asked at every request, so that each stack can have its own simulation.
 * @returns what PULUMI_DEBUG_PROVIDERS must be for the CLI to take this provider instead of the packages' own.
 */
export async function serveProvider(currentSimulation: () => Emulated): Promise<string> {
  const port = await listen(provider(currentSimulation));
  return ["aws", "eks", "kubernetes", "pulumiservice"].map((name) => `${name}:${port}`).join(",");
}

type Emulated = Pick<Emulator, "resources" | "calls">;

// The inputs lie beside the outputs in the state, as pulumi/pulumi-kubernetes keeps them (provider/pkg/provider/provider.go,
// checkpointObject): the SDK shows a provider no more of a resource's past than its outputs.
type State = Record<string, unknown> & { __inputs: object };

function provider(currentSimulation: () => Emulated): pulumi.provider.Provider {
  const kindOf = (urn: string): ResourceKind => {
    const { type } = parse(urn);
    const kind = currentSimulation().resources[type];
    if (!kind) throw new Error(`the simulation has no ${type}`);
    return kind;
  };

  return {
    // The engine warns of a provider that is older than its package.
    version: "1000.0.0",

    async check(urn, olds, news) {
      const kind = kindOf(urn);
      return { inputs: kind.check?.(parse(urn).name, news, olds) ?? news };
    },

    async diff(id, urn, { __inputs: olds }: State, news: object) {
      const { replaceOn, isUnready } = kindOf(urn);
      const replaces = replaceOn.filter(
        (path) => !isDeepStrictEqual(valueAt(olds, path), valueAt(news, path)),
      );
      if (isUnready?.(id)) replaces.push("metadata");
      return { changes: replaces.length > 0 || !isDeepStrictEqual(olds, news), replaces };
    },

    async create(urn, inputs: object) {
      return settled(inputs, async () => {
        const { id, outputs } = await kindOf(urn).create(parse(urn).name, inputs);
        return { id, outs: { ...outputs, __inputs: inputs } };
      });
    },

    async update(id, urn, _olds, inputs: object) {
      return settled(inputs, async () => {
        return { outs: { ...(await kindOf(urn).update(id, inputs)), __inputs: inputs } };
      });
    },

    async read(id, urn, state: State) {
      const inputs = kindOf(urn).read(id);
      if (!inputs) return { id: "", props: {} };
      return { id, inputs, props: { ...state, __inputs: inputs } };
    },

    async delete(id, urn) {
      kindOf(urn).delete(id);
    },

    async construct(name, type, inputs, options) {
      const parent = new pulumi.ComponentResource(type, name, inputs, options);
      const { eksCluster, oidcProviderUrl } = new Cluster(name, inputs, { parent });
      return { urn: parent.urn, state: { eksCluster, oidcProviderUrl } };
    },

    async invoke(token, inputs: object) {
      try {
        const call = currentSimulation().calls[token];
        if (!call) throw new Error("the simulation does not answer it");
        return { outputs: call.answer(inputs) };
      } catch (error) {
        // In the words of pulumi/pulumi-terraform-bridge, pkg/tfbridge/provider.go.
        const reason = error instanceof Error ? error.message : error;
        throw new Error(`invoking ${token}: 1 error occurred:\n\t* ${reason}\n\n`);
      }
    },
  };
}

/** What the component of @pulumi/eks is made of here; the engine creates and deletes it like any other resource. */
class Cluster extends pulumi.CustomResource {
  declare readonly eksCluster: pulumi.Output<object>;
  declare readonly oidcProviderUrl: pulumi.Output<string>;

  constructor(name: string, inputs: pulumi.Inputs, options: pulumi.CustomResourceOptions) {
    super(
      "eks:index:Cluster",
      name,
      { ...inputs, eksCluster: undefined, oidcProviderUrl: undefined },
      options,
    );
  }
}

/** @throws what the engine takes for a failed initialization, where the resource exists but is not what it should be. */
async function settled<Result>(inputs: object, change: () => Promise<Result>): Promise<Result> {
  try {
    return await change();
  } catch (error) {
    if (!(error instanceof Unready)) throw error;
    const { message, reasons, resource } = error;
    const properties = { ...resource.outputs, __inputs: inputs };
    throw Object.assign(new Error(message), { id: resource.id, properties, reasons });
  }
}

// urn:pulumi:STACK::PROJECT::PARENT_TYPE$TYPE::NAME
function parse(urn: string): { type: string; name: string } {
  const [, , types = "", ...name] = urn.split("::");
  return { type: types.split("$").pop() ?? "", name: name.join("::") };
}

function valueAt(properties: unknown, path: string): unknown {
  return path.split(".").reduce<unknown>((value, key) => Object(value)[key], properties);
}

// The SDK prints the port, for an engine that starts the provider itself, and its server lives as long as the process.
// https://nodejs.org/api/diagnostics_channel.html#event-tracingnetserverlistenasyncend
async function listen(provider: pulumi.provider.Provider): Promise<number> {
  let server: Server | undefined;
  const onListening = (message: unknown) => {
    server = (message as { server: Server }).server;
  };
  const { log } = console;
  console.log = () => {};
  subscribe(LISTENING, onListening);
  try {
    await pulumi.provider.main(provider, []);
  } finally {
    unsubscribe(LISTENING, onListening);
    console.log = log;
  }
  if (!server) throw new Error("this process serves a provider already");
  return (server.unref().address() as AddressInfo).port;
}

const LISTENING = "tracing:net.server.listen:asyncEnd";
