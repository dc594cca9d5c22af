// The command line of `npm start`: simulates a stack.

import { join } from "node:path";
import { parseArgs } from "node:util";

const USAGE = `Usage: npm start -- [--stack [ORGANIZATION/]NAME]

Simulates the first \`pulumi up\` of a stack on this machine: which service account
gets which access token. Nothing is created in AWS, Kubernetes, or Pulumi Cloud.

  --stack   Stack to simulate, from Pulumi.NAME.yaml. Default: the only one that
            names a cluster, or else a sample
  --help    Print this help

Exit code: 0 if everything is as it should be, 1 if not, 2 if nothing could be
simulated, such as for an invalid file.`;

/** @throws Error for invalid options. */
function readOptions(args: string[]) {
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
  const { simulateStack }: typeof import("./simulateStack") = require("./simulateStack");
  // npm takes options for its own that do not follow "--".
  return simulateStack(join(__dirname, ".."), stack ?? process.env.npm_config_stack);
}

// The reader may stop reading: `npm start | head`. What was found decides the exit code all the same.
for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {});
for (const [signal, exitCode] of Object.entries({ SIGINT: 130, SIGTERM: 143, SIGHUP: 129 })) {
  process.on(signal, () => process.exit(exitCode));
}
// One failure of the program comes back as many: every output that depends on it fails too.
process.on("unhandledRejection", () => {});

start()
  .catch((error: Error) => {
    console.error(error.message);
    return 2;
  })
  // Once everything is printed, even if something still listens.
  .then((exitCode) => process.stdout.write("", () => process.exit(exitCode)));
