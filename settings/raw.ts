// What the engine passes to a program: its configuration as text, before it is checked.

import * as pulumi from "@pulumi/pulumi";
import type * as v from "valibot";
import { lineOf, messageOf, type Problem, withoutValue } from "./problems";
import { userError } from "./userError";
import { expectsString } from "./validation";

/** What the engine passes to the program. */
export interface RawConfig {
  /** A string for each `namespace:key`, JSON for lists and objects. */
  values: Record<string, string>;
  /** The keys of encrypted values, and of lists and objects that contain one. */
  secretKeys: string[];
  project: string;
  /** The stack's organization; undefined if the stack has none. */
  organization: string | undefined;
}

/** Returns the raw configuration of the current stack, as the SDK has it from the engine. */
export function readRawConfig(): RawConfig {
  const values = pulumi.runtime.allConfig();
  // The SDK has this function, but does not declare it. The variable that it reads is not set in an inline program of the
  // Automation API.
  const { isConfigSecret } = pulumi.runtime as unknown as { isConfigSecret(key: string): boolean };
  return {
    values,
    secretKeys: Object.keys(values).filter(isConfigSecret),
    project: pulumi.getProject(),
    organization: stackOrganization(),
  };
}

/** Returns the organization of the current stack; undefined if its state is in a self-managed backend. */
export function stackOrganization(): string | undefined {
  const organization = pulumi.getOrganization();
  // The engine passes "organization" if there is none.
  return organization === "organization" ? undefined : organization;
}

/**
 * Returns the values that belong to the project. The engine passes those that are not strings as JSON.
 *
 * @param entries the schemas of the settings.
 */
export function projectValues(
  { values, project }: RawConfig,
  entries: v.ObjectEntries,
): Record<string, unknown> {
  const prefix = `${project}:`;
  const projectEntries = Object.entries(values).flatMap(([qualified, text]): [string, unknown][] => {
    if (!qualified.startsWith(prefix)) return [];
    const key = qualified.slice(prefix.length);
    const schema = Object.hasOwn(entries, key) ? entries[key] : undefined;
    return [[key, schema && !expectsString(schema) ? fromJson(text) : text]];
  });
  return Object.fromEntries(projectEntries);
}

/**
 * Returns a problem for each encrypted value of the project, and the others without the values beside an encrypted one.
 *
 * @param problems the other problems.
 * @param otherKeys keys of other namespaces, such as `aws:region`, whose values must not be encrypted either.
 */
export function withEncrypted(
  problems: Problem[],
  { secretKeys, project }: RawConfig,
  otherKeys: string[] = [],
): Problem[] {
  const prefix = `${project}:`;
  const projectKeys = secretKeys
    .filter((key) => key.startsWith(prefix))
    .map((key) => key.slice(prefix.length));
  const encrypted = [...projectKeys, ...secretKeys.filter((key) => otherKeys.includes(key))];

  const reason =
    "contains an encrypted value, which would be stored in plaintext in the stack's state: set it without --secret";
  return [
    ...encrypted.map((key): Problem => ({ path: [key], reason })),
    ...problems.map((problem) =>
      encrypted.includes(String(problem.path[0])) ? withoutValue(problem) : problem,
    ),
  ];
}

/**
 * Returns the error that lists the problems of the current stack's configuration, wherever that comes from: the stack file,
 * Pulumi.yaml, or an environment. A simulation adds the lines of the stack file, for which the error has the problems, too.
 */
export function invalidConfiguration(problems: Problem[]): pulumi.RunError {
  const error = userError(messageOf(`Invalid configuration of stack ${pulumi.getStack()}`, problems));
  return Object.assign(error, {
    problems: problems.map((problem) => ({ path: problem.path, line: lineOf(problem) })),
  });
}

function fromJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
