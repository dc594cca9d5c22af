// Runs the live check of a stack in the simulation. `pulumi` is a function that answers from there.

import { checkLiveAccess } from "../../accessCheck/live";
import type { Step } from "../../accessCheck/plan";
import { type Pulumi, PulumiError } from "../../accessCheck/pulumi";
import type { PulumiCloud } from "../../simulator/emulators/pulumiCloud";
import { answerAdmin } from "../support/cloudApi";
import { planOf } from "./plans";

/** A stack that is up. */
export interface LiveStack {
  name: string;
  pulumiCloud: Pick<PulumiCloud, "list">;
  config: Record<string, string>;
  /** Of its preview, without those of the refresh. */
  steps: Step[];
}

/** A call of the Pulumi CLI, and the variables that the check sets. */
interface Call {
  args: string[];
  environment: Record<string, string>;
}

/** Changes what a command prints. If it begins with `error:`, the rest is its standard error, and it fails. */
export type Edit = (stdout: string, call: Call) => string;

/** Runs the check of a stack that is up in the simulation. */
export async function checkLive(stack: LiveStack, edit: Edit = (stdout) => stdout) {
  const calls: Call[] = [];
  const pulumi: Pulumi = async (args, { environment = {} } = {}) => {
    const call = { args, environment };
    calls.push(call);
    const stdout = edit(answerPulumi(stack, args), call);
    if (!stdout.startsWith("error:")) return stdout;
    const stderr = stdout.slice("error:".length);
    throw new PulumiError(`Failed to run pulumi: ${stderr.trim()}`, stderr);
  };
  return { ...(await checkWith(pulumi, stack.name)), calls };
}

/** Runs the check with a Pulumi CLI. @returns with `stdout` and `errors`: what it prints, in one line. */
export async function checkWith(pulumi: Pulumi, stack: string) {
  const [printed, errors]: [string[], string[]] = [[], []];
  const output = { log: (line: string) => printed.push(line), error: (line: string) => errors.push(line) };
  const exitCode = await checkLiveAccess(stack, { pulumi, stop: new AbortController(), output });
  return {
    exitCode,
    lines: printed,
    stdout: inOneLine(printed.join("\n")),
    errors: inOneLine(errors.join(" ")).trim(),
  };
}

/** Returns text with single spaces between its words. */
export function inOneLine(text: string): string {
  return text.replaceAll(/\s+/g, " ");
}

function answerPulumi(stack: LiveStack, [command, endpoint]: string[]): string {
  if (command === "preview") return previewOf(stack);
  const answer = answerAdmin(stack.pulumiCloud, `GET ${endpoint}`);
  if (answer) return JSON.stringify(answer.body, null, 2);
  return 'error:{"error":{"message":"HTTP 404","httpStatus":404}}';
}

/** Returns what a preview prints: first a refresh, then the program. */
export function previewOf({ steps, config }: Pick<LiveStack, "steps" | "config">): string {
  const existing = steps.filter(({ oldState }) => oldState !== undefined);
  const refreshes = existing.map(({ urn, oldState }) => ({
    op: "refresh",
    urn,
    oldState,
    newState: oldState,
  }));
  return planOf([...refreshes, ...steps], config);
}
