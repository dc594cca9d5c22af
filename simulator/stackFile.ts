// The configuration of a stack as the engine passes it to the program, read from the files that the engine reads.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";
import { isRecord } from "./emulators/authPolicy";

export interface StackFile {
  project: string;
  /** A string for each `project:key`, JSON for lists and objects, with the defaults of `Pulumi.yaml`. */
  config: Record<string, string>;
}

/** Returns the stack that a command without `--stack` is about: `dev`, or the only one that has a file. */
export function defaultStack(directory: string): string {
  const [first = "dev", ...others] = stacksIn(directory);
  return others.length > 0 ? "dev" : first;
}

function stacksIn(directory: string): string[] {
  return readdirSync(directory).flatMap((name) => /^Pulumi\.(.+)\.yaml$/.exec(name)?.[1] ?? []);
}

/**
 * Reads `Pulumi.yaml` and `Pulumi.STACK.yaml`.
 *
 * @throws Error that says what to do if a file is missing or invalid, or a setting is encrypted.
 */
export function readStackFile(directory: string, stack: string): StackFile {
  const project = readYaml(directory, "Pulumi.yaml") as {
    name: string;
    config?: Record<string, { default?: unknown }>;
  };
  const file = `Pulumi.${stack}.yaml`;
  const stacks = stacksIn(directory);
  if (!stacks.includes(stack)) {
    const others = `Stacks in this directory: ${stacks.join(", ")}. To simulate one: npm start -- --stack NAME`;
    throw new Error(`${file} does not exist. ${stacks.length > 0 ? others : "To add it: pulumi config set KEY VALUE"}`);
  }
  const settings = readYaml(directory, file) ?? {};
  const given = isRecord(settings) ? (settings.config ?? {}) : undefined;
  if (!isRecord(given)) throw new Error(`${file} is invalid: config must contain KEY: VALUE`);

  const config: Record<string, string> = {};
  const qualified = (key: string) => (key.includes(":") ? key : `${project.name}:${key}`);
  for (const [key, declared] of Object.entries(project.config ?? {})) {
    if (declared.default !== undefined) config[qualified(key)] = asString(declared.default);
  }
  for (const [key, value] of Object.entries(given)) {
    if (!isSecret(value)) config[qualified(key)] = asString(value);
    else if (qualified(key).startsWith(`${project.name}:`)) {
      throw new Error(`${key} is encrypted in ${file}. To fix it: pulumi config set --plaintext ${key} VALUE`);
    }
  }
  return { project: project.name, config };
}

function isSecret(value: unknown): boolean {
  if (typeof value !== "object" || value === null) return false;
  return "secure" in value || Object.values(value).some(isSecret);
}

function asString(value: unknown): string {
  if (value === null) return "";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

function readYaml(directory: string, file: string): unknown {
  try {
    return parse(readFileSync(join(directory, file), "utf8"), { merge: true });
  } catch (error) {
    throw new Error(`Failed to read ${file}: ${error instanceof Error ? error.message : error}`);
  }
}
