// `npm start -- --live`: compares what is deployed with its program, and asks the real Pulumi Cloud and AWS STS the questions of the
// access check. It shares nothing with the emulators.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Additions, findAddedKeys, findIssuerAdditions } from "./additions";
import { answerFindings, answerText, notAsked, type Row } from "./answers";
import { changesIn } from "./changes";
import { connect, type Kubectl, readKubeconfigs } from "./cluster";
import { findingsIn } from "./compare";
import { type PlannedComponent, readComponents } from "./components";
import { mapEightAtOnce } from "./concurrency";
import { type DeployedComponent, deployedComponent } from "./deployedComponent";
import type { Plan, PlannedResource } from "./plan";
import { previewStack } from "./preview";
import { liveQuestions, type Question } from "./questions";
import { askServices, requestIdTokens } from "./realServices";
import { changeLines } from "./report";
import { type Output, openScreen, type Screen } from "./screen";
import { paint, redact, shellQuoted, visible, wrap } from "./terminal";
import { type Run, toolRunner } from "./tools";

const NOTES = [
  "The check requests ID tokens (10 minutes), access tokens (1 minute), and AWS credentials (15 minutes). They stay in memory. Access tokens and AWS credentials are never used.",
  "The audit logs of the cluster, AWS CloudTrail, and Pulumi Cloud will show the requests and the denials.",
  "The check requires permission to create serviceaccounts/token, which lets you act as the service accounts. Do not run it in a pull request's workflow.",
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
  output: Output;
}

/** Checks a stack for the command line: a signal, or a reader that stops reading, ends the check. */
export function startLiveCheck(options: LiveCheckOptions): Promise<number> {
  const stop = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => stop.abort());
  // `npm start -- --live | head`.
  process.stdout.on("error", () => stop.abort());
  return checkLiveAccess(options, { run: toolRunner(stop.signal, options.cwd), stop, output: console });
}

/**
 * Checks the access of every service account of a deployed stack, and prints the result.
 *
 * @returns the exit code: 0 if every answer is the intended one and nothing differs from the program, 1 if something does, 2 if
 *   the services could not be asked, 130 if it was interrupted.
 */
export async function checkLiveAccess(
  options: LiveCheckOptions,
  { run, stop, output }: Surroundings,
): Promise<number> {
  // Tokens are sent to verified services only.
  process.env.NODE_TLS_REJECT_UNAUTHORIZED = "1";

  const screen = openScreen("text", output);
  const directory = await mkdtemp(join(tmpdir(), "live-check-"));
  try {
    return await checkStack({ ...options, directory, run, stop: stop.signal, screen });
  } catch (error) {
    showProgress("");
    if (stop.signal.aborted) return 130;
    stop.abort();
    screen.error(redact(error instanceof Error ? error.message : String(error)));
    return 2;
  } finally {
    await rm(directory, { recursive: true, force: true, maxRetries: 3 });
  }
}

/** A check that runs. */
interface Check extends LiveCheckOptions {
  /** For temporary files. */
  directory: string;
  run: Run;
  stop: AbortSignal;
  screen: Screen;
}

async function checkStack(check: Check): Promise<number> {
  const { run, screen, cwd, directory } = check;
  screen.banner(`Live access check of stack ${visible(check.stack)}: nothing is created or changed.`);
  screen.print("");
  screen.notes(...NOTES);

  // What the check reads comes first, for all components, so that no token is sent in vain.
  showProgress("pulumi preview --refresh reads what exists");
  const plan = await previewStack(check.stack, run);
  showProgress("");
  const components = readComponents(plan);
  const stack = shellQuoted(check.stack);
  if (!components.some(({ isDeployed }) => isDeployed)) {
    throw new Error(`Stack "${check.stack}" is not deployed. To deploy it: pulumi up --stack ${stack}`);
  }
  const names = components.map(({ name }) => name);
  const kubeconfigs = readKubeconfigs(check.kubeconfig, names);
  const nameIfSeveral = ({ name }: PlannedComponent) => {
    if (components.length > 1) screen.title(`Component ${name}`);
  };

  screen.title("Differences from the program (what exists → what the program says)");
  const isDifferent = printDifferences(plan, components, screen);
  const compared = components.map((component) => ({ component, findings: findingsIn(component) }));
  const unequal = compared.filter(({ findings }) => findings.length > 0);
  for (const report of unequal) {
    nameIfSeveral(report.component);
    screen.access(report);
  }
  if (isDifferent || unequal.length > 0) screen.print("");
  if (isDifferent) {
    screen.notes("No token was requested: the program and what exists must be the same.");
    screen.print(...wrap(`To see all of it: pulumi preview --refresh --diff --stack ${stack}`, 2));
    screen.print(...wrap(`To apply the program again: pulumi up --refresh --stack ${stack}`, 2));
    return 1;
  }
  if (unequal.length > 0) {
    screen.notes("No token was requested: the program must be as its settings say.");
    return 1;
  }

  const connected = [];
  for (const component of components) {
    const deployed = deployedComponent(component, plan);
    const kubectl = await connect(deployed, kubeconfigs, cwd, directory, run);
    connected.push({ deployed, kubectl, additions: await findAdditions(deployed, kubectl, check) });
  }

  let isIntended = true;
  for (const { deployed, kubectl, additions } of connected) {
    nameIfSeveral(deployed.component);
    isIntended = (await checkComponent(deployed, kubectl, additions, check)) && isIntended;
  }
  return isIntended ? 0 : 1;
}

/** The steps of a preview that change nothing: with `refresh` and `read`, Pulumi only reads what exists. */
const UNCHANGED = ["same", "refresh", "read"];

/**
 * Prints what Pulumi would change: in the components, with their providers and what they take inputs from, and elsewhere.
 *
 * @returns whether it would change anything of the components, or for them.
 */
function printDifferences(plan: Plan, components: PlannedComponent[], screen: Screen): boolean {
  const { resources } = plan;
  const changed = resources.filter(({ op }) => !UNCHANGED.includes(op));
  const ofComponents = new Set(components.flatMap((component) => component.resources));
  const own = changed.filter((resource) => ofComponents.has(resource));
  for (const { op, type, name } of own) screen.print(...wrap(`${op}: ${type} ${name}`, 2).map(inYellow));
  const changes = readComponents({ ...plan, resources: resources.map(withoutAdditions) }).flatMap(changesIn);
  const isDifferent = own.length > 0 || changes.length > 0;
  if (!isDifferent) screen.print(paint("green", "  pulumi preview --refresh shows none."));
  if (changes.length > 0) screen.print("", ...changeLines(changes));
  const elsewhere = changed.length - own.length;
  const others = `${elsewhere} resource${elsewhere === 1 ? " differs" : "s differ"}`;
  if (elsewhere > 0) screen.notes(`Elsewhere in the program, ${others}.`);
  return isDifferent;
}

/** Returns a resource as it stays, without what a refresh has added to it, such as a default of the service. */
function withoutAdditions(resource: PlannedResource): PlannedResource {
  return UNCHANGED.includes(resource.op) ? { ...resource, deployed: resource.planned } : resource;
}

function inYellow(line: string): string {
  return paint("yellow", line);
}

/** Looks for what no preview shows. */
async function findAdditions(
  deployed: DeployedComponent,
  kubectl: Kubectl,
  { run, stop }: Check,
): Promise<Additions> {
  showProgress("reading the OIDC issuer and its policies");
  const { found, notes } = await findIssuerAdditions(deployed, run, stop);
  showProgress("reading the ConfigMaps");
  const keys = await findAddedKeys(deployed.component.after, kubectl);
  showProgress("");
  return { found: [...found, ...keys], notes };
}

/** Prints the additions, asks, and prints the report. @returns whether everything is as intended. */
async function checkComponent(
  deployed: DeployedComponent,
  kubectl: Kubectl,
  { found, notes }: Additions,
  check: Check,
): Promise<boolean> {
  const { screen } = check;
  const { component } = deployed;
  screen.title("Additions that no preview shows");
  for (const addition of found) screen.print(...wrap(addition, 2).map(inYellow));
  if (found.length === 0) screen.print(paint("green", "  There are none."));
  screen.notes(...notes);

  const { rows, absent } = await askAll(deployed, kubectl, check);
  const findings = answerFindings(rows);
  const answers = rows.map((row) => ({ account: row.account.id, text: answerText(row) }));
  const unasked = notAsked(component.after.accounts, absent).map((text) => ({ text }));
  screen.access({ component, findings, notes: [...(check.verbose ? answers : []), ...unasked] });
  return found.length === 0 && findings.length === 0;
}

/** Asks the questions. @returns those with an answer, and those whose caller does not exist yet. */
async function askAll(
  deployed: DeployedComponent,
  kubectl: Kubectl,
  { run, stop, screen, "all-pairs": allPairs }: Check,
): Promise<{ rows: Row[]; absent: Question[] }> {
  const questions = liveQuestions(deployed.component.after, allPairs);
  showProgress("requesting ID tokens from the cluster");
  const asked = await requestIdTokens(deployed, questions, kubectl);
  const possible = asked.flatMap(({ question, idToken }) => (idToken ? [{ question, idToken }] : []));
  const ofToken = possible.filter(({ question }) => question.service === "Pulumi Cloud").length;
  screen.print("", `  Questions: ${ofToken} to Pulumi Cloud, ${possible.length - ofToken} to AWS STS.`);

  const ask = askServices(deployed, run, stop);
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
