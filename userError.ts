// The error that stops the program before anything is registered: its message is for the user, and nothing else is shown.

import { RunError } from "@pulumi/pulumi";

/**
 * Makes the error to throw when the program refuses to go on.
 *
 * It has no stack: the SDK formats it even where it does not show it, and Node.js 20 and 22 take half a minute for the
 * paths in it: https://github.com/nodejs/node/issues/64011
 *
 * @param message what is wrong, where, and what to type.
 * @returns an error of which the engine prints the message alone.
 */
export function userError(message: string): RunError {
  const error = new RunError(message);
  delete error.stack;
  return error;
}
