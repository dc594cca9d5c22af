// `npm start`: what it needs of its process to run the simulation, or to check a deployed stack.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startLiveCheck } from "../accessCheck/live";
import { visible } from "../accessCheck/terminal";
import { saveCertificateAuthority } from "./emulators/certificates";
import { endPods } from "./emulators/pod";
import { readOptions, USAGE } from "./options";
import { requirePrograms } from "./requiredPrograms";
import { findStack } from "./stackFile";

const PROJECT = join(__dirname, "..");

async function start(args: string[]): Promise<number> {
  const options = readOptions(args);
  if (options.help) {
    console.log(USAGE);
    return 0;
  }
  if (options.live) {
    const { stack, cwd = PROJECT, kubeconfig = [], ...others } = options;
    return startLiveCheck({ ...others, cwd, kubeconfig, stack: stack ?? onlyStack(cwd) });
  }
  const { plan } = options;
  await prepareEmulators();
  if (plan !== undefined) {
    const { checkPlan }: typeof import("./checkPlan") = require("./checkPlan");
    return checkPlan(plan, options);
  }
  requirePrograms();
  // Only now: it loads the SDK, which takes a second.
  const { simulateStack }: typeof import("./simulateStack") = require("./simulateStack");
  return simulateStack(PROJECT, options);
}

/** @throws Error if the project in a directory does not have exactly one stack. */
function onlyStack(directory: string): string {
  const found = findStack(directory, undefined);
  if (found) return found.name;
  throw new Error(
    "This project does not have a stack file with your own settings. To check a deployed stack: npm start -- --live --stack NAME",
  );
}

/** Prepares this process for emulators, with a directory that is gone when the process ends. */
async function prepareEmulators(): Promise<void> {
  // Before the directory exists, which would stay otherwise.
  for (const [signal, exitCode] of Object.entries({ SIGINT: 130, SIGTERM: 143, SIGHUP: 129 })) {
    process.on(signal, () => process.exit(exitCode));
  }
  const directory = mkdtempSync(join(tmpdir(), "simulation-"));
  process.on("exit", () => {
    endPods();
    rmSync(directory, { recursive: true, force: true, maxRetries: 3 });
  });
  // The reader may stop reading: `npm start | head`.
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => process.exit());

  await saveCertificateAuthority(directory);
  process.env.SIMULATOR_DIRECTORY = directory;
  // No login of this machine: the emulated Pulumi Cloud needs none.
  for (const name of ["PULUMI_ACCESS_TOKEN", "PULUMI_BACKEND_URL", "PULUMI_API"]) delete process.env[name];
  process.env.PULUMI_CREDENTIALS_PATH = directory;
  process.env.NODE_EXTRA_CA_CERTS = join(directory, "ca.pem");
  require("./emulators/trust.cjs");
}

start(process.argv.slice(2)).then(
  (exitCode) => {
    process.exitCode = exitCode;
  },
  (error: Error) => {
    // It can contain the name of a file.
    for (const line of error.message.split("\n")) console.error(visible(line));
    process.exitCode = 2;
  },
);
