// `npm start`: its options, and what it needs of its process to run the simulation, or to check a deployed stack.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { startLiveCheck } from "./accessCheck/live";
import { visible } from "./accessCheck/terminal";
import { saveCertificateAuthority } from "./emulators/certificates";
import { endPods } from "./emulators/pod";
import type { Options } from "./simulateStack";
import { findStack } from "./stackFile";

const PROJECT = join(__dirname, "..");

const USAGE = `Usage: npm start -- [OPTION...]

Simulates the first \`pulumi up\` of a stack on this machine and checks access.
Nothing is created in AWS, Kubernetes, or Pulumi Cloud.

  --stack NAME  Stack to simulate, from Pulumi.NAME.yaml (default: the only stack
                that has such a file, or a sample while Pulumi.dev.yaml is the
                template's and there is no other)
  --verbose     Print every answer of the access check with its reason
  --policies    Print the generated trust policies and allow policies as JSON
  --markdown    Print the access check and the policies as Markdown
  --live        After \`pulumi up\`, check access to the real AWS and Pulumi Cloud
  --all-pairs   With --live, test each service account against every other one
  --help        Print this help

Exit code: 0 if every answer is as the settings intend; otherwise 1.
With --live: 0 if every answer and policy is as expected, 1 if one is not, 2 if
the check could not be completed.`;

async function start(args: string[]): Promise<number> {
  const options = readOptions(args);
  if (options.help) {
    console.log(USAGE);
    return 0;
  }
  const { "all-pairs": allPairs } = options;
  if (options.live) return startLiveCheck({ ...options, allPairs, stack: options.stack ?? onlyStack() });
  return runSimulation(options);
}

/** @throws Error for an unknown option, which names the command that lists the known ones. */
function readOptions(args: string[]) {
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

/** @throws Error if the project does not have exactly one stack. */
function onlyStack(): string {
  const found = findStack(PROJECT, undefined);
  if (found) return found.name;
  throw new Error(
    "This project does not have its own stack file. To check a stack that is deployed: npm start -- --live --stack NAME",
  );
}

/** Runs the simulation with what it needs of this process, in a directory that is gone when the process ends. */
async function runSimulation(options: Options): Promise<number> {
  const directory = mkdtempSync(join(tmpdir(), "simulation-"));
  process.on("exit", () => {
    endPods();
    rmSync(directory, { recursive: true, force: true, maxRetries: 3 });
  });
  for (const [signal, exitCode] of Object.entries({ SIGINT: 130, SIGTERM: 143, SIGHUP: 129 })) {
    process.on(signal, () => process.exit(exitCode));
  }
  // The reader may stop reading: `npm start | head`.
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => process.exit());

  await saveCertificateAuthority(directory);
  process.env.SIMULATOR_DIRECTORY = directory;
  process.env.NODE_EXTRA_CA_CERTS = join(directory, "ca.pem");
  require("./emulators/trust.cjs");
  // Only now: it loads the SDK, which takes a second.
  const { simulateStack }: typeof import("./simulateStack") = require("./simulateStack");
  return simulateStack(PROJECT, options);
}

start(process.argv.slice(2)).then(
  (exitCode) => {
    process.exitCode = exitCode;
  },
  (error: Error) => {
    // It can contain the name of a file.
    for (const line of error.message.split("\n")) console.error(visible(line));
    process.exitCode = process.argv.includes("--live") ? 2 : 1;
  },
);
