// The commands in examples/ and in docs/workloads/, with stand-ins for the Pulumi CLI and the network.

import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { type TestContext, test } from "node:test";
import { parse } from "yaml";
import { exampleOf, podOf } from "../support/examples";
import { codeIn, read, sectionOf } from "../support/project";
import { temporaryDirectory } from "../support/temporaryDirectory";

test("scheduled-update.yaml lets a running operation end after its time limit, also when its pod is then deleted", async (t) => {
  const update = await startUpdate(t, "1s");
  await update.logged("canceling");
  update.process.kill("SIGTERM");
  const code = await exitCodeOf(update);

  assert.deepEqual(await update.log(), ["cloned", "installed", "updating", "canceling", "saved"]);
  assert.equal(code, 255, "of the CLI, so that the Job fails");
});

test("scheduled-update.yaml lets a running operation end when its pod is deleted, also beyond its time limit", async (t) => {
  const update = await startUpdate(t, "1s");
  await update.logged("updating");
  update.process.kill("SIGTERM");
  const code = await exitCodeOf(update);

  assert.deepEqual(await update.log(), ["cloned", "installed", "updating", "canceling", "saved"]);
  assert.equal(code, 255);
});

test("scheduled-update.yaml starts no update when its pod is deleted before", async (t) => {
  const update = await startUpdate(t, "1h");
  await update.logged("cloned");
  update.process.kill("SIGTERM");
  const code = await exitCodeOf(update);

  assert.equal(code, 143);
  assert.ok(!(await update.log()).includes("updating"));
});

test("scheduled-update.yaml has no deadline that kills an update, and never two updates at once", () => {
  const { manifests } = exampleOf("scheduled-update.yaml");
  const { spec } = podOf("scheduled-update.yaml");
  const cronJob = JSON.stringify(manifests);

  assert.doesNotMatch(cronJob, /activeDeadlineSeconds/);
  assert.match(cronJob, /"concurrencyPolicy":"Forbid"/);
  assert.match(cronJob, /"backoffLimit":0/);
  assert.equal(spec.restartPolicy, "Never");
  assert.ok(Number(spec.terminationGracePeriodSeconds) >= 3600, "the default is 30 seconds");
});

test("git reads the token as docs/workloads/scheduled-jobs.md says, and only for its host", () => {
  const [block = ""] = codeIn(
    sectionOf(read("docs/workloads/scheduled-jobs.md"), "## Private repositories"),
    "yaml",
  );
  const variables: { name: string; value?: string }[] = parse(block);
  const settings = variables.map(({ name, value = "secret" }) => [name, value]);
  const ask = (host: string) =>
    execFileSync("git", ["credential", "fill"], {
      encoding: "utf8",
      input: `protocol=https\nhost=${host}\n`,
      stdio: ["pipe", "pipe", "ignore"],
      env: {
        PATH: process.env.PATH,
        HOME: tmpdir(),
        GIT_TERMINAL_PROMPT: "0",
        ...Object.fromEntries(settings),
      },
    });

  assert.match(ask("github.com"), /^username=x-access-token\npassword=secret$/m);
  assert.throws(() => ask("example.com"));
});

interface Update {
  process: ChildProcess;
  /** Returns what the stand-ins did, in order. */
  log(): Promise<string[]>;
  /** Waits for an entry of the log. */
  logged(entry: string): Promise<void>;
}

/** Starts the container's command of scheduled-update.yaml. Its operation takes two seconds. */
async function startUpdate(t: TestContext, timeLimit: string): Promise<Update> {
  const directory = temporaryDirectory(t);
  const logFile = join(directory, "log");
  await writeFile(logFile, "");
  for (const [program, script] of Object.entries(STAND_INS)) {
    await writeFile(join(directory, program), `#!/usr/bin/env bash\n${script}`, { mode: 0o755 });
  }

  const { container } = podOf("scheduled-update.yaml");
  const [program = "", ...args] = container.command.map((word) =>
    word.replaceAll("/tmp/repository", directory),
  );
  const environment = Object.fromEntries(container.env.map(({ name, value }) => [name, value]));
  const child = spawn(program, args, {
    stdio: "ignore",
    env: {
      ...environment,
      PATH: `${directory}${delimiter}${process.env.PATH}`,
      HOME: directory,
      LOG: logFile,
      TIME_LIMIT: timeLimit,
    },
  });
  t.after(() => child.kill("SIGKILL"));

  const log = async () => (await readFile(logFile, "utf8")).split("\n").filter(Boolean);
  const logged = async (entry: string) => {
    while (!(await log()).includes(entry)) {
      assert.equal(child.exitCode, null, `ended before: ${entry}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  return { process: child, log, logged };
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

async function exitCodeOf({ process: child }: Update): Promise<number | null> {
  if (child.exitCode !== null) return child.exitCode;
  const [code] = await once(child, "close");
  return code;
}
