// The programs that the live check runs: aws, kubectl, and pulumi.

import { execFile } from "node:child_process";
import { promisify } from "node:util";

const TOOLS = {
  aws: "https://docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html",
  bash: "https://www.gnu.org/software/bash/",
  kubectl: "https://kubernetes.io/docs/tasks/tools/",
  pulumi: "https://www.pulumi.com/docs/install/",
};

/**
 * Runs a program with its standard input as a pipe. Node.js connects a program by a socket, which cannot be opened as
 * `/dev/stdin` on Linux. The input is in no argument and in no variable of the environment: `printf` is a part of bash.
 */
const WITH_PIPE = ["-pc", 'IFS= read -r input; exec "$0" "$@" < <(printf %s "$input")'];

export interface RunOptions {
  /** Ends the message of a failure. */
  advice?: string;
  /** Variables besides those of this process. An undefined one is left out. */
  environment?: Record<string, string | undefined>;
  /** One line for the program's `/dev/stdin`. */
  input?: string;
  /** The time limit, in seconds: a minute by default. */
  seconds?: number;
}

/**
 * Runs a program, and returns its standard output.
 *
 * @throws ToolError if the program fails, or if it takes longer than its time limit; Error if it is not installed.
 */
export type Run = (
  tool: "aws" | "kubectl" | "pulumi",
  args: string[],
  options?: RunOptions,
) => Promise<string>;

/** The failure of a program. Its message does not contain the options, which name temporary files. */
export class ToolError extends Error {
  constructor(
    message: string,
    /** What the program has printed on standard error, and on standard output. */
    readonly stderr: string,
    readonly stdout = "",
  ) {
    super(message);
  }
}

/**
 * @param stop ends the program that runs.
 * @param cwd the directory of each program.
 */
export function toolRunner(stop: AbortSignal, cwd: string): Run {
  return async (tool, args, { advice = "", environment = {}, input, seconds = 60 } = {}) => {
    const timeout = AbortSignal.timeout(seconds * 1000);
    const options = {
      cwd,
      env: { ...process.env, ...environment },
      signal: AbortSignal.any([stop, timeout]),
      maxBuffer: 2 ** 28,
    };
    const program = input === undefined ? tool : "bash";
    const running = promisify(execFile)(
      program,
      input === undefined ? args : [...WITH_PIPE, tool, ...args],
      options,
    );
    // An error here, such as a program that does not read, is the failure of the program, too.
    running.child.stdin?.on("error", () => {}).end(input);
    try {
      return (await running).stdout;
    } catch (error) {
      const failure = error as Error & { stdout?: string; stderr?: string; code?: unknown };
      const { stdout = "", stderr = "", code, message } = failure;
      if (code === "ENOENT") throw new Error(`${program} is not on PATH. To install it: ${TOOLS[program]}`);
      const firstOption = args.findIndex((arg) => arg.startsWith("--"));
      const words = firstOption < 0 ? args : args.slice(0, firstOption);
      const end = args.indexOf("--");
      const names = end < 0 ? [] : args.slice(end + 1);
      const command = [tool, ...words, ...names].join(" ");
      const reason = timeout.aborted ? `no answer within ${seconds} s` : stderr.trim() || message;
      throw new ToolError(`Failed to run ${command}: ${reason}${advice}`, stderr, stdout);
    }
  };
}
