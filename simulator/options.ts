// The options of `npm start`.

import { existsSync } from "node:fs";
import { parseArgs } from "node:util";

export const USAGE = `Usage: npm start -- [OPTION...]

Checks which service account gets which access token. By default, it simulates
the first \`pulumi up\` of a stack on this machine. With --plan, it reads a plan.
With --live, it reads what exists. Nothing is created in AWS, Kubernetes, or
Pulumi Cloud.

  --stack [ORGANIZATION/]NAME
                Stack to simulate or check, from Pulumi.NAME.yaml (default: the
                only stack file. An unchanged Pulumi.dev.yaml does not count;
                without another one, a sample is simulated). --live needs the
                organization if it is not your default one
  --plan FILE   Check what \`pulumi preview --json --show-sames\` has printed for
                any program with a PulumiCloudAccess, and what its update would
                change. - reads standard input
  --verbose     List resources by name instead of counting them, and print the
                output of every Job
  --policies    Print the generated trust policies and allow policies as JSON
                (for a file: npm start --silent -- --policies >FILE)
  --markdown    Print the report as a code block of Markdown
  --live        After \`pulumi up\`, compare what exists with the program. It only
                reads, with the Pulumi CLI and its login
  --cwd DIR     With --live, the directory of another program (default: this one)
  --help        Print this help

Exit code: 0 if everything is as the settings say; 1 if something is not, if
a Job failed, if --live finds a difference from the program, or if the report
was cut off; 2 if nothing could be compared, such as for an invalid file; 130
if --live was interrupted.
--policies checks nothing.`;

const flag = { type: "boolean", default: false } as const;

const OPTIONS = {
  stack: { type: "string", short: "s" },
  plan: { type: "string" },
  cwd: { type: "string" },
  verbose: flag,
  policies: flag,
  markdown: flag,
  live: flag,
  help: { ...flag, short: "h" },
} as const;

/**
 * Reads the command line.
 *
 * @param args without the program.
 * @param environment in which npm leaves the options that it has taken for its own.
 * @throws Error for an unknown option, and for options that are not valid together. It names the command that lists them.
 */
export function readOptions(args: string[], environment: NodeJS.ProcessEnv = {}) {
  const taken = Object.keys(OPTIONS).filter((name) => `npm_config_${name}` in environment);
  if (taken.length > 0) {
    const options = taken.map((name) => `--${name}`);
    const command = ["npm start --", ...options, ...args].join(" ");
    throw new Error(`npm took ${options.join(" and ")}. Options of this command follow "--": ${command}`);
  }
  try {
    const { values } = parseArgs({ args, options: OPTIONS });
    if (values.policies && values.markdown) throw new Error("--policies is not valid with --markdown");
    if (values.live && (values.policies || values.markdown || values.verbose)) {
      throw new Error("--live is not valid with --policies, --markdown, or --verbose");
    }
    if (values.plan && (values.live || values.stack || values.verbose)) {
      throw new Error("--plan is not valid with --live, --stack, or --verbose");
    }
    if (values.cwd && !values.live) throw new Error("--cwd is only valid with --live");
    if (values.cwd && !existsSync(values.cwd)) throw new Error(`--cwd ${values.cwd} does not exist`);
    return values;
  } catch (error) {
    const [reason = ""] = (error as Error).message.split(". ");
    // What remains of `npm start --plan FILE`: npm reads --plan as three of its own options.
    const advice = reason.startsWith("Unexpected argument")
      ? ' Options follow "--", as in: npm start -- --plan FILE.'
      : "";
    throw new Error(`${reason}.${advice} To list the options: npm start -- --help`);
  }
}
