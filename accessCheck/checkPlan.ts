// `npm start -- --plan FILE`: what the update of a plan changes, and whether its components are as their settings say.

import { createReadStream } from "node:fs";
import { text } from "node:stream/consumers";
import { type Change, changesIn } from "./changes";
import { comparisonOf } from "./compare";
import { type PlannedComponent, readComponents } from "./components";
import { elsewhereLines } from "./elsewhere";
import { type Plan, parsePlan } from "./plan";
import { generatedPolicies, type Report } from "./report";
import { formatOf, type Output, openScreen, type ReportOptions, type Screen } from "./screen";

/**
 * Checks what `pulumi preview --json --show-sames` has printed, and prints the result, or why there is none. Does not throw.
 *
 * @param file the path of what it has printed; `-` for standard input.
 * @returns the exit code: 0 if every component is as its settings say; 1 if something is not, or if the report is longer than GitHub
 *   shows; 2 if the file cannot be read.
 */
export async function checkPlan(
  file: string,
  options: ReportOptions,
  output: Output = console,
): Promise<number> {
  const screen = openScreen(formatOf(options), output);
  try {
    const plan = await readPlan(file);
    screen.banner(`Access check of a plan of stack ${plan.stack}: nothing is created outside this machine.`);
    const components = readComponents(plan);
    if (options.policies) return printPolicies(components, screen);
    const reports = components.map(reportOn);
    printReports(plan, reports, screen);
    screen.lastLine("Plan");
    return screen.isCutOff() || reports.some(({ findings }) => findings.length > 0) ? 1 : 0;
  } catch (error) {
    screen.error(error);
    return 2;
  }
}

async function readPlan(file: string): Promise<Plan> {
  try {
    const printed = await text(file === "-" ? process.stdin : createReadStream(file));
    return parsePlan(printed, file === "-" ? "Standard input" : file);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (!code) throw error;
    // Node.js adds the name of a file that it cannot open.
    throw new Error(`Failed to read ${file}: ${message.replace(/, open '.*'$/, "")}`);
  }
}

function printPolicies(components: PlannedComponent[], screen: Screen): number {
  const policies = components.map((it) => [it.name, it.isDeleted ? null : generatedPolicies(it)]);
  screen.json(Object.fromEntries(policies));
  screen.lastLine("Plan");
  return 0;
}

/** What a plan says about one component. */
export interface PlanReport extends Report {
  changes: Change[];
}

/** Compares a component with its settings, before and after the update. */
export function reportOn(component: PlannedComponent): PlanReport {
  return { component, ...comparisonOf(component), changes: changesIn(component) };
}

/** Prints what an update changes and what is found, component by component, and the rest of the update. */
export function printReports(plan: Plan, reports: PlanReport[], screen: Screen): void {
  for (const report of reports) {
    const { name, isDeleted } = report.component;
    if (reports.length > 1) screen.title(`Component ${name}`);
    screen.changes(report.changes);
    if (!isDeleted) screen.access(report);
  }
  screen.title("Elsewhere in the program");
  screen.print(...elsewhereLines(plan));
}
