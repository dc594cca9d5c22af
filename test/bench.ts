// What the program costs on Pulumi's engine beside an empty one, by the number of service accounts: `npm run bench`.
//
// The programs run in turn, so that a machine that is slower for a while is slower for all of them. No time is a failure.

import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { succeeded } from "./support/engineOutcome";
import { emptyStack } from "./support/engineStack";
import { missingCli, type Outcome, useWholeSdk } from "./support/pulumiCli";

const ROUNDS = 5;

/** The numbers of service accounts; 0 for a program that does nothing, in a project without compilerCache.cjs. */
const COUNTS = [0, 1, 10, 40];

useWholeSdk();

test("a preview and an update beside those of an empty program", { skip: missingCli }, async (t) => {
  // The emulated providers in this process must not count: the SDK formats a stack for each promise.
  Error.stackTraceLimit = 0;
  // All of them use the simulation of the last one: their resources never exist at the same time.
  const stacks = [];
  for (const count of COUNTS) {
    // The Jobs only exchange a token: the default command belongs to its image.
    const personal = { namespace: "default", tokenType: "personal", userLogin: "alice", command: ["true"] };
    const serviceAccounts = Array.from({ length: count }, (_, index) => ({
      ...personal,
      name: `sa-${index}`,
    }));
    const stack = await emptyStack(t, count > 0 ? { userLogin: "", serviceAccounts } : {});
    if (count === 0) {
      await writeFile(join(stack.directory, "index.ts"), "export {};\n");
    } else {
      // As compilerCache.cjs does, which the old language host of .ci/pulumi-cli does not load.
      stack.cli.environment.NODE_COMPILE_CACHE = join(stack.directory, ".cache");
    }
    stacks.push({ ...stack, count, previews: [] as number[] });
  }

  // The first round fills the caches, and does not count.
  for (let round = 0; round <= ROUNDS; round++) {
    for (const { pulumi, previews } of stacks) {
      const time = await milliseconds(pulumi("preview"));
      if (round > 0) previews.push(time);
    }
  }
  const rows = [];
  for (const { count, pulumi, up, previews } of stacks) {
    const preview = previews.sort((a, b) => a - b)[Math.floor(ROUNDS / 2)] ?? assert.fail();
    rows.push({ count, preview, up: await milliseconds(up()) });
    succeeded(await pulumi("destroy", "--yes"));
  }

  const [empty = assert.fail()] = rows;
  console.log(`Milliseconds, median of ${ROUNDS} previews; in parentheses, more than the empty program:`);
  for (const { count, preview, up } of rows) {
    const columns = [timeOf(preview, empty.preview), timeOf(up, empty.up)];
    console.log(`${String(count).padStart(2)} service accounts   preview ${columns.join("   up ")}`);
  }
});

async function milliseconds(run: Promise<Outcome>): Promise<number> {
  const started = performance.now();
  succeeded(await run);
  return performance.now() - started;
}

function timeOf(time: number, empty: number): string {
  return `${time.toFixed(0).padStart(6)} (+${(time - empty).toFixed(0)})`;
}
