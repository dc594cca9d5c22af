// The command line of `npm start`: simulates a stack.

import { join } from "node:path";
import { readOptions, USAGE } from "./options";
import { requireExecution, requireNode, requirePrograms } from "./requiredPrograms";

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
  requireExecution();
  ignoreLogin();

  // Only now: Pulumi's SDK takes a second to load, and may not be installed.
  const { endPods } = await import("./pod.js");
  const { simulateStack } = await import("./simulateStack.js");
  for (const [signal, exitCode] of Object.entries({ SIGINT: 130, SIGTERM: 143, SIGHUP: 129 })) {
    process.on(signal, () => process.exit(exitCode));
  }
  process.on("exit", endPods);
  return simulateStack(ROOT, options);
}

/** The emulated Pulumi Cloud needs no login, and that of this machine can be for another one. */
function ignoreLogin(): void {
  for (const name of ["PULUMI_ACCESS_TOKEN", "PULUMI_BACKEND_URL", "PULUMI_API"]) delete process.env[name];
  process.env.PULUMI_CREDENTIALS_PATH = join(ROOT, "simulator");
}

/** Returns why there is no report. */
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

start(process.argv.slice(2)).then(end, async (error: Error) => {
  const { visible } = await import("../settings/problems.js");
  // It can contain the name of a file.
  for (const line of messageOf(error).split("\n")) console.error(visible(line));
  end(2);
});
