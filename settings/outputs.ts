// Values of a program's other resources: outputs and promises, which are known later.

import { type Input, Output, output } from "@pulumi/pulumi";

/** Returns whether a value is an output or a promise. */
export function isLater(value: unknown): value is Output<unknown> | Promise<unknown> {
  return Output.isInstance(value) || value instanceof Promise;
}

/** Changes a plain string immediately, so that a preview shows it, and an output once it is known. */
export function mapInput(value: Input<string>, change: (value: string) => string): Input<string> {
  return typeof value === "string" ? change(value) : output(value).apply(change);
}
