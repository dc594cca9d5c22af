// What a warm preview and an update cost on Pulumi's engine, by the number of service accounts: `npm run bench`.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { saveCertificateAuthority } from "../simulator/certificates";
import { type Simulation, startSimulation } from "../simulator/simulation";
import { serveProvider } from "./provider";
import { createProject, missingCli, openCli } from "./pulumiCli";

const COUNTS = [1, 10, 40];
const ROUNDS = 5;

/** The most that one more service account may add to a preview, and that 40 may take as a multiple of one. */
const LIMITS = { milliseconds: 80, ratio: 3 };

bench().catch((error: Error) => {
  console.error(error.message);
  process.exitCode = 1;
});

async function bench(): Promise<void> {
  if (missingCli) throw new Error(missingCli);
  // What the stand-in providers of this process cost does not count: the SDK formats a stack for each promise.
  Error.stackTraceLimit = 0;
  const directory = await mkdtemp(join(tmpdir(), "bench-"));
  await saveCertificateAuthority(directory);
  process.env.NODE_EXTRA_CA_CERTS = join(directory, "ca.pem");
  let simulation: Simulation | undefined;
  const cli = await openCli(
    await serveProvider(() => {
      if (!simulation) throw new Error("no simulation is running");
      return simulation;
    }),
  );
  try {
    const previews: number[] = [];
    for (const count of COUNTS) {
      const cluster = { name: "my-cluster", hasOidcProvider: true };
      // The Jobs run the exchange only: the command belongs to its image.
      simulation = await startSimulation({
        directory,
        region: "us-west-2",
        cluster,
        command: ["true"],
      });
      const project = await createProject(cli, settings(count), `bench-${count}`);
      const run = async (...args: string[]) => {
        const started = performance.now();
        const { exitCode, screen } = await cli.pulumi(project, ...args);
        if (exitCode !== 0) throw new Error(screen);
        return performance.now() - started;
      };

      // The first run makes the caches warm, and does not count.
      await run("preview");
      const times: number[] = [];
      for (let round = 0; round < ROUNDS; round++) times.push(await run("preview"));
      const preview = times.toSorted((a, b) => a - b)[Math.floor(ROUNDS / 2)] ?? Number.NaN;
      const up = await run("up", "--yes", "--skip-preview");
      previews.push(preview);
      console.log(`${String(count).padStart(2)} service accounts: preview ${seconds(preview)}, up ${seconds(up)}`);
      await simulation.close();
    }

    const [first = Number.NaN, last = Number.NaN] = [previews[0], previews.at(-1)];
    const each = (last - first) / (Math.max(...COUNTS) - 1);
    console.log(`Each further one adds ${each.toFixed(0)} ms to a preview (at most ${LIMITS.milliseconds} ms).`);
    console.log(
      `A preview of 40 takes ${(last / first).toFixed(1)} times as long as one of 1 (at most ${LIMITS.ratio}).`,
    );
    process.exitCode = each <= LIMITS.milliseconds && last / first <= LIMITS.ratio ? 0 : 1;
  } finally {
    await Promise.all([cli.remove(), rm(directory, { recursive: true })]);
  }
}

function settings(count: number): Record<string, unknown> {
  return {
    "aws:region": "us-west-2",
    clusterName: "my-cluster",
    organization: "acme",
    userLogin: "my-login",
    serviceAccounts: Array.from({ length: count }, (_, index) => ({ name: `account-${index}` })),
  };
}

function seconds(milliseconds: number): string {
  return `${(milliseconds / 1000).toFixed(2)} s`;
}
