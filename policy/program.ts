// The program as the rules see it: each resource with the component that it is in, the service account that it belongs to, and
// their settings. The settings of a component are its inputs.

import { SOURCES } from "../sources";
import { type Fields, isFields } from "./values";

export const COMPONENT = "eks-pulumi-oidc:index:PulumiCloudAccess";

/** A resource as the engine sends it to a pack, or as a simulation registers it. */
export interface RegisteredResource {
  urn: string;
  type: string;
  name: string;
  inputs: Fields;
  /** Only what is deployed has all of them. */
  outputs?: Fields;
  /** URN of its parent. */
  parent?: string | undefined;
  /** URN of its provider, which is registered before it. */
  provider?: string | undefined;
  ignoreChanges?: string[];
  /** URNs of the resources that an input comes from. */
  propertyDependencies?: Record<string, string[]>;
}

/** A resource, with its place in the program. */
export interface Resource extends Omit<RegisteredResource, "provider"> {
  ignoreChanges: string[];
  provider: { urn: string; type: string; inputs: Fields } | undefined;
  /** The component that it is in; undefined for the component itself. */
  component: Component | undefined;
  /** Those of the component. */
  settings: Settings | undefined;
  /** Its name without that of the component; undefined if it does not begin with that. */
  ownName: string | undefined;
  /** The service account that it belongs to, by its name. */
  account: Account | undefined;
  /** What was registered before it. */
  program: Program;
}

/** A component, with its settings. */
export interface Component {
  urn: string;
  name: string;
  inputs: Fields;
  /** Undefined if nothing can be compared with them, which the rule same-version reports. */
  settings: Settings | undefined;
}

/** The arguments of a component, with every default. One that is not known yet is a string, `UNKNOWN`. */
export interface Settings {
  /** Checksum of the source files that the component is made of. */
  sources: string;
  organization: string;
  issuerName: string;
  issuerUrl: string;
  oidcProviderArn?: string;
  clusterArn?: string;
  serviceAccounts: Account[];
  createNamespaces: string[];
  maxExpirationSeconds: number;
  audienceRule: boolean;
  permissionsBoundaryArn?: string;
  image: string;
  jobPodSpec: Fields;
  pulumiApiUrl: string;
}

/** An entry of `serviceAccounts`. */
export interface Account {
  namespace: string;
  name: string;
  tokenType: "personal" | "organization" | "team" | "runner";
  userLogin?: string;
  teamName?: string;
  runnerId?: string;
  runnerName?: string;
  organizationRoleId?: string;
  organizationAdmin?: boolean;
  tokenExpirationSeconds: number;
  tokenAudience: string;
  policyRules: Record<string, string>;
  createServiceAccount: boolean;
  awsRole: "irsa" | "pod-identity" | "none";
  rolePolicyArns: string[];
  injectToken: boolean;
  runJob: boolean;
  command: string[];
}

/** Returns `NAMESPACE/NAME`. */
export function idOf({ namespace, name }: { namespace: string; name: string }): string {
  return `${namespace}/${name}`;
}

/** Returns how the name of each resource of a service account begins, after that of the component. */
export function ownNameOf({ namespace, name }: { namespace: string; name: string }): string {
  return `${namespace}.${name}`;
}

/** The resources of a program, each after its parent and its provider. */
export class Program {
  readonly #resources = new Map<string, Resource>();

  get resources(): Resource[] {
    return [...this.#resources.values()];
  }

  get components(): Component[] {
    return this.resources.flatMap((it) => this.#componentAt(it) ?? []);
  }

  find(urn: string | undefined): Resource | undefined {
    return urn === undefined ? undefined : this.#resources.get(urn);
  }

  /** Adds a resource. A later one with the same URN replaces it. */
  add({ provider: providerUrn, ...registered }: RegisteredResource): Resource {
    const { name } = registered;
    const component = this.#componentAround(this.find(registered.parent));
    const prefix = `${component?.name}.`;
    const ownName = component && name.startsWith(prefix) ? name.slice(prefix.length) : undefined;
    const settings = component?.settings;
    const provider = this.find(providerUrn);
    const resource: Resource = {
      ...registered,
      ignoreChanges: registered.ignoreChanges ?? [],
      provider: provider && { urn: provider.urn, type: provider.type, inputs: provider.inputs },
      component,
      settings,
      ownName,
      account: settings?.serviceAccounts.find((it) => `${ownName}.`.startsWith(`${ownNameOf(it)}.`)),
      program: this,
    };
    this.#resources.set(registered.urn, resource);
    return resource;
  }

  #componentAround(ancestor: Resource | undefined): Component | undefined {
    if (!ancestor) return undefined;
    return this.#componentAt(ancestor) ?? this.#componentAround(this.find(ancestor.parent));
  }

  #componentAt({ type, urn, name, inputs }: Resource): Component | undefined {
    return type === COMPONENT ? { urn, name, inputs, settings: settingsFrom(inputs) } : undefined;
  }
}

/** Returns the settings of a component of this version. What is not what this version registers fails the rule that reads it. */
export function settingsFrom(inputs: Fields): Settings | undefined {
  const { sources, serviceAccounts } = inputs;
  const isReadable = Array.isArray(serviceAccounts) && serviceAccounts.every(isFields);
  return sources === SOURCES && isReadable ? (inputs as unknown as Settings) : undefined;
}
