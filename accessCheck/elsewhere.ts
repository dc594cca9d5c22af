// What an update does outside the components: a list without a judgment, since a program can do anything.

import { inputsOf, outsideOf } from "./components";
import type { Plan, PlannedResource, State } from "./plan";
import { tableRow, wrap } from "./terminal";
import { documentOf, type Fields, isFields, textOf, type Value, valueAt } from "./values";

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
  name: string;
  /** What it is in its service, as far as that is known. */
  identity: string;
  isOfIdentities: boolean;
}

/** Returns lines: the `aws:` settings, since a default provider is in no step, and what the update does to each resource. */
export function elsewhereLines(plan: Plan): string[] {
  const settings = Object.entries(plan.config).filter(([key]) => key.startsWith("aws:"));
  const rows = outsideOf(plan).flatMap((it) => rowOf(it));
  const isFirst = ({ type }: Row) => FIRST.test(type);
  const sorted = [...rows.filter(isFirst), ...rows.filter((it) => !isFirst(it))];
  const lines = linesOf(sorted);
  const ofIdentities = rows.filter(({ isOfIdentities }) => isOfIdentities).length;
  const number = rows.length === 1 ? "1 resource" : `${rows.length} resources`;
  return [
    ...settings.sort().flatMap(([key, value]) => wrap(`${key}: ${withoutCredentials(key, value)}`, 2)),
    ...lines,
    "",
    ...wrap(
      rows.length === 0
        ? "Nothing changes elsewhere."
        : `${number}, of which ${ofIdentities} concern${ofIdentities === 1 ? "s" : ""} identities: IAM, EKS, Pulumi Cloud, ConfigMaps, Secrets, service accounts, RBAC, admission policies, and what can create them.`,
      2,
      2,
    ),
  ];
}

/** Returns a line for each resource or, where many are of one type, for all of these. */
function linesOf(rows: Row[]): string[] {
  const groupOf = ({ what, type }: Row) => `${what}\n${type}`;
  const isGrouped = ({ type, isOfIdentities }: Row) => !isOfIdentities && !type.endsWith("Patch");
  const groups = new Map<string, Row[]>();
  for (const row of rows.filter(isGrouped))
    groups.set(groupOf(row), [...(groups.get(groupOf(row)) ?? []), row]);
  const sizeOf = (row: Row) => (isGrouped(row) ? (groups.get(groupOf(row))?.length ?? 1) : 1);
  return rows.flatMap((row) => {
    const { what, type, name, identity } = row;
    const size = sizeOf(row);
    if (size > MANY) return groups.get(groupOf(row))?.[0] === row ? lineOf(what, `${size} × ${type}`) : [];
    return lineOf(what, `${type} ${name}${identity && ` (${identity})`}`);
  });
}

function lineOf(what: string, resource: string): string[] {
  const [first = "", ...others] = wrap(resource, 0, WIDTH + 4);
  return [...tableRow([what, first], [WIDTH]), ...others];
}

const WHAT: Record<string, string> = {
  create: "creates",
  update: "changes",
  import: "imports",
  read: "reads",
  delete: "deletes",
};

const WIDTH = "leaves".length + 2;

function rowOf({ op, type, name, isReplaced, deployed, planned }: PlannedResource): Row[] {
  // What was read before is only read again.
  const isUnchanged = ["same", "refresh"].includes(op) || (op.startsWith("read") && deployed !== undefined);
  const state = planned ?? deployed;
  if (!state || (isUnchanged && !isReplaced)) return [];
  const kept = Object.keys(deployed?.kept ?? {}).length > 0 && (!planned || isReplaced);
  const what = isReplaced && planned ? "replaces" : (WHAT[op.replace(/-.*/, "")] ?? op);
  return [
    {
      what: kept && !planned ? "leaves" : what,
      type: state.type,
      name,
      identity: [
        ...(state.type === type ? [] : [`becomes ${type}`]),
        ...(deployed && deployed.type !== state.type ? [`was ${deployed.type}`] : []),
        ...identitiesOf(state),
        ...(kept ? ["not deleted in its service"] : []),
      ].join(", "),
      isOfIdentities: [state.type, deployed?.type ?? ""].some((it) =>
        IDENTITY_TYPES.some((of) => of.test(it)),
      ),
    },
  ];
}

/** The inputs by which AWS and Pulumi Cloud know something. */
const NAMES = [
  ...[
    "namespace",
    "serviceAccount",
    "name",
    "role",
    "roleName",
    "roles",
    "user",
    "users",
    "policyArn",
    "roleArn",
  ],
  ...[
    "clusterName",
    "principalArn",
    "typeName",
    "url",
    "organization",
    "organizationName",
    "team",
    "teamName",
  ],
];

/** Returns what a resource is in its service: its ID, which an import has too, and what its inputs name. */
function identitiesOf(state: State): string[] {
  const inputs = inputsOf(state);
  const { id } = state;
  const metadata = valueAt(inputs, "metadata");
  const names = isFields(metadata) ? [objectName(metadata)] : [];
  const named = NAMES.flatMap((key) => {
    const value = valueAt(inputs, key);
    return value === undefined || value === null || isFields(value) ? [] : [`${key}: ${textOf(value)}`];
  });
  const all = [...names, ...(id ? [`ID: ${id}`] : []), ...named];
  return [...new Set(all)];
}

function objectName(metadata: Fields): string {
  const [namespace, name] = [valueAt(metadata, "namespace"), valueAt(metadata, "name")];
  if (name === undefined)
    return `a name of Pulumi's own${namespace === undefined ? "" : ` in ${textOf(namespace)}`}`;
  return namespace === undefined ? textOf(name) : `${textOf(namespace)}/${textOf(name)}`;
}

const CREDENTIALS = /accessKey|secretKey|token|password/i;

/** Returns a setting of the AWS provider. Of an object, each credential is left out. */
function withoutCredentials(key: string, value: string): string {
  return CREDENTIALS.test(key) ? "not shown" : textOf(hidden(documentOf(value) ?? null));
}

function hidden(value: Value): Value {
  if (Array.isArray(value)) return value.map(hidden);
  if (!isFields(value)) return value;
  const entries = Object.entries(value);
  return Object.fromEntries(
    entries.map(([key, it]) => [key, CREDENTIALS.test(key) ? "not shown" : hidden(it)]),
  );
}
