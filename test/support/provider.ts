// Presents the simulation to Pulumi's engine: one provider that replaces every package of the program.

import { subscribe, unsubscribe } from "node:diagnostics_channel";
import type { AddressInfo, Server } from "node:net";
import { isDeepStrictEqual } from "node:util";
import { Server as GrpcServer } from "@grpc/grpc-js";
import * as pulumi from "@pulumi/pulumi";
import { type DiffRequest, DiffResponse } from "@pulumi/pulumi/proto/provider_pb";
import { type Emulator, type ResourceKind, Unready } from "../../simulator/emulators/emulator";

/**
 * Serves the packages on a free port of the loopback address until the process ends. A process can do so once.
 *
 * Not emulated: the checks of the real providers, their configuration, and that a refresh waits for a Job again.
 *
 * @param currentSimulation is called for every request, so that each stack can have its own simulation.
 * @returns the value of PULUMI_DEBUG_PROVIDERS with which the CLI uses this provider instead of the packages' own.
 */
export async function serveProvider(currentSimulation: () => Emulated): Promise<string> {
  const port = await listen(provider(currentSimulation));
  return ["aws", "eks", "kubernetes", "pulumiservice"].map((name) => `${name}:${port}`).join(",");
}

type Emulated = Pick<Emulator, "resources" | "calls">;

// The state contains the inputs beside the outputs, as in pulumi/pulumi-kubernetes (provider/pkg/provider/provider.go,
// checkpointObject): the SDK passes only the previous outputs to a provider.
type State = Record<string, unknown> & { __inputs: object; __unready?: string };

/** The paths of the inputs that the providers do not change in place, by type. Of a Kubernetes object, also its names. */
const REPLACE_ON: Record<string, string[]> = {
  "aws:iam/role:Role": ["namePrefix", "path"],
  "aws:iam/rolePolicyAttachment:RolePolicyAttachment": ["role", "policyArn"],
  "aws:iam/openIdConnectProvider:OpenIdConnectProvider": ["url"],
  "aws:eks/podIdentityAssociation:PodIdentityAssociation": ["clusterName", "namespace", "serviceAccount"],
  "aws:eks/addon:Addon": ["clusterName", "addonName"],
  "eks:index:Cluster": ["name"],
  "kubernetes:batch/v1:Job": ["spec.template"],
  // pulumi/pulumi-pulumiservice, provider/pkg/resources/oidc_issuer.go.
  "pulumiservice:index:OidcIssuer": ["organization", "url"],
};

function replaceOn(type: string): string[] {
  const names = type.startsWith("kubernetes:") ? ["metadata.name", "metadata.namespace"] : [];
  return [...names, ...(REPLACE_ON[type] ?? [])];
}

/** https://www.pulumi.com/registry/packages/kubernetes/installation-configuration/#pulumi-kubernetes-annotations */
const REPLACE_UNREADY = { "pulumi.com/replaceUnready": "true" };

function provider(currentSimulation: () => Emulated): pulumi.provider.Provider {
  const kindOf = (urn: string): ResourceKind => {
    const { type } = parse(urn);
    const kind = currentSimulation().resources[type];
    if (!kind) throw new Error(`${type} is not emulated`);
    return kind;
  };

  return {
    // The engine warns about a provider that is older than its package.
    version: "1000.0.0",

    check: async (_urn, _olds, news) => ({ inputs: news }),

    async diff(_id, urn, { __inputs: olds, __unready }: State, news: object) {
      const replaces = replaceOn(parse(urn).type).filter(
        (path) => !isDeepStrictEqual(valueAt(olds, path), valueAt(news, path)),
      );
      if (__unready && isDeepStrictEqual(valueAt(news, "metadata.annotations"), REPLACE_UNREADY)) {
        replaces.push("metadata");
      }
      return { changes: replaces.length > 0 || !isDeepStrictEqual(olds, news), replaces };
    },

    async create(urn, inputs: object) {
      return settled(inputs, async () => {
        const { id, outputs } = await kindOf(urn).create(parse(urn).name, revealed(inputs));
        return { id, outs: { ...withSecrets(outputs, inputs), __inputs: inputs } };
      });
    },

    async update(id, urn, { __unready }: State, inputs: object) {
      return settled(inputs, async () => {
        const outputs = await kindOf(urn).update(id, revealed(inputs));
        // A Job that has failed stays failed.
        if (__unready) throw new Unready(__unready, { id, outputs });
        return { outs: { ...withSecrets(outputs, inputs), __inputs: inputs } };
      });
    },

    async read(id, urn, state: State) {
      const found = await kindOf(urn).read(id);
      // A refresh passes the previous state; reading an object of others does not.
      if (!found && !state.__inputs) throw new Error(`resource ${id} does not exist`);
      if (!found) return { id: "", props: {} };
      const isKubernetes = parse(urn).type.startsWith("kubernetes:");
      const inputs = isKubernetes && state.__inputs ? Object(pruned(found, state.__inputs)) : found;
      return { id, inputs, props: { ...inputs, ...state, __inputs: inputs } };
    },

    async delete(id, urn) {
      kindOf(urn).delete(id);
    },

    async construct(name, type, inputs, options) {
      const parent = new pulumi.ComponentResource(type, name, inputs, options);
      const { eksCluster, oidcProviderUrl } = new Cluster(name, inputs, { parent });
      const { arn: oidcProviderArn } = inputs.createOidcProvider
        ? new OidcProvider(name, oidcProviderUrl, { parent })
        : { arn: undefined };
      // No one connects with it.
      const kubeconfigJson = eksCluster.apply(JSON.stringify);
      return { urn: parent.urn, state: { eksCluster, oidcProviderUrl, oidcProviderArn, kubeconfigJson } };
    },

    async invoke(token, inputs: object) {
      try {
        const call = currentSimulation().calls[token];
        if (!call) throw new Error("not emulated");
        return { outputs: call.answer(inputs) };
      } catch (error) {
        // In the words of pulumi/pulumi-terraform-bridge, pkg/tfbridge/provider.go.
        const reason = error instanceof Error ? error.message : error;
        throw new Error(`invoking ${token}: 1 error occurred:\n\t* ${reason}\n\n`);
      }
    },
  };
}

/** The main resource of the emulated component of @pulumi/eks. */
class Cluster extends pulumi.CustomResource {
  declare readonly eksCluster: pulumi.Output<object>;
  declare readonly oidcProviderUrl: pulumi.Output<string>;

  constructor(name: string, inputs: pulumi.Inputs, options: pulumi.CustomResourceOptions) {
    const outputs = { eksCluster: undefined, oidcProviderUrl: undefined };
    super("eks:index:Cluster", name, { ...inputs, ...outputs }, options);
  }
}

/** The resource of the component's `createOidcProvider`. */
class OidcProvider extends pulumi.CustomResource {
  declare readonly arn: pulumi.Output<string>;

  constructor(name: string, url: pulumi.Input<string>, options: pulumi.CustomResourceOptions) {
    const inputs = { url, clientIdLists: ["sts.amazonaws.com"] };
    super(
      "aws:iam/openIdConnectProvider:OpenIdConnectProvider",
      name,
      { ...inputs, arn: undefined },
      options,
    );
  }
}

/**
 * Returns what exists without what its previous inputs do not name: a refresh does not show what someone added.
 * See pulumi/pulumi-kubernetes, provider/pkg/provider/provider.go (pruneLiveState).
 */
function pruned(found: unknown, inputs: unknown): unknown {
  if (Array.isArray(found) && Array.isArray(inputs)) {
    return found.map((element, index) => pruned(element, inputs[index]));
  }
  const isObject = (value: unknown): value is Record<string, unknown> => Object(value) === value;
  if (!isObject(found) || !isObject(inputs)) return found;
  const entries = Object.entries(found).filter(([key]) => Object.hasOwn(inputs, key));
  return Object.fromEntries(entries.map(([key, value]) => [key, pruned(value, inputs[key])]));
}

/** Reports a resource that exists but failed as the engine expects it. */
async function settled<Result>(inputs: object, change: () => Promise<Result>): Promise<Result> {
  try {
    return await change();
  } catch (error) {
    if (!(error instanceof Unready)) throw error;
    const { message, resource } = error;
    const properties = { ...resource.outputs, __inputs: inputs, __unready: message };
    throw Object.assign(new Error(message), { id: resource.id, properties, reasons: [message] });
  }
}

// How the engine passes a secret: https://www.pulumi.com/docs/iac/guides/building-extending/providers/implementers/
const SECRET = { "4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270" };

function isSecret(value: unknown): value is { value: unknown } {
  return Object.entries(SECRET).every(([key, signature]) => Object(value)[key] === signature);
}

/** Returns inputs with their secrets in plaintext, as a service receives them. */
function revealed<Value>(value: Value): Value {
  if (isSecret(value)) return revealed(value.value) as Value;
  if (Array.isArray(value)) return value.map(revealed) as Value;
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, element]) => [key, revealed(element)])) as Value;
}

/** Returns outputs in which those are secret whose input of the same name contains a secret, as providers do. */
function withSecrets(outputs: object, inputs: object): object {
  const entries = Object.entries(outputs).map(([key, value]) => {
    const input = (inputs as Record<string, unknown>)[key];
    return [key, isDeepStrictEqual(input, revealed(input)) ? value : { ...SECRET, value: revealed(value) }];
  });
  return Object.fromEntries(entries);
}

// urn:pulumi:STACK::PROJECT::PARENT_TYPE$TYPE::NAME
function parse(urn: string): { type: string; name: string } {
  const [, , types = "", ...name] = urn.split("::");
  return { type: types.split("$").pop() ?? "", name: name.join("::") };
}

function valueAt(properties: unknown, path: string): unknown {
  return path.split(".").reduce<unknown>((value, key) => Object(value)[key], properties);
}

// The SDK prints the port, for an engine that starts the provider itself, and its server would keep the process alive.
// https://nodejs.org/api/diagnostics_channel.html#event-tracingnetserverlistenasyncend
async function listen(provider: pulumi.provider.Provider): Promise<number> {
  // The SDK answers DiffConfig itself, and has no member for it.
  const { addService } = GrpcServer.prototype;
  GrpcServer.prototype.addService = function (definition, implementation) {
    Object.assign(implementation, { diffConfig });
    addService.call(this, definition, implementation);
  };
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
    GrpcServer.prototype.addService = addService;
  }
  if (!server) throw new Error("this process serves a provider already");
  return (server.unref().address() as AddressInfo).port;
}

const LISTENING = "tracing:net.server.listen:asyncEnd";

/**
 * Compares two configurations of a provider, which a provider of the SDK cannot. Only another `clusterIdentifier` of
 * Kubernetes replaces the provider, and with it what it has created: pulumi/pulumi-kubernetes, provider/pkg/provider/provider.go.
 */
function diffConfig(
  { request }: { request: DiffRequest },
  callback: (error: undefined, response: DiffResponse) => void,
): void {
  const olds = request.getOlds()?.toJavaScript() ?? {};
  const news = request.getNews()?.toJavaScript() ?? {};
  const identifier = "clusterIdentifier";
  const response = new DiffResponse();
  const isSame = isDeepStrictEqual(olds, news);
  response.setChanges(isSame ? DiffResponse.DiffChanges.DIFF_NONE : DiffResponse.DiffChanges.DIFF_SOME);
  if (olds[identifier] !== undefined && olds[identifier] !== news[identifier])
    response.setReplacesList([identifier]);
  callback(undefined, response);
}
