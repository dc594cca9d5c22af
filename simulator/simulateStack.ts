// The simulation of one stack: runs the program against the emulators, checks access, and prints the result.

import { unexpected } from "../accessCheck/questions";
import { accessLines, accessMarkdown } from "../accessCheck/report";
import { paint, visible, wrap } from "../accessCheck/terminal";
import { assumedToExist, DEFAULT_REGION, ORGANIZATION, settingNotes } from "./assumptions";
import { Unready } from "./emulators/emulator";
import { startSimulation } from "./emulators/simulation";
import { type Registration, runProgram } from "./runProgram";
import { generatedPolicies, jobLines, resourceLines } from "./runReport";
import { checkSimulatedAccess } from "./simulatedAccess";
import { findStack, readStackFile, SAMPLE, type StackSource, TEMPLATE_STACK } from "./stackFile";

const SAMPLE_NOTE = `Its settings are in simulator/sample.yaml. To simulate your own stack, edit Pulumi.${TEMPLATE_STACK}.yaml or add another stack file.`;

const LAST_LINE = "Simulation only: it cannot tell whether the cluster, teams, and users exist.";

/** The options of `npm start` that the simulation uses. */
export interface Options {
  /** The name of the stack; by default, the only one of the project. */
  stack?: string;
  /** Prints every resource, the output of every Job, and every answer. */
  verbose?: boolean;
  /** Prints the policies as JSON, and nothing else. */
  policies?: boolean;
  /** Prints the access check and the policies as Markdown. */
  markdown?: boolean;
}

/** What the program did, up to its end or to its first failure. */
interface Run {
  registered: Registration[];
  /** The log of each Job, by `NAMESPACE/NAME` of its service account. */
  jobs: Map<string, string[]>;
  failed: boolean;
}

type Format = "text" | "json" | "markdown";

/** Where the result and the errors are printed: on standard output and standard error, or on other streams. */
type Output = Pick<Console, "log" | "error">;

type Screen = ReturnType<typeof openScreen>;

/**
 * Simulates a stack, and prints the result, or why there is none. Does not throw.
 *
 * @param directory of the project, with its stack files. The simulated program is always the one of this repository.
 * @returns the exit code: 0 if every answer of the access check is the intended one, otherwise 1.
 */
export async function simulateStack(
  directory: string,
  options: Options,
  output: Output = console,
): Promise<number> {
  const format = formatOf(options);
  const screen = openScreen(format, output);
  try {
    const source = chooseStack(directory, options.stack, screen);
    return await simulate(directory, source, { format, verbose: options.verbose ?? false }, screen);
  } catch (error) {
    screen.error(error);
    return 1;
  } finally {
    if (format === "text") screen.print("");
    screen.banner(LAST_LINE);
  }
}

function formatOf({ policies, markdown }: Options): Format {
  if (markdown) return "markdown";
  return policies ? "json" : "text";
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
  screen.notes(...settingNotes(stackFile));

  const jobs: Run["jobs"] = new Map();
  const region = stackFile.config["aws:region"] || DEFAULT_REGION;
  const simulation = await startSimulation({
    region,
    ...assumedToExist(stackFile),
    onLog: (line, account) => jobs.set(account, [...(jobs.get(account) ?? []), line]),
  });
  try {
    const stack = { ...stackFile, stack: source.name, organization: ORGANIZATION };
    const registered: Registration[] = [];
    const program = runProgram(simulation, { ...stack, registered, onWarning: screen.notes });
    const [result] = await Promise.allSettled([program]);
    const policies = JSON.stringify(generatedPolicies(registered, simulation.issuer.url, region), null, 2);
    if (format === "json" && registered.length > 0) screen.print(policies);
    const failed = result.status === "rejected";
    if (format === "text") printRun({ registered, jobs, failed }, verbose, screen);
    if (failed) throw failureOf(result.reason, format === "text" && jobs.size > 0);
    if (format === "json") return 0;

    const rows = await checkSimulatedAccess(simulation, registered);
    if (format === "markdown") {
      screen.print(accessMarkdown(rows), "", "<details><summary>Policies</summary>", "", "```json");
      screen.print(policies, "```", "", "</details>", "");
    } else {
      screen.title("Access check");
      screen.print(...accessLines(rows, verbose));
    }
    return unexpected(rows).length > 0 ? 1 : 0;
  } finally {
    await simulation.close();
  }
}

/** Returns the error to print if the program failed. */
function failureOf(failure: unknown, logsArePrinted: boolean): unknown {
  const isPrinted = failure instanceof Unready && logsArePrinted;
  return isPrinted ? new Error("A Job failed, so `pulumi up` would fail. See its output above.") : failure;
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

function openScreen(format: Format, output: Output) {
  function print(...lines: string[]): void {
    for (const line of lines) output.log(line);
  }
  return {
    print,
    title(title: string): void {
      print("", paint("bold", title));
    },
    /** Prints what a reader should know, which JSON and Markdown do not contain. */
    notes(...notes: string[]): void {
      if (format === "text") for (const note of notes) print(...wrap(note, 2, 2));
    },
    /** Prints the first or the last line, on standard error if standard output is JSON. */
    banner(text: string): void {
      if (format === "markdown") print(`> ${text}`, "");
      else if (format === "json") output.error(text);
      else print(paint("bold", text));
    },
    error(error: unknown): void {
      const message = error instanceof Error ? error.message : String(error);
      const lines = message.trimEnd().split("\n").map(visible);
      output.error(`\n${paint("red", lines.join("\n"), process.stderr)}`);
    },
  };
}
