// What the program costs on Pulumi's engine beside an empty one, by the number of service accounts: `npm run bench`.
//
// The programs run in turn, so that a machine that is slower for a while is slower for all of them. No time is a failure.

import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { succeeded } from "./support/engineOutcome";
import { emptyStack, type Stack } from "./support/engineStack";
import { missingCli, type Outcome, useWholeSdk } from "./support/pulumiCli";

const ROUNDS = 5;

useWholeSdk();

interface Measured extends Stack {
  program: string;
  previews: number[];
}

test("a preview and an update beside those of an empty program", {
  skip: missingCli,
}, async (t) => {
  // The emulated providers in this process must not count: the SDK formats a stack for each promise.
  Error.stackTraceLimit = 0;
  // All of them use the simulation of the last one: their resources never exist at the same time.
  const stacks = [await emptyProgram(t)];
  for (const count of [1, 10, 40]) stacks.push(await programWith(t, count));

  // The first round fills the caches, and does not count.
  for (let round = 0; round <= ROUNDS; round++) {
    for (const { pulumi, previews } of stacks) {
      const time = await milliseconds(pulumi("preview"));
      if (round > 0) previews.push(time);
    }
  }
  const rows = [];
  for (const { program, pulumi, up, previews } of stacks) {
    rows.push({ program, preview: medianOf(previews), up: await milliseconds(up()) });
    succeeded(await pulumi("destroy", "--yes"));
  }

  const [empty = assert.fail()] = rows;
  console.log(`Milliseconds, median of ${ROUNDS} previews; in parentheses, more than the empty program:`);
  for (const { program, preview, up } of rows) {
    const columns = [timeOf(preview, empty.preview), timeOf(up, empty.up)];
    console.log(`${program.padEnd(20)} preview ${columns.join("   up ")}`);
  }
});

/** Returns the same project, with the same settings, whose program does nothing. */
async function emptyProgram(t: TestContext): Promise<Measured> {
  const stack = await emptyStack(t);
  await writeFile(join(stack.directory, "index.ts"), "export {};\n");
  return { ...stack, program: "empty", previews: [] };
}

async function programWith(t: TestContext, count: number): Promise<Measured> {
  // The Jobs only exchange a token: the default command belongs to its image.
  const personal = { namespace: "default", tokenType: "personal", userLogin: "alice", command: ["true"] };
  const serviceAccounts = Array.from({ length: count }, (_, index) => ({ ...personal, name: `sa-${index}` }));
  const stack = await emptyStack(t, { userLogin: "", serviceAccounts });
  return { ...stack, program: `${count} service account${count === 1 ? "" : "s"}`, previews: [] };
}

async function milliseconds(run: Promise<Outcome>): Promise<number> {
  const started = performance.now();
  succeeded(await run);
  return performance.now() - started;
}

function medianOf(times: number[]): number {
  return times.toSorted((a, b) => a - b)[Math.floor(times.length / 2)] ?? Number.NaN;
}

function timeOf(time: number, empty: number): string {
  return `${time.toFixed(0).padStart(6)} (+${(time - empty).toFixed(0)})`;
}
