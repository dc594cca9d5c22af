// How a component is reported: what changes, which access token and which role each service account has, and whether all of it is as
// its settings say. Lines for a terminal; in Markdown, they are in a code block.

import type { Change } from "./changes";
import type { Comparison, Finding } from "./compare";
import {
  type Account,
  ALLOW_POLICY,
  isSameName,
  keyOf,
  type PlannedComponent,
  ROLE,
  type View,
} from "./components";
import { ROLE_ANNOTATION, request, sharersOf, tokenOf } from "./grants";
import { paint, plural, tableRow, textRow, visible, width, wrap } from "./terminal";
import { isOpaque, type Value, valueAt } from "./values";

/** What is reported about one component. */
export interface Report extends Comparison {
  component: PlannedComponent;
  /** Sentences for the line of a service account, or for all of them. */
  notes?: { account?: string; text: string }[];
}

const HEADER = ["Service account", "Access token", "IAM role", "Compared"];

/** At most this many names of service accounts are printed in a sentence. */
const SHOWN_NAMES = 5;

const NOT_KNOWN = "not known yet";
const AS_SETTINGS_SAY = "as its settings say";

const TEAM_NOTE = "What a team may do is not checked.";
const NOT_KNOWN_NOTE = `${NOT_KNOWN}: it depends on a setting that is known after the update only.`;

/** Returns the service accounts as lines: one for each with its token and its role, and below it what was found. */
export function accessLines({ component, findings, open, notes = [] }: Report): string[] {
  const { after: view } = component;
  const table = view.accounts.map((account) => [
    account.id,
    tokenOf(request(view.settings, account)),
    roleText(account),
    verdictOn(account, findings, open),
  ]);
  const widths = columnWidths([HEADER, ...table]);
  const rows = view.accounts.flatMap((account, index) => {
    const own = findings.filter((finding) => finding.account === account.id);
    const ofNotes = notes.filter((note) => note.account === account.id).map(({ text }) => text);
    const isEqual = table[index]?.includes(AS_SETTINGS_SAY);
    return [
      ...tableRow(table[index] ?? [], widths).map((line) => paint(isEqual ? "green" : "yellow", line)),
      ...[...detailsOf(component, account), ...ofNotes].flatMap((text) => wrap(text, 4)),
      ...own.flatMap(({ text }) => wrap(text, 4).map((line) => paint("yellow", line))),
    ];
  });
  const ofAll = findings.filter(({ account }) => !view.accounts.some(({ id }) => id === account));
  const verdictColor = findings.length > 0 ? "yellow" : "green";
  return [
    ...tableRow(HEADER, widths).map((line) => paint("bold", line)),
    ...rows,
    ...ofAll.flatMap(({ text }) => ["", ...wrap(text, 2).map((line) => paint("yellow", line))]),
    ...notesOf(view, open, notes).flatMap((text) => ["", ...wrap(text, 2, 2)]),
    "",
    ...wrap(verdictOf(view, findings, open), 2).map((line) => paint(verdictColor, line)),
  ];
}

function verdictOf({ accounts }: View, findings: Finding[], open: string[]): string {
  const compared = plural(accounts.length, "service account");
  if (findings.length > 0) {
    return `${plural(findings.length, "finding")}, ${compared}: not as the settings say.`;
  }
  if (open.length > 0) return `${compared}: as the settings say, as far as they are known.`;
  return `${compared}: as the settings say.`;
}

/** Says whether everything that is created for a service account, and for all of them, is as its settings say. */
function verdictOn({ id }: Account, findings: Finding[], open: string[]): string {
  if (findings.some(({ account = id }) => account === id)) return "see below";
  return open.includes(id) ? NOT_KNOWN : AS_SETTINGS_SAY;
}

const ROLES: Record<string, string> = { irsa: "by IRSA", "pod-identity": "by Pod Identity", none: "none" };

function roleText({ settings }: Account): string {
  const kind = String(valueAt(settings, "awsRole"));
  return ROLES[kind] ?? kind;
}

function notesOf(view: View, open: string[], notes: Report["notes"] = []): string[] {
  const isOff = ({ settings }: Account) => {
    const rule = valueAt(settings, "audienceRule");
    return rule !== true && !isOpaque(rule);
  };
  const withoutRule = view.accounts.filter(isOff).map(({ id }) => id);
  return [
    ...(view.accounts.some(({ settings }) => valueAt(settings, "tokenType") === "team") ? [TEAM_NOTE] : []),
    ...(withoutRule.length > 0
      ? [
          `Any audience is accepted in the ID tokens of ${someOf(withoutRule)}: audienceRule is off. See docs/token-types.md`,
        ]
      : []),
    ...(open.length > 0 ? [NOT_KNOWN_NOTE] : []),
    ...notes.flatMap(({ account, text }) => (account === undefined ? [text] : [])),
  ];
}

/** Returns what a reader may not expect of a service account. */
function detailsOf(component: PlannedComponent, account: Account): string[] {
  const { namespace, name, settings } = account;
  const isSetTo = (setting: string, value: Value) => valueAt(settings, setting) === value;
  const isAdmin = isSetTo("organizationAdmin", true);
  const isUntested = isSetTo("injectToken", true) && isSetTo("runJob", false);
  const isAnnotatedByOthers = isSetTo("awsRole", "irsa") && isSetTo("createServiceAccount", false);
  return [
    ...(isAdmin ? ["this token can do everything in the organization"] : []),
    ...sharersText(sharersIn(component, account)),
    ...(isUntested ? ["injectToken adds the exchange to its pods, and no Job tests it"] : []),
    ...(isAnnotatedByOthers
      ? [`annotate it yourself with ${ROLE_ANNOTATION}, or its pods do not have the role`]
      : []),
    ...(name === "default"
      ? [`every pod of ${namespace} that names no service account has this one, with its token and its role`]
      : []),
  ];
}

/** Returns the names of those who are granted the same token: of this component, and of the others. */
function sharersIn(component: PlannedComponent, account: Account): string[] {
  return component.all.flatMap((other) => {
    if (other.isDeleted || !isSameOrganization(other.after, component.after)) return [];
    const sharers = sharersOf(component.after, account, other.after);
    return sharers.map(({ id }) => (other === component ? id : `${id} of ${other.name}`));
  });
}

/** Returns whether two components have the same organization of the same Pulumi Cloud, as far as is known. */
function isSameOrganization(one: View, other: View): boolean {
  return ["organization", "pulumiApiUrl"].every((name) => {
    return isSameName(valueAt(one.settings, name), valueAt(other.settings, name));
  });
}

/** Says whom `(+N)` counts. */
function sharersText(others: string[]): string[] {
  if (others.length === 0) return [];
  return [`(+${others.length}) the same access token: ${someOf(others)}`];
}

/** Returns the first names of a list, and how many more there are. */
function someOf(names: string[]): string {
  const more = names.length - SHOWN_NAMES;
  return `${names.slice(0, SHOWN_NAMES).join(", ")}${more > 0 ? `, and ${more} more` : ""}`;
}

const NO_CHANGE = "Nothing changes for this component.";

/** Returns what an update changes as lines. */
export function changeLines(changes: Change[]): string[] {
  if (changes.length === 0) return [paint("green", `  ${NO_CHANGE}`)];
  const subjectWidth = Math.min(40, Math.max(...changes.map(({ subject }) => visible(subject).length)));
  const widths = ["changed".length, subjectWidth];
  return changes.flatMap(({ subject, kind, details }) => {
    const [first = "", ...others] = details;
    const lines = [
      ...textRow([kind, subject], widths, first),
      ...others.flatMap((detail) => textRow(["", ""], widths, detail)),
    ];
    return lines.map((line) => paint(kind === "removed" ? "dim" : "yellow", line));
  });
}

/** Returns the widths of the columns of a table, which together fit into a line. */
function columnWidths(table: string[][]): number[] {
  const widest = (column: number) => Math.max(...table.map((cells) => visible(cells[column] ?? "").length));
  const [account, token, role, compared] = [widest(0), widest(1), widest(2), widest(3)];
  const left = width() - 2 - 3 * 2 - role - compared;
  const tokenWidth = Math.min(token, Math.max(HEADER[1]?.length ?? 0, left - account));
  return [Math.min(account, left - tokenWidth), tokenWidth, role, compared];
}

/** Returns the trust policy (null without an IAM role) and the allow policy of each service account, by `NAMESPACE/NAME`. */
export function generatedPolicies({ after: { accounts, resources } }: PlannedComponent): object {
  const entries = accounts.map(({ id, namespace, name }) => {
    const role = resources.get(keyOf({ type: ROLE, name: `${namespace}.${name}` }));
    const policy = resources.get(keyOf({ type: ALLOW_POLICY, name: id }));
    const trustPolicy = valueAt(role?.inputs, "assumeRolePolicy") ?? null;
    return [id, { trustPolicy, allowPolicy: policy?.inputs ?? null }];
  });
  return Object.fromEntries(entries);
}
