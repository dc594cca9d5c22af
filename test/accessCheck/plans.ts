// Runs `npm start -- --plan` on plans. draft.ts has plans of the program as values, and plan.engine.test.ts real ones.

import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { checkPlan } from "../../accessCheck/checkPlan";
import type { ReportOptions } from "../../accessCheck/screen";
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
 * @returns with `changes`: the table of them.
 */
export async function check(directory: string, plan: string, options: ReportOptions = {}) {
  const file = join(directory, "plan.json");
  await writeFile(file, plan);
  const [printed, errors]: [string[], string[]] = [[], []];
  const output = {
    log: (line: string) => void printed.push(line),
    error: (line: string) => void errors.push(line),
  };
  const exitCode = await checkPlan(file, options, output);
  const stdout = printed.join("\n");
  const [, changes = ""] = /^What the plan changes\n(.*?)\n\n/ms.exec(stdout) ?? [];
  return { exitCode, stdout, stderr: errors.join("\n").trim(), changes };
}

/** Previews a stack on the engine, and checks the plan. */
export async function checkedPlan(
  t: TestContext,
  pulumi: (...args: string[]) => Promise<Outcome>,
  ...options: string[]
) {
  const { stdout } = succeeded(await pulumi("preview", "--json", "--show-sames", ...options));
  return check(temporaryDirectory(t), stdout);
}
