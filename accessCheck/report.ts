// How a component is reported: which settings change, which access token and which role each service account has, and whether all of it
// is as its settings say. Lines for a terminal; in Markdown, they are in a code block.

import type { Comparison, Finding } from "./compare";
import { type Account, isRemaining, type PlannedComponent, type RemainingComponent } from "./components";
import { ownerOf, ROLE_ANNOTATION, tokenOf } from "./grants";
import type { SettingsChange } from "./settingsChanges";
import { paint, plural, tableRow, textRow, visible, width, wrap } from "./terminal";
import type { Row } from "./updateList";
import { isOpaque, type Value, valueAt } from "./values";

/** What is reported about one component. */
export interface Report extends Omit<Comparison, "deviations" | "required"> {
  component: RemainingComponent;
  /** Sentences for the line of a service account, or for all of them. */
  notes?: { account?: string; text: string }[];
}

const HEADER = ["Service account", "Access token", "IAM role", "Compared"];

const NOT_KNOWN = "not known yet";
const AS_SETTINGS_SAY = "as its settings say";

const TEAM_NOTE = "Team permissions aren't checked.";
const NOT_KNOWN_NOTE = `${NOT_KNOWN}: it is known after the update only.`;

/** Returns the service accounts as lines: one for each with its token and its role, and below it what was found. */
export function accessLines(report: Report): string[] {
  const { component, findings, notes = [] } = report;
  const { after: view } = component;
  const table = view.accounts.map((account) => [
    account.id,
    tokenOf(view.settings, account),
    roleText(account, report),
    verdictOn(account, report),
  ]);
  const widths = columnWidths([HEADER, ...table]);
  const rows = view.accounts.flatMap((account, index) => {
    const ofAccount = findings.filter((finding) => finding.account === account.id);
    const ofNotes = notes.filter((note) => note.account === account.id).map(({ text }) => text);
    const isEqual = table[index]?.at(-1) === AS_SETTINGS_SAY && !isAdmin(account);
    return [
      ...tableRow(table[index] ?? [], widths).map((line) => paint(isEqual ? "green" : "bold", line)),
      ...(isAdmin(account) ? wrap(ADMIN_TEXT, 4).map((line) => paint("bold", line)) : []),
      ...[...detailsOf(account), ...ofNotes].flatMap((text) => wrap(text, 4)),
      ...ofAccount.flatMap(({ text }) => wrap(text, 4).map((line) => paint("red", line))),
    ];
  });
  const ofAll = findings.filter(({ account }) => !view.accounts.some(({ id }) => id === account));
  return [
    ...tableRow(HEADER, widths).map((line) => paint("bold", line)),
    ...rows,
    ...ofAll.flatMap(({ text }) => ["", ...wrap(text, 2).map((line) => paint("red", line))]),
    ...notesOf(report).flatMap((notes) => ["", ...notes.flatMap((text) => wrap(text, 2, 4))]),
    "",
    ...wrap(verdictOf(report), 2).map((line) => paint(findings.length > 0 ? "red" : "green", line)),
  ];
}

function verdictOf({ component, findings, unknown, unknownRoles }: Report): string {
  const compared = plural(component.after.accounts.length, "service account");
  if (findings.length > 0) {
    return `${plural(findings.length, "finding")}, ${compared}: not as the settings say.`;
  }
  const isKnown = unknown.length + unknownRoles.length === 0;
  return `${compared}: as the settings say${isKnown ? "." : ", as far as they are known."}`;
}

/** Says whether everything that is created for a service account, and for all of them, is as its settings say. */
function verdictOn({ id }: Account, { findings, unknown }: Report): string {
  if (findings.some(({ account = id }: Finding) => account === id)) return "see below";
  return unknown.includes(id) ? NOT_KNOWN : AS_SETTINGS_SAY;
}

const ROLES: Record<string, string> = { irsa: "by IRSA", "pod-identity": "by Pod Identity", none: "none" };

function roleText({ id, settings }: Account, { unknownRoles }: Report): string {
  if (unknownRoles.includes(id)) return NOT_KNOWN;
  const kind = String(valueAt(settings, "awsRole"));
  return ROLES[kind] ?? kind;
}

/** Returns notes, those that belong together as one list. */
function notesOf({ component, unknown, unknownRoles, notes = [] }: Report): string[][] {
  const { accounts, settings } = component.after;
  const rule = valueAt(settings, "audienceRule");
  const isOff = rule !== true && !isOpaque(rule);
  const groups = [
    accounts.some((it) => valueAt(it.settings, "tokenType") === "team") ? [TEAM_NOTE] : [],
    sameOwnerNotes(component),
    isOff ? ["Any audience is accepted in the ID tokens: audienceRule is off. See docs/token-types.md"] : [],
    unknown.length + unknownRoles.length > 0 ? [NOT_KNOWN_NOTE] : [],
    ...notes.flatMap(({ account, text }) => (account === undefined ? [[text]] : [])),
  ];
  return groups.filter((group) => group.length > 0);
}

/** Returns a note for each owner as which several service accounts act: of this component, and of the others. */
function sameOwnerNotes({ after, all, name }: RemainingComponent): string[] {
  const owned = all.filter(isRemaining).flatMap((component) => {
    const { after: view } = component;
    return view.accounts.map((account) => ({
      owner: ownerOf(view, account),
      id: component.name === name ? account.id : `${account.id} of ${component.name}`,
    }));
  });
  const owners = new Set(after.accounts.flatMap((account) => ownerOf(after, account) ?? []));
  return [...owners].flatMap((owner) => {
    const ids = owned.filter((it) => it.owner === owner).map(({ id }) => id);
    const account = after.accounts.find((it) => ownerOf(after, it) === owner);
    if (!account || ids.length < 2) return [];
    const token = tokenOf(after.settings, account);
    return [`These service accounts act as the same ${token}: ${ids.join(", ")}.`];
  });
}

const ADMIN_TEXT = "this token can do everything in the organization";

function isAdmin({ settings }: Account): boolean {
  return valueAt(settings, "organizationAdmin") === true;
}

/** Returns what a reader may not expect of a service account. */
function detailsOf({ namespace, name, settings }: Account): string[] {
  const isSetTo = (setting: string, value: Value) => valueAt(settings, setting) === value;
  const isUntested = isSetTo("injectToken", true) && isSetTo("runJob", false);
  const isAnnotatedByOthers = isSetTo("awsRole", "irsa") && isSetTo("createServiceAccount", false);
  return [
    ...(isUntested ? ["injectToken adds the exchange to its pods, and no Job tests it"] : []),
    ...(isAnnotatedByOthers
      ? [`annotate it yourself with ${ROLE_ANNOTATION}, or its pods do not have the role`]
      : []),
    ...(name === "default"
      ? [`every pod of ${namespace} that names no service account has this one, with its token and its role`]
      : []),
  ];
}

/** Returns what an update changes in the settings as lines. */
export function settingsLines(changes: SettingsChange[]): string[] {
  if (changes.length === 0) return [paint("green", "  None.")];
  const subjectWidth = Math.min(40, Math.max(...changes.map(({ subject }) => visible(subject).length)));
  const widths = ["changed".length, subjectWidth];
  return changes.flatMap(({ subject, kind, details }) => {
    const [first = "", ...others] = details;
    return [
      ...textRow([kind, subject], widths, first),
      ...others.flatMap((detail) => textRow(["", ""], widths, detail)),
    ];
  });
}

/** The columns of a verb. */
const VERB_WIDTH = "still has".length;

/** Returns what an update does as lines: all names of each row, and all of its details. */
export function updateLines(rows: Row[]): string[] {
  return rows.flatMap(({ what, type, names, details }) => {
    const [name, ...others] = names;
    const verb = textRow(
      [what],
      [VERB_WIDTH],
      others.length === 0 && name !== undefined ? `${type} ${name}` : type,
    );
    const indent = VERB_WIDTH + 6;
    return [
      ...verb,
      ...(others.length > 0 ? wrap(names.join(", "), indent, indent) : []),
      ...details.flatMap((detail) => wrap(detail, indent)),
    ];
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

/** Says that the update deletes a component. */
export function deletedText({ name }: PlannedComponent): string {
  return `The update deletes component ${name}, so nothing of it is compared.`;
}
