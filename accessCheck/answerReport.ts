// How the access check is reported: in a terminal, and as Markdown.

import { isClaimOfCluster, policyText } from "./allowPolicies";
import type { Policy } from "./component";
import { isKnown, readable } from "./plan";
import { type Row, unexpected } from "./questions";
import { idOf, type Service, type ServiceAccount, tokenOf } from "./serviceAccounts";
import { paint, type Style, tableRow, visible, width, wrap } from "./terminal";

/** What is reported about one component. */
export interface Result {
  accounts: ServiceAccount[];
  rows: Row[];
  /** The allow policies that are of no service account. */
  foreign: Policy[];
  /** Whether the real services were asked. */
  isLive: boolean;
}

/** Returns whether everything is as the settings intend. */
export function isAsIntended({ rows, foreign }: Result): boolean {
  return unexpected(rows).length === 0 && foreign.length === 0;
}

const HEADER = ["Service account", "Access token", "Gets the token", "Gets the role"];

/** At most this many names of other service accounts are printed beside `(+N)`. */
const SHOWN_SHARERS = 5;

/** At most this many denials are printed as examples. */
const SHOWN_DENIALS = 3;

const AUDIENCE_NOTE =
  "audienceRule is false, because Pulumi does not document how a rule matches a list: any audience is accepted. See docs/how-it-works.md";

const NOT_ASKED = "not asked";

const POD_IDENTITY_NOTE =
  "not asked for the role: EKS Pod Identity issues the credentials of a role only to its agent on a node of the cluster. To see its trust policy: npm start -- --policies. The simulation evaluates it.";

const POD_CLAIM_NOTE =
  "not asked for the token: a rule of the allow policy is on a pod or a node, and the ID tokens of this check are of none.";

const NOT_KNOWN = "not known yet";

const NOT_KNOWN_NOTE = "not known yet: it depends on a value that is known after the update only.";

const ONCE_ANNOTATED = "once annotated";

const ANNOTATION_NOTE =
  "once annotated: createServiceAccount is false. Annotate the service account yourself, with eks.amazonaws.com/role-arn and the roleArn of the stack's output.";

/**
 * Returns the access check as lines: one for each service account with its token, one for each unexpected answer, and
 * examples of denials.
 *
 * @param verbose one for each answer, too.
 */
export function accessLines(result: Result, verbose: boolean): string[] {
  const { accounts, rows } = result;
  const table = accounts.map((account) => cellsOf(rows, account));
  const widths = columnWidths([HEADER, ...table]);
  const lines = accounts.flatMap((account, index) => {
    const answers = rows.filter((row) => row.account === account);
    const found = unexpected(answers);
    const color = found.length > 0 ? "yellow" : "green";
    return [
      ...tableRow(table[index] ?? [], widths).map((line) => paint(color, line)),
      ...details(result, account).flatMap((text) => wrap(text, 4)),
      ...(verbose ? answers : found).flatMap(answerLines),
    ];
  });
  const verdictColor = isAsIntended(result) ? "green" : "yellow";
  return [
    ...tableRow(HEADER, widths).map((line) => paint("bold", line)),
    ...lines,
    ...(verbose ? [] : denialLines(result)),
    ...foreignTexts(result).flatMap((text) => ["", ...wrap(text, 2).map((line) => paint("yellow", line))]),
    ...notes(result).flatMap((text) => ["", ...wrap(text, 2, 2)]),
    "",
    ...wrap(verdict(result), 2).map((line) => paint(verdictColor, line)),
  ];
}

/** Returns the widths of the columns of a table, which together fit into a line. */
function columnWidths(table: string[][]): number[] {
  const widest = (column: number) => Math.max(...table.map((cells) => visible(cells[column] ?? "").length));
  const [account, token, pulumiCloud, role] = [widest(0), widest(1), widest(2), widest(3)];
  const left = width() - 2 - 3 * 2 - pulumiCloud - role;
  const tokenWidth = Math.min(token, Math.max(HEADER[1]?.length ?? 0, left - account));
  return [Math.min(account, left - tokenWidth), tokenWidth, pulumiCloud, role];
}

/** Returns a denial for each service account, up to a limit. Other service accounts of the stack come first. */
function denialLines({ accounts, rows }: Result): string[] {
  const ids = accounts.map(idOf);
  const denials = accounts.flatMap((account) => {
    const denied = rows.filter((row) => row.account === account && isDenied(row));
    return denied.find(({ caller }) => ids.includes(caller.label)) ?? denied[0] ?? [];
  });
  const lines = denials.slice(0, SHOWN_DENIALS).flatMap(({ caller, account }) => {
    return wrap(`${idOf(caller)} requests ${requested(account)}: denied`, 2);
  });
  return lines.length > 0 ? ["", ...lines] : [];
}

/** Returns whether Pulumi Cloud denied another service account, as intended. */
function isDenied({ service, caller, allowed, intended }: Row): boolean {
  return service === "Pulumi Cloud" && caller.defect === undefined && !allowed && !intended;
}

function requested(account: ServiceAccount): string {
  const token = tokenOf(account);
  return account.tokenType === "organization" ? `an ${token} token` : token;
}

function answerLines(row: Row): string[] {
  return wrap(answerText(row), 4).map((line) => paint(styleOf(row), line));
}

function styleOf({ allowed, intended }: Row): Style {
  if (allowed !== intended) return "yellow";
  return allowed ? "green" : "dim";
}

function answerText(row: Row): string {
  const answer = `${row.caller.label}: ${outcome(row)} by ${row.service}`;
  if (isAsConfigured(row)) return `${answer}, as configured.`;
  const reason = row.allowed ? "" : ` (${row.reason})`;
  const advice = row.allowed === row.intended ? "" : ` ${adviceFor(row)}`;
  return `${answer}${reason}.${advice}`;
}

/** Returns the access check as Markdown. */
export function accessMarkdown(result: Result): string {
  const { accounts, rows } = result;
  const table = accounts.map((account) => {
    return `| ${cellsOf(rows, account).map(markdownText).join(" | ")} |`;
  });
  const found = unexpected(rows).map((row) => {
    const caller = markdownText(`${idOf(row.account)}, ${row.caller.label}`);
    return `- ${caller}: **${outcome(row)}** by ${row.service}. ${adviceFor(row)}`;
  });
  const further = accounts.flatMap((account) => {
    return details(result, account).map((text) => `- ${markdownText(`${idOf(account)} ${text}`)}`);
  });
  const foreign = foreignTexts(result).map((text) => `- **${markdownText(text)}**`);
  return [
    `| ${HEADER.join(" | ")} |`,
    "| --- | --- | --- | --- |",
    ...table,
    "",
    [verdict(result), ...notes(result)].join(" "),
    ...[found, foreign, further].flatMap((lines) => (lines.length > 0 ? ["", ...lines] : [])),
  ].join("\n");
}

/** Returns text for Markdown, such as a cell of a table, in which nothing of it is Markdown or HTML. */
export function markdownText(text: string): string {
  return visible(text).replace(/[\\`*_[\]<>|&#~]/g, (symbol) => `&#${symbol.charCodeAt(0)};`);
}

/** Returns the sentence that sums up the access check. */
function verdict({ accounts, rows }: Result): string {
  const passed = rows.length - unexpected(rows).length;
  const callers = rows.filter(({ service }) => service === "Pulumi Cloud").length;
  const asked = `${plural(accounts.length, "service account")}, ${plural(callers, "caller")}`;
  return `${passed} of ${rows.length} checks passed (${asked}).`;
}

/** Explains what the settings intend, if a reader may not expect it. */
function notes({ accounts, rows }: Result): string[] {
  const tokens = accounts.map((account) => summaryOf(rows, account, "Pulumi Cloud"));
  const roles = accounts.map((account) => summaryOf(rows, account, "IAM role"));
  const cells = [...tokens, ...roles];
  return [
    ...(rows.some(isAsConfigured) ? [AUDIENCE_NOTE] : []),
    ...(tokens.includes(NOT_ASKED) ? [POD_CLAIM_NOTE] : []),
    ...(roles.includes(NOT_ASKED) ? [POD_IDENTITY_NOTE] : []),
    ...(cells.includes(NOT_KNOWN) ? [NOT_KNOWN_NOTE] : []),
    ...(cells.includes(ONCE_ANNOTATED) ? [ANNOTATION_NOTE] : []),
  ];
}

/** Returns a sentence for each policy that no setting intends. */
function foreignTexts({ foreign }: Result): string[] {
  return foreign.map((policy) => {
    return `A policy is of no service account, is the second one of a service account, or grants another token: ${readable(policyText(policy))}`;
  });
}

/** Returns what belongs to a service account's line. */
function details({ rows, isLive }: Result, account: ServiceAccount): string[] {
  const assumed = Object.entries(account.rules).filter(([path]) => !isLive && isClaimOfCluster(path));
  return [
    ...teamText(account),
    ...shared(rows, account),
    ...assumed.map(([path, pattern]) => `assumed to match its pods: ${path} = ${readable(pattern)}`),
  ];
}

/** Says what the team of a service account may do, as far as the program says it. */
function teamText({ tokenType, tokenScope, permissions }: ServiceAccount): string[] {
  if (tokenType !== "team" || !isKnown(tokenScope)) return [];
  const team = tokenScope.slice("team:".length);
  if (!permissions) return [`${team} (exists already)`];
  const allowed = Object.entries(permissions).map(([subject, permission]) => `${permission} on ${subject}`);
  return [`${team}: ${allowed.join(", ") || "no permissions"}`];
}

/** Says whom `(+N)` counts. */
function shared(rows: Row[], account: ServiceAccount): string[] {
  const others = sharers(rows, account, "Pulumi Cloud");
  if (others.length === 0) return [];
  const more = others.length - SHOWN_SHARERS;
  const names = others.slice(0, SHOWN_SHARERS).join(", ");
  return [
    `(+${others.length}) granted the same access token: ${names}${more > 0 ? `, and ${more} more` : ""}`,
  ];
}

function cellsOf(rows: Row[], account: ServiceAccount): string[] {
  const services = ["Pulumi Cloud", "IAM role"] satisfies Service[];
  return [idOf(account), tokenOf(account), ...services.map((service) => summaryOf(rows, account, service))];
}

/** Sums up who is allowed by one service as one service account. */
function summaryOf(rows: Row[], account: ServiceAccount, service: Service): string {
  if (service === "IAM role" && !account.role) return "no role";
  if (account.unknown.includes(service)) return NOT_KNOWN;
  const answers = rows.filter((row) => row.account === account && row.service === service);
  const count = unexpected(answers).length;
  if (count > 0) return `${count} unexpected`;
  if (!answers.some(({ caller }) => caller.label === "itself")) return NOT_ASKED;
  if (service === "IAM role" && account.role?.isAnnotatedByUser) return ONCE_ANNOTATED;
  const others = sharers(rows, account, service).length;
  return others > 0 ? `itself (+${others})` : "only itself";
}

function outcome({ allowed }: Row): string {
  return allowed ? "allowed" : "denied";
}

function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

/** Returns whether the settings intend that a service account is allowed with another audience. */
function isAsConfigured({ caller, allowed, intended }: Row): boolean {
  return allowed && intended && caller.defect === "other audience";
}

/** Returns the other service accounts that are granted the access token of this one, as intended. */
function sharers(rows: Row[], account: ServiceAccount, service: Service): string[] {
  return rows
    .filter((row) => row.account === account && row.service === service && row.allowed && row.intended)
    .filter(({ caller }) => caller.defect === undefined)
    .map(({ caller }) => idOf(caller))
    .filter((id) => id !== idOf(account));
}

/** Returns what to do about an unexpected answer. */
function adviceFor({ service, allowed }: Row): string {
  const compare = `Compare the ${service === "IAM role" ? "trust" : "allow"} policy with npm start -- --policies.`;
  if (allowed) return `No setting allows this. ${compare}`;
  if (service === "IAM role") return compare;
  return "Check policyRules, tokenType, and the settings of the token.";
}
