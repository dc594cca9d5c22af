// `npm start -- --live`: compares a deployed stack with its program, and asks the real Pulumi Cloud and AWS STS the questions of
// the access check. It shares nothing with the emulators.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findAddedKeys, findIssuerAdditions } from "./additions";
import { mapEightAtOnce } from "./concurrency";
import { connect, type DeployedStack, deployedStack, type Kubectl } from "./deployedStack";
import { previewStack } from "./preview";
import { liveQuestions, type Row, unexpected } from "./questions";
import { askServices, requestIdTokens } from "./realServices";
import { accessLines } from "./report";
import { idOf, type ServiceAccount } from "./serviceAccounts";
import { paint, redact, shellQuoted, visible, wrap } from "./terminal";
import { type Run, toolRunner } from "./tools";

const NOTES = [
  "It requests ID tokens (10 minutes), access tokens (1 minute), and AWS credentials (15 minutes). They stay in memory and are never used.",
  "The audit logs of the cluster, AWS CloudTrail, and Pulumi Cloud will show the requests and the denials.",
  "It requires permission to create serviceaccounts/token, which lets you act as the service accounts. Do not run it in a pull request's workflow.",
];

interface LiveCheckOptions {
  /** The name of the stack. */
  stack: string;
  /** Prints every answer with its reason. */
  verbose: boolean;
  /** Asks as every other service account of the stack, not only as the next one. */
  "all-pairs": boolean;
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
  const run = toolRunner(stop.signal);
  const print = (...lines: string[]) => console.log(lines.join("\n"));
  return checkLiveAccess(options, { run, stop, print, printError: console.error });
}

/**
 * Checks the access of every service account of a stack that is up, and prints the result.
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
  { run, stop, print }: Surroundings,
): Promise<number> {
  const title = `Live access check of stack ${visible(options.stack)}: nothing is created or changed.`;
  print(paint("bold", title), "");
  for (const note of NOTES) print(...wrap(note, 2, 2));

  // Whatever could stop the check comes first, so that no token is sent in vain.
  print("", paint("bold", "Differences from the program"));
  showProgress("pulumi preview --refresh reads what exists");
  const preview = await previewStack(options.stack, directory, run);
  showProgress("");
  if (preview.hasChanges) print(...diffLines(preview.diff));
  else print(paint("green", "  pulumi preview --refresh shows none."));
  const stack = deployedStack(options.stack, preview);
  showProgress("reading the OIDC issuer and its policies");
  const additions = await findIssuerAdditions(stack, run);
  showProgress("reading the ConfigMaps");
  const kubectl = await connect(stack, directory, run);
  additions.push(...(await findAddedKeys(stack.accounts, kubectl)));
  showProgress("");
  print("", paint("bold", "Additions that no preview shows"));
  for (const addition of additions) print(...wrap(addition, 2).map((line) => paint("yellow", line)));
  if (additions.length === 0) print(paint("green", "  There are none."));

  const rows = await askAll(stack, options["all-pairs"], kubectl, { run, stop, print });
  print(
    "",
    paint("bold", "Access check"),
    ...accessLines({ accounts: stack.accounts, rows, foreign: [], isLive: true }, options.verbose),
  );
  const isExpected = !preview.hasChanges && additions.length === 0 && unexpected(rows).length === 0;
  if (preview.hasChanges) {
    const up = `pulumi up --refresh --stack ${shellQuoted(options.stack)}`;
    print(...wrap(`To apply the program again: ${up}`, 2));
  }
  print("", paint("bold", "Answers that the documentation leaves open"));
  for (const line of openAnswers(rows)) print(...wrap(line, 2));
  return isExpected ? 0 : 1;
}

/** Asks the questions, and returns them with their answers. */
async function askAll(
  stack: DeployedStack,
  allPairs: boolean,
  kubectl: Kubectl,
  { run, stop, print }: Pick<Surroundings, "run" | "stop" | "print">,
): Promise<Row[]> {
  const questions = liveQuestions(stack.accounts, allPairs);
  const callers = questions.filter(({ service }) => service === "Pulumi Cloud").length;
  print("", `  Asking as ${callers} callers.`);
  showProgress("requesting ID tokens from the cluster");
  const tokenOf = await requestIdTokens(stack, questions, kubectl);
  const ask = askServices(stack, tokenOf, run, stop.signal);
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

/** Returns what the CLI printed, without what could be a token, and without characters that a terminal obeys. */
function diffLines(diff: string): string[] {
  const lines = redact(diff).trimEnd().split("\n");
  return lines.map((line) => paint("yellow", `  ${line}`));
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
