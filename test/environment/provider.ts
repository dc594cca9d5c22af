// Presents the simulation to Pulumi's engine: one provider that replaces every package of the program.

import { isDeepStrictEqual } from "node:util";
import * as pulumi from "@pulumi/pulumi";
import { type Emulator, type ResourceKind, Unready } from "./emulator";

/**
 * Serves the packages on a free port of the loopback address until the process ends. A process can do so once.
 *
 * Not emulated: what the real providers reject in inputs, that another cluster replaces what is on the old one, that a refresh
 * waits for a Job again, and previews, for which the engine takes the inputs.
 *
 * @param currentSimulation is called for every request, so that each stack can have its own simulation.
 * @returns the value of PULUMI_DEBUG_PROVIDERS with which the CLI uses this provider instead of the packages' own.
 */
export async function serveProvider(currentSimulation: () => Emulated): Promise<string> {
  const { log } = console;
  let port = "";
  // For an engine that starts the provider itself.
  console.log = (printed) => {
    port = String(printed);
  };
  await pulumi.provider.main(provider(currentSimulation), []);
  console.log = log;
  return ["aws", "eks", "kubernetes", "pulumiservice"].map((name) => `${name}:${port}`).join(",");
}

const string = { type: "string" };
const any = { $ref: "pulumi.json#/Any" };

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
  functions: {
    "aws:eks/getCluster:getCluster": {
      inputs: { properties: { name: string } },
      outputs: {
        properties: {
          ...{ arn: string, endpoint: string, region: string },
          ...{ identities: any, certificateAuthorities: any },
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

/** What the providers replace a resource for, of the types that documented steps change. */
const REPLACEMENTS: Record<string, string[]> = {
  // hashicorp/terraform-provider-aws, internal/service/eks/access_policy_association.go at 01f431114674c27cf790fafb67ac274bf8f765e1.
  "aws:eks/accessPolicyAssociation:AccessPolicyAssociation": [
    "clusterName",
    "principalArn",
    "policyArn",
    "accessScope",
  ],
  // hashicorp/terraform-provider-aws, internal/service/iam/role.go at 0040ea6911af00bea2cca6dbb14e86829826ad8e.
  "aws:iam/role:Role": ["namePrefix", "path"],
  // hashicorp/terraform-provider-aws, internal/service/iam/role_policy_attachment.go at 04c79849dbe7fbe76c3054b364357bcdaade9ac5.
  "aws:iam/rolePolicyAttachment:RolePolicyAttachment": ["role", "policyArn"],
  // pulumi/pulumi-kubernetes, provider/pkg/provider/diff.go at 94977969d64112b04e19945818a7d5d5f38f631d.
  "kubernetes:batch/v1:Job": ["spec.completions", "spec.parallelism", "spec.selector", "spec.template"],
};

/** pulumi/pulumi-kubernetes, provider/pkg/provider/diff.go at 94977969d64112b04e19945818a7d5d5f38f631d. */
const NAMES = ["metadata.name", "metadata.namespace"];

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
    schema: JSON.stringify(PROGRAM_SCHEMA),

    async diff(_id, urn, { __inputs: olds, __unready }: State, news: object) {
      const { type } = parse(urn);
      const replaced = [...NAMES, ...(REPLACEMENTS[type] ?? [])];
      const replaces = replaced.filter((path) => {
        return !isDeepStrictEqual(valueAt(olds, path), valueAt(news, path));
      });
      if (__unready && isDeepStrictEqual(valueAt(news, "metadata.annotations"), REPLACE_UNREADY)) {
        replaces.push("metadata");
      }
      return { changes: replaces.length > 0 || !isDeepStrictEqual(olds, news), replaces };
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
      if (!found) return { id: "", props: {} };
      // A refresh passes the previous state, whose inputs it keeps of an object that someone added to. Reading one of others does not.
      const isKubernetes = parse(urn).type.startsWith("kubernetes:");
      const inputs = isKubernetes && state.__inputs ? state.__inputs : found;
      // The outputs are what exists, with what someone added.
      return { id, inputs, props: { ...state, ...found, __inputs: inputs } };
    },

    async delete(id, urn) {
      kindOf(urn).delete(id);
    },

    async construct(name, type, inputs, options) {
      const parent = new pulumi.ComponentResource(type, name, inputs, options);
      // What is undefined is an output.
      const properties = {
        ...inputs,
        ...{ eksCluster: undefined, oidcProviderUrl: undefined, oidcProviderArn: undefined },
      };
      const cluster = new (class extends pulumi.CustomResource {})(type, name, properties, { parent });
      const { eksCluster, oidcProviderUrl, oidcProviderArn } = Object(cluster);
      // No one connects with it.
      const kubeconfigJson = eksCluster.apply(JSON.stringify);
      return { urn: parent.urn, state: { eksCluster, oidcProviderUrl, oidcProviderArn, kubeconfigJson } };
    },

    async invoke(token, inputs: object) {
      const call = currentSimulation().calls[token];
      if (!call) throw new Error(`${token} is not emulated`);
      return { outputs: call.answer(inputs) };
    },
  };
}

// urn:pulumi:STACK::PROJECT::PARENT_TYPE$TYPE::NAME
function parse(urn: string): { type: string; name: string } {
  const [, , types = "", ...name] = urn.split("::");
  return { type: types.split("$").pop() ?? "", name: name.join("::") };
}

function valueAt(properties: unknown, path: string): unknown {
  return path.split(".").reduce<unknown>((value, key) => Object(value)[key], properties);
}
