// Runs `npm start -- --plan` on plans. draft.ts has plans of the program as values, and plan.engine.test.ts real ones.

import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { checkPlan, type PlanOptions } from "../../accessCheck/checkPlan";
import type { Step } from "../../accessCheck/plan";
import { succeeded } from "../support/engineOutcome";
import type { Outcome } from "../support/pulumiCli";
import { temporaryDirectory } from "../support/temporaryDirectory";

/** Returns what a preview with these steps prints. */
export function planOf(steps: object[], config: Record<string, string> = {}): string {
  return JSON.stringify({ config, steps, duration: 1, changeSummary: { same: steps.length } });
}

/**
 * Checks a plan.
 *
 * @returns with `settings`, the table of those that change, and `rows`, the list of what the update does.
 */
export async function check(directory: string, plan: string | Buffer, options: PlanOptions = {}) {
  const file = join(directory, "plan.json");
  await writeFile(file, plan);
  const [printed, errors]: [string[], string[]] = [[], []];
  const output = {
    log: (line: string) => void printed.push(line),
    error: (line: string) => void errors.push(line),
  };
  const exitCode = await checkPlan(file, options, output);
  const stdout = printed.join("\n");
  const [, settings = ""] = /^Changed settings\n(.*?)\n\n/ms.exec(stdout) ?? [];
  const [, rows = ""] = /^What the update does\n(.*?)\n\n/ms.exec(stdout) ?? [];
  return { exitCode, stdout, stderr: errors.join("\n").trim(), settings, rows };
}

/** Returns these steps after those of a refresh that has found no difference. */
export function refreshed(steps: Step[]): Step[] {
  const existing = steps.flatMap(({ urn, oldState }) => (oldState ? { urn, oldState } : []));
  return [...existing.map((it) => ({ ...it, op: "refresh", newState: it.oldState })), ...steps];
}

type Pulumi = (...args: string[]) => Promise<Outcome>;

/** Previews a stack on the engine, and checks the plan. */
export async function checkedPlan(t: TestContext, pulumi: Pulumi, ...options: string[]) {
  const { stdout } = succeeded(await pulumi("preview", "--json", "--show-sames", ...options));
  return check(temporaryDirectory(t), stdout);
}

/** Checks what exists of a stack: a plan with a refresh, in which no changes are expected. */
export async function checkedExisting(t: TestContext, pulumi: Pulumi) {
  const { stdout } = succeeded(await pulumi("preview", "--refresh", "--json", "--show-sames"));
  return check(temporaryDirectory(t), stdout, { expectNoChanges: true });
}
