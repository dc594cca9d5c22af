// `npm start -- --live`: compares what is deployed with its program, and asks the real Pulumi Cloud and AWS STS the questions of the
// access check. It shares nothing with the emulators.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findAddedKeys, findIssuerAdditions } from "./additions";
import { foreignPolicies } from "./allowPolicies";
import { accessLines, isAsIntended, type Result } from "./answerReport";
import { componentsIn } from "./component";
import { mapEightAtOnce } from "./concurrency";
import {
  connect,
  type DeployedComponent,
  deployedComponent,
  type Kubectl,
  readKubeconfigs,
} from "./deployedComponent";
import { type Difference, differencesIn } from "./differences";
import { previewStack } from "./preview";
import { liveQuestions, type Row } from "./questions";
import { askServices, requestIdTokens } from "./realServices";
import { idOf, type ServiceAccount } from "./serviceAccounts";
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
  const components = componentsIn(plan);
  const stack = shellQuoted(options.stack);
  if (!components.some(({ isDeployed }) => isDeployed)) {
    throw new Error(`Stack "${options.stack}" is not deployed. To deploy it: pulumi up --stack ${stack}`);
  }
  const kubeconfigs = readKubeconfigs(
    options.kubeconfig,
    components.map(({ name }) => name),
  );
  const { own, elsewhere } = differencesIn(plan, components);
  print("", paint("bold", "Differences from the program (what exists → what the program says)"));
  print(...differenceLines(own, elsewhere));
  if (own.length > 0) {
    print("", ...wrap("No token was requested: the program and what exists must be the same.", 2, 2));
    print(...wrap(`To see all of it: pulumi preview --refresh --diff --stack ${stack}`, 2));
    print(...wrap(`To apply the program again: pulumi up --refresh --stack ${stack}`, 2));
    return 1;
  }

  const connected = [];
  for (const component of components) {
    const deployed = deployedComponent(component, plan);
    connected.push({ deployed, kubectl: await connect(deployed, kubeconfigs, options.cwd, directory, run) });
  }

  const rows: Row[] = [];
  let isExpected = true;
  for (const { deployed, kubectl } of connected) {
    if (components.length > 1) print("", paint("bold", `Component ${visible(deployed.name)}`));
    const checked = await checkComponent(deployed, kubectl, options, surroundings);
    rows.push(...checked.rows);
    isExpected &&= checked.isExpected;
  }
  print("", paint("bold", "Answers that the documentation leaves open"));
  for (const line of openAnswers(rows)) print(...wrap(line, 2));
  return isExpected ? 0 : 1;
}

function differenceLines(own: Difference[], elsewhere: number): string[] {
  const others = `Elsewhere in the program, ${elsewhere === 1 ? "1 resource differs" : `${elsewhere} resources differ`}.`;
  return [
    ...own.flatMap(({ op, resource, properties }) => [
      ...wrap(`${op}: ${resource}`, 2),
      ...properties.flatMap((property) => wrap(property, 4)),
    ]),
    ...(own.length === 0 ? ["  pulumi preview --refresh shows none."] : []),
    ...(elsewhere > 0 ? wrap(others, 2) : []),
  ].map((line) => paint(own.length > 0 ? "yellow" : "green", line));
}

async function checkComponent(
  component: DeployedComponent,
  kubectl: Kubectl,
  options: LiveCheckOptions,
  surroundings: Surroundings,
): Promise<{ rows: Row[]; isExpected: boolean }> {
  const { run, print } = surroundings;
  showProgress("reading the OIDC issuer and its policies");
  const additions = await findIssuerAdditions(component, run);
  showProgress("reading the ConfigMaps");
  additions.push(...(await findAddedKeys(component.accounts, kubectl)));
  showProgress("");
  print("", paint("bold", "Additions that no preview shows"));
  for (const addition of additions) print(...wrap(addition, 2).map((line) => paint("yellow", line)));
  if (additions.length === 0) print(paint("green", "  There are none."));

  const { accounts, issuer } = component;
  const rows = await askAll(component, options["all-pairs"], kubectl, surroundings);
  const result: Result = {
    accounts,
    rows,
    foreign: foreignPolicies(issuer.policies, accounts),
    isLive: true,
  };
  print("", paint("bold", "Access check"), ...accessLines(result, options.verbose));
  return { rows, isExpected: additions.length === 0 && isAsIntended(result) };
}

/** Asks the questions, and returns them with their answers. */
async function askAll(
  component: DeployedComponent,
  allPairs: boolean,
  kubectl: Kubectl,
  { run, stop, print }: Pick<Surroundings, "run" | "stop" | "print">,
): Promise<Row[]> {
  const questions = liveQuestions(component.accounts, allPairs);
  const callers = questions.filter(({ service }) => service === "Pulumi Cloud").length;
  print("", `  Asking as ${callers} callers.`);
  showProgress("requesting ID tokens from the cluster");
  const tokenOf = await requestIdTokens(component, questions, kubectl);
  const ask = askServices(component, tokenOf, run, stop.signal);
  let answers = 0;
  const rows = await mapEightAtOnce(questions, async (question) => {
    const answer = await ask(question);
    answers += 1;
    showProgress(`${answers} of ${questions.length} answers`);
    return { ...question, ...answer };
  });
  showProgress("");
  return rows;
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

/** Answers what the documentation leaves open. */
function openAnswers(rows: Row[]): string[] {
  // The reason of the first denial of each form.
  const examples = new Map<string, string>();
  for (const { form, reason } of rows) if (form && !examples.has(form)) examples.set(form, reason);
  return [
    `Does a rule on aud match an element of a list? ${audienceAnswer(rows)}`,
    ...[...examples].map(([form, reason]) => `How does Pulumi Cloud deny? ${form}, such as: ${reason}`),
  ];
}

function audienceAnswer(rows: Row[]): string {
  const asked = rows.filter(({ account, service }) => account.audienceRule && service === "Pulumi Cloud");
  if (asked.length === 0) return "Not asked: no service account of this stack has a rule on aud.";
  const isAllowed = (account: ServiceAccount, label: string) =>
    asked.some((row) => row.account === account && row.caller.label === label && row.allowed);
  const match = asked.find(
    ({ account }) => isAllowed(account, "itself") && !isAllowed(account, "other audience"),
  );
  if (match) return `Yes: ${idOf(match.account)} was allowed, and denied with another audience.`;
  return "Unknown. If only service accounts with such a rule were denied, the answer is probably no. To verify, set audienceRule to false, run `pulumi up`, and check again.";
}
