// `npm start -- --live`: compares what exists with the program. It only reads, and requests no token.

import { additionsTo } from "./additions";
import { type PlanReport, printReports, reportOn } from "./checkPlan";
import { outsideOf, type PlannedComponent, readComponents } from "./components";
import { stepLines } from "./elsewhere";
import { isChanged, type Plan } from "./plan";
import { type Pulumi, previewStack, pulumiRunner } from "./pulumi";
import { registrationAdditions } from "./registration";
import { type Output, openScreen, type Screen } from "./screen";
import { shellQuoted, visible, withoutTokens } from "./terminal";

/** What the check uses of this machine. */
export interface Surroundings {
  pulumi: Pulumi;
  /** Ends the check, and what it runs. */
  stop: AbortController;
  output: Output;
}

/**
 * Checks a stack for the command line: a signal, or a reader that stops reading, ends the check.
 *
 * @param options the name of the stack, and the directory of its program.
 * @returns the exit code of checkLiveAccess.
 */
export function startLiveCheck({ stack, cwd }: { stack: string; cwd: string }): Promise<number> {
  const stop = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
    process.on(signal, () => stop.abort());
  }
  // `npm start -- --live | head`.
  process.stdout.on("error", () => stop.abort());
  if (process.stderr.isTTY) {
    console.error("pulumi preview --refresh reads what exists. This can take minutes.");
  }
  return checkLiveAccess(stack, { pulumi: pulumiRunner(stop.signal, cwd), stop, output: console });
}

/**
 * Compares a deployed stack with its program, and prints the result. Does not throw.
 *
 * @returns the exit code: 0 if what exists is what the program says, and that is what its settings mean; 1 if something
 *   differs; 2 if something could not be read; 130 if the check was interrupted.
 */
export async function checkLiveAccess(
  stack: string,
  { pulumi, stop, output }: Surroundings,
): Promise<number> {
  const screen = openScreen("text", output);
  const banner = (verdict: string) =>
    screen.banner(`Live access check of stack ${visible(stack)}: ${verdict} Nothing was changed.`);
  try {
    const plan = await previewStack(stack, pulumi);
    const components = readComponents(plan);
    if (!components.some(({ isDeployed }) => isDeployed)) {
      const command = `pulumi up --stack ${shellQuoted(stack)}`;
      throw new Error(`Stack "${stack}" is not deployed. To deploy it: ${command}`);
    }
    const reports: PlanReport[] = [];
    for (const component of components) {
      reports.push(await liveReportOn(component, pulumi));
    }
    const exitCode = printComparison(plan, reports, screen, banner);
    // Its reader may have stopped reading.
    return stop.signal.aborted ? 130 : exitCode;
  } catch (error) {
    if (stop.signal.aborted) return 130;
    banner("it could not be compared.");
    screen.error(withoutTokens(error instanceof Error ? error.message : String(error)));
    return 2;
  }
}

/** Compares a component with its settings, and with what was added to it. */
async function liveReportOn(component: PlannedComponent, pulumi: Pulumi): Promise<PlanReport> {
  const inCluster = additionsTo(component.resources);
  const registered = await registrationAdditions(component, pulumi);
  const found = [...registered.found, ...inCluster.found].map((text) => ({ text }));
  const notes = [...registered.notes, ...inCluster.notes].map((text) => ({ text }));
  const report = reportOn(component);
  return { ...report, findings: [...report.findings, ...found], notes };
}

/** Prints what differs, and what the access check finds. @returns the exit code. */
function printComparison(
  plan: Plan,
  reports: PlanReport[],
  screen: Screen,
  banner: (verdict: string) => void,
): number {
  const outside = outsideOf(plan);
  const own = plan.resources.filter((it) => isChanged(it) && !outside.includes(it));
  const isOwn =
    own.length > 0 || reports.some(({ findings, changes }) => findings.length > 0 || changes.length > 0);
  const isElsewhere = outside.some(isChanged);

  if (isOwn) banner("the component differs.");
  else if (isElsewhere) banner("the component is as its program says, other resources differ.");
  else banner("everything is as its program says.");
  if (own.length > 0) {
    screen.title("Resources of the component that differ");
    screen.print(...stepLines(own));
  }
  printReports(plan, reports, screen);
  screen.lastLine("Live check");
  return isOwn || isElsewhere ? 1 : 0;
}
