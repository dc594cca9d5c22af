// The command line of `npm start`: simulates a stack.
//
// What it needs is loaded late: Pulumi's SDK alone takes a second.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readOptions, USAGE } from "./options";
import { requireExecution, requireNode, requirePrograms } from "./requiredPrograms";
import { visible } from "./terminal";

// Not PROJECT: in every file of a copy, `pulumi new` replaces what looks like a reference to that name.
const ROOT = join(__dirname, "..");

async function start(args: string[]): Promise<number> {
  requireNode();
  const options = readOptions(args, process.env);
  if (options.help) {
    console.log(USAGE);
    return 0;
  }
  // The reader may stop reading: `npm start | head`. What was found decides the exit code all the same.
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {});
  requirePrograms();
  await prepareEmulators();
  const { simulateStack } = await import("./simulateStack.js");
  return simulateStack(ROOT, options);
}

/** Prepares this process for emulators, with a directory that is gone when the process ends. */
async function prepareEmulators(): Promise<void> {
  const { endPods } = await import("./emulators/pod.js");
  const certificates = await import("./emulators/certificates.js");
  // Before the directory exists, which would stay otherwise.
  for (const [signal, exitCode] of Object.entries({ SIGINT: 130, SIGTERM: 143, SIGHUP: 129 })) {
    process.on(signal, () => process.exit(exitCode));
  }
  const directory = mkdtempSync(join(tmpdir(), "simulation-"));
  process.on("exit", () => {
    endPods();
    rmSync(directory, { recursive: true, force: true, maxRetries: 3 });
  });
  requireExecution(directory);
  await certificates.saveCertificates(directory);
  certificates.useSimulation(directory);
  require("./emulators/trust.cjs");
}

/** Returns why there is no result. */
function messageOf(error: Error & { code?: unknown }): string {
  const [, missing] = /^Cannot find (?:module|package) '([^'./][^']*)'/.exec(error.message) ?? [];
  if (missing === undefined) return error.message;
  return `The package ${missing} is not installed, and npm start requires it. To install it, run this in ${ROOT}: npm ci`;
}

/** Ends the process once everything is printed, even if something still listens. */
function end(exitCode: number): void {
  process.exitCode = exitCode;
  process.stdout.write("", () => process.exit());
}

start(process.argv.slice(2)).then(end, (error: Error) => {
  // It can contain the name of a file.
  for (const line of messageOf(error).split("\n")) console.error(visible(line));
  end(2);
});
