// The simulation of one stack: runs the program against the emulators, and the rules of the policy pack on what it registers.

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { policies } from "../policy/index";
import { type Account, COMPONENT, idOf, type Settings } from "../policy/program";
import { type RegisteredResource, runRules } from "../policy/runRules";
import type { Fields } from "../policy/values";
import {
  assumedToExist,
  DEFAULT_REGION,
  isOnlyKnownToCluster,
  ORGANIZATION,
  regionNotes,
  requireSettings,
  settingNotes,
} from "./assumptions";
import { issuerInIam } from "./emulators/aws";
import { type Simulation, startSimulation } from "./emulators/simulation";
import { type Registration, runProgram } from "./runProgram";
import { jobLines, resourceLines } from "./runReport";
import { type Output, openScreen, type Screen } from "./screen";
import {
  findStack,
  readStackFile,
  SAMPLE,
  type StackFile,
  type StackSource,
  TEMPLATE_STACK,
} from "./stackFile";
import { paint, visible, wrap } from "./terminal";

const SAMPLE_NOTE = `Its settings are in simulator/sample.yaml. To simulate your own stack, edit Pulumi.${TEMPLATE_STACK.name}.yaml or add another stack file.`;

/** The options of `npm start` that the simulation uses. */
export interface Options {
  /** The name of the stack; by default, the only one of the project. */
  stack?: string;
  /** Prints each resource and the output of each Job, even where there are many. */
  verbose?: boolean;
}

/**
 * Simulates a stack, and prints the result, or why there is none. Does not throw.
 *
 * @param directory of the project, with its stack files. The simulated program is always the one of this repository.
 * @returns the exit code: 0 if everything is as the settings say, 1 if something is not or if a Job failed, 2 if the stack
 *   cannot be simulated.
 */
export async function simulateStack(
  directory: string,
  options: Options,
  output: Output = console,
): Promise<number> {
  const screen = openScreen(output);
  try {
    const source = chooseStack(directory, options.stack, screen);
    const exitCode = await simulate(directory, source, options, screen);
    screen.lastLine("A simulation only.");
    return exitCode;
  } catch (error) {
    screen.error(error);
    return 2;
  }
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
  { verbose = false }: Options,
  screen: Screen,
): Promise<number> {
  const stackFile = readStackFile(directory, source);
  requireSettings(stackFile);
  screen.notes(...settingNotes(stackFile));

  const region = stackFile.config["aws:region"] || DEFAULT_REGION;
  /** The log of each Job, by `NAMESPACE/NAME` of its service account. */
  const jobs = new Map<string, string[]>();
  const simulation = await startSimulation({
    region,
    ...assumedToExist(stackFile),
    isAssumed: isOnlyKnownToCluster,
    onLog: (line, account) => jobs.set(account, [...(jobs.get(account) ?? []), line]),
  });
  try {
    const stack = { ...stackFile, stack: source.name, organization: ORGANIZATION };
    const registered: Registration[] = [];
    const program = runProgram(simulation, { ...stack, registered, onWarning: screen.notes });
    const [outcome] = await Promise.allSettled([program]);
    const hasFailedJob = registered.some(({ failure }) => failure !== undefined);
    printRun(registered, jobs, { verbose, showAll: verbose || hasFailedJob }, screen);
    // A Job that fails ends the update, but not the comparison.
    if (outcome.status === "rejected" && !hasFailedJob) throw withPositions(outcome.reason, stackFile);

    const settings = registered.find(({ type }) => type === COMPONENT)?.inputs as unknown as Settings;
    const notes = [...settings.serviceAccounts.flatMap(assumptionNotes), ...regionNotes(stackFile)];
    const broken = [
      ...brokenPromises(registered, simulation.issuer.url, region, readLimits(directory, source.name)),
      ...(await deniedAccounts(settings.serviceAccounts, registered, simulation)),
    ];
    screen.title("Policies");
    screen.notes(...notes);
    const verdict = broken.length > 0 ? broken : [`${policies.length} promises hold.`];
    const color = broken.length > 0 ? "red" : "green";
    screen.print(...verdict.flatMap((text) => wrap(text, 2)).map((line) => paint(color, line)));
    return broken.length > 0 ? 1 : 0;
  } finally {
    await simulation.close();
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

/** Returns what the policy pack reports of what the program has registered, with an issuer's URL in the form of EKS. */
function brokenPromises(
  registered: Registration[],
  issuerUrl: string,
  region: string,
  limits: Fields,
): string[] {
  const resources = registered.map(({ urn, type, name, inputs, outputs, parent, provider }) => {
    return { urn, type, name, inputs, outputs, parent, provider: provider.replace(/::[^:]*$/, "") };
  });
  const inForm = `oidc.eks.${region}.amazonaws.com/id/EXAMPLED539D4633E53DE1B71EXAMPLE`;
  const json = JSON.stringify(resources).replaceAll(issuerInIam(issuerUrl), inForm);
  const plain: RegisteredResource[] = JSON.parse(json);
  return runRules(plain, limits)
    .filter(({ level }) => level === "mandatory")
    .map(({ policy, name, message }) => `${policy}: ${name}: ${message}`);
}

/** Returns what a stack is allowed beyond the limits of the policy pack: docs/policy.md. */
function readLimits(directory: string, stack: string): Fields {
  const file = join(directory, `Pulumi.${stack}.policy.json`);
  return existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : {};
}

/** Finds the service accounts that are granted no token: by their Jobs or, without a Job, by an exchange. */
async function deniedAccounts(
  accounts: Account[],
  registered: Registration[],
  { kubernetes }: Simulation,
): Promise<string[]> {
  const denied = accounts.map(async (account): Promise<string[]> => {
    const id = idOf(account);
    if (!account.runJob) {
      const { exitCode, log } = await kubernetes.exchange(account, account.tokenAudience);
      return exitCode === 0 ? [] : [`${id}: None of its pods is granted a token: ${log[0]}. ${ADVICE}`];
    }
    const job = registered.find(
      (it) => it.type === JOB && it.name === `access.${account.namespace}.${account.name}`,
    );
    if (job?.failure === undefined) return [];
    return [`${id}: Its Job fails, so \`pulumi up\` would fail: ${job.failure.split("\n")[0]}. ${ADVICE}`];
  });
  return (await Promise.all(denied)).flat();
}

const JOB = "kubernetes:batch/v1:Job";
const ADVICE = "Check policyRules, tokenType, and the settings of the token.";

/** Says what the emulators assume of a service account: that it exists, and which rules they cannot compare. */
function assumptionNotes(account: Account): string[] {
  const { createServiceAccount, runJob, policyRules } = account;
  const existence =
    !createServiceAccount && runJob ? ["assumed to exist: createServiceAccount is false"] : [];
  // Whether its ID token is that of a pod.
  const claims = { "kubernetes.io": runJob ? { pod: {} } : {} };
  const matches = Object.entries(policyRules)
    .filter(([path]) => isOnlyKnownToCluster(path, claims))
    .map(([path, pattern]) => `assumed to match its pods: ${path} = ${pattern}`);
  return [...existence, ...matches].map((text) => `${idOf(account)}: ${text}`);
}

function printRun(
  registered: Registration[],
  jobs: Map<string, string[]>,
  { verbose, showAll }: { verbose: boolean; showAll: boolean },
  screen: Screen,
): void {
  const resources = resourceLines(registered, verbose);
  if (resources.length > 0) {
    screen.title("Resources (simulated)");
    screen.print(...resources);
  }
  if (jobs.size > 0) {
    screen.title("Job output (the simulation runs only pulumi whoami)");
    screen.print(...jobLines(withoutUselessAdvice(jobs, registered), showAll));
  }
}

/** Leaves out advice on the audience rule, which the script adds to each denial, if there is no such rule. */
function withoutUselessAdvice(
  jobs: Map<string, string[]>,
  registered: Registration[],
): Map<string, string[]> {
  if (registered.some(({ inputs }) => inputs.audienceRule === true)) return jobs;
  const isUseful = (line: string) => !line.includes("set audienceRule to false");
  return new Map([...jobs].map(([account, lines]) => [account, lines.filter(isUseful)]));
}
