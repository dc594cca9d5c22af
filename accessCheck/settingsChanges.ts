// The difference of a component's settings, service account by service account, for a reviewer.

import type { Account, PlannedComponent, View } from "./components";
import { tokenOf } from "./grants";
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

/** What the update changes in the settings of a service account, or in those of the component. */
export interface SettingsChange {
  /** `NAMESPACE/NAME`, or `the component`. */
  subject: string;
  kind: "new" | "changed" | "removed";
  /** Such as `token: team:a → team:b`. */
  details: string[];
}

/** The subject of what is about all service accounts. */
const ALL = "the component";

/** Returns what an update changes in the settings: of the component first, then of the service accounts in the order of the program. */
export function settingsChanges({ before, after }: PlannedComponent): SettingsChange[] {
  const [old, now] = [before, after].map((view) => (view ? subjectsOf(view) : new Map<string, Fields>()));
  const defaults = defaultsIn(after ?? before);
  const subjects = new Set([...(now?.keys() ?? []), ...(old?.keys() ?? [])]);
  return [...subjects].flatMap((subject): SettingsChange[] => {
    const [one, other] = [old?.get(subject), now?.get(subject)];
    if (one && other) {
      const details = [...changedLines(one, other)];
      return details.length > 0 ? [{ subject, kind: "changed", details }] : [];
    }
    return [{ subject, kind: other ? "new" : "removed", details: [...listedLines(one ?? other, defaults)] }];
  });
}

/** Returns the settings of the component and of each of its service accounts. */
function subjectsOf({ settings, accounts }: View): Map<string, Fields> {
  const ofAccounts = accounts.map((account) => [account.id, factsOf(settings, account)] as const);
  return new Map([[ALL, without(settings, "serviceAccounts")], ...ofAccounts]);
}

/** The settings that say whose token it is, and the names. */
const OF_TOKEN = wordsOf(
  "tokenType userLogin teamName runnerName organizationRoleId organizationAdmin namespace name",
);

function factsOf(component: Fields, account: Account): Fields {
  const { settings } = account;
  return { token: tokenOf(component, account), ...without(settings, ...OF_TOKEN) };
}

/** Returns what an entry has by default: it is not listed of a new service account. */
function defaultsIn(view: View | undefined): Fields {
  return {
    audienceRule: true,
    awsRole: "none",
    createServiceAccount: true,
    injectToken: false,
    runJob: true,
    tokenAudience: `urn:pulumi:org:${textOf(valueAt(view?.settings, "organization"))}`,
  };
}

/** The settings whose elements have no order. */
const SETS = ["rolePolicyArns", "createNamespaces"];

function* changedLines(old: Fields, now: Fields): Generator<string> {
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
