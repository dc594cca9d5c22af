// `npm start -- --live`: compares what is deployed with its program, and asks the real Pulumi Cloud and AWS STS the questions of the
// access check. It shares nothing with the emulators.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findAddedKeys, findIssuerAdditions } from "./additions";
import { answerFindings, answerText, notAsked, type Row } from "./answers";
import { changesIn } from "./changes";
import { connect, type Kubectl, readKubeconfigs } from "./cluster";
import type { Component } from "./components";
import { mapEightAtOnce } from "./concurrency";
import { type DeployedComponent, deployedComponent } from "./deployedComponent";
import { findingsIn } from "./findings";
import type { Plan } from "./plan";
import { previewStack } from "./preview";
import { liveQuestions, type Question } from "./questions";
import { readComponents } from "./readComponents";
import { askServices, requestIdTokens } from "./realServices";
import { accessLines, changeLines, type Report } from "./report";
import { paint, redact, shellQuoted, visible, wrap } from "./terminal";
import { type Run, toolRunner } from "./tools";

const NOTES = [
  "It requests ID tokens (10 minutes), access tokens (1 minute), and AWS credentials (15 minutes). They stay in memory. Access tokens and AWS credentials are never used.",
  "The audit logs of the cluster, AWS CloudTrail, and Pulumi Cloud will show the requests and the denials.",
  "It requires permission to create serviceaccounts/token, which lets you act as the service accounts. Do not run it in a pull request's workflow.",
];

interface LiveCheckOptions {
  /** The name of the stack. */
  stack: string;
  /** Prints every answer with its reason. */
  verbose: boolean;
  /** Asks as every other service account of a component, not only as the next one. */
  "all-pairs": boolean;
  /** The directory of the program. */
  cwd: string;
  /** `FILE`, or `COMPONENT=FILE`: kubeconfigs, where a component's own is secret or absent. */
  kubeconfig: string[];
}

/** What the check uses of this machine. */
export interface Surroundings {
  /** Runs aws, kubectl, and pulumi. */
  run: Run;
  /** Ends the check, and everything that it runs. */
  stop: AbortController;
  /** Receive the lines of the report and those of an error. */
  print(...lines: string[]): void;
  printError(line: string): void;
}

/** Checks a stack for the command line: a signal, or a reader that stops reading, ends the check. */
export function startLiveCheck(options: LiveCheckOptions): Promise<number> {
  const stop = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => stop.abort());
  // `npm start -- --live | head`.
  process.stdout.on("error", () => stop.abort());
  const run = toolRunner(stop.signal, options.cwd);
  const print = (...lines: string[]) => console.log(lines.join("\n"));
  return checkLiveAccess(options, { run, stop, print, printError: console.error });
}

/**
 * Checks the access of every service account of a deployed stack, and prints the result.
 *
 * @returns the exit code: 0 if every answer is the intended one and nothing differs from the program, 1 if something does, 2 if
 *   the services could not be asked, 130 if it was interrupted.
 */
export async function checkLiveAccess(
  options: LiveCheckOptions,
  surroundings: Surroundings,
): Promise<number> {
  // Tokens are sent to verified services only.
  process.env.NODE_TLS_REJECT_UNAUTHORIZED = "1";

  const directory = await mkdtemp(join(tmpdir(), "live-check-"));
  try {
    return await checkStack(options, directory, surroundings);
  } catch (error) {
    showProgress("");
    if (surroundings.stop.signal.aborted) return 130;
    surroundings.stop.abort();
    for (const line of errorLines(error)) surroundings.printError(line);
    return 2;
  } finally {
    await rm(directory, { recursive: true, force: true, maxRetries: 3 });
  }
}

async function checkStack(
  options: LiveCheckOptions,
  directory: string,
  surroundings: Surroundings,
): Promise<number> {
  const { run, print } = surroundings;
  const title = `Live access check of stack ${visible(options.stack)}: nothing is created or changed.`;
  print(paint("bold", title), "");
  for (const note of NOTES) print(...wrap(note, 2, 2));

  // Whatever could stop the check comes first, so that no token is sent in vain.
  showProgress("pulumi preview --refresh reads what exists");
  const plan = await previewStack(options.stack, run);
  showProgress("");
  const components = readComponents(plan);
  const stack = shellQuoted(options.stack);
  if (!components.some(({ isDeployed }) => isDeployed)) {
    throw new Error(`Stack "${options.stack}" is not deployed. To deploy it: pulumi up --stack ${stack}`);
  }
  const kubeconfigs = readKubeconfigs(
    options.kubeconfig,
    components.map(({ name }) => name),
  );
  print("", paint("bold", "Differences from the program (what exists → what the program says)"));
  const isDifferent = printDifferences(plan, components, print);
  const compared = components.map((component) => ({ component, findings: findingsIn(component) }));
  const unequal = compared.filter(({ findings }) => findings.length > 0);
  for (const report of unequal) print(...headingOf(report.component, components), ...reportLines(report));
  if (isDifferent) {
    print("", ...wrap("No token was requested: the program and what exists must be the same.", 2, 2));
    print(...wrap(`To see all of it: pulumi preview --refresh --diff --stack ${stack}`, 2));
    print(...wrap(`To apply the program again: pulumi up --refresh --stack ${stack}`, 2));
    return 1;
  }
  if (unequal.length > 0) {
    print("", ...wrap("No token was requested: the program must be as its settings say.", 2, 2));
    return 1;
  }

  const connected: Connected[] = [];
  for (const component of components) {
    const deployed = deployedComponent(component, plan);
    const kubectl = await connect(deployed, kubeconfigs, options.cwd, directory, run);
    connected.push({ deployed, kubectl });
  }

  let isIntended = true;
  for (const checked of connected) {
    print(...headingOf(checked.deployed.component, components));
    isIntended = (await checkComponent(checked, options, surroundings)) && isIntended;
  }
  return isIntended ? 0 : 1;
}

/** A component whose cluster can be asked. */
interface Connected {
  deployed: DeployedComponent;
  kubectl: Kubectl;
}

function headingOf({ name }: Component, { length }: Component[]): string[] {
  return length > 1 ? ["", paint("bold", `Component ${visible(name)}`)] : [];
}

function reportLines(report: Report): string[] {
  return ["", paint("bold", "Access check"), ...accessLines(report)];
}

/** What is neither a change nor one that Pulumi would undo. */
const UNCHANGED = ["same", "refresh", "read"];

/**
 * Prints what Pulumi would change: in the components, with their providers and what they take inputs from, and elsewhere.
 *
 * @returns whether it would change anything of the components.
 */
function printDifferences(
  { resources }: Plan,
  components: Component[],
  print: Surroundings["print"],
): boolean {
  const changed = resources.filter(({ op }) => !UNCHANGED.includes(op));
  const ofComponents = new Set(components.flatMap((component) => component.resources));
  const own = changed.filter((resource) => ofComponents.has(resource));
  for (const { op, type, name } of own) print(...wrap(`${op}: ${type} ${name}`, 2).map(inYellow));
  const changes = components.flatMap(changesIn);
  if (own.length === 0) print(paint("green", "  pulumi preview --refresh shows none."));
  else if (changes.length > 0) print("", ...changeLines(changes));
  const elsewhere = changed.length - own.length;
  const others = `${elsewhere} resource${elsewhere === 1 ? " differs" : "s differ"}`;
  if (elsewhere > 0) print(...wrap(`Elsewhere in the program, ${others}.`, 2));
  return own.length > 0;
}

function inYellow(line: string): string {
  return paint("yellow", line);
}

/** Looks for additions, asks, and prints the report. @returns whether everything is as intended. */
async function checkComponent(
  { deployed, kubectl }: Connected,
  options: LiveCheckOptions,
  surroundings: Surroundings,
): Promise<boolean> {
  const { run, stop, print } = surroundings;
  showProgress("reading the OIDC issuer and its policies");
  const { found, notes } = await findIssuerAdditions(deployed, run, stop.signal);
  showProgress("reading the ConfigMaps");
  found.push(...(await findAddedKeys(deployed.component.after, kubectl)));
  showProgress("");
  print("", paint("bold", "Additions that no preview shows"));
  for (const addition of found) print(...wrap(addition, 2).map(inYellow));
  if (found.length === 0) print(paint("green", "  There are none."));
  for (const note of notes) print(...wrap(note, 2, 2));

  const { rows, absent } = await askAll(deployed, options["all-pairs"], kubectl, surroundings);
  const answers = rows.map((row) => ({ account: row.account.id, text: answerText(row) }));
  const left = notAsked(deployed.component.after.accounts, absent).map((text) => ({ text }));
  const report = {
    component: deployed.component,
    findings: answerFindings(rows),
    notes: [...(options.verbose ? answers : []), ...left],
  };
  print(...reportLines(report));
  return found.length === 0 && report.findings.length === 0;
}

/** Asks the questions. @returns those with an answer, and those whose caller does not exist yet. */
async function askAll(
  deployed: DeployedComponent,
  allPairs: boolean,
  kubectl: Kubectl,
  { run, stop, print }: Surroundings,
): Promise<{ rows: Row[]; absent: Question[] }> {
  const questions = liveQuestions(deployed.component.after, allPairs);
  showProgress("requesting ID tokens from the cluster");
  const asked = await requestIdTokens(deployed, questions, kubectl);
  const possible = asked.flatMap(({ question, idToken }) => (idToken ? [{ question, idToken }] : []));
  const ofToken = possible.filter(({ question }) => question.service === "Pulumi Cloud").length;
  print("", `  Questions: ${ofToken} to Pulumi Cloud, ${possible.length - ofToken} to AWS STS.`);

  const ask = askServices(deployed, run, stop.signal);
  let answers = 0;
  const rows = await mapEightAtOnce(possible, async ({ question, idToken }) => {
    const answer = await ask(question, idToken);
    answers += 1;
    showProgress(`${answers} of ${possible.length} answers`);
    return { ...question, ...answer };
  });
  showProgress("");
  const absent = asked.flatMap(({ question, idToken }) => (idToken ? [] : [question]));
  return { rows, absent };
}

/** Shows what the check does, in place of what it did before, if standard error is a terminal. */
function showProgress(text: string): void {
  // The code erases the line.
  if (process.stderr.isTTY) process.stderr.write(`\r\u001b[K${text && `  … ${text}`}`);
}

function errorLines(error: unknown): string[] {
  const message = error instanceof Error ? error.message : String(error);
  return redact(message)
    .split("\n")
    .flatMap((text) => wrap(text, 0))
    .map((line) => paint("red", line, process.stderr));
}
