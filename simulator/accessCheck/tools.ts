// The programs that the live check runs: aws, kubectl, and pulumi.

import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";

const TIMEOUT_SECONDS = 60;

const TOOLS = {
  aws: "https://docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html",
  kubectl: "https://kubernetes.io/docs/tasks/tools/",
  pulumi: "https://www.pulumi.com/docs/install/",
};

export interface RunOptions {
  /** Ends the message of a failure. */
  advice?: string;
  /** Variables besides those of this process. */
  environment?: Record<string, string>;
}

/**
 * Runs a program in the directory of the project, and returns its standard output.
 *
 * @throws ToolError if the program fails, or if it takes longer than a minute; Error if it is not installed.
 */
export type Run = (tool: keyof typeof TOOLS, args: string[], options?: RunOptions) => Promise<string>;

/** The failure of a program. Its message does not contain the options, which name temporary files. */
export class ToolError extends Error {
  constructor(
    message: string,
    /** What the program has printed on standard error. */
    readonly stderr: string,
  ) {
    super(message);
  }
}

/** @param stop ends the program that runs. */
export function toolRunner(stop: AbortSignal): Run {
  return async (tool, args, { advice = "", environment = {} } = {}) => {
    const timeout = AbortSignal.timeout(TIMEOUT_SECONDS * 1000);
    const options = {
      cwd: join(__dirname, "..", ".."),
      env: { ...process.env, ...environment },
      signal: AbortSignal.any([stop, timeout]),
      maxBuffer: 2 ** 28,
    };
    try {
      return (await promisify(execFile)(tool, args, options)).stdout;
    } catch (error) {
      const { stderr = "", code, message } = error as Error & { stderr?: string; code?: unknown };
      if (code === "ENOENT") throw new Error(`${tool} is not on PATH. To install it: ${TOOLS[tool]}`);
      const firstOption = args.findIndex((arg) => arg.startsWith("--"));
      const end = args.indexOf("--");
      const names = end < 0 ? [] : args.slice(end + 1);
      const command = [tool, ...args.slice(0, firstOption), ...names].join(" ");
      const reason = timeout.aborted ? `no answer within ${TIMEOUT_SECONDS} s` : stderr.trim() || message;
      throw new ToolError(`Failed to run ${command}: ${reason}${advice}`, stderr);
    }
  };
}
