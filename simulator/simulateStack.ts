// The simulation of one stack: runs the program against the emulators, asks for tokens, and runs the rules of the policy pack.

import { existsSync, readFileSync } from "node:fs";
import { basename } from "node:path";
import { runRules } from "../policy/runRules";
import type { Fields } from "../policy/values";
import { visible } from "../settings/problems";
import { runProgram } from "../test/environment/runProgram";
import { startSimulation } from "../test/environment/simulation";
import {
  assumedToExist,
  assumptionNotes,
  DEFAULT_REGION,
  isOnlyKnownToCluster,
  ORGANIZATION,
  regionNotes,
  requireSettings,
  settingNotes,
} from "./assumptions";
import { accountsOf, testExchanges } from "./exchanges";
import { accountLines, jobLines, promiseLines, resourceLines } from "./report";
import {
  findStack,
  readStackFile,
  SAMPLE,
  type StackFile,
  type StackSource,
  TEMPLATE_STACK,
} from "./stackFile";
import { paint, plural, wrap } from "./terminal";

/** The options of `npm start` that the simulation uses. */
export interface Options {
  /** The name of the stack; by default, the only one of the project. */
  stack?: string;
  /** Prints each resource and the output of each Job, even where there are many. */
  verbose?: boolean;
}

/** Where the result and the errors are printed: on standard output and standard error, or on other streams. */
export type Output = Pick<Console, "log" | "error">;

const SAMPLE_NOTE = `Its settings are in simulator/sample.yaml. To simulate your own stack, edit Pulumi.${TEMPLATE_STACK.name}.yaml or add another stack file.`;

const LAST_LINE =
  "This was a simulation. It cannot tell whether the cluster, teams, users, and runner pools exist, or whether a pool's ID and " +
  "name belong together.";

/**
 * Simulates a stack, and prints the result, or why there is none. Does not throw.
 *
 * @param directory of the project, with its stack files. The simulated program is always the one of this repository.
 * @returns the exit code: 0 if everything is as the settings say, 1 if something is not, 2 if the stack cannot be simulated.
 */
export async function simulateStack(
  directory: string,
  options: Options,
  output: Output = console,
): Promise<number> {
  const print = (...lines: string[]) => {
    for (const line of lines) output.log(line);
  };
  const printBold = (text: string) => print(...wrap(text, 0, 0).map((line) => paint("bold", line)));
  try {
    const source = chooseStack(directory, options.stack, printBold);
    if (source === SAMPLE) print(...wrap(SAMPLE_NOTE, 2, 2));
    const exitCode = await simulate(directory, source, options, print);
    print("");
    printBold(LAST_LINE);
    return exitCode;
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    const lines = message.trimEnd().split("\n").map(visible);
    output.error(`\n${paint("red", lines.join("\n"), process.stderr)}`);
    return 2;
  }
}

/** Returns the stack to simulate, and prints the first line. */
function chooseStack(
  directory: string,
  name: string | undefined,
  printBold: (text: string) => void,
): StackSource {
  let which = "";
  try {
    const found = findStack(directory, name);
    which = found ? ` of stack ${found.name}` : " of the sample stack";
    return found ?? SAMPLE;
  } finally {
    printBold(`Simulation${which}: nothing is created outside this machine.`);
  }
}

/** @throws Error if the simulation failed, such as for an invalid configuration. */
async function simulate(
  directory: string,
  source: StackSource,
  { verbose = false }: Options,
  print: (...lines: string[]) => void,
): Promise<number> {
  const title = (text: string) => print("", paint("bold", text));
  const note = (text: string) => print(...wrap(text, 2, 2));
  const stackFile = readStackFile(directory, source);
  requireSettings(stackFile);
  for (const text of settingNotes(stackFile)) note(text);

  const named = (text: string) => text.replaceAll(simulation.pulumiCloud.apiUrl, "Pulumi Cloud");
  /** The log of each Job, by `NAMESPACE/NAME` of its service account. */
  const jobs = new Map<string, string[]>();
  const simulation = await startSimulation({
    region: stackFile.config["aws:region"] || DEFAULT_REGION,
    ...assumedToExist(stackFile),
    isAssumed: isOnlyKnownToCluster,
    onLog: (line, account) => jobs.set(account, [...(jobs.get(account) ?? []), named(line)]),
  });
  try {
    const stack = { ...stackFile, stack: source.name, organization: ORGANIZATION };
    const run = await runProgram(simulation, { ...stack, onWarning: note });
    const hasFailedJob = run.registered.some(({ failure }) => failure !== undefined);
    // A Job that fails ends the update, but not the simulation.
    if (run.failure !== undefined && !hasFailedJob) throw withPositions(run.failure as Error, stackFile);
    // Not before: the program itself rejects a region with a typing error.
    for (const text of regionNotes(stackFile)) note(text);

    const accounts = accountsOf(run.registered);
    const exchanges = await testExchanges(accounts, run.registered, simulation.kubernetes);
    const findings = exchanges.map(({ account, text }) => ({ account, text: named(text) }));
    // As the engine sends them: without what is undefined.
    const violations = runRules(JSON.parse(JSON.stringify(run.registered)), policyConfiguration(source));
    const broken = violations.filter(({ level }) => level === "mandatory");

    title("Resources (simulated)");
    print(...resourceLines(run.registered, verbose));
    if (jobs.size > 0) {
      title("Job output (the simulation runs only pulumi whoami)");
      print(...jobLines(jobs, verbose || hasFailedJob));
    }
    title("Service accounts");
    const notes = new Map(accounts.map((account) => [account.id, assumptionNotes(account)]));
    // Plain values, which are known whether or not the Jobs succeed.
    const grants = run.outputs.grants as Record<string, string>;
    print(...accountLines(accounts, { grants, findings, notes }));
    title("Promises of the policy pack");
    print(...promiseLines(violations, verbose));

    const found = findings.length + broken.length;
    const subject = plural(accounts.length, "service account");
    const verdict =
      found > 0 ? `${plural(found, "finding")}: not as the settings say.` : "as the settings say.";
    print("", paint(found > 0 ? "red" : "green", `  ${subject}: ${verdict}`));
    return found > 0 ? 1 : 0;
  } finally {
    await simulation.close();
  }
}

/** Returns the configuration of the policy pack that a stack has beside its file, as `--policy-pack-config` reads it. */
function policyConfiguration({ file }: StackSource): Fields {
  const path = file.replace(/\.yaml$/, ".policy.json");
  if (!existsSync(path)) return {};
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch (error) {
    throw new Error(`${basename(path)} is not JSON: ${(error as Error).message}`);
  }
}

/** Returns an error that also says where the stack file has each of the problems that the program lists, so that editors link it. */
function withPositions(error: Error & { problems?: ListedProblem[] }, { positionOf }: StackFile): Error {
  const { problems = [] } = error;
  const message = problems.reduce((text, { path, line }) => {
    const position = positionOf(path);
    return position ? text.replace(`\n  ${line}\n`, () => `\n  ${position}: ${line}\n`) : text;
  }, error.message);
  return new Error(message);
}

/** A problem of the settings, and its line in the message. */
interface ListedProblem {
  path: (string | number)[];
  line: string;
}
