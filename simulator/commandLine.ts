// The command line of `npm start`: simulates a stack.

import { join } from "node:path";
import { parseArgs } from "node:util";
import { endPods } from "./pod";

const USAGE = `Usage: npm start -- [--stack [ORGANIZATION/]NAME]

Simulates the first \`pulumi up\` of a stack on this machine: which service account
gets which access token. Nothing is created in AWS, Kubernetes, or Pulumi Cloud.

  --stack   Stack to simulate, from Pulumi.NAME.yaml. Default: the only one, or a
            sample if Pulumi.dev.yaml is unchanged and the only one
  --help    Print this help

Exit code: 0 if everything is as it should be, 1 if not, 2 if nothing could be
simulated, such as for an invalid file.`;

/** @throws Error for invalid options, and for one that npm has taken for its own. */
function readOptions(args: string[]) {
  if (process.env.npm_config_stack) {
    throw new Error('npm took --stack. Options of this command follow "--": npm start -- --stack NAME');
  }
  try {
    return parseArgs({ args, options: { stack: { type: "string" }, help: { type: "boolean" } } }).values;
  } catch {
    throw new Error(`Invalid options: ${args.join(" ")}\n\n${USAGE}`);
  }
}

async function start(): Promise<number> {
  const { stack, help } = readOptions(process.argv.slice(2));
  if (help) {
    console.log(USAGE);
    return 0;
  }
  // The SDK keeps a stack trace of each resource, and nothing prints one: to map its lines takes a tenth of the time.
  process.setSourceMapsEnabled(false);
  // Only now: Pulumi's SDK takes a second to load.
  const { simulateStack } = await import("./simulateStack.js");
  return simulateStack(join(__dirname, ".."), stack);
}

// The reader may stop reading: `npm start | head`. What was found decides the exit code all the same.
for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {});
for (const [signal, exitCode] of Object.entries({ SIGINT: 130, SIGTERM: 143, SIGHUP: 129 })) {
  process.on(signal, () => process.exit(exitCode));
}
process.on("exit", endPods);
// One failure of the program comes back as many: every output that depends on it fails too.
process.on("unhandledRejection", () => {});

start()
  .catch((error: Error) => {
    console.error(error.message);
    return 2;
  })
  // Once everything is printed, even if something still listens.
  .then((exitCode) => process.stdout.write("", () => process.exit(exitCode)));
