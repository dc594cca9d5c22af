// The options of `npm start`.

import { parseArgs } from "node:util";

export const USAGE = `Usage: npm start -- [OPTION...]

Checks which service account gets which access token. By default, it simulates
the first \`pulumi up\` of a stack on this machine. With --plan, it reads a plan.
Nothing is created in AWS, Kubernetes, or Pulumi Cloud.

  --stack [ORGANIZATION/]NAME
                Stack to simulate, from Pulumi.NAME.yaml (default: the only
                stack file. An unchanged Pulumi.dev.yaml does not count;
                without another one, a sample is simulated)
  --verbose     In a simulation, list resources by name instead of counting
                them, and print the output of every Job
  --plan FILE   Check what \`pulumi preview --json --show-sames\` has printed for
                any program with a PulumiCloudAccess, and list what its update
                does. - reads standard input
  --expect-no-changes
                With --plan, end with 1 if the update does anything, or if
                something exists beside the program. The preview needs --refresh
  --markdown    Print the report as a code block of Markdown
  --help        Print this help

Exit code: 0 if everything is as the settings say; 1 if something is not, if
a Job failed, if something changes with --expect-no-changes, or if the report
was cut off; 2 if nothing could be compared, such as for an invalid file.`;

const flag = { type: "boolean", default: false } as const;

const OPTIONS = {
  stack: { type: "string", short: "s" },
  verbose: flag,
  plan: { type: "string" },
  "expect-no-changes": flag,
  markdown: flag,
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
  const taken = Object.keys(OPTIONS).filter(
    (name) => `npm_config_${name.replaceAll("-", "_")}` in environment,
  );
  if (taken.length > 0) {
    const options = taken.map((name) => `--${name}`);
    const command = ["npm start --", ...options, ...args].join(" ");
    throw new Error(`npm took ${options.join(" and ")}. Options of this command follow "--": ${command}`);
  }
  try {
    const { values } = parseArgs({ args, options: OPTIONS });
    if (values.plan !== undefined && (values.stack !== undefined || values.verbose)) {
      throw new Error("--plan is not valid with --stack or --verbose");
    }
    if (values["expect-no-changes"] && values.plan === undefined) {
      throw new Error("--expect-no-changes is only valid with --plan");
    }
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
