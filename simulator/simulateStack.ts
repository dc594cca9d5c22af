// The simulation of one stack: runs the program against the emulators, and compares what it registers with the settings.

import { comparisonOf, type Finding } from "../accessCheck/compare";
import { type Account, isRemaining, readComponents, type View } from "../accessCheck/components";
import { planFrom } from "../accessCheck/plan";
import { type Output, openScreen, type ReportOptions, type Screen } from "../accessCheck/screen";
import { visible } from "../accessCheck/terminal";
import { fieldsAt, textOf, valueAt } from "../accessCheck/values";
import {
  assumedToExist,
  DEFAULT_REGION,
  isOnlyKnownToCluster,
  ORGANIZATION,
  regionNotes,
  requireSettings,
  settingNotes,
  simulatedConfig,
} from "./assumptions";
import { issuerInIam } from "./emulators/aws";
import { type Simulation, startSimulation } from "./emulators/simulation";
import { type Registration, runProgram } from "./runProgram";
import { jobLines, resourceLines } from "./runReport";
import {
  findStack,
  readStackFile,
  SAMPLE,
  type StackFile,
  type StackSource,
  TEMPLATE_STACK,
} from "./stackFile";

const SAMPLE_NOTE = `Its settings are in simulator/sample.yaml. To simulate your own stack, edit Pulumi.${TEMPLATE_STACK.name}.yaml or add another stack file.`;

/** The options of `npm start` that the simulation uses. */
export interface Options extends ReportOptions {
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
  const screen = openScreen(options, output);
  try {
    const source = chooseStack(directory, options.stack, screen);
    const exitCode = await simulate(directory, source, options, screen);
    screen.lastLine("Compared with the settings, by a simulation only.");
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
    const config = simulatedConfig(stackFile);
    const stack = { ...stackFile, config, stack: source.name, organization: ORGANIZATION };
    const registered: Registration[] = [];
    const program = runProgram(simulation, { ...stack, registered, onWarning: screen.notes });
    const [outcome] = await Promise.allSettled([program]);
    const hasFailedJob = registered.some(({ failure }) => failure !== undefined);
    printRun(registered, jobs, { verbose, showAll: verbose || hasFailedJob }, screen);
    // A Job that fails ends the update, but not the comparison.
    if (outcome.status === "rejected" && !hasFailedJob) throw withPositions(outcome.reason, stackFile);

    const [component] = readComponents(planOf(registered, simulation.issuer.url, region));
    if (!component || !isRemaining(component)) throw new Error("The program registers no PulumiCloudAccess.");
    const comparison = comparisonOf(component, [simulation.issuer.thumbprint]);
    const findings = [
      ...comparison.findings,
      ...(await exchangeFindings(component.after, registered, simulation)),
    ];
    const notes = [
      ...component.after.accounts.flatMap(assumptionNotes),
      ...regionNotes(stackFile).map((text) => ({ text })),
    ];
    screen.access({ ...comparison, component, findings, notes });
    return findings.length > 0 ? 1 : 0;
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

/** Returns what the program has registered as the plan of a first update, with an issuer's URL in the form of EKS. */
function planOf(registered: Registration[], issuerUrl: string, region: string) {
  const steps = registered.map(({ urn, id, inputs, outputs, parent, provider }) => {
    return { op: "create", urn, newState: { urn, id, inputs, outputs, parent, provider } };
  });
  const inForm = `oidc.eks.${region}.amazonaws.com/id/EXAMPLED539D4633E53DE1B71EXAMPLE`;
  const issuer = issuerInIam(issuerUrl);
  return planFrom(JSON.parse(JSON.stringify(steps).replaceAll(issuer, inForm)));
}

/** Finds the service accounts that are granted no token: by their Jobs or, without a Job, by an exchange. */
async function exchangeFindings(
  { name, accounts }: View,
  registered: Registration[],
  { kubernetes }: Simulation,
): Promise<Finding[]> {
  const findings = await Promise.all(
    accounts.map(async (account): Promise<Finding[]> => {
      const find = (text: string): Finding[] => [{ account: account.id, text }];
      if (valueAt(account.settings, "runJob") === false) {
        const audience = textOf(valueAt(account.settings, "tokenAudience"));
        const { exitCode, log } = await kubernetes.exchange(account, audience);
        return exitCode === 0 ? [] : find(`None of its pods is granted a token: ${log[0]}. ${ADVICE}`);
      }
      const job = registered.find(
        (it) => it.type === JOB && it.name === `${name}.${account.namespace}.${account.name}`,
      );
      if (job?.failure === undefined) return [];
      return find(`Its Job fails, so \`pulumi up\` would fail: ${job.failure.split("\n")[0]}. ${ADVICE}`);
    }),
  );
  return findings.flat();
}

const JOB = "kubernetes:batch/v1:Job";
const ADVICE = "Check policyRules, tokenType, and the settings of the token.";

/** Says what the emulators assume of a service account: that it exists, and which rules they cannot compare. */
function assumptionNotes({ id, settings }: Account) {
  const isRead = valueAt(settings, "createServiceAccount") === false && valueAt(settings, "runJob") !== false;
  const existence = isRead ? [{ account: id, text: "assumed to exist: createServiceAccount is false" }] : [];
  const rules = Object.entries(fieldsAt(settings, "policyRules"));
  // Whether its ID token is that of a pod.
  const claims = { "kubernetes.io": valueAt(settings, "runJob") === false ? {} : { pod: {} } };
  const matches = rules
    .filter(([path]) => isOnlyKnownToCluster(path, claims))
    .map(([path, pattern]) => ({
      account: id,
      text: `assumed to match its pods: ${path} = ${textOf(pattern)}`,
    }));
  return [...existence, ...matches];
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
    screen.print(...jobLines(withoutUselessAdvice(jobs), showAll));
  }
}

/** Leaves out advice on the audience rule, which the script adds to each denial: the emulated Pulumi Cloud matches lists. */
function withoutUselessAdvice(jobs: Map<string, string[]>): Map<string, string[]> {
  const isUseful = (line: string) => !line.includes("set audienceRule to false");
  return new Map([...jobs].map(([account, lines]) => [account, lines.filter(isUseful)]));
}
