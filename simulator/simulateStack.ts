// The simulation of one stack.

import { existsSync, readFileSync } from "node:fs";
import { basename } from "node:path";
import { runRules, type Violation } from "../policy/runRules";
import { type Path, visible } from "../settings/problems";
import { askForTokens } from "./exchanges";
import { createIssuer } from "./pulumiCloud";
import * as report from "./report";
import { REGION, type Run, runProgram } from "./runProgram";
import { findStack, readStackFile, SAMPLE, type StackFile } from "./stackFile";

/**
 * Simulates a stack, and prints the result or, as an error, why there is none. Does not throw.
 *
 * @param directory of the project, with its stack files. The simulated program is always the one of this repository.
 * @param name of the stack; by default, the only one of the project.
 * @returns the exit code: 0 if everything is as the settings say, 1 if something is not, 2 if the stack cannot be simulated.
 */
export async function simulateStack(directory: string, name?: string): Promise<number> {
  try {
    const file = findStack(directory, name);
    const stack = readStackFile(directory, file);
    const which = file === SAMPLE ? "simulator/sample.yaml" : `stack ${visible(stack.name)}`;
    console.log(report.paint("bold", `Simulation of ${which}: nothing is created outside this machine.`));
    const next = "For your own stack, set clusterName in Pulumi.dev.yaml, or add another one.\n";
    console.log(file === SAMPLE ? next : "");

    const region = stack.config["aws:region"] || REGION;
    const cluster = await createIssuer(`https://oidc.eks.${region}.amazonaws.com/id/SIMULATED`);
    const run = await runProgram(stack, region, cluster.url).catch((error) => failInStackFile(error, stack));
    const answers = await askForTokens(run, cluster);
    const violations = checkGuardrails(run, file.replace(/yaml$/, "policy.json"));
    const failures = report.failuresOf(answers, violations, run.warnings);
    const sections = [
      report.accountLines(answers, run.grants, stack),
      [...report.unlistedLines(answers), ...report.guardrailLines(violations)],
      ...report.noteLines(stack, run.warnings),
      report.verdictLines(answers, failures),
      report.unknownLines(answers, stack),
    ];
    console.log(sections.map((lines) => lines.join("\n")).join("\n\n"));
    return failures.length === 0 ? 0 : 1;
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    console.error(message.trimEnd().split("\n").map(visible).join("\n"));
    return 2;
  }
}

/** Returns what breaks a guardrail. @param file the configuration of the policy pack, which can be missing. */
function checkGuardrails({ resources }: Run, file: string): Violation[] {
  const configuration = existsSync(file) ? readFileSync(file, "utf8") : "{}";
  try {
    return runRules(resources, JSON.parse(configuration));
  } catch (error) {
    throw new Error(`${basename(file)}: ${(error as Error).message}`);
  }
}

type ListedProblem = { path: Path; line: string };

/** Throws an error that also says where the stack file has each problem that the program lists, and what nothing reads. */
function failInStackFile(error: Error & { problems?: ListedProblem[] }, stack: StackFile): never {
  const message = (error.problems ?? []).reduce((text, { path, line }) => {
    const position = stack.positionOf(path);
    return position ? text.replace(`\n  ${line}\n`, () => `\n  ${position}: ${line}\n`) : text;
  }, error.message);
  const notes = report.noteLines(stack, []).map((lines) => lines.join("\n"));
  throw new Error([message.trimEnd(), ...notes].join("\n\n"));
}
