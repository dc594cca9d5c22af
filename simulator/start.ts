// `npm start`: creates the simulation's certificate authority, and runs the simulation in a process that trusts it.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startLiveCheck } from "./accessCheck/live";
import { visible } from "./accessCheck/terminal";
import { readOptions, USAGE } from "./commandLine";
import { saveCertificateAuthority } from "./emulators/certificates";
import { findStack } from "./stackFile";

async function start(args: string[]): Promise<number> {
  const options = readOptions(args);
  if (options.help) {
    console.log(USAGE);
    return 0;
  }
  if (options.live) return startLiveCheck({ ...options, stack: options.stack ?? onlyStack() });
  // Everything that the simulation writes is in this directory.
  const directory = await mkdtemp(join(tmpdir(), "simulation-"));
  try {
    await saveCertificateAuthority(directory);
    return await runSimulation(directory, args);
  } finally {
    await rm(directory, { recursive: true, force: true, maxRetries: 3 });
  }
}

/** @throws Error if the project does not have exactly one stack. */
function onlyStack(): string {
  const found = findStack(join(__dirname, ".."), undefined);
  if (found) return found.name;
  throw new Error(
    "This project has no stack file of its own. To check a stack that is deployed: npm start -- --live --stack NAME",
  );
}

async function runSimulation(directory: string, args: string[]): Promise<number> {
  const preloaded = ["--require", join(__dirname, "emulators", "trust.cjs"), "--import", "tsx"];
  const simulation = spawn(process.execPath, [...preloaded, join(__dirname, "simulate.ts"), ...args], {
    stdio: "inherit",
    // A process group, so that it ends with all of its pods.
    detached: true,
    // Node.js reads NODE_EXTRA_CA_CERTS only when it starts.
    env: { ...process.env, NODE_EXTRA_CA_CERTS: join(directory, "ca.pem"), SIMULATOR_DIRECTORY: directory },
  });
  let interrupted: number | undefined;
  const endGroup = () => {
    try {
      if (simulation.pid) process.kill(-simulation.pid, "SIGKILL");
    } catch {
      // It has ended already.
    }
  };
  for (const [signal, exitCode] of Object.entries({ SIGINT: 130, SIGTERM: 143, SIGHUP: 129 })) {
    process.on(signal, () => {
      interrupted = exitCode;
      endGroup();
    });
  }
  const [code] = await once(simulation, "exit");
  endGroup();
  return interrupted ?? code ?? 1;
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
