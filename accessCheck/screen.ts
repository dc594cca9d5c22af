// Where the access check prints a report, and in which form.

import { stripVTControlCharacters } from "node:util";
import { accessLines, type Report } from "./report";
import { paint, visible, wrap } from "./terminal";

/** The options of `npm start` about its report. */
export interface ReportOptions {
  /** Prints the report as a code block of Markdown. */
  markdown?: boolean;
}

/** Where the result and the errors are printed: on standard output and standard error, or on other streams. */
export type Output = Pick<Console, "log" | "error">;

export type Screen = ReturnType<typeof openScreen>;

const LIMITS =
  "It cannot tell whether the cluster, teams, users, and runner pools exist, or whether a pool's ID and name belong together.";

const FENCE = "```";

/** GitHub shows no job summary above 1 MiB. */
const MAX_MARKDOWN_BYTES = 900_000;

/** Returns what prints a report. */
export function openScreen({ markdown = false }: ReportOptions, output: Output) {
  let isFenced = false;
  let bytes = 0;
  let leftOut = 0;

  function print(...lines: string[]): void {
    if (!markdown) {
      for (const line of lines) output.log(line);
      return;
    }
    if (!isFenced) output.log(`${FENCE}text`);
    isFenced = true;
    for (const line of lines) {
      // No value of a plan ends the code block.
      const text = stripVTControlCharacters(line).replaceAll(/`{3,}/g, "'''");
      bytes += Buffer.byteLength(text) + 1;
      if (bytes > MAX_MARKDOWN_BYTES) leftOut += 1;
      else output.log(text);
    }
  }
  function title(text: string): void {
    print("", paint("bold", visible(text)));
  }
  function printBold(text: string): void {
    print(...wrap(text, 0, 0).map((line) => paint("bold", line)));
  }
  function end(): void {
    if (leftOut > 0) {
      output.log(`\n${leftOut} more lines are not shown. For all of them, run it without --markdown.`);
    }
    if (isFenced) output.log(FENCE);
    isFenced = false;
  }
  return {
    print,
    title,
    /** Prints the first line. */
    banner: printBold,
    /** Prints what a reader should know. */
    notes(...notes: string[]): void {
      for (const note of notes) print(...wrap(note, 2, 2));
    },
    /** Prints what was compared, and what that leaves open, and ends the report. */
    lastLine(compared: string): void {
      print("");
      printBold(`${compared} ${LIMITS}`);
      end();
    },
    /** Returns whether the report is longer than GitHub shows. */
    isCutOff: () => leftOut > 0,
    /** Prints the access check. */
    access(report: Report): void {
      title("Access check");
      print(...accessLines(report));
    },
    error(error: unknown): void {
      end();
      const message = error instanceof Error ? error.message : String(error);
      const lines = message.trimEnd().split("\n").map(visible);
      output.error(`\n${paint("red", lines.join("\n"), process.stderr)}`);
    },
  };
}
