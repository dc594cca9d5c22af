// `npm start -- --plan FILE`: what the update of a plan changes, and who would be granted what.

import { createReadStream } from "node:fs";
import { changesOf } from "../accessCheck/changes";
import { componentsIn, type PlannedComponent } from "../accessCheck/component";
import { parsePlan } from "../accessCheck/plan";
import { isAsIntended } from "../accessCheck/report";
import { visible } from "../accessCheck/terminal";
import { startReplay } from "./replay";
import { generatedPolicies } from "./runReport";
import { formatOf, type Output, openScreen, type ReportOptions, type Screen } from "./screen";
import { checkSimulatedAccess } from "./simulatedAccess";

const MAX_MEGABYTES = 200;

/**
 * Checks what `pulumi preview --json --show-sames` has printed, and prints the result, or why there is none. Does not throw.
 *
 * @param file the path of what it has printed; `-` for standard input.
 * @returns the exit code: 0 if every answer of the access check is the intended one, 1 if one is not, 2 if the file cannot be read.
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
    banner(` of stack ${visible(plan.stack)}`);
    const exitCode = await checkComponents(componentsIn(plan), options, screen);
    screen.lastLine("Plan");
    return exitCode;
  } catch (error) {
    screen.error(error);
    return 2;
  }
}

async function readPlan(file: string) {
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

async function checkComponents(
  components: PlannedComponent[],
  options: ReportOptions,
  screen: Screen,
): Promise<number> {
  if (options.policies) {
    const policies = components.map(({ name, planned }) => [
      name,
      planned ? generatedPolicies(planned) : null,
    ]);
    screen.json(Object.fromEntries(policies));
    return 0;
  }
  let allAsIntended = true;
  for (const { name, deployed, planned } of components) {
    if (components.length > 1) screen.title(`Component ${visible(name)}`);
    screen.changes(changesOf(deployed(), planned));
    if (!planned) continue;
    const { simulation, accounts } = await startReplay(planned);
    try {
      const result = await checkSimulatedAccess(simulation, planned, accounts);
      screen.access(result, generatedPolicies(planned), options.verbose ?? false);
      allAsIntended &&= isAsIntended(result);
    } finally {
      await simulation.close();
    }
  }
  return allAsIntended ? 0 : 1;
}
