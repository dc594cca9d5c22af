// What an update does outside the components: a list without a judgment, since a program can do anything.

import { inputsOf, outsideOf } from "./components";
import { isChanged, type Plan, type PlannedResource, type State } from "./plan";
import { plural, textRow, wrap } from "./terminal";
import { documentOf, isEmpty, isFields, jsonOf, readValue, textOf, valueAt, wordsOf } from "./values";

/** A type of which more resources have the same operation than this is one line with their number. */
const MANY = 20;

/** The packages whose resources are listed first. */
const FIRST = /^(pulumi:providers:)?(aws|kubernetes|pulumiservice)(:|$)/;

/** What decides who can do what: IAM and EKS, Pulumi Cloud, RBAC and admission policies, and what can create all of it. */
const IDENTITY_TYPES = [
  /^pulumiservice:/,
  /^pulumi:providers:(aws|aws-native|eks|kubernetes|pulumiservice)$/,
  /^aws(-native)?:(iam|eks|rolesanywhere|ssoadmin|identitystore|cloudcontrol|cloudformation)\b/,
  /^(eks|command|pulumi-(nodejs|python)):/,
  /^kubernetes:(rbac\.authorization|admissionregistration|certificates)\.k8s\.io\//,
  /^kubernetes:(helm\.sh|kustomize|yaml)\b/,
  /^kubernetes:[^:]*:(ConfigMap|Secret|ServiceAccount)(List|Patch)?$/,
];

/** A resource, and what the update does to it. */
interface Row {
  what: string;
  type: string;
  /** Its type and name, and what it is in its service, as far as that is known. */
  resource: string;
  isOfIdentities: boolean;
}

/** Returns lines: the settings of default providers, which are in no step, and what the update does to each resource. */
export function elsewhereLines(plan: Plan): string[] {
  const settings = Object.entries(plan.config).filter(([key]) =>
    /^(aws|kubernetes|pulumiservice):/.test(key),
  );
  const rows = outsideOf(plan).filter(isChanged).map(rowOf);
  const isFirst = ({ type }: Row) => FIRST.test(type);
  const sorted = [...rows.filter(isFirst), ...rows.filter((it) => !isFirst(it))];
  const lines = linesOf(sorted);
  const ofIdentities = rows.filter(({ isOfIdentities }) => isOfIdentities).length;
  const summary = `${plural(rows.length, "resource")}, of which ${ofIdentities} concern${ofIdentities === 1 ? "s" : ""} identities: IAM, EKS, Pulumi Cloud, ConfigMaps, Secrets, service accounts, RBAC, admission policies, and what can create them.`;
  return [
    ...settings.sort().flatMap(([key, value]) => wrap(`${key}: ${withoutCredentials(key, value)}`, 2)),
    ...lines,
    "",
    ...wrap(rows.length === 0 ? "Nothing changes elsewhere." : summary, 2, 2),
  ];
}

/** Returns a line for each resource that the update changes. */
export function stepLines(resources: PlannedResource[]): string[] {
  return resources.map(rowOf).flatMap(({ what, resource }) => lineOf(what, resource));
}

/** Returns a line for each resource or, where many are of one type, for all of these. */
function linesOf(rows: Row[]): string[] {
  const isGrouped = ({ type, isOfIdentities }: Row) => !isOfIdentities && !type.endsWith("Patch");
  const groups = new Map<string, Row[]>();
  for (const row of rows) {
    // A row that is not grouped has a separate group.
    const key = isGrouped(row) ? `${row.what} ${row.type}` : `${groups.size}`;
    groups.set(key, [...(groups.get(key) ?? []), row]);
  }
  return [...groups.values()].flatMap((group) => {
    const [{ what, type } = { what: "", type: "" }] = group;
    if (group.length > MANY) return lineOf(what, `${group.length} × ${type}`);
    return group.flatMap(({ resource }) => lineOf(what, resource));
  });
}

function lineOf(what: string, resource: string): string[] {
  return textRow([what], ["replaces".length], resource);
}

const WHAT: Record<string, string> = {
  create: "creates",
  update: "changes",
  import: "imports",
  read: "reads",
  delete: "deletes",
};

function rowOf(resource: PlannedResource): Row {
  const { type, name, isReplaced, deployed, planned } = resource;
  const types = [...new Set([deployed?.type ?? type, type])];
  const isKept = Object.keys(deployed?.kept ?? {}).length > 0 && (!planned || isReplaced);
  const state = planned ?? deployed;
  const known = [
    ...types.filter((it) => it !== type).map((it) => `was ${it}`),
    ...(state ? identitiesOf(state) : []),
    ...(isKept ? ["not deleted in its service"] : []),
  ];
  return {
    what: whatOf(resource, isKept),
    type,
    resource: `${type} ${name}${known.length > 0 ? ` (${known.join(", ")})` : ""}`,
    isOfIdentities: types.some((it) => IDENTITY_TYPES.some((of) => of.test(it))),
  };
}

/** Returns what the update does, as a verb. */
function whatOf({ op, isReplaced, planned }: PlannedResource, isKept: boolean): string {
  if (planned && isReplaced) return "replaces";
  if (!planned && isKept) return "leaves";
  return WHAT[op.replace(/-.*/, "")] ?? op;
}

/** The inputs by which AWS and Pulumi Cloud know something. */
const NAMES = wordsOf(`
  namespace serviceAccount name role roleName roles user users policyArn roleArn clusterName principalArn typeName
  url organization organizationName team teamName`);

/** Returns what a resource is in its service: its ID, which an import has too, and what its inputs name. */
function identitiesOf(state: State): string[] {
  const inputs = inputsOf(state);
  const object = ["namespace", "name"].flatMap((key) => valueAt(inputs, "metadata", key) ?? []);
  const named = NAMES.flatMap((key) => {
    const value = valueAt(inputs, key);
    return isEmpty(value) || isFields(value) ? [] : [`${key}: ${textOf(value)}`];
  });
  return [
    ...(object.length > 0 ? [object.map(textOf).join("/")] : []),
    ...(state.id ? [`ID: ${state.id}`] : []),
    ...named,
  ];
}

const CREDENTIALS = /accessKey|secretKey|token|password|kubeconfig/i;
const HIDDEN = "not shown";

/** Returns a setting of a provider. Of an object, each credential is left out. */
function withoutCredentials(key: string, value: string): string {
  const document = documentOf(value);
  const isUnread = document === value && /^\s*[[{]/.test(value);
  if (CREDENTIALS.test(key) || isUnread) return HIDDEN;
  if (document === value) return value;
  const hide = (name: string, it: unknown) => (CREDENTIALS.test(name) ? HIDDEN : it);
  return jsonOf(readValue(JSON.parse(JSON.stringify(document, hide))));
}
