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
  /** What leaves the component and is not deleted: a sentence for each. */
  kept: { title: string; reason: string }[];
  /** The resources in it, before or after the update. */
  resources: PlannedResource[];
  /** The resources of the rest of the program after the update. */
  others: Found[];
  /** All components of the program, with this one. */
  all: PlannedComponent[];
}

/** A component at one time. */
export interface View {
  name: string;
  /** The arguments of the component, with every default. */
  settings: Fields;
  accounts: Account[];
  /** The resources in the component by `keyOf`, each allow policy as one of them. */
  resources: Map<string, Found>;
  /** The URNs of the providers of the resources in the component, by package. */
  providers: Map<string, string[]>;
  /** The URL that the provider of Pulumi Cloud has. */
  apiUrl: Value | undefined;
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
  /** With the options by which it stays in its service when it leaves the program, and `external` if it is only read. */
  inputs: Fields;
  state: State;
  resource: PlannedResource;
}

export const COMPONENT = "eks-pulumi-oidc:index:PulumiCloudAccess";
export const OIDC_ISSUER = "pulumiservice:index:OidcIssuer";
export const ISSUER = { type: OIDC_ISSUER, name: "oidc-issuer" };
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
 * @throws Error if there is none, if the plan does not contain all of one, or if one becomes something else.
 */
export function readComponents({ resources }: Plan): PlannedComponent[] {
  const components = resources.filter(isComponent).sort((one, other) => one.name.localeCompare(other.name));
  if (components.length === 0) {
    throw new Error(`This plan has no PulumiCloudAccess. Is this the right program's plan? ${ALL}`);
  }
  const owners = { deployed: ownersAt("deployed", resources), planned: ownersAt("planned", resources) };
  // Each of them knows all of them, to find what several use.
  const all: PlannedComponent[] = [];
  for (const component of components) {
    all.push(readComponent(component, resources, owners, all));
  }
  return all;
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
  all: PlannedComponent[],
): PlannedComponent {
  const { name, deployed, planned } = component;
  const insideAt = (when: When) => resources.filter((it) => owners[when].get(it) === component);
  const [old, now] = [insideAt("deployed"), insideAt("planned")];
  const after = viewOf(planned, "planned", now, resources);
  if (planned && planned.type !== COMPONENT) {
    throw new Error(`PulumiCloudAccess "${name}" becomes ${planned.type}, so nothing of it can be compared.`);
  }
  if (planned) requireAll(after);
  return {
    name,
    isDeployed: deployed !== undefined,
    isDeleted: planned === undefined,
    before: viewOf(deployed, "deployed", old, resources),
    after,
    kept: old.flatMap((it) => keptOf(it, now.includes(it))),
    resources: [...new Set([...old, ...now])],
    others: resources.filter((it) => !now.includes(it)).flatMap((it) => foundAt("planned", it)),
    all,
  };
}

/** Returns what is deployed of a component and stays in its service, although it leaves the component. */
function keptOf(resource: PlannedResource, isInside: boolean): PlannedComponent["kept"] {
  const { deployed, planned, isReplaced, urn } = resource;
  if (!deployed) return [];
  const title = titleOf(deployed);
  const flags = Object.entries(deployed.kept).map(([name, value]) => `${name}: ${value}`);
  if (flags.length > 0 && (!planned || isReplaced)) {
    const what = planned ? "is replaced, and the old one" : "leaves the program, and";
    return [{ title, reason: `${what} is not deleted (${flags.join(", ")})` }];
  }
  if (!planned || isInside) return [];
  return [{ title, reason: `leaves the component, and stays in the program: ${urn}` }];
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
  const name = state?.name ?? "";
  const settings = state ? inputsOf(state) : {};
  const accounts = accountsOf(settings);
  const isRead = (it: Found) => accounts.some((account) => isReadAs(account, it));
  const found = inside.flatMap((it) => foundAt(when, it, name)).filter((it) => !isRead(it));
  const resources = new Map<string, Found>();
  for (const it of found.flatMap(withPolicies)) {
    let key = keyOf(it);
    // Several resources can have the same name, below several parents.
    while (resources.has(key)) key += " again";
    resources.set(key, it);
  }

  const providers = providersOf(inside.flatMap((it) => it[when] ?? []));
  const [urn] = providers.get("pulumiservice") ?? [];
  const pulumiCloud = all.find((it) => it.urn === urn)?.[when];
  const apiUrl = pulumiCloud && valueAt(inputsOf(pulumiCloud), "apiUrl");
  return { name, settings, accounts, resources, providers, apiUrl };
}

/** Returns the issuer of the component without its policies, and each of them beside it; any other resource as it is. */
function withPolicies(found: Found): Found[] {
  const policies = valueAt(found.inputs, "policies");
  if (keyOf(found) !== keyOf(ISSUER) || !Array.isArray(policies)) return [found];
  const issuer = { ...found, inputs: without(found.inputs, "policies") };
  return [issuer, ...policies.map((it) => policyIn(issuer, it))];
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
  const namespace = valueAt(policy, "rules", NAMESPACE_CLAIM);
  const name = valueAt(policy, "rules", NAME_CLAIM);
  const isNamed = typeof namespace === "string" && typeof name === "string";
  const id = isNamed ? accountId({ namespace, name }) : "no service account";
  const inputs = isFields(policy) ? policy : { policy };
  return { ...issuer, type: ALLOW_POLICY, name: id, title: `Allow policy of ${id}`, inputs };
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

/** Returns a resource at that time. @param component the name that the resource's name begins with, and that is left out. */
function foundAt(when: When, resource: PlannedResource, component = ""): Found[] {
  const state = resource[when];
  if (!state) return [];
  const { type, name, kept, isExternal } = state;
  const isNamed = component !== "" && name.startsWith(`${component}.`);
  // The name of another one must not be taken for one without the component's.
  const ownName = isNamed ? name.slice(component.length + 1) : JSON.stringify(name);
  // What a refresh has added to a resource that stays the same, such as a default of the service, the update does not change.
  const { planned = state } = resource;
  const inputs = inputsOf(resource.op === "same" ? planned : state);
  const all = { ...inputs, ...kept, ...(isExternal && { external: true }) };
  return [{ type, name: ownName, title: titleOf(state), inputs: all, state, resource }];
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
  const own = without(fields, "__defaults", "__internal");
  const trustPolicy = documentOf(valueAt(own, "assumeRolePolicy"));
  return trustPolicy === undefined ? own : { ...own, assumeRolePolicy: trustPolicy };
}

/** Returns whether two names of Pulumi Cloud can be those of the same thing. */
export function isSameName(one: Value | undefined, other: Value | undefined): boolean {
  if (isOpaque(one) || isOpaque(other)) return true;
  return typeof one === "string" && typeof other === "string" && one.toLowerCase() === other.toLowerCase();
}

/** Returns the outputs of a resource; none if the update creates it again. */
export function outputsOf(found: Found | undefined): Fields {
  if (!found) return {};
  const { state, resource } = found;
  return resource.isReplaced && state === resource.planned ? {} : readFields(state.outputs);
}
