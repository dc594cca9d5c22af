// The options of `npm start`.

import { parseArgs } from "node:util";

export const USAGE = `Usage: npm start -- [OPTION...]

Simulates the first \`pulumi up\` of a stack on this machine and checks access.
Nothing is created in AWS, Kubernetes, or Pulumi Cloud.

  --stack NAME  Stack to simulate, from Pulumi.NAME.yaml (default: dev)
  --verbose     Print every answer of the access check with its reason
  --policies    Print the generated trust policies and allow policies as JSON
  --markdown    Print the access check and the policies as Markdown
  --help        Print this help`;

export interface Options {
  stack: string;
  verbose: boolean;
  policies: boolean;
  markdown: boolean;
  help: boolean;
}

/**
 * Reads the options.
 *
 * @throws Error for an unknown option, which names the command that lists the known ones.
 */
export function readOptions(args: string[]): Options {
  const flag = { type: "boolean", default: false } as const;
  try {
    const stack = { type: "string", short: "s", default: "dev" } as const;
    const options = { stack, verbose: flag, policies: flag, markdown: flag, help: { ...flag, short: "h" } };
    return parseArgs({ args, options }).values;
  } catch (error) {
    const reason = error instanceof Error ? error.message.split(". ")[0] : error;
    throw new Error(`${reason}. To list the options: npm start -- --help`);
  }
}
