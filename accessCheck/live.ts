// `npm start -- --live`: compares what exists with the program. It only reads, and requests no token.

import { type Additions, additionsTo } from "./additions";
import { changesIn } from "./changes";
import { findingsIn } from "./compare";
import { OIDC_ISSUER, outsideOf, type PlannedComponent, readComponents } from "./components";
import { elsewhereLines } from "./elsewhere";
import type { Plan, PlannedResource } from "./plan";
import { apiReader, type Pulumi, previewStack, pulumiRunner } from "./pulumi";
import { deployedIssuer, registrationAdditions, teamNotes } from "./registration";
import { changeLines } from "./report";
import { type Output, openScreen, type Screen } from "./screen";
import { paint, shellQuoted, visible, withoutTokens, wrap } from "./terminal";
import { fieldsIn, valueAt } from "./values";

interface LiveCheckOptions {
  /** The name of the stack. */
  stack: string;
}

/** What the check uses of this machine. */
export interface Surroundings {
  pulumi: Pulumi;
  /** Ends the check, and what it runs. */
  stop: AbortController;
  output: Output;
}

/**
 * Checks a stack for the command line: a signal, or a reader that stops reading, ends the check.
 *
 * @param options `cwd` is the directory of the program.
 */
export function startLiveCheck({ stack, cwd }: LiveCheckOptions & { cwd: string }): Promise<number> {
  const stop = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => stop.abort());
  // `npm start -- --live | head`.
  process.stdout.on("error", () => stop.abort());
  return checkLiveAccess({ stack }, { pulumi: pulumiRunner(stop.signal, cwd), stop, output: console });
}

/**
 * Compares a deployed stack with its program, and prints the result. Does not throw.
 *
 * @returns the exit code: 0 if what exists is what the program says, and that is what its settings mean; 1 if something
 *   differs; 2 if something could not be read; 130 if the check was interrupted.
 */
export async function checkLiveAccess(
  { stack }: LiveCheckOptions,
  { pulumi, stop, output }: Surroundings,
): Promise<number> {
  const screen = openScreen("text", output);
  try {
    const exitCode = printComparison(await readStack(stack, pulumi), screen);
    // Its reader may have stopped reading.
    return stop.signal.aborted ? 130 : exitCode;
  } catch (error) {
    showProgress("");
    if (stop.signal.aborted) return 130;
    screen.banner(`${titleOf(stack)} it could not be compared. Nothing was changed.`);
    screen.error(withoutTokens(error instanceof Error ? error.message : String(error)));
    return 2;
  }
}

/** A component, and what exists beyond the program. */
interface ComparedComponent {
  component: PlannedComponent;
  additions: Additions;
}

interface ComparedStack {
  stack: string;
  plan: Plan;
  components: ComparedComponent[];
}

/** Reads what exists, and what the program says. */
async function readStack(stack: string, pulumi: Pulumi): Promise<ComparedStack> {
  showProgress("pulumi preview --refresh reads what exists");
  const plan = await previewStack(stack, pulumi);
  const planned = readComponents(plan);
  if (!planned.some(({ isDeployed }) => isDeployed)) {
    throw new Error(
      `Stack "${stack}" is not deployed. To deploy it: pulumi up --stack ${shellQuoted(stack)}`,
    );
  }

  showProgress("pulumi api reads what Pulumi Cloud has registered");
  const components = [];
  for (const component of planned) {
    components.push({ component, additions: await readAdditions(component, pulumi) });
  }
  showProgress("");
  return { stack, plan, components };
}

async function readAdditions(component: PlannedComponent, pulumi: Pulumi): Promise<Additions> {
  const { resources, after } = component;
  const inCluster = additionsTo(resources);
  const issuer = resources.find(({ type, deployed }) => type === OIDC_ISSUER && deployed !== undefined);
  // A new component, and one that leaves the program, are differences already.
  if (!issuer?.planned) return inCluster;
  const deployed = deployedIssuer(issuer);
  const apiUrl = valueAt(after.settings, "pulumiApiUrl");
  if (typeof apiUrl !== "string") throw new Error("The setting pulumiApiUrl is secret, or not known.");
  const read = apiReader(deployed.organization, new URL(apiUrl).origin, pulumi);
  const registered = await registrationAdditions(deployed, read);
  const teams = await teamNotes(teamsOf(component), read);
  return {
    found: [...registered.found, ...inCluster.found],
    notes: [...registered.notes, ...inCluster.notes, ...teams],
  };
}

/** Returns the names of the teams as which the service accounts of a component act. */
function teamsOf({ after }: PlannedComponent): string[] {
  const names = fieldsIn(valueAt(after.settings, "serviceAccounts")).map((it) => valueAt(it, "teamName"));
  return [...new Set(names.filter((name) => typeof name === "string"))];
}

/** Returns whether Pulumi would change something. What it only reads exists already, unless it reads it for the first time. */
function differs({ op, deployed }: PlannedResource): boolean {
  return !["same", "refresh"].includes(op) && !(op === "read" && deployed !== undefined);
}

/** Prints what differs, and what the access check finds. @returns the exit code. */
function printComparison({ stack, plan, components }: ComparedStack, screen: Screen): number {
  const { resources } = plan;
  const outside = outsideOf(plan);
  const elsewhere = outside.filter(differs);
  const own = resources.filter((resource) => differs(resource) && !outside.includes(resource));
  // What a refresh has added to a resource that stays, such as a default of the service, is no difference.
  const staying = resources.map((it) => (differs(it) ? it : { ...it, deployed: it.planned }));
  const changes = readComponents({ ...plan, resources: staying }).flatMap(changesIn);
  const compared = components.map((it) => ({ ...it, findings: findingsIn(it.component) }));
  const isOwn =
    own.length + changes.length > 0 ||
    compared.some(({ additions, findings }) => additions.found.length + findings.length > 0);
  const differsAtAll = isOwn || elsewhere.length > 0;

  screen.banner(`${titleOf(stack)} ${verdictOf(isOwn, elsewhere.length)} Nothing was changed.`);
  screen.title("Differences (what exists → what the program says)");
  for (const { op, type, name } of own) screen.print(...wrap(`${op}: ${type} ${name}`, 2).map(inYellow));
  if (changes.length > 0) screen.print("", ...changeLines(changes));
  if (own.length + changes.length === 0) screen.print(paint("green", "  None in the component."));
  screen.title("Elsewhere in the program");
  screen.print(...elsewhereLines(plan));

  for (const { component, additions, findings } of compared) {
    if (compared.length > 1) screen.title(`Component ${component.name}`);
    screen.title("Beyond the program");
    for (const addition of additions.found) screen.print(...wrap(addition, 2).map(inYellow));
    if (additions.found.length === 0) screen.print(paint("green", "  Nothing."));
    screen.notes(...additions.notes);
    if (!component.isDeleted) screen.access({ component, findings });
  }

  if (differsAtAll) {
    const name = shellQuoted(stack);
    screen.print("", ...wrap(`To see all of it: pulumi preview --refresh --diff --stack ${name}`, 2));
    screen.print(...wrap(`To apply the program again: pulumi up --refresh --stack ${name}`, 2));
  }
  screen.lastLine("Live check");
  return differsAtAll ? 1 : 0;
}

function titleOf(stack: string): string {
  return `Live access check of stack ${visible(stack)}:`;
}

function verdictOf(isOwn: boolean, elsewhere: number): string {
  if (isOwn) return "the component differs.";
  if (elsewhere > 0) return "the component is as its program says, other resources differ.";
  return "everything is as its program says.";
}

function inYellow(line: string): string {
  return paint("yellow", line);
}

/** Shows what the check does, in place of what it did before, if standard error is a terminal. */
function showProgress(text: string): void {
  // The code erases the line.
  if (process.stderr.isTTY) process.stderr.write(`\r\u001b[K${text && `  … ${text}`}`);
}
