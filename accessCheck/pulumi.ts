// The Pulumi CLI as the live check runs it. Each of these commands only reads.

import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { type Plan, parsePlan } from "./plan";
import { shellQuoted } from "./terminal";

interface PulumiOptions {
  /** Variables besides those of this process. */
  environment?: Record<string, string>;
  /** The time limit, in seconds: a minute by default. */
  seconds?: number;
}

/**
 * Runs the Pulumi CLI with these arguments, and returns its standard output.
 *
 * @throws PulumiError if it fails, or if it takes longer than its time limit; Error if it is not installed.
 */
export type Pulumi = (args: string[], options?: PulumiOptions) => Promise<string>;

/** A failure of the Pulumi CLI. */
export class PulumiError extends Error {
  constructor(
    message: string,
    /** What it has printed. */
    readonly stderr: string,
    readonly stdout = "",
  ) {
    super(message);
  }
}

/**
 * Returns the function that runs the Pulumi CLI.
 *
 * @param stop ends the command that runs.
 * @param cwd the directory of the program.
 */
export function pulumiRunner(stop: AbortSignal, cwd: string): Pulumi {
  return async (args, { environment = {}, seconds = 60 } = {}) => {
    const timeout = AbortSignal.timeout(seconds * 1000);
    const running = promisify(execFile)("pulumi", args, {
      cwd,
      env: { ...process.env, ...environment },
      signal: AbortSignal.any([stop, timeout]),
      maxBuffer: 2 ** 28,
    });
    running.child.stdin?.end();
    try {
      return (await running).stdout;
    } catch (error) {
      const failure = error as Error & { stdout?: string; stderr?: string; code?: unknown };
      const { stdout = "", stderr = "", code, message } = failure;
      if (code === "ENOENT") {
        throw new Error("pulumi is not on PATH. To install it: https://www.pulumi.com/docs/install/");
      }
      const command = ["pulumi", ...args.filter((arg) => !arg.startsWith("--"))].join(" ");
      const reason = timeout.aborted ? `no answer within ${seconds} s` : stderr.trim() || message;
      throw new PulumiError(`Failed to run ${command}: ${reason}`, stderr, stdout);
    }
  };
}

/** In seconds. A preview reads every resource of the stack. */
const PREVIEW_SECONDS = 900;

/**
 * Previews the update of a program that is deployed, after reading everything that exists.
 *
 * @param stack its name.
 * @throws Error that says why the preview failed.
 */
export async function previewStack(stack: string, pulumi: Pulumi): Promise<Plan> {
  const options = ["--refresh", "--json", "--show-sames", "--non-interactive", `--stack=${stack}`];
  const source = "The output of pulumi preview";
  try {
    return parsePlan(await pulumi(["preview", ...options], { seconds: PREVIEW_SECONDS }), source);
  } catch (error) {
    // If the engine has started, the reason is in its diagnostics.
    if (error instanceof PulumiError && error.stdout.trim() !== "") parsePlan(error.stdout, source);
    throw error;
  }
}

/**
 * Returns what the API of Pulumi Cloud has at a path of an organization; undefined if it has nothing there.
 *
 * @param permission that the request requires, for the message of an error.
 * @throws Error that names the permission.
 */
export type ReadApi = (permission: string, ...path: string[]) => Promise<unknown>;

/**
 * Returns the function that reads the API. https://www.pulumi.com/docs/reference/cloud-rest-api/
 *
 * @param apiUrl of Pulumi Cloud, without a path.
 */
export function apiReader(organization: string, apiUrl: string, pulumi: Pulumi): ReadApi {
  return async (permission, ...path) => {
    const endpoint = `/api/orgs/${[organization, ...path].map(encodeURIComponent).join("/")}`;
    // The CLI otherwise asks the backend of its current login, which can be another Pulumi Cloud.
    const environment = { PULUMI_BACKEND_URL: apiUrl };
    try {
      return JSON.parse(await pulumi(["api", endpoint, "--non-interactive"], { environment }));
    } catch (error) {
      if (!(error instanceof PulumiError)) throw error;
      // It prints an error as JSON: pkg/cmd/pulumi/cloud/envelope.go in pulumi/pulumi.
      if (/"httpStatus": *404\b/.test(error.stderr)) return undefined;
      const [, reported] = /"message": *("(?:[^"\\]|\\.)*")/.exec(error.stderr) ?? [];
      const failure = reported
        ? `Failed to run pulumi api ${endpoint}: ${JSON.parse(reported)}`
        : error.message;
      throw new Error(
        `${failure}\nThis requires the permission ${permission} in organization ${organization}, which the role Admin contains, and a login.\nTo sign in: pulumi login ${shellQuoted(apiUrl)}`,
      );
    }
  };
}
