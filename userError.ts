// The error that stops the program with its message only.

import { RunError } from "@pulumi/pulumi";

/**
 * Returns the error to throw when the program has to stop.
 *
 * It has no stack: the SDK formats it even if it does not print it, and Node.js 20 and 22 take half a minute for the paths
 * in it: https://github.com/nodejs/node/issues/64011
 *
 * @param message what failed, where, and what to type.
 * @returns an error of which the engine prints only the message.
 */
export function userError(message: string): RunError {
  const error = new RunError(message);
  delete error.stack;
  return error;
}
