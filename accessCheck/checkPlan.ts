// `npm start -- --plan FILE`: whether the components of a plan are as their settings say, and what its update does.

import { createReadStream } from "node:fs";
import { buffer } from "node:stream/consumers";
import { comparisonOf } from "./compare";
import { isRemaining, type PlannedComponent, readComponents } from "./components";
import { type Plan, parsePlan } from "./plan";
import { deletedText, settingsLines, updateLines } from "./report";
import { type Output, openScreen, type ReportOptions, type Screen } from "./screen";
import { type SettingsChange, settingsChanges } from "./settingsChanges";
import { plural, wrap } from "./terminal";
import { type Compared, configLines, updateRows } from "./updateList";

/** The options of `npm start` for a plan. */
export interface PlanOptions extends ReportOptions {
  /** Ends with 1 if the update changes anything, or something exists beside the program. Requires a preview with `--refresh`. */
  expectNoChanges?: boolean;
}

/**
 * Checks what `pulumi preview --json --show-sames` has printed, and prints the result, or why there is none. Does not throw.
 *
 * @param file the path of what it has printed; `-` for standard input.
 * @returns the exit code: 0 if every component is as its settings say; 1 if something is not, if something changes that should not, or
 *   if the report is longer than GitHub shows; 2 if the file cannot be read or compared.
 */
export async function checkPlan(
  file: string,
  options: PlanOptions,
  output: Output = console,
): Promise<number> {
  const screen = openScreen(options, output);
  try {
    const plan = await readPlan(file);
    screen.banner(`Access check of a plan of stack ${plan.stack}: nothing is created outside this machine.`);
    const components = readComponents(plan);
    if (options.expectNoChanges) requireRefresh(plan);
    const isAsExpected = printReport(plan, components, options, screen);
    screen.lastLine(comparedText(plan));
    return screen.isCutOff() || !isAsExpected ? 1 : 0;
  } catch (error) {
    screen.error(error);
    return 2;
  }
}

async function readPlan(file: string): Promise<Plan> {
  try {
    const printed = await buffer(file === "-" ? process.stdin : createReadStream(file));
    // Windows PowerShell writes UTF-16, with a byte order mark.
    const isUtf16 = printed[0] === 0xff && printed[1] === 0xfe;
    const text = new TextDecoder(isUtf16 ? "utf-16le" : "utf-8").decode(printed);
    return parsePlan(text, file === "-" ? "Standard input" : file);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (!code) throw error;
    // Node.js adds the name of a file that it cannot open.
    throw new Error(`Failed to read ${file}: ${message.replace(/, open '.*'$/, "")}`);
  }
}

/** Returns whether anything of a program is deployed. */
function isDeployed({ resources }: Plan): boolean {
  return resources.some(({ oldState }) => oldState !== undefined);
}

/** @throws Error if a plan does not say what exists. */
function requireRefresh(plan: Plan): void {
  if (plan.isRefreshed || !isDeployed(plan)) return;
  throw new Error(
    "This plan compares the program with the state, and not with what exists, which --expect-no-changes requires. Preview it with --refresh.",
  );
}

/** Says what a plan compares the program with. */
function comparedText(plan: Plan): string {
  if (!isDeployed(plan)) return "Compared with the settings: nothing of this program is deployed yet.";
  if (plan.isRefreshed) return "Compared with what exists, as the preview has read it.";
  return "Compared with the state, which can differ from what exists: preview with --refresh to compare with that.";
}

/** Prints what changes and what is found, component by component, and what the update does. @returns whether all is as expected. */
function printReport(
  plan: Plan,
  components: PlannedComponent[],
  { expectNoChanges = false }: PlanOptions,
  screen: Screen,
): boolean {
  const compared = components.map((component): Compared => {
    return { component, comparison: isRemaining(component) ? comparisonOf(component) : undefined };
  });
  const changes: SettingsChange[] = [];
  for (const { component, comparison } of compared) {
    if (compared.length > 1) screen.title(`Component ${component.name}`);
    const ofComponent = settingsChanges(component);
    changes.push(...ofComponent);
    screen.title("Changed settings");
    screen.print(...settingsLines(ofComponent));
    if (isRemaining(component) && comparison) screen.access({ ...comparison, component });
    else screen.print("", ...wrap(deletedText(component), 2));
  }

  const rows = updateRows(plan, compared);
  screen.title("What the update does");
  screen.print(...configLines(plan).flatMap((line) => wrap(line, 2)));
  screen.print(...(rows.length > 0 ? updateLines(rows) : ["  Nothing."]));

  const findings = compared.flatMap(({ comparison }) => comparison?.findings ?? []);
  if (!expectNoChanges) return findings.length === 0;
  const differing = rows.filter(({ isOfOthers }) => !isOfOthers);
  const count = differing.length + changes.length;
  screen.print(
    "",
    ...wrap(count === 0 ? "No changes, as expected." : `${plural(count, "change")}, none expected.`, 2),
  );
  return findings.length + count === 0;
}
