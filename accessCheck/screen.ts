// Where the access check prints a report, and in which form.

import { stripVTControlCharacters } from "node:util";
import type { Change } from "./changes";
import { accessLines, changeLines, type Report } from "./report";
import { paint, printableJson, visible, wrap } from "./terminal";

/** The options of `npm start` about its report. */
export interface ReportOptions {
  /** Prints each resource and the output of each Job, even where there are many. */
  verbose?: boolean;
  /** Prints the policies as JSON, and nothing else. */
  policies?: boolean;
  /** Prints the report as a code block of Markdown. */
  markdown?: boolean;
}

export type Format = "text" | "json" | "markdown";

/** Where the result and the errors are printed: on standard output and standard error, or on other streams. */
export type Output = Pick<Console, "log" | "error">;

export type Screen = ReturnType<typeof openScreen>;

/** Returns the form of the report: Markdown wins over JSON. */
export function formatOf({ policies, markdown }: ReportOptions): Format {
  if (markdown) return "markdown";
  return policies ? "json" : "text";
}

/** What each kind of access check leaves open. */
const LIMITS = {
  Simulation:
    "Simulation only: it cannot tell whether the cluster, teams, users, and runner pools exist, or whether a pool's ID and name belong together.",
  Plan: "Plan only: it cannot tell whether the cluster, teams, users, and runner pools exist, or whether a pool's ID and name belong together.",
  "Live check":
    "Live check only: it reads, and requests no token. Whether Pulumi Cloud and AWS decide as the policies say is what the Jobs and examples/token-check.yaml test.",
};

const FENCE = "```";

/** GitHub shows no job summary above 1 MiB. */
const MAX_MARKDOWN_BYTES = 900_000;

/** Returns what prints a report. `json` leaves standard output to one value, and says the rest on standard error. */
export function openScreen(format: Format, output: Output) {
  let isFenced = false;
  let bytes = 0;
  let leftOut = 0;

  function print(...lines: string[]): void {
    if (format !== "markdown") {
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
  /** Prints what a reader should know, on standard error if standard output is JSON. */
  function say(text: string, indent: number): void {
    if (format === "json") output.error(visible(text));
    else print(...wrap(text, indent, indent).map((line) => (indent === 0 ? paint("bold", line) : line)));
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
    banner(text: string): void {
      say(text, 0);
    },
    /** Prints what a reader should know. */
    notes(...notes: string[]): void {
      for (const note of notes) say(note, 2);
    },
    /** Says what is left open, and ends the report. */
    lastLine(what: "Simulation" | "Plan" | "Live check"): void {
      if (format !== "json") print("");
      say(LIMITS[what], 0);
      end();
    },
    /** Returns whether the report is longer than GitHub shows. */
    isCutOff: () => leftOut > 0,
    json(value: object): void {
      output.log(printableJson(value));
    },
    /** Prints what a plan changes. */
    changes(changes: Change[]): void {
      title("What the plan changes");
      print(...changeLines(changes));
    },
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
