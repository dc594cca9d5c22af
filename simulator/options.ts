// The options of `npm start`.

import { parseArgs } from "node:util";

export const USAGE = `Usage: npm start -- [OPTION...]

Checks which service account gets which access token: simulates the first
\`pulumi up\` of a stack on this machine, and runs the policy pack on what the
program registers. Nothing is created in AWS, Kubernetes, or Pulumi Cloud.

  --stack [ORGANIZATION/]NAME
                Stack to simulate, from Pulumi.NAME.yaml (default: the only
                stack file. An unchanged Pulumi.dev.yaml does not count;
                without another one, a sample is simulated)
  --verbose     List resources by name instead of counting them, and print the
                output of every Job
  --help        Print this help

Exit code: 0 if everything is as the settings say; 1 if something is not, or if
a Job failed; 2 if the stack cannot be simulated, such as for an invalid file.`;

const flag = { type: "boolean", default: false } as const;

const OPTIONS = {
  stack: { type: "string", short: "s" },
  verbose: flag,
  help: { ...flag, short: "h" },
} as const;

/**
 * Reads the command line.
 *
 * @param args without the program.
 * @param environment in which npm leaves the options that it has taken for its own.
 * @throws Error for an unknown option. It names the command that lists them.
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
    return parseArgs({ args, options: OPTIONS }).values;
  } catch (error) {
    const [reason = ""] = (error as Error).message.split(". ");
    throw new Error(`${reason}. To list the options: npm start -- --help`);
  }
}
