// What a warm preview and an update cost on Pulumi's engine, by the number of service accounts: `npm run bench`.

import assert from "node:assert/strict";
import { test } from "node:test";
import { emptyStack, succeeded } from "./engineStack";
import { missingCli, type Outcome } from "./pulumiCli";

const ROUNDS = 5;

test("the time of a preview stays within limits as service accounts are added", {
  skip: missingCli,
}, async (t) => {
  // The emulated providers in this process must not count: the SDK formats a stack for each promise.
  Error.stackTraceLimit = 0;
  const preview = { 1: 0, 10: 0, 40: 0 };
  for (const count of [1, 10, 40] as const) {
    const personal = { namespace: "default", tokenType: "personal", userLogin: "alice" };
    // The Jobs only exchange a token: the default command belongs to its image.
    const common = { ...personal, command: ["true"] };
    const serviceAccounts = Array.from({ length: count }, (_, index) => {
      return { ...common, name: `account-${index}` };
    });
    const { pulumi, up } = await emptyStack(t, { userLogin: "", serviceAccounts });
    // The first run fills the caches, and does not count.
    await seconds(pulumi("preview"));
    const times: number[] = [];
    for (let round = 0; round < ROUNDS; round++) times.push(await seconds(pulumi("preview")));
    preview[count] = times.toSorted((a, b) => a - b)[Math.floor(ROUNDS / 2)] ?? Number.NaN;
    const update = await seconds(up());
    console.log(
      `${count} service account${count === 1 ? "" : "s"}: preview ${preview[count].toFixed(2)} s, up ${update.toFixed(2)} s`,
    );
  }
  const each = ((preview[40] - preview[1]) / 39) * 1000;
  const ratio = preview[40] / preview[1];
  console.log(`Each further one adds ${each.toFixed(0)} ms to a preview (limit: 80 ms).`);
  console.log(`A preview of 40 takes ${ratio.toFixed(1)} times as long as one of 1 (limit: 3).`);
  assert.ok(each <= 80 && ratio <= 3, "a preview takes longer than the limits");
});

async function seconds(run: Promise<Outcome>): Promise<number> {
  const started = performance.now();
  succeeded(await run);
  return (performance.now() - started) / 1000;
}
