// The list of what an update does: a row for each resource that it does something to, in the components and elsewhere, without a
// judgment, since a program can do anything.

import { VOLUME_NAME } from "../kubernetes/tokenVolume";
import { type Comparison, type Deviation, isEmptyCompared, valueText } from "./compare";
import { accountIn, COMPONENT, inputsOf, OIDC_ISSUER, type PlannedComponent, pluginOf } from "./components";
import { driftIn } from "./drift";
import { type Plan, type PlannedResource, type State, typeAndName } from "./plan";
import {
  differencesBetween,
  documentOf,
  type Fields,
  isEmpty,
  isFields,
  jsonOf,
  readFields,
  readValue,
  SECRET,
  textOf,
  type Value,
  valueAt,
  without,
  wordsOf,
} from "./values";

/** What an update does to one resource, or in the same way to several of a type. */
export interface Row {
  /** A verb, such as `creates`. */
  what: string;
  type: string;
  /** The names of the resources in the program, each with what it is called in its service. */
  names: string[];
  /** Such as `data.tokenScope: "team:a" → "team:b"`. */
  details: string[];
  /** Whether others may add it, so that it does not count as a difference from the program. */
  isOfOthers?: boolean;
}

/** A component, compared with its settings, unless the update deletes it. */
export interface Compared {
  component: PlannedComponent;
  comparison?: Comparison | undefined;
}

/** The order of the rows: what is easily overlooked comes first. */
const ORDER = [
  "has beside the program",
  "still has",
  "uses",
  "leaves",
  "forgets",
  "imports",
  "moves",
  "replaces",
  "changes",
  "deletes",
  "reads",
  "creates",
];

/** Returns what an update does, and what exists beside the program, as rows. Those that are the same but for their names are one. */
export function updateRows(plan: Plan, compared: Compared[]): Row[] {
  const { resources, undeleted } = plan;
  // A provider that an alias renames is still the same.
  const oldUrns = new Map(resources.map(({ oldState, newState }) => [newState?.urn, oldState?.urn]));
  const plain = new Map(compared.map((it) => [it.component, plainCreations(it)]));
  const counted = new Set([...plain.values()].flat());
  const context = { oldUrns, ...requiredIn(compared) };
  const rows = [
    ...driftIn(plan).map(({ resource, text, isOfOthers }) => {
      return { ...rowOf("has beside the program", resource, [text]), isOfOthers };
    }),
    ...undeleted.map((state) => ({ ...rowOf("still has", state), names: [nameOf(state)] })),
    ...usedProviders(plan, compared, oldUrns),
    ...resources.filter((it) => !counted.has(it)).flatMap((it) => changeOf(it, context)),
  ];
  const counts = [...plain].flatMap(([{ name }, { length }]) => {
    const number = `${length} resource${length === 1 ? "" : "s"}`;
    return length > 0
      ? [{ what: "creates", type: `${number} of ${name}, as its settings say`, names: [], details: [] }]
      : [];
  });
  const rank = ({ what }: Row) => (ORDER.includes(what) ? ORDER.indexOf(what) : -1);
  return [...grouped(rows), ...counts].sort((one, other) => rank(one) - rank(other));
}

/** What the rows of all resources need. */
interface Context {
  /** Where new resources of components are not as their settings say. */
  deviations: Deviation[];
  /** The service account of a resource that has its name, in the program and in its service: it says as much. */
  accounts: Map<PlannedResource, string>;
  oldUrns: OldUrns;
}

function requiredIn(compared: Compared[]): Omit<Context, "oldUrns"> {
  const comparisons = compared.flatMap(({ comparison }) => comparison ?? []);
  const deviations = comparisons.flatMap((it) => it.deviations);
  const found = new Set(
    deviations.filter(({ kind }) => kind === "finding").map(({ member }) => member?.resource),
  );
  const required = comparisons.flatMap((it) => [...it.required]);
  const named = required.filter(([resource, { namespace, name }]) => {
    const ofProgram = `.${namespace}.${name}`;
    const isNamed = [ofProgram, `${ofProgram}.${VOLUME_NAME}`].some((end) => resource.name.endsWith(end));
    return isNamed && !found.has(resource);
  });
  return { deviations, accounts: new Map(named.map(([resource, { id }]) => [resource, id])) };
}

/** Returns the rows, with those that are the same but for their names as one. */
function grouped(rows: Row[]): Row[] {
  const groups = new Map<string, Row>();
  for (const row of rows) {
    const key = JSON.stringify({ ...row, names: [] });
    const { names = [] } = groups.get(key) ?? {};
    groups.set(key, { ...row, names: [...names, ...row.names] });
  }
  return [...groups.values()];
}

/** Returns what a component creates exactly as its settings say, with every value that grants something. */
function plainCreations({ component, comparison }: Compared): PlannedResource[] {
  if (!comparison) return [];
  // A finding about all of it, such as another provider, is about each resource.
  const isOfAll = comparison.findings.some(({ account }) => account === undefined);
  const different = comparison.deviations
    .filter(({ kind, isGrant }) => isGrant || kind === "finding" || kind === "listed")
    .map(({ member }) => member?.resource);
  return [component.resource, ...component.resources].filter((it) => {
    return (
      it.operation === "creates" &&
      !isOfAll &&
      !different.includes(it) &&
      it.newState?.options.protect === undefined
    );
  });
}

/** Returns what the update does to a resource; nothing if it stays, or is only read again. */
function changeOf(resource: PlannedResource, { deviations, accounts, oldUrns }: Context): Row[] {
  const { type, operation, oldState, newState } = resource;
  const what = verbOf(resource);
  // The settings of a component are compared before the list.
  const isCompared = type === COMPONENT && oldState?.type === COMPONENT && newState?.type === COMPONENT;
  const details = [
    ...(oldState && newState && !isCompared ? differences(resource, oldState, newState, oldUrns) : []),
    ...optionDetails(resource),
    ...(newState && !oldState ? deviationDetails(resource, newState, deviations) : []),
  ];
  const isCovered = isCompared && operation === "changes";
  if (details.length === 0 && (what === undefined || isCovered)) return [];
  const row = rowOf(what ?? "changes", resource, details);
  const account = ["changes", "replaces", "creates"].includes(row.what) ? accounts.get(resource) : undefined;
  return [account === undefined ? row : { ...row, names: [account] }];
}

/** Returns where a new resource is not as its settings say. Its options are listed by themselves. */
function deviationDetails(resource: PlannedResource, { options }: State, deviations: Deviation[]): string[] {
  const ofInputs = deviations.filter(({ member, path: [input = ""] }) => {
    return member?.resource === resource && !Object.hasOwn(options, input);
  });
  return ofInputs.map(deviationText);
}

/** Returns what the update does, as a verb; undefined if it does nothing, as far as the steps say. */
function verbOf({ operation, oldState, newState }: PlannedResource): string | undefined {
  if (operation === "reads" && oldState) return oldState.isExternal ? undefined : "leaves";
  if (operation === "deletes" && oldState && isKept(oldState)) return "leaves";
  const isMoved =
    oldState && newState && (oldState.urn !== newState.urn || oldState.parent !== newState.parent);
  if (isMoved && (operation === undefined || operation === "changes")) return "moves";
  return operation;
}

function isKept({ options: { retainOnDelete, deletedWith } }: State): boolean {
  return retainOnDelete !== undefined || deletedWith !== undefined;
}

/** Returns every input that differs. What a refresh has added to a resource that stays the same, the update does not change. */
function differences(
  { operation }: PlannedResource,
  oldState: State,
  newState: State,
  oldUrns: OldUrns,
): string[] {
  const isOfProvider = newState.type.startsWith("pulumi:providers:");
  if (operation === "reads" || (operation === undefined && !isOfProvider)) return [];
  // The engine calls a provider unchanged of which only the plugin differs.
  const [old, now] = [oldState, newState].map(operation === undefined ? pluginInputs : listedInputs);
  const ofInputs = [...differencesBetween(old, now)].flatMap(({ path, one, other }) => {
    // A provider leaves out what is empty, or reads it back.
    if (path.length > 1 && isEmpty(one) && isEmpty(other) && !isEmptyCompared(path)) return [];
    // The engine knows whether a secret differs.
    if (one === SECRET && other === SECRET) return [];
    if (path.at(-1) === CHECKSUM) return [`${path.join(".")}: that of another ConfigMap`];
    const text = (value: Value | undefined) => {
      return isOfProvider && isHidden(path) ? HIDDEN : valueText(value, path);
    };
    return [`${path.join(".")}: ${text(one)} → ${text(other)}`];
  });
  const [from, to] = [oldState.provider, newState.provider];
  if (from === to || from === oldUrns.get(to)) return ofInputs;
  return [...ofInputs, `provider: ${nameAt(from)} → ${nameAt(to)}`];
}

/** The annotation by which a changed ConfigMap runs the Job again. What it should be is compared with the settings. */
const CHECKSUM = "pulumi.com/token-exchange-checksum";

/** Returns the inputs of a resource, with each allow policy by the service account that its rules name. */
function listedInputs(state: State): Fields {
  const { type } = state;
  if (type.startsWith("pulumi:providers:")) {
    const entries = Object.entries(without(readFields(state.inputs), "__defaults"));
    return Object.fromEntries(entries.map(([key, value]) => [key, documentOf(value) ?? null]));
  }
  const inputs = inputsOf(state);
  const policies = valueAt(inputs, "policies");
  if (type !== OIDC_ISSUER || !Array.isArray(policies)) return inputs;
  const accounts = policies.map(accountIn);
  const keyOf = (account: string | undefined, index: number) => {
    return account !== undefined && accounts.indexOf(account) === index ? account : String(index);
  };
  const byAccount = policies.map((policy, index) => [keyOf(accounts[index], index), policy] as const);
  return { ...inputs, policies: Object.fromEntries(byAccount) };
}

function pluginInputs({ inputs }: State): Fields {
  return Object.fromEntries(pluginOf(readFields(inputs)));
}

/** Returns the options by which something stays in its service, where they begin or end, or decide what the update does. */
function optionDetails({ operation, oldState, newState }: PlannedResource): string[] {
  const old = oldState?.options ?? {};
  if (!newState) return Object.entries(old).map(([name, value]) => `${name}: ${value}`);
  const kept = operation === "replaces" && oldState && isKept(oldState) ? ["the old one stays"] : [];
  const now = newState.options;
  const names = [...new Set([...Object.keys(old), ...Object.keys(now)])].filter(
    (name) => old[name] !== now[name],
  );
  return [...kept, ...names.map((name) => `${name}: ${old[name] ?? "none"} → ${now[name] ?? "none"}`)];
}

/** Returns how a new resource of a component differs from what its settings say, or that it is not known. */
function deviationText({ path, one, other, kind, policy }: Deviation): string {
  const subject = [...(policy ? ["policies", policy.account] : []), ...path].join(".");
  if (kind === "unknown" || kind === "output") return `${subject}: ${jsonOf(one)}`;
  return path.length === 0
    ? "no setting requires it"
    : `${subject}: ${valueText(other, path)} → ${valueText(one, path)}`;
}

function rowOf(what: string, resource: PlannedResource | State, details: string[] = []): Row {
  return {
    what,
    type: resource.type,
    names: ["oldState" in resource ? nameIn(resource) : nameOf(resource)],
    details,
  };
}

function nameIn({ name, type, operation, oldState, newState }: PlannedResource): string {
  const state = newState ?? oldState;
  if (!state) return name;
  if (operation === "imports") return nameOf({ ...state, id: state.importId });
  const isMoved = oldState && newState && oldState.urn !== newState.urn;
  const from = oldState?.type === type ? oldState.name : `${oldState?.type} ${oldState?.name}`;
  const isOfOtherParent = oldState && newState && !isMoved && oldState.parent !== newState.parent;
  return nameOf(state, [
    ...(isMoved ? [from === name ? `from ${oldState.urn}` : `from ${from}`] : []),
    ...(isOfOtherParent ? [`parent: ${nameAt(oldState.parent)} → ${nameAt(newState.parent)}`] : []),
  ]);
}

function nameAt(urn: string | undefined): string {
  return urn === undefined ? "none" : typeAndName(urn).name;
}

/** The inputs by which AWS and Pulumi Cloud know something. */
const NAMES = wordsOf(`
  namespace serviceAccount name role roleName roles user users policyArn roleArn clusterName principalArn typeName
  url organization organizationName orgName team teamName`);

/** Returns the name of a resource, with what it is in its service: its ID, which an import has too, and what its inputs name. */
function nameOf(state: State, further: string[] = []): string {
  const inputs = inputsOf(state);
  const parts = ["namespace", "name"].flatMap((key) => valueAt(inputs, "metadata", key) ?? []);
  const object = parts.map(textOf).join("/");
  const { id } = state;
  const named = NAMES.flatMap((key) => {
    const value = valueAt(inputs, key);
    return isEmpty(value) || isFields(value) || value === id ? [] : [`${key}: ${textOf(value)}`];
  });
  const known = [
    ...(object ? [object] : []),
    ...(id !== undefined && id !== object ? [`ID: ${id}`] : []),
    ...named,
    ...further,
  ];
  return known.length > 0 ? `${state.name} (${known.join(", ")})` : state.name;
}

/** The URN of the old state of each resource, by that of the new state. */
type OldUrns = Map<string | undefined, string | undefined>;

/** Returns a row for each provider that a component, or the rest of the program, begins to use. */
function usedProviders({ resources }: Plan, compared: Compared[], oldUrns: OldUrns): Row[] {
  const inComponents = new Set(compared.flatMap(({ component }) => component.resources));
  const groups = compared.map(({ component }) => ({ user: component.name, used: component.resources }));
  const rest = { user: "the rest of the program", used: resources.filter((it) => !inComponents.has(it)) };
  return [...groups, rest].flatMap(({ user, used }) => {
    const before = new Set(used.map(({ oldState }) => oldState?.provider));
    const after = new Set(used.flatMap(({ newState }) => newState?.provider ?? []));
    const isNew = (urn: string) => !before.has(urn) && !before.has(oldUrns.get(urn) ?? urn);
    return [...after].filter(isNew).map((urn) => providerRow(urn, user, resources));
  });
}

function providerRow(urn: string, user: string, resources: PlannedResource[]): Row {
  const { type, name } = typeAndName(urn);
  const inputs = readFields(resources.find((it) => it.urn === urn)?.newState?.inputs);
  const version = valueAt(inputs, "version");
  const ofVersion = version === undefined ? [] : [["version", version] as const];
  const details = [...ofVersion, ...pluginOf(inputs)].map(([key, value]) => `${key}: ${textOf(value)}`);
  return { what: "uses", type, names: [`${name} (in ${user})`], details };
}

/** Returns the settings of a plan by name and value: a misspelled one has no other trace. Those of service accounts are compared before. */
export function configLines({ config }: Plan): string[] {
  const settings = Object.entries(config).sort(([one], [other]) => one.localeCompare(other));
  return settings.map(([key, value]) => {
    return `${key}: ${key.endsWith(":serviceAccounts") ? "see above" : withoutCredentials(key, value)}`;
  });
}

const CREDENTIALS = /accessKey|secretKey|token|password|kubeconfig|client-key/i;
const HIDDEN = "not shown";

function isCredential(key: string): boolean {
  return CREDENTIALS.test(key);
}

/** Returns whether an input of a provider can be a credential. A kubeconfig is read, if it is JSON. */
function isHidden(path: string[]): boolean {
  return (path.length > 1 ? path.slice(1) : path).some(isCredential);
}

/** Returns a setting. Of an object, each credential is left out. */
function withoutCredentials(key: string, value: string): string {
  const document = documentOf(value);
  const isUnread = document === value && /^\s*[[{]/.test(value);
  if (isCredential(key) || isUnread) return HIDDEN;
  if (document === value) return value;
  const hide = (name: string, it: unknown) => (isCredential(name) ? HIDDEN : it);
  return jsonOf(readValue(JSON.parse(JSON.stringify(document, hide))));
}
