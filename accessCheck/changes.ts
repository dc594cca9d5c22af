// What the update of a plan changes in a component, for a reviewer: the difference of its settings, service account by service
// account, and of its resources what the settings do not explain. A change is not a finding.

import { type Deviation, deviationsOf, valueText } from "./compare";
import {
  type Account,
  ALLOW_POLICY,
  type Found,
  OIDC_ISSUER,
  type PlannedComponent,
  type View,
} from "./components";
import { ROLE_ANNOTATION, request, tokenOf } from "./grants";
import { withoutTokens } from "./terminal";
import {
  differencesBetween,
  type Fields,
  isEmpty,
  isEqual,
  SECRET,
  textOf,
  type Value,
  valueAt,
  without,
  wordsOf,
} from "./values";

/** What the update changes about a service account, the component, or a resource that no setting requires. */
export interface Change {
  /** Such as `NAMESPACE/NAME`. */
  subject: string;
  kind: "new" | "changed" | "removed" | "kept";
  /** Such as `token: team:a → team:b`. */
  details: string[];
}

/** The subject of what is about all service accounts. */
const ALL = "the component";

/** Returns what an update changes: of the component first, then of the service accounts in the order of the program. */
export function changesIn(component: PlannedComponent): Change[] {
  const { before, after, isDeployed, isDeleted, kept } = component;
  const old = isDeployed ? subjectsOf(before) : new Map<string, Fields>();
  const now = isDeleted ? new Map<string, Fields>() : subjectsOf(after);
  const defaults = defaultsIn(isDeleted ? before : after);
  const changes = new Map<string, Change>();
  for (const subject of new Set([...now.keys(), ...old.keys()])) {
    const [one, other] = [old.get(subject), now.get(subject)];
    const details = one && other ? settingLines(one, other) : listedLines(one ?? other, defaults);
    changes.set(subject, { subject, kind: kindOf(one, other), details: [...details] });
  }
  for (const line of isDeleted ? [] : resourceLines(component)) {
    const change = changes.get(line.subject) ?? { subject: line.subject, kind: line.kind, details: [] };
    changes.set(line.subject, { ...change, details: [...change.details, line.detail] });
  }
  return [
    ...[...changes.values()].filter(({ kind, details }) => kind !== "changed" || details.length > 0),
    ...kept.map(({ title, reason }) => ({ subject: title, kind: "kept" as const, details: [reason] })),
  ];
}

/** Returns the settings of the component and of each of its service accounts. */
function subjectsOf({ settings, accounts }: View): Map<string, Fields> {
  const ofAccounts = accounts.map((account) => [account.id, factsOf(settings, account)] as const);
  return new Map([[ALL, without(settings, "serviceAccounts")], ...ofAccounts]);
}

/** The settings that say whose token it is, and the names. */
const OF_TOKEN = wordsOf("tokenType userLogin teamName runnerName organizationAdmin namespace name");

function factsOf(component: Fields, account: Account): Fields {
  const { settings } = account;
  return { token: tokenOf(request(component, account)), ...without(settings, ...OF_TOKEN) };
}

/** Returns what an entry has by default: it is not listed of a new service account. */
function defaultsIn({ settings }: View): Fields {
  return {
    audienceRule: false,
    awsRole: "none",
    createServiceAccount: true,
    injectToken: false,
    runJob: true,
    tokenAudience: `urn:pulumi:org:${textOf(valueAt(settings, "organization"))}`,
  };
}

/** The settings whose elements have no order. */
const SETS = ["rolePolicyArns", "createNamespaces"];

function* settingLines(old: Fields, now: Fields): Generator<string> {
  for (const name of new Set([...Object.keys(now), ...Object.keys(old)])) {
    const [one, other] = [valueAt(old, name), valueAt(now, name)];
    if (SETS.includes(name) && Array.isArray(one) && Array.isArray(other)) {
      const removed = one.filter((it) => !other.includes(it));
      const added = other.filter((it) => !one.includes(it));
      yield* removed.map((it) => `${name}: ${text(it)} → none`);
      yield* added.map((it) => `${name}: none → ${text(it)}`);
      continue;
    }
    for (const { path, one: from, other: to } of differencesBetween(one, other)) {
      // In a setting, an empty list can replace what is there by default.
      const isDefault = path.length === 0 && isEmpty(from) && isEmpty(to);
      if (isDefault || isSame(from, to)) continue;
      yield `${[name, ...path].join(".")}: ${text(from)} → ${text(to)}`;
    }
  }
  const [from, to] = [valueAt(old, "awsRole"), valueAt(now, "awsRole")];
  if (from === "irsa" && to === "pod-identity" && valueAt(now, "createServiceAccount") === false) {
    // SDKs prefer it: https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html
    yield `Remove the annotation ${ROLE_ANNOTATION} from its service account, or new pods are denied.`;
  }
}

/** Returns the settings of what is new or removed, without what it has by default. */
function* listedLines(facts: Fields = {}, defaults: Fields): Generator<string> {
  for (const [name, value] of Object.entries(facts)) {
    const words = Array.isArray(value) ? value.map(text).join(" ") : text(value);
    if (!isEmpty(value) && !isEqual(value, defaults[name])) yield `${name}: ${words}`;
  }
}

function text(value: Value | undefined): string {
  return withoutTokens(textOf(value));
}

function isSame(one: Value | undefined, other: Value | undefined): boolean {
  return (one === SECRET && other === SECRET) || isEqual(one, other);
}

interface ResourceLine extends Pick<Change, "subject" | "kind"> {
  detail: string;
}

/** Returns the places that differ from what the settings mean, before or after the update, and that it changes. */
function* resourceLines({ before, after, isDeployed }: PlannedComponent): Generator<ResourceLine> {
  for (const [name, providers] of after.providers) {
    const from = (before.providers.get(name) ?? providers).join(", ");
    const to = providers.join(", ");
    if (from !== to) yield { subject: ALL, kind: "changed", detail: `provider of ${name}: ${from} → ${to}` };
  }
  yield* takenOver(before, after);
  yield* replacedAsItWas(before, after);
  for (const deviation of deviationsIn(isDeployed ? before : undefined, after)) {
    const { key, path, account: subject = ALL, what, place, other: expected } = deviation;
    const [old, now] = [before.resources.get(key), after.resources.get(key)];
    const name = lowerFirst(place ? `${what} ${place}` : what);
    if (path.length === 0 && expected === undefined) {
      yield* foreignLines(what, old, now);
    } else if (path.length === 0 && (old || now)) {
      yield { subject, kind: "changed", detail: `${name}: ${presenceOf(old)} → ${presenceOf(now)}` };
    } else if (now) {
      // What is new has nothing to be compared with but its settings.
      const isMissingInNew = deviation.kind === "listed" && !old;
      const from = isMissingInNew ? expected : valueIn(old, path);
      const values = changeText(from, valueIn(now, path), path);
      if (values) yield { subject, kind: "changed", detail: `${name}: ${values}` };
    }
  }
}

function presenceOf(found: Found | undefined): string {
  return found ? "as its settings say" : "none";
}

/** Returns what exists already, elsewhere, and becomes a part of the component: by an import or an alias. */
function* takenOver(before: View, after: View): Generator<ResourceLine> {
  const own = new Set([...before.resources.values()].map(({ resource }) => resource));
  for (const { type, title, resource } of after.resources.values()) {
    const { deployed, op } = resource;
    if (!deployed || own.has(resource) || type === ALLOW_POLICY || op === "read") continue;
    yield {
      subject: title,
      kind: "changed",
      detail: `takes over what exists already: ${deployed.id ?? deployed.urn}`,
    };
  }
}

/** Returns what is replaced although its values stay, such as by `--replace`. The preview of a new issuer has no thumbprints. */
function* replacedAsItWas(before: View, after: View): Generator<ResourceLine> {
  for (const [key, { type, title, inputs, resource }] of after.resources) {
    if (!resource.isReplaced || type === ALLOW_POLICY) continue;
    const old = before.resources.get(key)?.inputs;
    if (type !== OIDC_ISSUER && !isEqual(old, inputs)) continue;
    yield { subject: title, kind: "changed", detail: "is replaced" };
  }
}

/** Returns the deviations of the component, each place once: those of a removed service account are listed by its settings. */
function deviationsIn(before: View | undefined, after: View): Iterable<Deviation> {
  const deviations = new Map<string, Deviation>();
  for (const it of [...(before ? deviationsOf(before) : []), ...deviationsOf(after)]) {
    const isLeft = it.account === undefined || after.accounts.some(({ id }) => id === it.account);
    const isInProgram = after.resources.has(it.key);
    if (it.kind !== "open" && (isLeft || isInProgram)) deviations.set([it.key, ...it.path].join("\n"), it);
  }
  return deviations.values();
}

/** Returns what changes in a resource that no setting requires. */
function* foreignLines(
  subject: string,
  old: Found | undefined,
  now: Found | undefined,
): Generator<ResourceLine> {
  const kind = kindOf(old, now);
  for (const { path, one, other } of differencesBetween(old?.inputs ?? {}, now?.inputs ?? {})) {
    const values = changeText(one, other, path);
    if (values) yield { subject, kind, detail: `${path.join(".")}: ${values}` };
  }
}

function kindOf(old: unknown, now: unknown): Change["kind"] {
  if (old === undefined) return "new";
  return now === undefined ? "removed" : "changed";
}

/** Returns both values; nothing if they say the same. */
function changeText(one: Value | undefined, other: Value | undefined, path: string[]): string {
  return isSame(one, other) ? "" : `${valueText(one, path)} → ${valueText(other, path)}`;
}

function valueIn(found: Found | undefined, path: string[]): Value | undefined {
  return path.reduce<Value | undefined>(elementAt, found?.inputs);
}

/** Returns an element of an object, or of a list by its index or its name. */
function elementAt(value: Value | undefined, key: string): Value | undefined {
  if (!Array.isArray(value)) return valueAt(value, key);
  return value.find((it) => valueAt(it, "name") === key) ?? value[Number(key)];
}

function lowerFirst(sentence: string): string {
  return sentence.charAt(0).toLowerCase() + sentence.slice(1);
}
