// The simulation of one stack.

import { existsSync, readFileSync } from "node:fs";
import { basename } from "node:path";
import { runRules, type Violation } from "../policy/runRules";
import { visible } from "../settings/problems";
import { askForTokens } from "./exchanges";
import { createIssuer, eksIssuerUrl } from "./issuer";
import * as report from "./report";
import { REGION, type Run, runProgram } from "./runProgram";
import { findStack, readStackFile, SAMPLE, type StackFile } from "./stackFile";
import type { Path } from "./yaml";

const { paint, wrap } = report;

/**
 * Simulates a stack, and prints the result or, as an error, why there is none. Does not throw.
 *
 * @param directory of the project, with its stack files. The simulated program is always the one of this repository.
 * @param name of the stack; by default, the only one of the project.
 * @returns the exit code: 0 if everything is as the settings say, 1 if something is not, 2 if the stack cannot be simulated.
 */
export async function simulateStack(
  directory: string,
  name?: string,
  output: Pick<Console, "log" | "error"> = console,
): Promise<number> {
  const print = (...lines: string[]) => output.log(lines.join("\n"));
  try {
    const file = findStack(directory, name);
    const stack = readStackFile(directory, file);
    const which = file === SAMPLE ? "simulator/sample.yaml" : `stack ${visible(stack.name)}`;
    print(paint("bold", `Simulation of ${which}: nothing is created outside this machine.`));
    if (file === SAMPLE) print("To simulate your own stack, edit Pulumi.dev.yaml or add another stack file.");

    const region = stack.config["aws:region"] || REGION;
    const cluster = createIssuer(eksIssuerUrl(region));
    const run = await runProgram(stack, region, cluster.url).catch((error) => {
      throw inStackFile(error, stack);
    });
    const answers = await askForTokens(run, cluster);
    const violations = checkGuardrails(run, file.replace(/yaml$/, "policy.json"));
    print("", ...report.accountLines(answers, run.grants, stack), "", ...report.unlistedLines(answers));
    print(...report.guardrailLines(violations, answers, stack));
    const notes = [...report.notesOn(stack), ...run.warnings];
    for (const note of notes) print("", ...wrap(note, "Note: "));

    const failures = report.failuresOf(answers, violations, stack);
    const isRight = failures.length === 0;
    const verdict = isRight
      ? `${answers.length} of ${answers.length} tokens are granted to their service account only.`
      : `Not as it should be: ${failures.join("; ")}.`;
    print("", ...wrap(verdict).map((line) => paint(isRight ? "green" : "red", line)));
    print(
      "",
      paint("bold", "This was a simulation. It cannot know:"),
      ...report.unknownLines(answers, stack),
    );
    return isRight ? 0 : 1;
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    output.error(message.trimEnd().split("\n").map(visible).join("\n"));
    return 2;
  }
}

/** Returns what breaks a guardrail. @param file the configuration of the policy pack, which can be missing. */
function checkGuardrails({ resources }: Run, file: string): Violation[] {
  if (!existsSync(file)) return runRules(resources);
  try {
    return runRules(resources, JSON.parse(readFileSync(file, "utf8")));
  } catch (error) {
    throw new Error(`${basename(file)}: ${(error as Error).message}`);
  }
}

/** Returns an error that also says where the stack file has each problem that the program lists, and what nothing reads. */
function inStackFile(error: Error & { problems?: { path: Path; line: string }[] }, stack: StackFile): Error {
  const message = (error.problems ?? []).reduce((text, { path, line }) => {
    const position = stack.positionOf(path);
    return position ? text.replace(`\n  ${line}\n`, () => `\n  ${position}: ${line}\n`) : text;
  }, error.message);
  return new Error([message, ...report.notesOn(stack)].join("\n"));
}
