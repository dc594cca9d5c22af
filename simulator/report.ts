// How the access check is reported: in a terminal of 80 columns, and as Markdown.

import { styleText } from "node:util";
import { type Answer, type Finding, findings, idOf, type Row, type ServiceAccount } from "./accessCheck";

const WIDTH = 80;

type Style = "bold" | "dim" | "green" | "red" | "yellow";

/** Returns text with a color, if the stream is a terminal and NO_COLOR is not set. */
export function paint(style: Style, text: string, stream: { isTTY?: boolean } = process.stdout): string {
  return stream.isTTY && !process.env.NO_COLOR ? styleText(style, text) : text;
}

/** Returns text in lines of at most 80 columns. Words that are longer stay whole. */
export function wrap(text: string, indent: number, hang = indent + 2): string[] {
  const lines: string[] = [];
  let line = " ".repeat(indent);
  for (const word of text.split(" ")) {
    if (line.trim() && line.length + 1 + word.length > WIDTH) {
      lines.push(line);
      line = " ".repeat(hang);
    }
    line += line.trim() ? ` ${word}` : word;
  }
  return [...lines, line];
}

/**
 * Returns the access check as lines: one for each service account, and one for each unexpected answer.
 *
 * @param verbose every answer with its reason instead.
 */
export function accessLines(rows: Row[], verbose: boolean): string[] {
  const lines = verbose ? everyRow(rows) : summary(rows);
  const { text, isExpected } = verdict(rows);
  return [...lines, "", ...wrap(text, 2).map((line) => paint(isExpected ? "green" : "yellow", line))];
}

/** Returns the sentence that sums up the access check. */
export function verdict(rows: Row[]): { text: string; isExpected: boolean } {
  const unexpected = findings(rows).length;
  const answers = rows.reduce((count, { role }) => count + (role ? 2 : 1), 0);
  const accounts = new Set(rows.map(({ account }) => account)).size;
  const checked = `${plural(accounts, "service account")}, ${plural(rows.length, "caller")}, ${plural(answers, "answer")}`;
  return unexpected === 0
    ? { text: `Access is as intended: ${checked}.`, isExpected: true }
    : { text: `${plural(unexpected, "unexpected answer")}: ${checked}.`, isExpected: false };
}

/** Returns the access check as Markdown. */
export function accessMarkdown(rows: Row[]): string {
  const table = groups(rows).map(
    ({ account, rows }) =>
      `| \`${idOf(account)}\` | ${tokenOf(account)} | ${count(rows, "Pulumi Cloud")} | ${count(rows, "IAM role") || "no role"} |`,
  );
  const unexpected = findings(rows).map(
    ({ row, service, answer, advice }) =>
      `- \`${idOf(row.account)}\`, ${row.caller.label}: **${outcome(answer)}** by ${service}. ${advice}`,
  );
  return [
    "| Service account | Access token | Pulumi Cloud | IAM role |",
    "| --- | --- | --- | --- |",
    ...table,
    "",
    `${verdict(rows).text}${hasShared(rows) ? ` ${SHARED}` : ""}`,
    ...(unexpected.length > 0 ? ["", ...unexpected] : []),
  ].join("\n");
}

const SHARED = "(+N): N other service accounts, which are granted the same access token.";

function summary(rows: Row[]): string[] {
  const table = groups(rows).map(({ account, rows }) => ({
    account,
    cells: [idOf(account), count(rows, "Pulumi Cloud"), count(rows, "IAM role") || "no role"],
    unexpected: findings(rows),
  }));
  const header = ["Service account", "Pulumi Cloud", "IAM role"];
  const width = (column: number) =>
    Math.max(...[header, ...table.map(({ cells }) => cells)].map((row) => row[column]?.length ?? 0));
  const widths = [Math.min(width(0), WIDTH - 6 - width(1) - width(2)), width(1)] as const;
  const line = ([id = "", pulumiCloud = "", role = ""]: string[]) => {
    const rest = `${pulumiCloud.padEnd(widths[1])}  ${role}`;
    // A long name has its own line.
    const first = id.length > widths[0] ? `  ${id}\n${" ".repeat(widths[0] + 2)}` : `  ${id.padEnd(widths[0])}`;
    return `${first}  ${rest}`;
  };
  return [
    paint("bold", line(header)),
    ...table.flatMap(({ cells, unexpected }) => [
      paint(unexpected.length > 0 ? "yellow" : "green", line(cells)),
      ...unexpected.flatMap((finding) => findingLines(finding)),
    ]),
    ...(hasShared(rows) ? ["", ...wrap(SHARED, 2)] : []),
  ];
}

function findingLines({ row, service, answer, advice }: Finding): string[] {
  const reason = answer.allowed ? "" : ` (${answer.reason})`;
  return wrap(`${row.caller.label}: ${outcome(answer)} by ${service}${reason}. ${advice}`, 4).map((line) =>
    paint("yellow", line),
  );
}

function everyRow(rows: Row[]): string[] {
  return groups(rows).flatMap(({ account, rows }) => [
    ...wrap(`${idOf(account)} (${tokenOf(account)})`, 2).map((line) => paint("bold", line)),
    ...rows.flatMap((row) => {
      const unexpected = findings([row]);
      const style = unexpected.length > 0 ? "yellow" : row.pulumiCloud.allowed || row.role?.allowed ? "green" : "dim";
      return [
        `    ${row.caller.label}`,
        ...wrap(`Pulumi Cloud: ${explain(row.pulumiCloud)}`, 6),
        ...(row.role ? wrap(`IAM role: ${explain(row.role)}`, 6) : []),
        ...unexpected.flatMap(({ advice }) => wrap(advice, 6)),
      ].map((line) => paint(style, line));
    }),
  ]);
}

function groups(rows: Row[]): { account: ServiceAccount; rows: Row[] }[] {
  const accounts = [...new Set(rows.map(({ account }) => account))];
  return accounts.map((account) => ({ account, rows: rows.filter((row) => row.account === account) }));
}

/** Counts the answers for one service account, such as `allowed, 6 denied`; empty if the service was not asked. */
function count(rows: Row[], service: Finding["service"]): string {
  const answers = rows.flatMap((row) => {
    const answer = service === "IAM role" ? row.role : row.pulumiCloud;
    return answer ? [{ row, answer }] : [];
  });
  const [itself, ...others] = answers;
  if (!itself) return "";
  const shared = others.filter(({ row, answer }) => answer.allowed && row.intended.pulumiCloud).length;
  const denied = others.filter(({ answer }) => !answer.allowed).length;
  const intended = others.length - shared;
  return [
    `${outcome(itself.answer)}${shared > 0 ? ` (+${shared})` : ""}`,
    denied === intended ? `${denied} denied` : `${denied} of ${intended} denied`,
  ].join(", ");
}

function hasShared(rows: Row[]): boolean {
  return rows.some(({ caller, intended }) => intended.pulumiCloud && caller.label !== "itself");
}

function tokenOf({ tokenType, tokenScope }: ServiceAccount): string {
  return `${tokenType} token${tokenScope && `, scope ${tokenScope}`}`;
}

function outcome({ allowed }: Answer): string {
  return allowed ? "allowed" : "denied";
}

function explain(answer: Answer): string {
  return `${outcome(answer)}: ${answer.reason}`;
}

function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}
