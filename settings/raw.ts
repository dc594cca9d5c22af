// What the engine passes to a program: its configuration as text, before it is checked.

import * as pulumi from "@pulumi/pulumi";
import { isObject } from "../kubernetes/plainObject";
import { messageOf, type Problem } from "./problems";
import { userError } from "./userError";

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
 * Returns the values that belong to the project, without those that are empty.
 *
 * @param jsonKeys the settings that are not strings, which the engine passes as JSON.
 */
export function projectValues({ values, project }: RawConfig, jsonKeys: string[]): Record<string, unknown> {
  const prefix = `${project}:`;
  const projectEntries = Object.entries(values).flatMap(([qualified, text]): [string, unknown][] => {
    if (!qualified.startsWith(prefix)) return [];
    const key = qualified.slice(prefix.length);
    return [[key, jsonKeys.includes(key) ? withoutEmptyEntries(fromJson(text)) : text]];
  });
  return withoutEmpty(Object.fromEntries(projectEntries));
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

  const reason = "contains an encrypted value, which would be stored in plaintext in the stack's state";
  return [
    ...encrypted.map((key): Problem => ({ path: [key], reason })),
    ...problems.map((problem) =>
      encrypted.includes(String(problem.path[0])) ? withoutValue(problem) : problem,
    ),
  ];
}

/** Returns a problem without its value, which is then not printed. */
export function withoutValue({ path, reason }: Problem): Problem {
  return { path, reason };
}

/** Returns the error that lists the problems of the current stack's configuration. */
export function invalidConfiguration(problems: Problem[]): pulumi.RunError {
  return userError(messageOf(`Invalid configuration in Pulumi.${pulumi.getStack()}.yaml`, problems));
}

/** In YAML, `null` and `""` count as not given. */
function withoutEmpty(values: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== "" && value !== null));
}

function withoutEmptyEntries(value: unknown): unknown {
  if (!Array.isArray(value)) return value;
  return value.map((entry) => (isObject(entry) ? withoutEmpty(entry) : entry));
}

function fromJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
