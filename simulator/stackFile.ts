// The settings of a stack as the engine would hand them to the program, read from the files that the engine reads.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";

export interface StackFile {
  project: string;
  /** A text for each `project:key`, JSON for lists and objects; the defaults of `Pulumi.yaml` are filled in. */
  config: Record<string, string>;
}

/**
 * Reads `Pulumi.yaml` and `Pulumi.STACK.yaml`.
 *
 * @param folder the project's.
 * @throws Error that says what to do, when a file is missing or holds what cannot be read here.
 */
export function readStackFile(folder: string, stack: string): StackFile {
  const project: { name: string; config?: Record<string, { default?: unknown }> } = readYaml(
    folder,
    "Pulumi.yaml",
  );
  const file = `Pulumi.${stack}.yaml`;
  const stacks = readdirSync(folder).flatMap((name) => /^Pulumi\.(.+)\.yaml$/.exec(name)?.[1] ?? []);
  if (!stacks.includes(stack)) {
    throw new Error(
      `There is no ${file} to simulate. The stacks here: ${stacks.join(", ") || "none"}. ` +
        `Write it, or make it with: pulumi stack init ${stack}`,
    );
  }
  const settings: unknown = readYaml(folder, file) ?? {};
  const given: unknown = isMapping(settings) ? (settings.config ?? {}) : undefined;
  if (!isMapping(given)) {
    throw new Error(`${file} has no settings that can be read: it must hold config: and below it KEY: VALUE`);
  }

  const config: Record<string, string> = {};
  const qualified = (key: string) => (key.includes(":") ? key : `${project.name}:${key}`);
  for (const [key, declared] of Object.entries(project.config ?? {})) {
    if (declared.default !== undefined) config[qualified(key)] = toText(declared.default);
  }
  for (const [key, value] of Object.entries(given)) {
    if (!isSecret(value)) config[qualified(key)] = toText(value);
    else if (qualified(key).startsWith(`${project.name}:`)) {
      throw new Error(
        `${key} is encrypted in ${file}, and the simulation has no key. No setting is a secret: ` +
          `pulumi config set --plaintext ${key} VALUE`,
      );
    }
  }
  return { project: project.name, config };
}

function isMapping(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isSecret(value: unknown): boolean {
  if (typeof value !== "object" || value === null) return false;
  return "secure" in value || Object.values(value).some(isSecret);
}

function toText(value: unknown): string {
  if (value === null) return "";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

function readYaml(folder: string, file: string) {
  try {
    return parse(readFileSync(join(folder, file), "utf8"));
  } catch (error) {
    throw new Error(`${file} cannot be read: ${error instanceof Error ? error.message : error}`);
  }
}
