// Programs that fail.

import assert from "node:assert/strict";

/** Runs a program to its failure, and returns the error. */
export function failureOf(run: () => Promise<unknown>): Promise<unknown> {
  return run().then(
    () => assert.fail("the program succeeded"),
    (error) => error,
  );
}
