// Reads the components of a plan into plain values, before and after the update. Only foundResources.ts and the files whose names
// begin with `read` see the inputs of a resource.

import type { PlannedComponent, Provider, View } from "./components";
import { allAt, type Found, inputsOf, isSameName, resourceOf } from "./foundResources";
import type { Plan, PlannedResource, State } from "./plan";
import { readAccount, readIssuer, type Take } from "./readAccounts";
import { readOtherAssociation, readOtherIssuer, readOtherObject } from "./readElsewhere";
import { isInjection, readInjection } from "./readInjection";
import { type Fields, isEqual, isFields, textOf, type Value, valueAt } from "./values";

const COMPONENT = "eks-pulumi-oidc:index:PulumiCloudAccess";
const ATTACHMENT = "aws:iam/rolePolicyAttachment:RolePolicyAttachment";

const ALL = "Preview all of the program: with --show-sames, and without --target.";

/**
 * Returns the components of a plan, by their names: a preview has them in any order.
 *
 * @throws Error if there is none, or if the plan does not contain all of one.
 */
export function readComponents({ resources }: Plan): PlannedComponent[] {
  const byUrn = new Map(resources.map((resource) => [resource.urn, resource]));
  const components = resources
    .filter(({ type }) => type === COMPONENT)
    .sort((one, other) => one.name.localeCompare(other.name));
  if (components.length === 0) {
    throw new Error(`This plan has no PulumiCloudAccess. Is this the right program's plan? ${ALL}`);
  }

  const owners = new Map(resources.map((resource) => [resource, ownerOf(resource, byUrn)]));
  const [deployed, planned] = (["deployed", "planned"] as const).map((when) => allAt(when, owners));
  const read = components.flatMap((component) => {
    const { deployed: old, planned: now = old } = component;
    if (!now) return [];
    const after = viewOf(component, now, planned ?? []);
    if (component.planned) requireAll(after);
    const inside = resources.filter((resource) => owners.get(resource) === component);
    const used = [...inside.flatMap(({ provider }) => provider ?? []), ...component.dependencies];
    return {
      name: component.name,
      isDeployed: old !== undefined,
      isDeleted: component.planned === undefined,
      before: viewOf(component, old ?? now, deployed ?? []),
      after,
      retained: inside
        .filter(isRetained)
        .flatMap((it) => allAt("deployed", new Map([[it, component]])))
        .map((it) => resourceOf(it)),
      resources: [component, ...inside, ...new Set(used.flatMap((urn) => byUrn.get(urn) ?? []))],
    };
  });
  const views = read.flatMap(({ after, isDeleted }) => (isDeleted ? [] : [after]));
  for (const { after } of read) after.neighbors.push(...views.filter((it) => isNeighbor(it, after)));
  return read;
}

/** Returns whether another component has the same organization of the same Pulumi Cloud, as far as is known. */
function isNeighbor(one: View, other: View): boolean {
  const [organization, otherOrganization] = [one, other].map((it) => valueAt(it.settings, "organization"));
  return (
    one !== other &&
    isSameName(organization, otherOrganization) &&
    isSameName(apiUrlOf(one.settings), apiUrlOf(other.settings))
  );
}

function apiUrlOf(settings: Fields): Value | undefined {
  return valueAt(settings, "pulumiApiUrl");
}

/** Returns the component that a resource is in. */
function ownerOf(
  resource: PlannedResource,
  byUrn: Map<string, PlannedResource>,
): PlannedResource | undefined {
  let ancestor = byUrn.get(resource.parent ?? "");
  for (let depth = 0; ancestor && depth < 100; depth += 1) {
    if (ancestor.type === COMPONENT) return ancestor;
    ancestor = byUrn.get(ancestor.parent ?? "");
  }
  return undefined;
}

/** Returns whether a resource leaves the program and stays: not a namespace, which always does. */
function isRetained({ type, deployed, planned }: PlannedResource): boolean {
  return !planned && deployed?.retainOnDelete === true && !type.endsWith(":Namespace");
}

/** @throws Error if a component cannot be compared, since the plan or the component has only a part of it. */
function requireAll({ name, settings, accounts, issuer }: View): void {
  if (Object.keys(settings).length === 0) {
    throw new Error(
      `PulumiCloudAccess "${name}" has no inputs. Unset PULUMI_NODEJS_SKIP_COMPONENT_INPUTS, and preview again.`,
    );
  }
  const entries = valueAt(settings, "serviceAccounts");
  if (!Array.isArray(entries) || accounts.length !== entries.length || accounts.length === 0) {
    throw new Error(`PulumiCloudAccess "${name}" has inputs of another version of this project.`);
  }
  if (issuer && accounts.every(({ configMap }) => configMap)) return;
  throw new Error(`This plan has only a part of PulumiCloudAccess "${name}". ${ALL}`);
}

function viewOf(component: PlannedResource, state: State, all: Found[]): View {
  const { name } = state;
  const settings = inputsOf(state);
  const entries = entriesOf(settings);
  const outside = all.filter(({ owner }) => owner === undefined);

  // What is recognized is taken. What is left is not part of the component.
  const left = new Set(all.filter(({ owner }) => owner === component));
  const takeAll = (isTaken: (it: Found) => boolean): Found[] => {
    const taken = [...left].filter(isTaken);
    for (const it of taken) left.delete(it);
    return taken;
  };
  const take: Take = (type, suffix) => {
    const [first, ...others] = takeAll((it) => it.type === type && it.name === `${name}.${suffix}`);
    for (const it of others) left.add(it);
    return first;
  };

  const providers = readProviders(all, component);
  const found = take("pulumiservice:index:OidcIssuer", "oidc-issuer");
  const issuer = found && readIssuer(found);
  const policies = issuer?.policies;
  const accounts = entries.map((entry) => {
    const [namespace, ofAccount] = ["namespace", "name"].map((key) => textOf(valueAt(entry, key)));
    const prefix = `${name}.${namespace}.${ofAccount}.`;
    const isAttachment = (it: Found) => it.type === ATTACHMENT && it.name.startsWith(prefix);
    return readAccount(entry, policies, take, takeAll(isAttachment), outside);
  });
  const ofAccounts = accounts.map(({ policy }) => policy);
  // A component can be renamed.
  const withoutPrefix = (it: Found) => resourceOf(it, `${name}.`);
  const isInjected = entries.some((it) => valueAt(it, "injectToken") === true);
  return {
    name,
    settings,
    accounts,
    issuer,
    otherPolicies: Array.isArray(policies) ? policies.filter((it) => !ofAccounts.includes(it)) : [],
    injection: readInjection(
      takeAll((it) => isInjected && isInjection(it) && it.name === `${name}.inject-token`),
      name,
    ),
    supporting: supportingOf(settings, entries)
      .flatMap((it) => take(...it) ?? [])
      .map(withoutPrefix),
    foreign: [...left].map((it) => resourceOf(it)),
    otherIssuers: all.flatMap((it) => readOtherIssuer(it, component)),
    otherObjects: outside.flatMap((it) => {
      return readOtherObject(it, accounts, isInCluster(it, providers.get("kubernetes"), all));
    }),
    otherAssociations: outside.flatMap((it) => readOtherAssociation(it, settings, accounts)),
    providers,
    neighbors: [],
  };
}

/** Returns the types of what grants no access by itself, and the names behind that of the component. */
function supportingOf(settings: Fields, entries: Fields[]): [type: string, suffix: string][] {
  const namespaces = valueAt(settings, "createNamespaces");
  return [
    ["pulumi:index:Stash", "oidc-issuer.url"],
    ["pulumi:index:Stash", "oidc-issuer.place"],
    ["pulumi:providers:pulumiservice", "oidc-issuer"],
    ...(Array.isArray(namespaces) ? namespaces : []).map((it): [string, string] => [
      "kubernetes:core/v1:Namespace",
      textOf(it),
    ]),
    ...entries.map((entry): [string, string] => [
      "eks-pulumi-oidc:index:WorkloadIdentity",
      `${textOf(valueAt(entry, "namespace"))}.${textOf(valueAt(entry, "name"))}`,
    ]),
  ];
}

/** Returns the entries of the list of service accounts that have a name. */
function entriesOf(settings: Fields): Fields[] {
  const list = valueAt(settings, "serviceAccounts");
  const entries = Array.isArray(list) ? list.filter(isFields) : [];
  return entries.filter((entry) => {
    return [valueAt(entry, "namespace"), valueAt(entry, "name")].every((it) => typeof it === "string");
  });
}

function readProviders(all: Found[], component: PlannedResource): Map<string, Provider[]> {
  const urns = new Set(
    all.flatMap(({ owner, resource }) => (owner === component ? (resource.provider ?? []) : [])),
  );
  const providers = new Map<string, Provider[]>();
  for (const urn of urns) {
    // URN of the type pulumi:providers:PACKAGE
    const [, packageName = ""] = /[:$]pulumi:providers:([^:]+)::/.exec(urn) ?? [];
    const inputs = all.find(({ state }) => state.urn === urn)?.inputs;
    providers.set(packageName, [...(providers.get(packageName) ?? []), { urn, inputs }]);
  }
  return providers;
}

/** Returns whether an object can be in the cluster of these providers: by one of them, or by another one with the same cluster. */
function isInCluster({ resource }: Found, providers: Provider[] | undefined, all: Found[]): boolean {
  const { provider } = resource;
  if (provider === undefined || !providers) return true;
  const clusterOf = (inputs?: Fields) =>
    ["kubeconfig", "context", "cluster"].map((name) => valueAt(inputs, name) ?? null);
  const cluster = clusterOf(all.find(({ state }) => state.urn === provider)?.inputs);
  return providers.some(({ urn, inputs }) => urn === provider || isEqual(clusterOf(inputs), cluster));
}
