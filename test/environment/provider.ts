// Presents the simulation to Pulumi's engine: one provider that replaces every package of the program.

import { isDeepStrictEqual } from "node:util";
import * as pulumi from "@pulumi/pulumi";
import { type Emulator, type ResourceKind, Unready } from "./emulator";
import { listen } from "./providerServer";

/**
 * Serves the packages on a free port of the loopback address until the process ends. A process can do so once.
 *
 * Not emulated: what the real providers reject in inputs, that another cluster replaces what is on the old one, and that a refresh
 * waits for a Job again.
 *
 * @param currentSimulation is called for every request, so that each stack can have its own simulation.
 * @param schema of a package: a program in YAML reads that of each package that it names. By default, `PROGRAM_SCHEMA`.
 * @returns the value of PULUMI_DEBUG_PROVIDERS with which the CLI uses this provider instead of the packages' own.
 */
export async function serveProvider(
  currentSimulation: () => Emulated,
  schema: object = PROGRAM_SCHEMA,
): Promise<string> {
  const port = await listen(provider(currentSimulation, schema));
  return ["aws", "eks", "kubernetes", "pulumiservice"].map((name) => `${name}:${port}`).join(",");
}

const string = { type: "string" };
const listOf = (type: string) => ({ type: "array", items: { $ref: `#/types/${type}` } });

/** What the programs in YAML use of two packages: a process serves one schema. */
const PROGRAM_SCHEMA = {
  name: "kubernetes",
  version: "1000.0.0",
  provider: {
    inputProperties: {
      ...{ kubeconfig: string, clusterIdentifier: string },
      ...{ enableConfigMapMutable: { type: "boolean" }, upsertExistingObjects: { type: "boolean" } },
    },
  },
  allowedPackageNames: ["aws"],
  types: {
    "aws:eks:Identity": { type: "object", properties: { oidcs: listOf("aws:eks:Oidc") } },
    "aws:eks:Oidc": { type: "object", properties: { issuer: string } },
    "aws:eks:CertificateAuthority": { type: "object", properties: { data: string } },
  },
  functions: {
    "aws:eks/getCluster:getCluster": {
      inputs: { properties: { name: string } },
      outputs: {
        properties: {
          ...{ arn: string, endpoint: string, region: string },
          identities: listOf("aws:eks:Identity"),
          certificateAuthorities: listOf("aws:eks:CertificateAuthority"),
        },
      },
    },
    "aws:iam/getOpenIdConnectProvider:getOpenIdConnectProvider": {
      inputs: { properties: { url: string } },
      outputs: { properties: { arn: string } },
    },
  },
};

type Emulated = Pick<Emulator, "resources" | "calls">;

// The state contains the inputs beside the outputs, as in pulumi/pulumi-kubernetes (provider/pkg/provider/provider.go,
// checkpointObject): the SDK passes only the previous outputs to a provider.
type State = Record<string, unknown> & { __inputs: object; __unready?: boolean };

/** Inputs by which a provider replaces a resource, and whether it deletes the old one first. */
interface Replacement {
  inputs: string[];
  deletesFirst?: true;
}

/** What the providers do not change in place, of the types that documented steps change. */
const REPLACEMENTS: Record<string, Replacement> = {
  // hashicorp/terraform-provider-aws, internal/service/eks/access_policy_association.go at 01f431114674c27cf790fafb67ac274bf8f765e1.
  "aws:eks/accessPolicyAssociation:AccessPolicyAssociation": {
    inputs: ["clusterName", "principalArn", "policyArn", "accessScope"],
  },
  // hashicorp/terraform-provider-aws, internal/service/iam/role.go at 0040ea6911af00bea2cca6dbb14e86829826ad8e.
  "aws:iam/role:Role": { inputs: ["namePrefix", "path"] },
  // hashicorp/terraform-provider-aws, internal/service/iam/role_policy_attachment.go at 04c79849dbe7fbe76c3054b364357bcdaade9ac5;
  // pulumi/pulumi-aws, provider/resources.go at 00ba5ea53c2548fd367776345b7c52f191ce1372.
  "aws:iam/rolePolicyAttachment:RolePolicyAttachment": { inputs: ["role", "policyArn"], deletesFirst: true },
  // pulumi/pulumi-kubernetes, provider/pkg/provider/diff.go at 94977969d64112b04e19945818a7d5d5f38f631d.
  "kubernetes:batch/v1:Job": {
    inputs: ["spec.completions", "spec.parallelism", "spec.selector", "spec.template"],
  },
};

/** pulumi/pulumi-kubernetes, provider/pkg/provider/diff.go at 94977969d64112b04e19945818a7d5d5f38f631d. */
const NAMES = ["metadata.name", "metadata.namespace"];

/** https://www.pulumi.com/registry/packages/kubernetes/installation-configuration/#pulumi-kubernetes-annotations */
const REPLACE_UNREADY = { "pulumi.com/replaceUnready": "true" };

function provider(currentSimulation: () => Emulated, schema: object): pulumi.provider.Provider {
  const kindOf = (urn: string): ResourceKind => {
    const { type } = parse(urn);
    const kind = currentSimulation().resources[type];
    if (!kind) throw new Error(`${type} is not emulated`);
    return kind;
  };

  return {
    // The engine warns about a provider that is older than its package.
    version: "1000.0.0",
    schema: JSON.stringify(schema),

    async check(urn, _olds, news: object) {
      return { inputs: currentSimulation().resources[parse(urn).type]?.check?.(news) ?? news };
    },

    async diff(_id, urn, { __inputs: olds, __unready }: State, news: object) {
      const { type } = parse(urn);
      const { inputs: replaced = [], deletesFirst = false } = REPLACEMENTS[type] ?? {};
      const changedIn = (paths: string[]) =>
        paths.filter((path) => !isDeepStrictEqual(valueAt(olds, path), valueAt(news, path)));
      const names = changedIn(NAMES);
      const replaces = [...names, ...changedIn(replaced)];
      if (__unready && isDeepStrictEqual(valueAt(news, "metadata.annotations"), REPLACE_UNREADY)) {
        replaces.push("metadata");
      }
      // pulumi/pulumi-kubernetes, provider/pkg/provider/provider.go at 94977969d64112b04e19945818a7d5d5f38f631d (Diff).
      const isSameObject = type.startsWith("kubernetes:") && names.length === 0;
      return {
        changes: replaces.length > 0 || !isDeepStrictEqual(olds, news),
        replaces,
        deleteBeforeReplace: replaces.length > 0 && (deletesFirst || isSameObject),
      };
    },

    async create(urn, inputs: object) {
      try {
        const { id, outputs } = await kindOf(urn).create(parse(urn).name, inputs);
        return { id, outs: { ...outputs, __inputs: inputs } };
      } catch (error) {
        if (!(error instanceof Unready)) throw error;
        const { message, resource } = error;
        const properties = { ...resource.outputs, __inputs: inputs, __unready: true };
        throw Object.assign(new Error(message), { id: resource.id, properties, reasons: [message] });
      }
    },

    async update(id, urn, _olds, inputs: object) {
      return { outs: { ...(await kindOf(urn).update(id, inputs)), __inputs: inputs } };
    },

    async read(id, urn, state: State) {
      const found = await kindOf(urn).read(id);
      // In the words of the engine, to which the SDK's server cannot say that there is nothing.
      if (!found && !state.__inputs) throw new Error(`resource '${id}' does not exist`);
      if (!found) return { id: "", props: {} };
      // A refresh passes the previous state; reading an object of others does not.
      const isKubernetes = parse(urn).type.startsWith("kubernetes:");
      const inputs = isKubernetes && state.__inputs ? Object(pruned(found, state.__inputs)) : found;
      // The outputs are what exists, with what someone added.
      return { id, inputs, props: { ...state, ...found, __inputs: inputs } };
    },

    async delete(id, urn) {
      kindOf(urn).delete(id);
    },

    async construct(name, type, inputs, options) {
      const parent = new pulumi.ComponentResource(type, name, inputs, options);
      const { eksCluster, oidcProviderUrl } = registered(parent, "eks:index:Cluster", name, {
        ...inputs,
        eksCluster: undefined,
        oidcProviderUrl: undefined,
      });
      const { arn: oidcProviderArn } = inputs.createOidcProvider
        ? registered(parent, "aws:iam/openIdConnectProvider:OpenIdConnectProvider", name, {
            url: oidcProviderUrl,
            clientIdLists: ["sts.amazonaws.com"],
            arn: undefined,
          })
        : {};
      // No one connects with it.
      const kubeconfigJson = eksCluster?.apply(JSON.stringify);
      return { urn: parent.urn, state: { eksCluster, oidcProviderUrl, oidcProviderArn, kubeconfigJson } };
    },

    async invoke(token, inputs: object) {
      const call = currentSimulation().calls[token];
      if (!call) throw new Error(`${token} is not emulated`);
      return { outputs: call.answer(inputs) };
    },
  };
}

/** Registers a resource of the emulated component of @pulumi/eks, and returns its outputs: the undefined inputs. */
function registered(parent: pulumi.Resource, type: string, name: string, inputs: pulumi.Inputs) {
  const resource: object = new (class extends pulumi.CustomResource {})(type, name, inputs, { parent });
  return resource as Record<string, pulumi.Output<unknown>>;
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

// urn:pulumi:STACK::PROJECT::PARENT_TYPE$TYPE::NAME
function parse(urn: string): { type: string; name: string } {
  const [, , types = "", ...name] = urn.split("::");
  return { type: types.split("$").pop() ?? "", name: name.join("::") };
}

function valueAt(properties: unknown, path: string): unknown {
  return path.split(".").reduce<unknown>((value, key) => Object(value)[key], properties);
}
