// Where `npm start` prints a report, and in which form.

import { accessLines, accessMarkdown, markdownText, type Result } from "../accessCheck/answerReport";
import { paint, printableJson, visible, wrap } from "../accessCheck/terminal";

/** The options of `npm start` about its report. */
export interface ReportOptions {
  /** Prints every resource, the output of every Job, and every answer. */
  verbose?: boolean;
  /** Prints the policies as JSON, and nothing else. */
  policies?: boolean;
  /** Prints the access check and the policies as Markdown. */
  markdown?: boolean;
}

export type Format = "text" | "json" | "markdown";

/** Where the result and the errors are printed: on standard output and standard error, or on other streams. */
export type Output = Pick<Console, "log" | "error">;

export type Screen = ReturnType<typeof openScreen>;

export function formatOf({ policies, markdown }: ReportOptions): Format {
  if (markdown) return "markdown";
  return policies ? "json" : "text";
}

export function openScreen(format: Format, output: Output) {
  function print(...lines: string[]): void {
    for (const line of lines) output.log(line);
  }
  function title(text: string): void {
    print("", format === "markdown" ? `## ${markdownText(text)}` : paint("bold", text));
  }
  /** Prints the first or the last line, on standard error if standard output is JSON. */
  function banner(text: string): void {
    if (format === "markdown") print(`> ${markdownText(text)}`, "");
    else if (format === "json") output.error(visible(text));
    else print(...wrap(text, 0, 0).map((line) => paint("bold", line)));
  }
  return {
    print,
    title,
    banner,
    /** Says what the emulators leave open. */
    lastLine(what: "Simulation" | "Plan"): void {
      if (format === "text") print("");
      banner(
        `${what} only: it cannot tell whether the cluster, teams, users, and runner pools exist, or whether a pool's ID and name belong together.`,
      );
    },
    json(value: object): void {
      print(printableJson(value));
    },
    /** Prints the access check, in Markdown with the policies. */
    access(result: Result, policies: object, verbose: boolean): void {
      if (format === "markdown") {
        print(accessMarkdown(result), "", "<details><summary>Policies</summary>", "", "```json");
        print(printableJson(policies), "```", "", "</details>", "");
      } else {
        print("", paint("bold", "Access check"), ...accessLines(result, verbose));
      }
    },
    /** Prints what a reader should know, on standard error if standard output is JSON. */
    notes(...notes: string[]): void {
      for (const note of notes) {
        if (format === "text") print(...wrap(note, 2, 2));
        else banner(note);
      }
    },
    error(error: unknown): void {
      const message = error instanceof Error ? error.message : String(error);
      const lines = message.trimEnd().split("\n").map(visible);
      output.error(`\n${paint("red", lines.join("\n"), process.stderr)}`);
    },
  };
}
