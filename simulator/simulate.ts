// The simulation of one stack: runs the program against the emulators, and reports what it did. start.ts starts it in a
// separate process.

import { join } from "node:path";
import { unexpected } from "./accessCheck/questions";
import { accessLines, accessMarkdown } from "./accessCheck/report";
import { checkSimulatedAccess } from "./accessCheck/simulatedAccess";
import { paint, print, visible, wrap } from "./accessCheck/terminal";
import { assumedToExist } from "./assumptions";
import { readOptions } from "./commandLine";
import { Unready } from "./emulators/emulator";
import { type Simulation, startSimulation } from "./emulators/simulation";
import { type Registration, runProgram } from "./mocks";
import { DEFAULT_REGION, ORGANIZATION, settingNotes } from "./plausibility";
import {
  findStack,
  readStackFile,
  SAMPLE,
  type StackFile,
  type StackSource,
  TEMPLATE_STACK,
} from "./stackFile";
import { generatedPolicies, resourceLines } from "./stackResources";

const PROJECT = join(__dirname, "..");

// What each Job runs after the token exchange.
const COMMAND = ["bash", "-c", "echo '$ pulumi whoami' && pulumi whoami"];

const SAMPLE_NOTE = `Its settings are in simulator/sample.yaml. A changed Pulumi.${TEMPLATE_STACK}.yaml, or another stack, takes its place.`;

/** Output of successful Jobs is left out beyond this many of them. */
const SHOWN_JOBS = 5;

const options = readOptions(process.argv.slice(2));
const isText = !options.policies && !options.markdown;

/** What the program did, up to its end or to its first failure. */
interface Run {
  registered: Registration[];
  /** The log of each Job, by `NAMESPACE/NAME` of its service account. */
  jobs: Map<string, string[]>;
  outputs?: Record<string, unknown>;
  failure?: unknown;
}

/**
 * Simulates the stack and prints the result.
 *
 * @returns the exit code: 0 if every answer of the access check is the intended one, otherwise 1.
 * @throws Error if the simulation failed, such as for an invalid configuration.
 */
async function main(): Promise<number> {
  const source = chooseStack();
  const stackFile = readStackFile(PROJECT, source);
  printNotes(...settingNotes(stackFile));

  const jobs: Run["jobs"] = new Map();
  const region = stackFile.config["aws:region"] || DEFAULT_REGION;
  const simulation = await startSimulation({
    region,
    ...assumedToExist(stackFile),
    command: COMMAND,
    onLog: (line, account) => jobs.set(account, [...(jobs.get(account) ?? []), line]),
  });
  try {
    const run = await runStack(simulation, source.name, stackFile, jobs);
    const policies = JSON.stringify(
      generatedPolicies(run.registered, simulation.issuer.url, region),
      null,
      2,
    );
    if (options.policies && !options.markdown && run.registered.length > 0) print(policies);
    if (isText) printRun(run);
    if (run.outputs === undefined) throw failureOf(run);
    if (options.policies && !options.markdown) return 0;

    const rows = await checkSimulatedAccess(simulation, run.outputs);
    if (options.markdown) {
      print(accessMarkdown(rows), "", "<details><summary>Policies</summary>", "", "```json");
      print(policies, "```", "", "</details>", "");
    } else {
      printTitle("Access check");
      print(...accessLines(rows, options.verbose));
    }
    return unexpected(rows).length > 0 ? 1 : 0;
  } finally {
    await simulation.close();
  }
}

/** Returns the stack to simulate, and prints the first line. */
function chooseStack(): StackSource {
  const subject = (name: string) => `Simulation${name}: nothing is created outside this machine.`;
  try {
    const found = findStack(PROJECT, options.stack);
    printBanner(subject(found ? ` of stack ${visible(found.name)}` : " of the sample stack"));
    if (!found) printNotes(SAMPLE_NOTE);
    return found ?? SAMPLE;
  } catch (error) {
    printBanner(subject(""));
    throw error;
  }
}

async function runStack(
  simulation: Simulation,
  stack: string,
  { project, config }: StackFile,
  jobs: Run["jobs"],
): Promise<Run> {
  const registered: Registration[] = [];
  try {
    const { outputs } = await runProgram(simulation, {
      project,
      stack,
      config,
      organization: ORGANIZATION,
      registered,
      onWarning: printNotes,
    });
    return { registered, jobs, outputs };
  } catch (failure) {
    return { registered, jobs, failure };
  }
}

/** Returns the error to print if the program failed. The output of a failed Job has been printed. */
function failureOf({ failure, jobs }: Run): unknown {
  const isPrinted = failure instanceof Unready && isText && jobs.size > 0;
  return isPrinted ? new Error("A Job failed, so `pulumi up` would fail. See its output above.") : failure;
}

function printRun({ registered, jobs, failure }: Run): void {
  const resources = resourceLines(registered, options.verbose);
  if (resources.length > 0) {
    printTitle("Resources (simulated)");
    print(...resources);
  }
  if (jobs.size > 0) {
    printTitle("Job output (the simulation runs only pulumi whoami)");
    print(...jobLines(jobs, failure !== undefined));
  }
}

function jobLines(jobs: Run["jobs"], failed: boolean): string[] {
  const isShown = jobs.size <= SHOWN_JOBS || failed || options.verbose;
  if (!isShown) return [`  ${jobs.size} Jobs succeeded. To print their output: npm start -- --verbose`];
  return [...jobs].flatMap(([account, lines]) => [
    `  ${paint("bold", account)}`,
    ...lines.flatMap((line) => wrap(line, 4)),
  ]);
}

function printTitle(title: string): void {
  print("", paint("bold", title));
}

function printNotes(...notes: string[]): void {
  if (isText) for (const note of notes) print(...wrap(note, 2, 2));
}

/** Prints the first or the last line, on standard error if standard output is JSON. */
function printBanner(text: string): void {
  if (options.markdown) print(`> ${text}`, "");
  else if (options.policies) console.error(text);
  else print(paint("bold", text));
}

function printError(error: unknown): void {
  const message = error instanceof Error ? error.message : String(error);
  const lines = message.trimEnd().split("\n").map(visible);
  console.error(`\n${paint("red", lines.join("\n"), process.stderr)}`);
}

// The reader may stop reading: `npm start | head`.
for (const stream of [process.stdout, process.stderr]) stream.on("error", () => process.exit());

main()
  .then(
    (exitCode) => {
      process.exitCode = exitCode;
    },
    (error) => {
      printError(error);
      process.exitCode = 1;
    },
  )
  .finally(() => {
    if (isText) print("");
    printBanner("Simulation: nothing was created in AWS, Kubernetes, or Pulumi Cloud.");
  });
