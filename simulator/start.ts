// `npm start`: makes the simulation's certificate authority, and starts the simulation in a process that trusts it.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { saveCertificateAuthority } from "./certificates";

async function start(): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "simulation-"));
  try {
    await saveCertificateAuthority(folder);
    const simulation = spawn(
      process.execPath,
      ["--import", "tsx", join(__dirname, "simulate.ts"), ...process.argv.slice(2)],
      {
        stdio: "inherit",
        // Node.js reads this at its start alone.
        env: { ...process.env, NODE_EXTRA_CA_CERTS: join(folder, "ca.pem"), SIMULATOR_DIRECTORY: folder },
      },
    );
    const [code] = await once(simulation, "exit");
    process.exitCode = code ?? 1;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

start();
