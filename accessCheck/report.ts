// How the access check is reported: in a terminal of 80 columns, and as Markdown.

import { type Question, type Row, unexpected } from "./questions";
import { idOf, type ServiceAccount } from "./serviceAccounts";
import { paint, type Style, tableRow, visible, WIDTH, wrap } from "./terminal";

const HEADER = ["Service account", "Access token", "Gets the token", "Gets the role"];

/** At most this many names of other service accounts are printed beside `(+N)`. */
const SHOWN_SHARERS = 5;

/** At most this many denials are printed as examples. */
const SHOWN_DENIALS = 3;

const AUDIENCE_NOTE =
  "audienceRule is false, because Pulumi does not document how a rule matches a list: any audience is accepted. See docs/how-it-works.md";

const NOT_ASKED = "not asked";

const POD_IDENTITY_NOTE =
  "not asked: EKS Pod Identity issues the credentials of a role only to its agent on a node of the cluster. To see its trust policy: npm start -- --policies. The simulation evaluates it.";

/**
 * Returns the access check as lines: one for each service account with its token, one for each unexpected answer, and
 * examples of denials.
 *
 * @param verbose one for each answer, too.
 */
export function accessLines(rows: Row[], verbose: boolean): string[] {
  const accounts = accountsOf(rows);
  const table = accounts.map((account) => cellsOf(rows, account));
  const widths = columnWidths([HEADER, ...table]);
  const lines = accounts.flatMap((account, index) => {
    const answers = rows.filter((row) => row.account === account);
    const found = unexpected(answers);
    const color = found.length > 0 ? "yellow" : "green";
    return [
      ...tableRow(table[index] ?? [], widths).map((line) => paint(color, line)),
      ...shared(rows, account).flatMap((text) => wrap(text, 4)),
      ...(verbose ? answers : found).flatMap(answerLines),
    ];
  });
  const verdictColor = unexpected(rows).length > 0 ? "yellow" : "green";
  return [
    ...tableRow(HEADER, widths).map((line) => paint("bold", line)),
    ...lines,
    ...(verbose ? [] : denialLines(rows)),
    ...notes(rows).flatMap((text) => ["", ...wrap(text, 2, 2)]),
    "",
    ...wrap(verdict(rows), 2).map((line) => paint(verdictColor, line)),
  ];
}

/** Returns the widths of the columns of a table, which together fit into a line. */
function columnWidths(table: string[][]): number[] {
  const width = (column: number) => Math.max(...table.map((cells) => visible(cells[column] ?? "").length));
  const [account, token, pulumiCloud, role] = [width(0), width(1), width(2), width(3)];
  const left = WIDTH - 2 - 3 * 2 - pulumiCloud - role;
  const tokenWidth = Math.min(token, Math.max(HEADER[1]?.length ?? 0, left - account));
  return [Math.min(account, left - tokenWidth), tokenWidth, pulumiCloud, role];
}

/** Returns a denial for each service account, up to a limit. Other service accounts of the stack come first. */
function denialLines(rows: Row[]): string[] {
  const ids = accountsOf(rows).map(idOf);
  const denials = accountsOf(rows).flatMap((account) => {
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
export function accessMarkdown(rows: Row[]): string {
  const table = accountsOf(rows).map((account) => {
    const [id, ...cells] = cellsOf(rows, account);
    return `| ${[`\`${id}\``, ...cells.map(markdownCell)].join(" | ")} |`;
  });
  const found = unexpected(rows).map((row) => {
    const answer = `\`${idOf(row.account)}\`, ${row.caller.label}: **${outcome(row)}** by ${row.service}.`;
    return `- ${answer} ${adviceFor(row)}`;
  });
  const sharing = accountsOf(rows).flatMap((account) => {
    return shared(rows, account).map((text) => `- \`${idOf(account)}\` ${text}`);
  });
  return [
    `| ${HEADER.join(" | ")} |`,
    "| --- | --- | --- | --- |",
    ...table,
    "",
    [verdict(rows), ...notes(rows)].join(" "),
    ...(found.length > 0 ? ["", ...found] : []),
    ...(sharing.length > 0 ? ["", ...sharing] : []),
  ].join("\n");
}

/** Returns text for a cell of a Markdown table, in which nothing of it is Markdown or HTML. */
function markdownCell(text: string): string {
  return visible(text).replace(/[\\`*_[\]<>|&#~]/g, (symbol) => `&#${symbol.charCodeAt(0)};`);
}

/** Returns the sentence that sums up the access check. */
function verdict(rows: Row[]): string {
  const passed = rows.length - unexpected(rows).length;
  const callers = rows.filter(({ service }) => service === "Pulumi Cloud").length;
  const asked = `${plural(accountsOf(rows).length, "service account")}, ${plural(callers, "caller")}`;
  return `${passed} of ${rows.length} checks passed (${asked}).`;
}

/** Explains what the settings intend, if a reader may not expect it. */
function notes(rows: Row[]): string[] {
  const isNotAsked = accountsOf(rows).some((account) => summaryOf(rows, account, "IAM role") === NOT_ASKED);
  return [...(rows.some(isAsConfigured) ? [AUDIENCE_NOTE] : []), ...(isNotAsked ? [POD_IDENTITY_NOTE] : [])];
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

function accountsOf(rows: Row[]): ServiceAccount[] {
  return [...new Set(rows.map(({ account }) => account))];
}

function cellsOf(rows: Row[], account: ServiceAccount): string[] {
  const services = ["Pulumi Cloud", "IAM role"] satisfies Question["service"][];
  return [idOf(account), tokenOf(account), ...services.map((service) => summaryOf(rows, account, service))];
}

/** Sums up who is allowed by one service as one service account. */
function summaryOf(rows: Row[], account: ServiceAccount, service: Question["service"]): string {
  const answers = rows.filter((row) => row.account === account && row.service === service);
  if (answers.length === 0) return account.role ? NOT_ASKED : "no role";
  const count = unexpected(answers).length;
  if (count > 0) return `${count} unexpected`;
  const others = sharers(rows, account, service).length;
  return others > 0 ? `itself (+${others})` : "only itself";
}

/** Returns whose access token a service account is granted, such as `team:platform`. */
function tokenOf({ tokenType, tokenScope }: ServiceAccount): string {
  if (tokenType !== "organization") return tokenScope;
  return tokenScope === "admin" ? "organization (admin)" : "organization";
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
function sharers(rows: Row[], account: ServiceAccount, service: Question["service"]): string[] {
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
