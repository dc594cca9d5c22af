// The components of a plan, before and after the update: the settings of each, and the resources in it as plain values.

import type { Plan, PlannedResource, State } from "./plan";
import {
  documentOf,
  type Fields,
  isEmpty,
  isFields,
  isOpaque,
  listAt,
  readFields,
  type Value,
  valueAt,
  without,
} from "./values";

/** A `PulumiCloudAccess`, and what the update does to it. */
export interface PlannedComponent {
  name: string;
  /** Its old state. Undefined if it is new. */
  before: View | undefined;
  /** Its new state. Undefined if the update deletes it. */
  after: View | undefined;
  /** The resource that the component itself is. */
  resource: PlannedResource;
  /** The resources in it, before or after the update. */
  resources: PlannedResource[];
  /** The resources of the rest of the program after the update. */
  others: Member[];
  /** All components of the program, with this one. */
  all: PlannedComponent[];
}

/** A component that the update does not delete. */
export type RemainingComponent = PlannedComponent & { after: View };

/** A component in one of its states. */
export interface View {
  name: string;
  /** The arguments of the component, with every default. */
  settings: Fields;
  accounts: Account[];
  /** The resources in the component. The issuer is without its allow policies. */
  members: Member[];
  /** The allow policies of the issuer. */
  policies: AllowPolicy[];
  /** The URNs of the providers of the resources in the component, by package. */
  providers: Map<string, string[]>;
  /** The inputs of the provider of Pulumi Cloud, if the program creates it. */
  pulumiCloud: Fields | undefined;
}

/** A service account of the component. */
export interface Account {
  /** `NAMESPACE/NAME`. */
  id: string;
  namespace: string;
  name: string;
  /** Its entry, with every default. */
  settings: Fields;
}

/** A resource in one of its states. */
export interface Member {
  type: string;
  /** Without the name of its component. */
  name: string;
  /** Such as `RolePolicy logs`. */
  title: string;
  /** With the options by which it stays in its service when it leaves the program, and `external` if it is only read. */
  inputs: Fields;
  state: State;
  resource: PlannedResource;
}

/** An allow policy of an issuer. */
export interface AllowPolicy {
  /** The service account that its rules name: `NAMESPACE/NAME`; undefined if they do not name one. */
  account: string | undefined;
  inputs: Value;
}

export const COMPONENT = "eks-pulumi-oidc:index:PulumiCloudAccess";
export const OIDC_ISSUER = "pulumiservice:index:OidcIssuer";
export const ISSUER = { type: OIDC_ISSUER, name: "oidc-issuer" };
/** The component's own provider of Pulumi Cloud, unless the program passes one. */
export const PROVIDER = { type: "pulumi:providers:pulumiservice", name: "oidc-issuer" };
export const ROLE = "aws:iam/role:Role";
export const SERVICE_ACCOUNT = "kubernetes:core/v1:ServiceAccount";

/** Annotations by which AWS, Google Cloud, and Azure give pods an identity. */
export const IDENTITY_ANNOTATION = /^(eks\.amazonaws\.com|iam\.gke\.io|azure\.workload\.identity)\//;

/** The claims of an ID token that name its service account. The quotes keep the dot from separating two names. */
export const NAMESPACE_CLAIM = '"kubernetes.io".namespace';
export const NAME_CLAIM = '"kubernetes.io".serviceaccount.name';

/** Returns `NAMESPACE/NAME`. */
export function idOf({ namespace, name }: { namespace: string; name: string }): string {
  return `${namespace}/${name}`;
}

/** Returns the resource of a component that has this type and name. */
export function memberOf(view: View | undefined, of: Pick<Member, "type" | "name">): Member | undefined {
  return view?.members.find(({ type, name }) => type === of.type && name === of.name);
}

const ALL = "Preview all of the program: with --show-sames, and without --target.";

type When = "oldState" | "newState";

/**
 * Returns the components of a plan, by their names: a preview has them in any order.
 *
 * @throws Error if there is none, if the plan does not contain all of one, or if one becomes something else.
 */
export function readComponents({ resources }: Plan): PlannedComponent[] {
  const components = resources.filter(isComponent).sort((one, other) => one.name.localeCompare(other.name));
  if (components.length === 0) {
    throw new Error(`This plan has no PulumiCloudAccess. Is this the right program's plan? ${ALL}`);
  }
  const owners = { oldState: ownersAt("oldState", resources), newState: ownersAt("newState", resources) };
  // Each of them knows all of them, to compare what several have.
  const all: PlannedComponent[] = [];
  for (const component of components) {
    all.push(readComponent(component, resources, owners, all));
  }
  return all;
}

/** What was deployed as a component is one, whatever its type is in the program. */
function isComponent({ oldState, newState }: PlannedResource): boolean {
  return [oldState, newState].some((state) => state?.type === COMPONENT);
}

type Owners = Map<PlannedResource, PlannedResource>;

/** Returns the component of each resource that is in one. */
function ownersAt(when: When, resources: PlannedResource[]): Owners {
  const byUrn = new Map(resources.map((it) => [it[when]?.urn, it]));
  byUrn.delete(undefined);
  const owners: Owners = new Map();
  for (const resource of resources) {
    let ancestor = byUrn.get(resource[when]?.parent);
    for (let depth = 0; ancestor && !isComponent(ancestor) && depth < 100; depth += 1) {
      ancestor = byUrn.get(ancestor[when]?.parent);
    }
    if (ancestor && isComponent(ancestor)) owners.set(resource, ancestor);
  }
  return owners;
}

function readComponent(
  component: PlannedResource,
  resources: PlannedResource[],
  owners: Record<When, Owners>,
  all: PlannedComponent[],
): PlannedComponent {
  const { name, operation, oldState, newState } = component;
  if (!newState && operation === undefined) {
    throw new Error(
      `This plan only refreshes PulumiCloudAccess "${name}". Preview the update: pulumi preview --refresh`,
    );
  }
  const insideAt = (when: When) => resources.filter((it) => owners[when].get(it) === component);
  const [old, now] = [insideAt("oldState"), insideAt("newState")];
  const after = newState && viewOf(newState, "newState", now, resources);
  if (newState && newState.type !== COMPONENT) {
    throw new Error(
      `PulumiCloudAccess "${name}" becomes ${newState.type}, so nothing of it can be compared.`,
    );
  }
  if (after) requireAll(after);
  return {
    name,
    before: oldState && viewOf(oldState, "oldState", old, resources),
    after,
    resource: component,
    resources: [...new Set([...old, ...now])],
    others: resources.filter((it) => !now.includes(it)).flatMap((it) => memberAt("newState", it)),
    all,
  };
}

/** Returns whether the update leaves a component in the program. */
export function isRemaining(component: PlannedComponent): component is RemainingComponent {
  return component.after !== undefined;
}

/** @throws Error if a component cannot be compared, since the plan or the component has only a part of it. */
function requireAll({ name, settings, accounts, members }: View): void {
  if (Object.keys(settings).length === 0) {
    throw new Error(
      `PulumiCloudAccess "${name}" has no inputs. Unset PULUMI_NODEJS_SKIP_COMPONENT_INPUTS, and preview again.`,
    );
  }
  const entries = valueAt(settings, "serviceAccounts");
  if (!Array.isArray(entries) || accounts.length !== entries.length || accounts.length === 0) {
    throw new Error(`PulumiCloudAccess "${name}" has inputs of another version of this project.`);
  }
  const types = members.map(({ type }) => type);
  const configMaps = types.filter((type) => type === "kubernetes:core/v1:ConfigMap").length;
  if (types.includes(OIDC_ISSUER) && configMaps >= accounts.length) return;
  throw new Error(`This plan has only a part of PulumiCloudAccess "${name}". ${ALL}`);
}

function viewOf(state: State, when: When, inside: PlannedResource[], all: PlannedResource[]): View {
  const { name } = state;
  const settings = inputsOf(state);
  const accounts = accountsOf(settings);
  const isRead = (it: Member) => accounts.some((account) => isReadAs(account, it));
  const members = inside.flatMap((it) => memberAt(when, it, name)).filter((it) => !isRead(it));
  const issuer = members.find((it) => it.type === ISSUER.type && it.name === ISSUER.name);
  const list = valueAt(issuer?.inputs, "policies");
  const policies = Array.isArray(list) ? list : [];

  const providers = providersOf(inside.flatMap((it) => it[when] ?? []));
  const [urn] = providers.get("pulumiservice") ?? [];
  const pulumiCloud = all.find((it) => it.urn === urn)?.[when];
  return {
    name,
    settings,
    accounts,
    // What is not a list is compared as a whole.
    members: members.map((it) => {
      return it === issuer && Array.isArray(list) ? { ...it, inputs: without(it.inputs, "policies") } : it;
    }),
    policies: policies.map((inputs) => ({ account: accountIn(inputs), inputs })),
    providers,
    pulumiCloud: pulumiCloud && readFields(pulumiCloud.inputs),
  };
}

/** Returns the entries of the list of service accounts that have a name. */
function accountsOf(settings: Fields): Account[] {
  return listAt(settings, "serviceAccounts").flatMap((entry) => {
    const [namespace, name] = [valueAt(entry, "namespace"), valueAt(entry, "name")];
    if (!isFields(entry) || typeof namespace !== "string" || typeof name !== "string") return [];
    return [{ id: idOf({ namespace, name }), namespace, name, settings: entry }];
  });
}

/** Returns whether a resource is a service account that exists already, and is only read. */
function isReadAs(account: Account, { type, state, resource }: Member): boolean {
  const isOfOthers = valueAt(account.settings, "createServiceAccount") === false;
  return isOfOthers && type === SERVICE_ACCOUNT && resource.operation === "reads" && state.id === account.id;
}

/** Returns the service account that the rules of an allow policy name: `NAMESPACE/NAME`. */
export function accountIn(policy: Value): string | undefined {
  const namespace = valueAt(policy, "rules", NAMESPACE_CLAIM);
  const name = valueAt(policy, "rules", NAME_CLAIM);
  const isNamed = typeof namespace === "string" && typeof name === "string";
  return isNamed ? idOf({ namespace, name }) : undefined;
}

function providersOf(states: State[]): Map<string, string[]> {
  const providers = new Map<string, string[]>();
  for (const urn of new Set(states.flatMap(({ provider }) => provider ?? []))) {
    // URN of the type pulumi:providers:PACKAGE
    const [, packageName = ""] = /[:$]pulumi:providers:([^:]+)::/.exec(urn) ?? [];
    providers.set(packageName, [...(providers.get(packageName) ?? []), urn]);
  }
  return providers;
}

/** Returns a resource in one of its states. @param component the name that the resource's name begins with, and that is left out. */
function memberAt(when: When, resource: PlannedResource, component = ""): Member[] {
  const state = resource[when];
  if (!state) return [];
  const { type, name, options, isExternal } = state;
  const isNamed = component !== "" && name.startsWith(`${component}.`);
  // The name of another one must not be taken for one without the component's.
  const ownName = isNamed ? name.slice(component.length + 1) : JSON.stringify(name);
  const { protect: _, ...keeping } = options;
  const inputs = { ...inputsOf(state), ...keeping, ...(isExternal && { external: true }) };
  return [{ type, name: ownName, title: titleOf(state), inputs, state, resource }];
}

function titleOf({ type, name }: State): string {
  return `${type.split(":").at(-1)} ${name}`;
}

/**
 * Returns the inputs of a resource, without what the AWS provider and the engine note beside them: pkg/reservedkeys in
 * pulumi-terraform-bridge, pkg/resource/deploy/providers in pulumi. That decides nothing, since a program can write it.
 */
export function inputsOf({ type, inputs }: State): Fields {
  const fields = readFields(inputs);
  // A key of an allow policy or a file of a ConfigMap must not be overlooked.
  if (!/^(aws|pulumi):/.test(type)) return fields;
  const compared = without(fields, "__defaults", "__internal");
  const trustPolicy = documentOf(valueAt(compared, "assumeRolePolicy"));
  return trustPolicy === undefined ? compared : { ...compared, assumeRolePolicy: trustPolicy };
}

/**
 * Returns what decides which plugin runs as a provider, and which variables it reads instead of its own, without what is empty:
 * pkg/resource/deploy/providers/registry.go in pulumi/pulumi. With a parameterization, the name is that of another plugin. Without
 * `__internal`, the engine reads the inputs.
 */
export function pluginOf(provider: Fields | undefined): [name: string, value: Value][] {
  const internal = documentOf(valueAt(provider, "__internal"));
  return PLUGIN.flatMap((name): [string, Value][] => {
    const value = valueAt(internal, name) ?? valueAt(provider, name) ?? "";
    return isEmpty(value) || value === "" ? [] : [[name, value]];
  });
}

const PLUGIN = ["name", "parameterization", "pluginDownloadURL", "envVarMappings"];

/** Returns whether two names of Pulumi Cloud can be those of the same thing. */
export function isSameName(one: Value | undefined, other: Value | undefined): boolean {
  if (isOpaque(one) || isOpaque(other)) return true;
  return typeof one === "string" && typeof other === "string" && one.toLowerCase() === other.toLowerCase();
}

/** Returns the outputs of a resource; none if the update creates it again. */
export function outputsOf(member: Member | undefined): Fields {
  if (!member) return {};
  const { state, resource } = member;
  return resource.isReplaced && state === resource.newState ? {} : readFields(state.outputs);
}
