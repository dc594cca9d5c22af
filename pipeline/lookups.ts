// Runs the lookups that must succeed before anything is created.

import { reason } from "../cluster";
import { userError } from "../settings/userError";

/**
 * Waits for lookups that run at the same time.
 *
 * @returns their results.
 * @throws pulumi.RunError that lists the message of every lookup that failed.
 */
export async function lookUp<Results extends unknown[]>(
  ...lookups: { [Index in keyof Results]: Promise<Results[Index]> }
): Promise<Results> {
  const settled = await Promise.allSettled(lookups);
  const messages = settled.flatMap((it) => (it.status === "rejected" ? [(it.reason as Error).message] : []));
  if (messages.length > 0) throw userError(messages.join("\n"));
  return Promise.all(lookups);
}

/** Returns a function that rethrows the error of a lookup, with what failed and what to do. */
export function failed(what: string, advice: string) {
  return (error: Error): never => {
    throw new Error(`Failed to look up ${what}: ${reason(error)}\n\n  ${advice}\n`);
  };
}
