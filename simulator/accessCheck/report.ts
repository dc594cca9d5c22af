// How the access check is reported: in a terminal of 80 columns, and as Markdown.

import { adviceFor, idOf, type Question, type Row, type ServiceAccount, unexpected } from "./questions";
import { paint, WIDTH, wrap } from "./terminal";

/**
 * Returns the access check as lines: one for each service account, and one for each unexpected answer.
 *
 * @param verbose one for each answer instead.
 */
export function accessLines(rows: Row[], verbose: boolean): string[] {
  const header = ["Service account", "Pulumi Cloud", "IAM role"];
  const accounts = accountsOf(rows);
  const table = accounts.map((account) => [idOf(account), ...counts(rows, account)]);
  const width = (column: number) => Math.max(...[header, ...table].map((cells) => cells[column]?.length ?? 0));
  const first = Math.min(width(0), WIDTH - 6 - width(1) - width(2));
  const line = ([id = "", pulumiCloud = "", role = ""]: string[] = []) => {
    // A long name has its own line.
    const start = id.length > first ? `  ${id}\n${" ".repeat(first + 2)}` : `  ${id.padEnd(first)}`;
    return `${start}  ${pulumiCloud.padEnd(width(1))}  ${role}`;
  };
  return [
    paint("bold", line(header)),
    ...accounts.flatMap((account, index) => {
      const answers = rows.filter((row) => row.account === account);
      const found = unexpected(answers);
      return [
        paint(found.length > 0 ? "yellow" : "green", line(table[index])),
        ...(verbose ? wrap(tokenOf(account), 4) : []),
        ...(verbose ? answers : found).flatMap(answerLines),
      ];
    }),
    ...legend(rows).flatMap((text) => ["", ...wrap(text, 2)]),
    "",
    ...wrap(verdict(rows), 2).map((line) => paint(unexpected(rows).length > 0 ? "yellow" : "green", line)),
  ];
}

function answerLines(row: Row): string[] {
  const isUnexpected = row.allowed !== row.intended;
  const reason = row.allowed ? "" : ` (${row.reason})`;
  const advice = isUnexpected ? ` ${adviceFor(row)}` : "";
  const style = isUnexpected ? "yellow" : row.allowed ? "green" : "dim";
  const text = `${row.caller.label}: ${outcome(row)} by ${row.service}${reason}.${advice}`;
  return wrap(text, 4).map((line) => paint(style, line));
}

/** Returns the access check as Markdown. */
export function accessMarkdown(rows: Row[]): string {
  const table = accountsOf(rows).map((account) => {
    const cells = [`\`${idOf(account)}\``, tokenOf(account), ...counts(rows, account)];
    return `| ${cells.join(" | ")} |`;
  });
  const found = unexpected(rows).map(
    (row) =>
      `- \`${idOf(row.account)}\`, ${row.caller.label}: **${outcome(row)}** by ${row.service}. ${adviceFor(row)}`,
  );
  return [
    "| Service account | Access token | Pulumi Cloud | IAM role |",
    "| --- | --- | --- | --- |",
    ...table,
    "",
    [verdict(rows), ...legend(rows)].join(" "),
    ...(found.length > 0 ? ["", ...found] : []),
  ].join("\n");
}

/** Returns the sentence that sums up the access check. */
function verdict(rows: Row[]): string {
  const count = unexpected(rows).length;
  const callers = rows.filter(({ service }) => service === "Pulumi Cloud").length;
  const checked = `(${plural(accountsOf(rows).length, "service account")}, ${plural(callers, "caller")})`;
  if (count === 0) return `All ${rows.length} answers are as expected ${checked}.`;
  return `${count} of ${rows.length} answers ${count === 1 ? "is" : "are"} unexpected ${checked}.`;
}

/** Explains `(+N)`, if a count contains it. */
function legend(rows: Row[]): string[] {
  const isShared = rows.some(({ caller, intended }) => intended && caller.label !== "itself");
  return isShared ? ["(+N): N other service accounts, which are granted the same access token."] : [];
}

function accountsOf(rows: Row[]): ServiceAccount[] {
  return [...new Set(rows.map(({ account }) => account))];
}

/** Counts the answers of both services for one service account, such as `allowed, 6 denied`. */
function counts(rows: Row[], account: ServiceAccount): string[] {
  return (["Pulumi Cloud", "IAM role"] satisfies Question["service"][]).map((service) => {
    const [itself, ...others] = rows.filter((row) => row.account === account && row.service === service);
    if (!itself) return "no role";
    const shared = others.filter(({ allowed, intended }) => allowed && intended).length;
    const denied = others.filter(({ allowed }) => !allowed).length;
    const expected = others.length - shared;
    const of = denied === expected ? "" : ` of ${expected}`;
    return `${outcome(itself)}${shared > 0 ? ` (+${shared})` : ""}, ${denied}${of} denied`;
  });
}

function tokenOf({ tokenType, tokenScope }: ServiceAccount): string {
  return `${tokenType} token${tokenScope && `, scope ${tokenScope}`}`;
}

function outcome({ allowed }: Row): string {
  return allowed ? "allowed" : "denied";
}

function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}
