// Programs that fail.

import assert from "node:assert/strict";

/** Runs a program to its failure, and returns the error. */
export function failureOf(run: () => Promise<unknown>): Promise<unknown> {
  return run().then(
    () => assert.fail("the program succeeded"),
    (error) => error,
  );
}

/** Runs a program that may fail: the SDK reports a failure once more, which the test runner would take for its own. */
export async function ignoringRejections<Result>(run: () => Promise<Result>): Promise<Result> {
  const listeners = process.rawListeners("unhandledRejection");
  process.removeAllListeners("unhandledRejection").on("unhandledRejection", () => {});
  try {
    return await run();
  } finally {
    await new Promise(setImmediate);
    process.removeAllListeners("unhandledRejection");
    for (const listener of listeners) process.on("unhandledRejection", (...args) => listener(...args));
  }
}
