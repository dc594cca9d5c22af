// The simulation of one stack.

import { existsSync } from "node:fs";
import { runRules } from "../policy/runRules";
import { visible } from "../settings/problems";
import { askForTokens } from "./exchanges";
import { createIssuer, eksIssuerUrl } from "./pulumiCloud";
import { accountLines, guardrailLines, notesOn, paint, unknownLines, unlistedLines, wrap } from "./report";
import { REGION, runProgram } from "./runProgram";
import { findStack, readStackFile, readYaml, SAMPLE, type StackFile } from "./stackFile";

const SAMPLE_NOTE =
  "Its settings are in simulator/sample.yaml. To simulate your own stack, edit Pulumi.dev.yaml or add another stack file.";

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
    const which = file === SAMPLE ? "the sample stack" : `stack ${visible(stack.name)}`;
    print(paint("bold", `Simulation of ${which}: nothing is created outside this machine.`));
    if (file === SAMPLE) print(...wrap(SAMPLE_NOTE));

    const region = stack.config["aws:region"] || REGION;
    const cluster = await createIssuer(eksIssuerUrl(region));
    const run = await runProgram(stack, { region, issuerUrl: cluster.url }).catch((error) => {
      throw inStackFile(error, stack);
    });
    const answers = await askForTokens(run, cluster, progressOf(run.accounts.length));
    const configuration = file.replace(/\.yaml$/, ".policy.json");
    // JSON is YAML.
    const configured = existsSync(configuration) ? Object(readYaml(configuration).content) : {};
    const violations = runRules(run.resources, configured);
    print("", ...accountLines(answers, run.grants, stack), "", ...unlistedLines(answers));
    print(...guardrailLines(violations));
    for (const note of [...notesOn(stack), ...run.warnings]) print("", ...wrap(`Note: ${note}`, "  "));

    const right = answers.filter(
      ({ own, unlisted }) => own.result === "granted" && unlisted.result === "denied",
    );
    const isBroken = violations.some(({ level }) => level === "mandatory");
    const isRight = right.length === answers.length && !isBroken;
    const verdict = `${right.length} of ${answers.length} tokens are granted to their service account only.`;
    print("", paint(isRight ? "green" : "red", isRight ? verdict : `Not as the settings say: ${verdict}`));
    print("", paint("bold", "This was a simulation. It cannot know:"), ...unknownLines(answers));
    return isRight ? 0 : 1;
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    output.error(message.trimEnd().split("\n").map(visible).join("\n"));
    return 2;
  }
}

/** Returns an error that also says where the stack file has each problem that the program lists, and what it could not read. */
function inStackFile(error: Error & { problems?: ListedProblem[] }, stack: StackFile): Error {
  const message = (error.problems ?? []).reduce((text, { path, line }) => {
    const position = stack.positionOf(path);
    return position ? text.replace(`\n  ${line}\n`, () => `\n  ${position}: ${line}\n`) : text;
  }, error.message);
  return new Error([message, ...(stack.environments.length > 0 ? notesOn(stack) : [])].join("\n"));
}

/** A problem of the settings, and its line in the message. */
interface ListedProblem {
  path: (string | number)[];
  line: string;
}

/** Returns a function that shows on a terminal how many of so many service accounts have asked. */
function progressOf(total: number): (asked: number) => void {
  return (asked) => {
    if (!process.stderr.isTTY) return;
    process.stderr.write(asked < total ? `\rAsked for ${asked} of ${total} tokens` : "\r\u001b[K");
  };
}
