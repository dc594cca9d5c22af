// `npm start -- --plan FILE`: what the update of a plan changes, and who would be granted what.

import { createReadStream } from "node:fs";
import { changesIn } from "./changes";
import type { PlannedComponent } from "./components";
import { findingsIn } from "./findings";
import { type Plan, parsePlan } from "./plan";
import { readComponents } from "./readComponents";
import { generatedPolicies } from "./report";
import { formatOf, type Output, openScreen, type ReportOptions, type Screen } from "./screen";
import { visible } from "./terminal";

const MAX_MEGABYTES = 200;

/**
 * Checks what `pulumi preview --json --show-sames` has printed, and prints the result, or why there is none. Does not throw.
 *
 * @param file the path of what it has printed; `-` for standard input.
 * @returns the exit code: 0 if everything is as the settings intend, 1 if something is not, 2 if the file cannot be read.
 */
export async function checkPlan(
  file: string,
  options: ReportOptions,
  output: Output = console,
): Promise<number> {
  const screen = openScreen(formatOf(options), output);
  const banner = (which: string) =>
    screen.banner(`Access check of a plan${which}: nothing is created outside this machine.`);
  try {
    const plan = await readPlan(file).catch((error) => {
      banner("");
      throw error;
    });
    banner(` of stack ${plan.stack}`);
    const components = readComponents(plan);
    const exitCode = options.policies ? printPolicies(components, screen) : printReports(components, screen);
    screen.lastLine("Plan");
    return exitCode;
  } catch (error) {
    screen.error(error);
    return 2;
  }
}

async function readPlan(file: string): Promise<Plan> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of file === "-" ? process.stdin : createReadStream(file)) {
      chunks.push(chunk);
      bytes += chunk.length;
      if (bytes > MAX_MEGABYTES * 1_000_000) throw new Error(`it has more than ${MAX_MEGABYTES} MB`);
    }
  } catch (error) {
    // Node.js adds the name of a file that it cannot open.
    const reason = (error as Error).message.replace(/, open '.*'$/, "");
    throw new Error(`Failed to read ${file}: ${reason}`);
  }
  return parsePlan(Buffer.concat(chunks).toString(), file === "-" ? "Standard input" : file);
}

function printPolicies(components: PlannedComponent[], screen: Screen): number {
  const policies = components.map((it) => [it.name, it.isDeleted ? null : generatedPolicies(it)]);
  screen.json(Object.fromEntries(policies));
  return 0;
}

function printReports(components: PlannedComponent[], screen: Screen): number {
  let exitCode = 0;
  for (const component of components) {
    if (components.length > 1) screen.title(`Component ${visible(component.name)}`);
    screen.changes(changesIn(component));
    if (component.isDeleted) continue;
    const findings = findingsIn(component);
    screen.access({ component, findings });
    if (findings.length > 0) exitCode = 1;
  }
  return exitCode;
}
