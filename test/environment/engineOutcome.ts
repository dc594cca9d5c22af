// What commands of the Pulumi CLI have done to a stack on Pulumi's engine.

import assert from "node:assert/strict";
import type { Outcome } from "./pulumiCli";
import type { Simulation } from "./simulation";

/** What a Job that runs the Pulumi CLI exchanges: twice before the script around the CLI, and once by the CLI's own script. */
export const EXCHANGED = [200, 200, 200, 200];

/** A resource in the state of a stack. */
export interface Resource {
  urn: string;
  type: string;
  inputs?: Record<string, unknown>;
  outputs?: Record<string, unknown>;
}

/** @throws AssertionError with all that a command has printed if it failed. */
export function succeeded(outcome: Outcome): Outcome {
  assert.equal(outcome.exitCode, 0, outcome.screen);
  return outcome;
}

/** Returns what a command printed that failed with these messages, and without a stack trace of the program. */
export function failed({ exitCode, screen }: Outcome, ...messages: RegExp[]): string {
  assert.notEqual(exitCode, 0, screen);
  for (const message of messages) assert.match(screen, message);
  assert.doesNotMatch(screen, STACK_TRACE);
  return screen;
}

// The SDK adds what happens to it when the engine stops.
const STACK_TRACE = /^\s+at .*\b(config|cluster|pulumiCloudAccess|settings|validation|workloadIdentity)\.ts/m;

/** Returns what a successful update did, sorted, such as `runner replaced`. */
export function changes(outcome: Outcome): string[] {
  const lines = succeeded(outcome).screen.matchAll(
    /^ \S+ +\S+ (\S+) (created|updated|replaced|deleted) \(/gm,
  );
  return [...lines].map(([, name, change]) => `${name} ${change}`).sort();
}

/** Returns the HTTP status of each token exchange since the last call, in order. */
export function newStatuses({ pulumiCloud }: Simulation): number[] {
  return pulumiCloud.exchanges.splice(0).map(({ status }) => status);
}

/** Returns the resources in the state, in the order in which they were created. */
export async function resourcesOf(pulumi: (...args: string[]) => Promise<Outcome>): Promise<Resource[]> {
  const { stdout } = succeeded(await pulumi("stack", "export", "--show-secrets"));
  return JSON.parse(stdout).deployment.resources ?? [];
}
