// The commands in examples/ and in docs/workloads/, with stand-ins for the Pulumi CLI and the network.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { parse } from "yaml";
import { exampleOf, podOf } from "../support/examples";
import { writePrograms } from "../support/programs";
import { codeIn, read, sectionOf } from "../support/project";
import { temporaryDirectory } from "../support/temporaryDirectory";

// The exit code of the CLI, so that the Job fails.
const FINISHED = { log: ["cloned", "installed", "updating", "canceling", "saved"], exitCode: 255 };
const NOT_STARTED = { log: ["cloned"], exitCode: 143 };

for (const [what, entry, timeLimit, outcome] of [
  ["lets an operation end after its time limit, also when its pod is deleted", "canceling", "1s", FINISHED],
  ["lets an operation end when its pod is deleted, also after its time limit", "updating", "1s", FINISHED],
  ["starts no update when its pod is deleted before", "cloned", "1h", NOT_STARTED],
] as const) {
  test(`scheduled-update.yaml ${what}`, async (t) => {
    assert.deepEqual(await deletedAt(t, entry, timeLimit), outcome);
  });
}

test("scheduled-update.yaml has no deadline that kills an update, and never two updates at once", () => {
  const cronJob = JSON.stringify(exampleOf("scheduled-update.yaml").manifests);
  assert.doesNotMatch(cronJob, /activeDeadlineSeconds/);
  assert.match(cronJob, /"concurrencyPolicy":"Forbid"/);
  assert.match(cronJob, /"backoffLimit":0/);
  const { spec } = podOf("scheduled-update.yaml");
  assert.equal(spec.restartPolicy, "Never");
  assert.ok(Number(spec.terminationGracePeriodSeconds) >= 3600, "the default is 30 seconds");
});

test("git reads the token as docs/workloads/scheduled-jobs.md says, and only for its host", () => {
  const section = sectionOf(read("docs/workloads/scheduled-jobs.md"), "## Private repositories");
  const variables: { name: string; value?: string }[] = parse(codeIn(section, "yaml")[0] ?? "");
  const settings = Object.fromEntries(variables.map(({ name, value = "secret" }) => [name, value]));
  const ask = (host: string) =>
    execFileSync("git", ["credential", "fill"], {
      encoding: "utf8",
      input: `protocol=https\nhost=${host}\n`,
      stdio: ["pipe", "pipe", "ignore"],
      env: { PATH: process.env.PATH, HOME: tmpdir(), GIT_TERMINAL_PROMPT: "0", ...settings },
    });

  assert.match(ask("github.com"), /^username=x-access-token\npassword=secret$/m);
  assert.throws(() => ask("example.com"));
});

/**
 * Runs the container's command of scheduled-update.yaml, whose operation takes two seconds, and sends SIGTERM.
 *
 * @param entry of the log after which it is sent.
 * @returns what the stand-ins did, in order.
 */
async function deletedAt(
  t: TestContext,
  entry: string,
  timeLimit: string,
): Promise<{ log: string[]; exitCode: number | null }> {
  const directory = temporaryDirectory(t);
  const logFile = join(directory, "log");
  await writeFile(logFile, "");
  const log = async () => (await readFile(logFile, "utf8")).split("\n").filter(Boolean);
  const { container } = podOf("scheduled-update.yaml");
  const command = container.command.map((word) => word.replaceAll("/tmp/repository", directory));
  const [program = "", ...args] = command;
  const env = {
    ...Object.fromEntries(container.env.map(({ name, value }) => [name, value])),
    PATH: writePrograms(directory, STAND_INS),
    HOME: directory,
    LOG: logFile,
    TIME_LIMIT: timeLimit,
  };
  const child = spawn(program, args, { stdio: "ignore", env });
  t.after(() => child.kill("SIGKILL"));
  const closed = once(child, "close");
  while (!(await log()).includes(entry)) {
    assert.equal(child.exitCode, null, `ended before: ${entry}`);
    await sleep(20);
  }

  child.kill("SIGTERM");
  const [exitCode] = await closed;
  return { log: await log(), exitCode };
}

// Like the CLI, the stand-in waits for the running operation after the first SIGTERM, and not after a second one:
// pkg/backend/cancellation_scope.go in pulumi/pulumi.
const STAND_INS = {
  git: 'echo cloned >>"$LOG"; sleep 0.5',
  pulumi: `
    if [[ $1 == install ]]; then
      echo installed >>"$LOG"
      exit
    fi
    trap 'echo canceling >>"$LOG"; trap "exit 1" TERM' TERM
    sleep 0.2
    sleep 2 &
    echo updating >>"$LOG"
    wait
    wait
    echo saved >>"$LOG"
    exit 255`,
};
