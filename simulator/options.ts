// The options of `npm start`.

import { parseArgs } from "node:util";

export const USAGE = `Usage: npm start -- [OPTION...]

Simulates the first \`pulumi up\` of a stack on this machine and checks access.
Nothing is created in AWS, Kubernetes, or Pulumi Cloud.

  --stack NAME  Stack to simulate or check, from Pulumi.NAME.yaml (default: the
                only stack file. An unchanged Pulumi.dev.yaml does not count;
                without another one, a sample is simulated). With --live,
                ORGANIZATION/NAME if it is not in your default organization
  --verbose     Print every check with its reason
  --policies    Print the generated trust policies and allow policies as JSON
                (for a file: npm start --silent -- --policies >FILE)
  --markdown    Print the access check and the policies as Markdown
  --live        After \`pulumi up\`, check access to the real AWS and Pulumi Cloud
  --all-pairs   With --live, test each service account against every other one
  --help        Print this help

Exit code: 0 if every check passes; otherwise 1. --policies checks nothing.
With --live: 0 if every check passes and nothing differs from the program,
otherwise 1; 2 if the services could not be asked, 130 if it was interrupted.`;

/**
 * Reads the command line.
 *
 * @param args without the program.
 * @throws Error for an unknown option, and for options that are not valid together. It names the command that lists them.
 */
export function readOptions(args: string[]) {
  const flag = { type: "boolean", default: false } as const;
  const options = {
    stack: { type: "string", short: "s" },
    verbose: flag,
    policies: flag,
    markdown: flag,
    live: flag,
    "all-pairs": flag,
    help: { ...flag, short: "h" },
  } as const;
  try {
    const { values } = parseArgs({ args, options });
    if (values.live && (values.policies || values.markdown)) {
      throw new Error("--live is not valid with --policies or --markdown");
    }
    if (values["all-pairs"] && !values.live) throw new Error("--all-pairs is only valid with --live");
    return values;
  } catch (error) {
    const [reason] = (error as Error).message.split(". ");
    throw new Error(`${reason}. To list the options: npm start -- --help`);
  }
}
