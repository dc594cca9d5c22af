// Values of a program's other resources: outputs and promises, which are known later.

import { type Input, isSecret, Output, output } from "@pulumi/pulumi";

/** What is known of an output once its resource exists, or in a preview. */
interface Known {
  isKnown: boolean;
  isSecret: boolean;
  /** Undefined if it is not known. */
  value: unknown;
}

/** Returns whether a value is an output or a promise. */
export function isLater(value: unknown): value is Output<unknown> | Promise<unknown> {
  return Output.isInstance(value) || value instanceof Promise;
}

/** Changes a plain string immediately, so that a preview shows it, and an output once it is known. */
export function mapInput(value: Input<string>, change: (value: string) => string): Input<string> {
  return typeof value === "string" ? change(value) : output(value).apply(change);
}

/** Waits for an output, and returns its value. */
export async function knownOf(value: Output<unknown>): Promise<Known> {
  // The SDK has these members, but does not declare them.
  const internals = value as unknown as { isKnown: Promise<boolean>; promise(): Promise<unknown> };
  return {
    isKnown: await internals.isKnown,
    isSecret: await isSecret(value),
    value: await internals.promise(),
  };
}

/** Returns a copy of a value whose outputs are not known before a promise is fulfilled, and fail if it is rejected. */
export function afterwards<Value>(value: Value, isValid: Promise<boolean>): Value {
  return mapOutputs(value, (original) => output(isValid).apply(() => original)) as Value;
}

function mapOutputs(value: unknown, change: (value: Output<unknown>) => unknown): unknown {
  if (Output.isInstance(value)) return change(value);
  if (Array.isArray(value)) return value.map((element) => mapOutputs(element, change));
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).map(([key, element]) => [key, mapOutputs(element, change)]);
  return Object.fromEntries(entries);
}
