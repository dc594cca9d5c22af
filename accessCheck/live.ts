// `npm start -- --live`: asks the questions of the access check of the real cluster, AWS, and Pulumi Cloud, and reports what
// was changed by hand. It shares nothing with the emulators.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Change, findChangedConfigMaps, findChangedPolicies } from "./changedByHand";
import { connect, readAccounts, readStack } from "./deployedStack";
import { checkAccess, liveQuestions, type Row, unexpected } from "./questions";
import { askServices } from "./realServices";
import { accessLines } from "./report";
import { idOf, type ServiceAccount } from "./serviceAccounts";
import { paint, redact, shellQuoted, visible, wrap } from "./terminal";
import { type Run, toolRunner } from "./tools";

const NOTES = [
  "It requests ID tokens (10 minutes), access tokens (1 minute), and AWS credentials (15 minutes). They stay in memory and are never used.",
  "The audit logs of the cluster, AWS CloudTrail, and Pulumi Cloud will show the requests and the denials.",
  "It requires the right to create serviceaccounts/token, which lets you act as the service accounts. Do not run it in a pull request's workflow.",
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
  /** Ends the check. */
  stop: AbortSignal;
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
  return checkLiveAccess(options, { run, stop: stop.signal, print, printError: console.error });
}

/**
 * Checks the access of every service account of a stack that is up, and prints the result.
 *
 * @returns the exit code: 0 if every answer, policy, and ConfigMap is the intended one, 1 if one is not, 2 if the services could
 *   not be asked.
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
    if (surroundings.stop.aborted) return 130;
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
  const stack = await readStack(options.stack, run);
  const kubectl = await connect(stack, directory, run);
  const accounts = readAccounts(stack);
  const configMapChanges = await findChangedConfigMaps(stack, kubectl);
  const policyChanges = await findChangedPolicies(stack, accounts, run);

  const questions = liveQuestions(accounts, options["all-pairs"]);
  const callers = questions.filter(({ service }) => service === "Pulumi Cloud").length;
  print("", `  Asking as ${callers} callers, one at a time.`);
  const rows = await checkAccess(questions, askServices(stack, kubectl, run, stop));

  print("", paint("bold", "Access check"), ...accessLines(rows, options.verbose));
  print("", paint("bold", "Policies of the OIDC issuer in Pulumi Cloud"));
  print(...changeLines(policyChanges, "They are those that the program has generated."));
  print("", paint("bold", "ConfigMaps in the cluster"));
  print(...changeLines(configMapChanges, "They are those that the program has created."));
  const isExpected = [...unexpected(rows), ...policyChanges, ...configMapChanges].length === 0;
  const stackOption = `--stack ${shellQuoted(options.stack)}`;
  if (!isExpected) {
    print(...wrap(`To see what was changed by hand: pulumi preview --refresh --diff ${stackOption}`, 2));
  }
  print("", paint("bold", "Answers that the documentation leaves open"));
  for (const line of openAnswers(rows)) print(...wrap(line, 2));
  return isExpected ? 0 : 1;
}

function changeLines(changes: Change[], unchanged: string): string[] {
  if (changes.length === 0) return wrap(unchanged, 2).map((line) => paint("green", line));
  return changes
    .flatMap(({ heading, details }) => [wrap(heading, 2), ...details.map((text) => wrap(text, 4))].flat())
    .map((line) => paint("yellow", line));
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
