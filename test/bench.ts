// What a preview of the stack costs beside one of an empty program, on Pulumi's engine: `npm run bench`.

import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { saveCertificateAuthority } from "../simulator/certificates";
import { serveProvider } from "../simulator/provider";
import { startSimulation } from "../simulator/simulation";
import { type Cli, createProject, missingCli, openCli } from "./pulumiCli";

/** Taken in turn, so that whatever else the machine does is shared by all. */
const ROUNDS = 7;

/** The most that a preview of the stack may take, as a multiple of the empty program's. */
const LIMITS = { warm: 1.5, cold: 1.7 };

const SETTINGS = {
  "aws:region": "us-west-2",
  clusterName: "my-cluster",
  userLogin: "my-login",
  organization: "acme",
};

bench().then((slow) => {
  process.exitCode = slow ? 1 : 0;
});

async function bench(): Promise<boolean> {
  if (missingCli) throw new Error(missingCli);
  const folder = await mkdtemp(join(tmpdir(), "bench-"));
  await saveCertificateAuthority(folder);
  process.env.NODE_EXTRA_CA_CERTS = join(folder, "ca.pem");
  const cluster = { name: SETTINGS.clusterName, hasOidcProvider: true };
  const simulation = await startSimulation({ folder, region: SETTINGS["aws:region"], cluster });
  const temporary = join(folder, "temporary");
  await mkdir(temporary);
  const cli = await openCli(await serveProvider(() => simulation), temporary);
  try {
    const stack = await createProject(cli, SETTINGS);
    const empty = await createProject(cli, SETTINGS, "empty");
    await writeFile(join(empty, "index.ts"), "export {};\n");

    let slow = false;
    for (const start of ["warm", "cold"] as const) {
      const times: Record<string, number[]> = { [stack]: [], [empty]: [] };
      // The first round makes everything warm that can be, and does not count.
      for (let round = 0; round <= ROUNDS; round++) {
        for (const [project, taken] of Object.entries(times)) {
          if (start === "cold") await emptyFolder(temporary);
          const time = await preview(cli, project);
          if (round > 0) taken.push(time);
        }
      }
      const [ours, theirs] = [median(times[stack]), median(times[empty])];
      const ratio = ours / theirs;
      slow ||= ratio > LIMITS[start];
      console.log(
        `${start}: the stack ${seconds(ours)}, an empty program ${seconds(theirs)}, ` +
          `ratio ${ratio.toFixed(2)} (at most ${LIMITS[start]})`,
      );
    }
    return slow;
  } finally {
    await simulation.close();
    await Promise.all([cli.remove(), rm(folder, { recursive: true })]);
  }
}

async function preview(cli: Cli, project: string): Promise<number> {
  const started = performance.now();
  const { exitCode, screen } = await cli.pulumi(project, "preview");
  if (exitCode !== 0) throw new Error(screen);
  return performance.now() - started;
}

// Cold is what a pipeline's new machine is: the SDK has compiled nothing yet. It keeps what it compiles in TMPDIR.
async function emptyFolder(folder: string): Promise<void> {
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder);
}

function median(times: number[] = []): number {
  return times.toSorted((a, b) => a - b)[Math.floor(times.length / 2)] ?? Number.NaN;
}

function seconds(milliseconds: number): string {
  return `${(milliseconds / 1000).toFixed(2)} s`;
}
