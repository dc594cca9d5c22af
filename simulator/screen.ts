// Where the simulation prints its result and its errors.

import { paint, visible, wrap } from "./terminal";

/** Standard output and standard error, or other streams. */
export type Output = Pick<Console, "log" | "error">;

export type Screen = ReturnType<typeof openScreen>;

const LIMITS =
  "It cannot tell whether the cluster, teams, users, and runner pools exist, or whether a pool's ID and name belong together.";

/** Returns what prints the result. */
export function openScreen(output: Output) {
  function print(...lines: string[]): void {
    for (const line of lines) output.log(line);
  }
  function printBold(text: string): void {
    print(...wrap(text, 0, 0).map((line) => paint("bold", line)));
  }
  return {
    print,
    title(text: string): void {
      print("", paint("bold", visible(text)));
    },
    /** Prints the first line. */
    banner: printBold,
    /** Prints what a reader should know. */
    notes(...notes: string[]): void {
      for (const note of notes) print(...wrap(note, 2, 2));
    },
    /** Prints what was compared, and what that leaves open. */
    lastLine(compared: string): void {
      print("");
      printBold(`${compared} ${LIMITS}`);
    },
    error(error: unknown): void {
      const message = error instanceof Error ? error.message : String(error);
      const lines = message.trimEnd().split("\n").map(visible);
      output.error(`\n${paint("red", lines.join("\n"), process.stderr)}`);
    },
  };
}
