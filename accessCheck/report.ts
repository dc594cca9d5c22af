// How a component is reported: what changes, who gets which access token and which role, and what was found. Lines for a
// terminal; in Markdown, they are in a code block.

import type { Change } from "./changes";
import type { Account, PlannedComponent, View } from "./components";
import { allowPolicy, request, sharersOf, tokenOf, trustPolicy } from "./expected";
import { type Finding, otherRoles } from "./findings";
import { paint, tableRow, visible, width, wrap } from "./terminal";
import { isOpaque, opaqueIn, SECRET, type Value, valueAt } from "./values";

/** What is reported about one component. */
export interface Report {
  component: PlannedComponent;
  findings: Finding[];
  /** Sentences for the line of a service account, or for all of them. */
  notes?: { account?: string; text: string }[];
}

const HEADER = ["Service account", "Access token", "Gets the token", "Gets the role"];

/** At most this many names of service accounts are printed in a sentence. */
const SHOWN_NAMES = 5;

const SEE_BELOW = "see below";
const NOT_KNOWN = "not known yet";
const IS_SECRET = "secret";
const ONCE_ANNOTATED = "once annotated";
const ANY_POD = "every pod";
const OTHER_ROLE = "other role";

/** What a reader may not expect. */
const NOTES: Record<string, string> = {
  [NOT_KNOWN]: "not known yet: it depends on a setting that is known after the update only.",
  [ONCE_ANNOTATED]:
    "once annotated: createServiceAccount is false. Annotate the service account yourself, with eks.amazonaws.com/role-arn and the roleArn of the stack's output.",
  [OTHER_ROLE]: "other role: awsRole is none, and the rest of the program can give its pods a role.",
  [ANY_POD]:
    "every pod: of the namespace, since a pod that names no service account has the one with the name default.",
};

/** Returns who gets what as lines: one for each service account with its token, and below it what was found. */
export function accessLines({ component, findings, notes = [] }: Report): string[] {
  const { after: view } = component;
  const table = view.accounts.map((account) => cellsOf(view, account, findings));
  const widths = columnWidths([HEADER, ...table]);
  const rows = view.accounts.flatMap((account, index) => {
    const own = findings.filter((finding) => finding.account === account.id);
    const ofNotes = notes.filter((note) => note.account === account.id).map(({ text }) => text);
    return [
      ...tableRow(table[index] ?? [], widths).map((line) => paint(own.length > 0 ? "yellow" : "green", line)),
      ...[...detailsOf(view, account), ...ofNotes].flatMap((text) => wrap(text, 4)),
      ...own.flatMap(({ text }) => wrap(text, 4).map((line) => paint("yellow", line))),
    ];
  });
  const ofAll = findings.filter(({ account }) => !view.accounts.some(({ id }) => id === account));
  const verdictColor = findings.length > 0 ? "yellow" : "green";
  return [
    ...tableRow(HEADER, widths).map((line) => paint("bold", line)),
    ...rows,
    ...ofAll.flatMap(({ text }) => ["", ...wrap(text, 2).map((line) => paint("yellow", line))]),
    ...notesOf(view, table.flat(), notes).flatMap((text) => ["", ...wrap(text, 2, 2)]),
    "",
    ...wrap(verdictOf(view, findings), 2).map((line) => paint(verdictColor, line)),
  ];
}

function verdictOf({ accounts }: View, findings: Finding[]): string {
  const compared = plural(accounts.length, "service account");
  if (findings.length === 0) return `${compared}: as the settings intend.`;
  return `${plural(findings.length, "finding")}, ${compared}: not as the settings intend.`;
}

function notesOf(view: View, cells: string[], notes: Report["notes"] = []): string[] {
  const isOff = ({ settings }: Account) => {
    const rule = valueAt(settings, "audienceRule");
    return rule !== true && !isOpaque(rule);
  };
  const withoutRule = view.accounts.filter(isOff).map(({ id }) => id);
  return [
    ...(withoutRule.length > 0 ? [audienceText(withoutRule)] : []),
    ...Object.entries(NOTES).flatMap(([cell, note]) => (cells.includes(cell) ? [note] : [])),
    ...notes.flatMap(({ account, text }) => (account === undefined ? [text] : [])),
  ];
}

function audienceText(accounts: string[]): string {
  return `Any audience is accepted in the ID tokens of ${someOf(accounts)}: audienceRule is off. See docs/how-it-works.md`;
}

function cellsOf(view: View, account: Account, findings: Finding[]): string[] {
  const isFound = (about: Finding["about"]) =>
    findings.some((it) => it.about === about && (it.account ?? account.id) === account.id);
  const token = tokenOf(request(view.settings, account));
  return [
    account.id,
    token,
    isFound("token") ? SEE_BELOW : tokenCell(view, account),
    isFound("role") ? SEE_BELOW : roleCell(view, account),
  ];
}

function tokenCell(view: View, account: Account): string {
  const issuerUrl = valueAt(view.settings, "issuerUrl") ?? null;
  const opaque = opaqueCell([issuerUrl, allowPolicy(account), request(view.settings, account)]);
  if (opaque) return opaque;
  if (account.name === "default") return ANY_POD;
  const others = sharersIn(view, account).length;
  return others > 0 ? `itself (+${others})` : "only itself";
}

function roleCell(view: View, account: Account): string {
  const expected = trustPolicy(view.settings, account);
  if (expected === undefined) return otherRoles(view, account).length > 0 ? OTHER_ROLE : "no role";
  const opaque = opaqueCell(expected);
  if (opaque) return opaque;
  const isAnnotatedByUser =
    valueAt(account.settings, "awsRole") === "irsa" &&
    valueAt(account.settings, "createServiceAccount") === false;
  if (isAnnotatedByUser) return ONCE_ANNOTATED;
  return account.name === "default" ? ANY_POD : "only itself";
}

/** Returns the cell for a value that the plan does not have. */
function opaqueCell(expected: Value): string | undefined {
  const opaque = [...opaqueIn(expected)].map(({ value }) => value);
  if (opaque.length === 0) return undefined;
  return opaque.includes(SECRET) ? IS_SECRET : NOT_KNOWN;
}

/** Returns what belongs to a service account's line. */
function detailsOf(view: View, account: Account): string[] {
  return [
    ...sharersText(sharersIn(view, account)),
    ...(trustPolicy(view.settings, account) === undefined ? otherRoles(view, account) : []),
    ...(valueAt(account.settings, "injectToken") === true
      ? ["its pods get the exchange when they are created"]
      : []),
  ];
}

/** Returns the names of those who are granted the same token: of this component, and of the others. */
function sharersIn(view: View, account: Account): string[] {
  return [view, ...view.neighbors].flatMap((others) =>
    sharersOf(view, account, others).map(({ id }) => (others === view ? id : `${id} of ${others.name}`)),
  );
}

/** Says whom `(+N)` counts. */
function sharersText(others: string[]): string[] {
  if (others.length === 0) return [];
  return [`(+${others.length}) granted the same access token: ${someOf(others)}`];
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
  const column = 2 + "changed".length + 2 + subjectWidth + 2;
  return changes.flatMap(({ subject, kind, details }) => {
    const head = wrap(`${kind.padEnd("changed".length)}  ${subject}`, 2, 11);
    const [first = "", ...others] = details.flatMap((detail) => wrap(detail, column));
    const isBeside = visible(subject).length <= subjectWidth && first !== "";
    const lines = isBeside ? [head.join("").padEnd(column) + first.trimStart()] : [...head, first];
    return [...lines, ...others]
      .filter(Boolean)
      .map((line) => paint(kind === "removed" ? "dim" : "yellow", line));
  });
}

/** Returns the widths of the columns of a table, which together fit into a line. */
function columnWidths(table: string[][]): number[] {
  const widest = (column: number) => Math.max(...table.map((cells) => visible(cells[column] ?? "").length));
  const [account, token, pulumiCloud, role] = [widest(0), widest(1), widest(2), widest(3)];
  const left = width() - 2 - 3 * 2 - pulumiCloud - role;
  const tokenWidth = Math.min(token, Math.max(HEADER[1]?.length ?? 0, left - account));
  return [Math.min(account, left - tokenWidth), tokenWidth, pulumiCloud, role];
}

function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

/** Returns the trust policy (null without an IAM role) and the allow policy of each service account, by `NAMESPACE/NAME`. */
export function generatedPolicies({ after }: PlannedComponent): object {
  const entries = after.accounts.map(({ id, role, policy }) => [
    id,
    { trustPolicy: role?.trustPolicy ?? null, allowPolicy: policy ?? null },
  ]);
  return Object.fromEntries(entries);
}
