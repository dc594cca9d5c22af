// The components of a plan, before and after the update: the settings of each, and the resources in it as plain values.

import type { Plan, PlannedResource, State } from "./plan";
import {
  documentOf,
  type Fields,
  isFields,
  isOpaque,
  readFields,
  type Value,
  valueAt,
  without,
} from "./values";

/** A `PulumiCloudAccess`, and what the update does to it. */
export interface PlannedComponent {
  name: string;
  /** Whether it exists, and whether the update deletes it. */
  isDeployed: boolean;
  isDeleted: boolean;
  /** What is deployed: with a refresh, what exists. Empty if it is new. */
  before: View;
  /** What the program says. Empty if the update deletes it. */
  after: View;
  /** The other type that it would have after the update. */
  otherType: string | undefined;
  /** What leaves the component and is not deleted: a sentence for each. */
  kept: { title: string; reason: string }[];
  /** The resources of the rest of the program after the update. */
  others: Other[];
  /** The resources in it, before or after the update. */
  resources: PlannedResource[];
}

/** A component at one time. */
export interface View {
  name: string;
  /** The arguments of the component, with every default. */
  settings: Fields;
  accounts: Account[];
  /** The resources in the component by `keyOf`, each allow policy as one of them. */
  resources: Map<string, Found>;
  /** What the issuer has in place of a list of policies. */
  unreadPolicies: Value | undefined;
  /** The providers of the resources in the component, by package. */
  providers: Map<string, Provider[]>;
  /** The other components of the same organization, after the update. Only of what the program says. */
  neighbors: View[];
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

/** A resource at one time. */
export interface Found {
  type: string;
  /** Without the name of its component. */
  name: string;
  /** Such as `RolePolicy logs`. */
  title: string;
  inputs: Fields;
  state: State;
  resource: PlannedResource;
}

export interface Other extends Found {
  /** The other component that it is in. */
  owner: PlannedResource | undefined;
}

export interface Provider {
  urn: string;
  /** Undefined if the plan does not have it. */
  inputs: Fields | undefined;
}

export const COMPONENT = "eks-pulumi-oidc:index:PulumiCloudAccess";
export const OIDC_ISSUER = "pulumiservice:index:OidcIssuer";
export const ROLE = "aws:iam/role:Role";
export const SERVICE_ACCOUNT = "kubernetes:core/v1:ServiceAccount";

/** Annotations by which AWS, Google Cloud, and Azure give pods an identity. */
export const IDENTITY_ANNOTATION = /^(eks\.amazonaws\.com|iam\.gke\.io|azure\.workload\.identity)\//;

/** The type of an allow policy, which is an element of an issuer. No resource has it: it would end a URN's types. */
export const ALLOW_POLICY = "::allow policy";

/** The claims of an ID token that name its service account. The quotes keep the dot from separating two names. */
export const NAMESPACE_CLAIM = '"kubernetes.io".namespace';
export const NAME_CLAIM = '"kubernetes.io".serviceaccount.name';

/** Returns the ID of a service account: `NAMESPACE/NAME`. */
export function accountId({ namespace, name }: { namespace: string; name: string }): string {
  return `${namespace}/${name}`;
}

/** Returns the key of a resource of a component. */
export function keyOf({ type, name }: { type: string; name: string }): string {
  return `${type} ${name}`;
}

const ALL = "Preview all of the program: with --show-sames, and without --target.";

type When = "deployed" | "planned";

/**
 * Returns the components of a plan, by their names: a preview has them in any order.
 *
 * @throws Error if there is none, or if the plan does not contain all of one.
 */
export function readComponents({ resources }: Plan): PlannedComponent[] {
  const components = resources.filter(isComponent).sort((one, other) => one.name.localeCompare(other.name));
  if (components.length === 0) {
    throw new Error(`This plan has no PulumiCloudAccess. Is this the right program's plan? ${ALL}`);
  }
  const owners = { deployed: ownersAt("deployed", resources), planned: ownersAt("planned", resources) };
  const read = components.map((component) => readComponent(component, resources, owners));
  const views = read.flatMap(({ after, isDeleted }) => (isDeleted ? [] : [after]));
  for (const { after } of read) after.neighbors.push(...views.filter((it) => isNeighbor(it, after)));
  return read;
}

/** What was deployed as a component is one, whatever its type says now. */
function isComponent({ deployed, planned }: PlannedResource): boolean {
  return [deployed, planned].some((state) => state?.type === COMPONENT);
}

/** Returns the resources that are in no component, and are none: after the update or, of what it deletes, before it. */
export function outsideOf({ resources }: Plan): PlannedResource[] {
  const [before, after] = [ownersAt("deployed", resources), ownersAt("planned", resources)];
  return resources.filter((it) => !isComponent(it) && !(it.planned ? after : before).has(it));
}

type Owners = Map<PlannedResource, PlannedResource>;

/** Returns the component of each resource that is in one at that time. */
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
): PlannedComponent {
  const { deployed, planned } = component;
  const isIn = (when: When) => (it: PlannedResource) => owners[when].get(it) === component;
  const [old, now] = [resources.filter(isIn("deployed")), resources.filter(isIn("planned"))];
  const after = viewOf(planned, "planned", now, resources);
  if (planned?.type === COMPONENT) requireAll(after);
  const inside = new Set([...old, ...now]);
  return {
    name: component.name,
    isDeployed: deployed !== undefined,
    isDeleted: planned === undefined,
    before: viewOf(deployed, "deployed", old, resources),
    after,
    otherType: planned && planned.type !== COMPONENT ? planned.type : undefined,
    kept: old.flatMap((it) => keptOf(it, now.includes(it), deployed?.name ?? "")),
    others: resources
      .filter((it) => !now.includes(it))
      .flatMap((it) =>
        foundAt("planned", it, "").map((found) => ({ ...found, owner: owners.planned.get(it) })),
      ),
    resources: [...inside],
  };
}

/** Returns what is deployed of a component and stays in its service, although it leaves the component. */
function keptOf(resource: PlannedResource, isInside: boolean, component: string): PlannedComponent["kept"] {
  const { deployed, planned, isReplaced, urn } = resource;
  const [found] = foundAt("deployed", resource, component);
  if (!deployed || !found) return [];
  const flags = Object.entries(deployed.kept).map(([name, value]) => `${name}: ${value}`);
  const { title } = found;
  if (flags.length > 0 && (!planned || isReplaced)) {
    const what = planned ? "is replaced, and the old one" : "leaves the program, and";
    return [{ title, reason: `${what} is not deleted (${flags.join(", ")})` }];
  }
  return planned && !isInside
    ? [{ title, reason: `leaves the component, and stays in the program: ${urn}` }]
    : [];
}

/** @throws Error if a component cannot be compared, since the plan or the component has only a part of it. */
function requireAll({ name, settings, accounts, resources }: View): void {
  if (Object.keys(settings).length === 0) {
    throw new Error(
      `PulumiCloudAccess "${name}" has no inputs. Unset PULUMI_NODEJS_SKIP_COMPONENT_INPUTS, and preview again.`,
    );
  }
  const entries = valueAt(settings, "serviceAccounts");
  if (!Array.isArray(entries) || accounts.length !== entries.length || accounts.length === 0) {
    throw new Error(`PulumiCloudAccess "${name}" has inputs of another version of this project.`);
  }
  const types = [...resources.values()].map(({ type }) => type);
  const configMaps = types.filter((type) => type === "kubernetes:core/v1:ConfigMap").length;
  if (types.includes(OIDC_ISSUER) && configMaps >= accounts.length) return;
  throw new Error(`This plan has only a part of PulumiCloudAccess "${name}". ${ALL}`);
}

function viewOf(
  state: State | undefined,
  when: When,
  inside: PlannedResource[],
  all: PlannedResource[],
): View {
  const settings = state ? inputsOf(state) : {};
  const accounts = accountsOf(settings);
  const found = inside.flatMap((it) => foundAt(when, it, state?.name ?? ""));
  const issuer = found.find(({ type, name }) => type === OIDC_ISSUER && name === "oidc-issuer");
  const policies = valueAt(issuer?.inputs, "policies");
  const withoutPolicies = found.map((it) => {
    return it === issuer && issuer ? { ...issuer, inputs: without(issuer.inputs, "policies") } : it;
  });
  const isRead = (it: Found) => accounts.some((account) => isReadAs(account, it));
  const resources = new Map<string, Found>();
  for (const it of [
    ...withoutPolicies.filter((it) => !isRead(it)),
    ...(issuer && Array.isArray(policies) ? policies.map((it) => policyIn(issuer, it)) : []),
  ]) {
    resources.set(unusedKey(keyOf(it), resources), it);
  }
  return {
    name: state?.name ?? "",
    settings,
    accounts,
    resources,
    unreadPolicies: issuer && !Array.isArray(policies) ? (policies ?? null) : undefined,
    providers: readProviders(when, inside, all),
    neighbors: [],
  };
}

/** Several resources can have the same name, below several parents. */
function unusedKey(key: string, taken: Map<string, unknown>): string {
  let number = 1;
  const numbered = () => (number === 1 ? key : `${key} (${number})`);
  while (taken.has(numbered())) number += 1;
  return numbered();
}

/** Returns the entries of the list of service accounts that have a name. */
function accountsOf(settings: Fields): Account[] {
  const list = valueAt(settings, "serviceAccounts");
  return (Array.isArray(list) ? list : []).flatMap((entry) => {
    const [namespace, name] = [valueAt(entry, "namespace"), valueAt(entry, "name")];
    if (!isFields(entry) || typeof namespace !== "string" || typeof name !== "string") return [];
    return [{ id: accountId({ namespace, name }), namespace, name, settings: entry }];
  });
}

/** Returns whether a resource is a service account that exists already, and is only read. */
function isReadAs(account: Account, { type, state, resource }: Found): boolean {
  const isOfOthers = valueAt(account.settings, "createServiceAccount") === false;
  return isOfOthers && type === SERVICE_ACCOUNT && /^read/.test(resource.op) && state.id === account.id;
}

/** Returns an allow policy. Its name is that of the service account that it names. */
function policyIn(issuer: Found, policy: Value): Found {
  const [namespace, name] = [NAMESPACE_CLAIM, NAME_CLAIM].map((claim) => valueAt(policy, "rules", claim));
  const isNamed = typeof namespace === "string" && typeof name === "string";
  const id = isNamed ? accountId({ namespace, name }) : "no service account";
  const inputs = isFields(policy) ? policy : { policy };
  return { ...issuer, type: ALLOW_POLICY, name: id, title: `Allow policy of ${id}`, inputs };
}

function readProviders(
  when: When,
  inside: PlannedResource[],
  all: PlannedResource[],
): Map<string, Provider[]> {
  const providers = new Map<string, Provider[]>();
  for (const urn of new Set(inside.flatMap((it) => it[when]?.provider ?? []))) {
    // URN of the type pulumi:providers:PACKAGE
    const [, packageName = ""] = /[:$]pulumi:providers:([^:]+)::/.exec(urn) ?? [];
    const state = all.find((it) => it.urn === urn)?.[when];
    const provider = { urn, inputs: state && inputsOf(state) };
    providers.set(packageName, [...(providers.get(packageName) ?? []), provider]);
  }
  return providers;
}

/** Returns a resource at that time. @param component the name that is left out of its own. */
function foundAt(when: When, resource: PlannedResource, component: string): Found[] {
  const state = resource[when];
  if (!state) return [];
  const { type, name } = state;
  const isNamed = component !== "" && name.startsWith(`${component}.`);
  const title = `${type.split(":").at(-1)} ${name}`;
  // The name of another one must not be taken for one without the component's.
  const ownName = isNamed ? name.slice(component.length + 1) : JSON.stringify(name);
  const inputs = when === "deployed" ? deployedInputs(resource) : inputsOf(state);
  return [{ type, name: ownName, title, inputs, state, resource }];
}

/**
 * A refresh adds what the program does not say. For a resource that stays the same, that is not a change. In Pulumi Cloud it is one:
 * a key of an allow policy counts.
 */
function deployedInputs({ type, op, deployed, planned }: PlannedResource): Fields {
  const inputs = deployed ? inputsOf(deployed) : {};
  const isAdding = op === "same" && /^(aws|kubernetes):/.test(type);
  return isAdding && planned ? (pruned(inputs, inputsOf(planned)) as Fields) : inputs;
}

/** Returns a value with only the keys that `other` has. */
function pruned(value: Value, other: Value): Value {
  if (!isFields(value) || !isFields(other)) return value;
  const kept = Object.entries(value).filter(([key]) => Object.hasOwn(other, key));
  return Object.fromEntries(kept.map(([key, element]) => [key, pruned(element, other[key] ?? null)]));
}

/**
 * What providers note about inputs, beside them: pkg/reservedkeys in pulumi-terraform-bridge, provider/pkg/provider/provider.go in
 * pulumi-kubernetes, sdk/nodejs/provider in pulumi. Which inputs are a provider's own, they do not decide: a program can write them.
 */
const NOTES = ["__meta", "__fieldManager", "__initialApiVersion", "__inputs", "__internal"];
const NOTES_AT_ANY_DEPTH = ["__defaults"];

export function inputsOf({ type, inputs }: State): Fields {
  // A key of an allow policy or a file of a ConfigMap must not be overlooked.
  const isOfAws = type.startsWith("aws:");
  const isOfPulumiCloud = type.startsWith("pulumiservice:");
  const read = readFields(inputs, isOfAws ? NOTES_AT_ANY_DEPTH : []);
  const fields = isOfPulumiCloud ? read : without(read, ...NOTES, ...NOTES_AT_ANY_DEPTH);
  if (type !== ROLE) return fields;
  const trustPolicy = documentOf(valueAt(fields, "assumeRolePolicy"));
  return trustPolicy === undefined ? fields : { ...fields, assumeRolePolicy: trustPolicy };
}

/** Returns whether two names of Pulumi Cloud can be those of the same thing. */
export function isSameName(one: Value | undefined, other: Value | undefined): boolean {
  if (isOpaque(one) || isOpaque(other)) return true;
  return typeof one === "string" && typeof other === "string" && one.toLowerCase() === other.toLowerCase();
}

/** Returns whether another component has the same organization of the same Pulumi Cloud, as far as is known. */
function isNeighbor(one: View, other: View): boolean {
  if (one === other) return false;
  return ["organization", "pulumiApiUrl"].every((name) => {
    return isSameName(valueAt(one.settings, name), valueAt(other.settings, name));
  });
}

/** Returns the outputs of a resource; none if the update creates it again. */
export function outputsOf(found: Found | undefined): Fields {
  if (!found) return {};
  const { state, resource } = found;
  return resource.isReplaced && state === resource.planned ? {} : readFields(state.outputs);
}
