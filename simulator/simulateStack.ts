// The simulation of one stack: runs the program against the emulators, checks access, and prints the result.

import { isClaimOfCluster } from "../accessCheck/allowPolicies";
import { isAsIntended } from "../accessCheck/answerReport";
import { type Component, findComponent } from "../accessCheck/component";
import { visible } from "../accessCheck/terminal";
import { assumedToExist, DEFAULT_REGION, ORGANIZATION, requireSettings, settingNotes } from "./assumptions";
import { Unready } from "./emulators/emulator";
import { startSimulation } from "./emulators/simulation";
import { type Registration, runProgram } from "./runProgram";
import { generatedPolicies, jobLines, resourceLines } from "./runReport";
import { type Format, formatOf, type Output, openScreen, type ReportOptions, type Screen } from "./screen";
import { checkSimulatedAccess } from "./simulatedAccess";
import { findStack, readStackFile, SAMPLE, type StackSource, TEMPLATE_STACK } from "./stackFile";

const SAMPLE_NOTE = `Its settings are in simulator/sample.yaml. To simulate your own stack, edit Pulumi.${TEMPLATE_STACK}.yaml or add another stack file.`;

/** The options of `npm start` that the simulation uses. */
export interface Options extends ReportOptions {
  /** The name of the stack; by default, the only one of the project. */
  stack?: string;
}

/** What the program did, up to its end or to its first failure. */
interface Run {
  registered: Registration[];
  /** The log of each Job, by `NAMESPACE/NAME` of its service account. */
  jobs: Map<string, string[]>;
  failed: boolean;
}

/**
 * Simulates a stack, and prints the result, or why there is none. Does not throw.
 *
 * @param directory of the project, with its stack files. The simulated program is always the one of this repository.
 * @returns the exit code: 0 if every answer of the access check is the intended one, 1 if one is not or if a Job failed, 2 if the
 *   stack cannot be simulated.
 */
export async function simulateStack(
  directory: string,
  options: Options,
  output: Output = console,
): Promise<number> {
  const format = formatOf(options);
  const screen = openScreen(format, output);
  let exitCode: number;
  try {
    const source = chooseStack(directory, options.stack, screen);
    exitCode = await simulate(directory, source, { format, verbose: options.verbose ?? false }, screen);
  } catch (error) {
    screen.error(error);
    const isOfJob = error instanceof Unready || error instanceof FailedJob;
    if (!isOfJob) return 2;
    exitCode = 1;
  }
  screen.lastLine("Simulation");
  return exitCode;
}

/** Returns the stack to simulate, and prints the first line. */
function chooseStack(directory: string, name: string | undefined, screen: Screen): StackSource {
  const subject = (which: string) => `Simulation${which}: nothing is created outside this machine.`;
  try {
    const found = findStack(directory, name);
    screen.banner(subject(found ? ` of stack ${visible(found.name)}` : " of the sample stack"));
    if (!found) screen.notes(SAMPLE_NOTE);
    return found ?? SAMPLE;
  } catch (error) {
    screen.banner(subject(""));
    throw error;
  }
}

/** @throws Error if the simulation failed, such as for an invalid configuration. */
async function simulate(
  directory: string,
  source: StackSource,
  { format, verbose }: { format: Format; verbose: boolean },
  screen: Screen,
): Promise<number> {
  const stackFile = readStackFile(directory, source);
  requireSettings(stackFile);
  screen.notes(...settingNotes(stackFile));

  const jobs: Run["jobs"] = new Map();
  const region = stackFile.config["aws:region"] || DEFAULT_REGION;
  const simulation = await startSimulation({
    region,
    ...assumedToExist(stackFile),
    isAssumed: isClaimOfCluster,
    onLog: (line, account) => jobs.set(account, [...(jobs.get(account) ?? []), line]),
  });
  try {
    const stack = { ...stackFile, stack: source.name, organization: ORGANIZATION };
    const registered: Registration[] = [];
    const program = runProgram(simulation, { ...stack, registered, onWarning: screen.notes });
    const [outcome] = await Promise.allSettled([program]);
    const component = findComponent(registered);
    const policies = component ? shownPolicies(component, simulation.issuer.url, region) : {};
    if (format === "json" && component) screen.json(policies);
    const failed = outcome.status === "rejected";
    if (format === "text") printRun({ registered, jobs, failed }, verbose, screen);
    if (failed) throw failureOf(outcome.reason, format === "text" && jobs.size > 0);
    if (format === "json") return 0;

    if (!component) throw new Error("The program registers no PulumiCloudAccess.");
    const result = await checkSimulatedAccess(simulation, component);
    screen.access(result, policies, verbose);
    return isAsIntended(result) ? 0 : 1;
  } finally {
    await simulation.close();
  }
}

class FailedJob extends Error {}

/** Returns the error to print if the program failed. */
function failureOf(failure: unknown, logsArePrinted: boolean): unknown {
  if (!(failure instanceof Unready && logsArePrinted)) return failure;
  return new FailedJob("A Job failed, so `pulumi up` would fail. See its output above.");
}

/** Returns the policies with a placeholder in the form of EKS for the emulated issuer. */
function shownPolicies(component: Component, issuerUrl: string, region: string): object {
  const placeholder = `oidc.eks.${region}.amazonaws.com/id/EXAMPLED539D4633E53DE1B71EXAMPLE`;
  const policies = JSON.stringify(generatedPolicies(component));
  return JSON.parse(policies.replaceAll(issuerUrl.replace("https://", ""), placeholder));
}

function printRun({ registered, jobs, failed }: Run, verbose: boolean, screen: Screen): void {
  const resources = resourceLines(registered, verbose);
  if (resources.length > 0) {
    screen.title("Resources (simulated)");
    screen.print(...resources);
  }
  if (jobs.size > 0) {
    screen.title("Job output (the simulation runs only pulumi whoami)");
    screen.print(...jobLines(jobs, verbose || failed));
  }
}
