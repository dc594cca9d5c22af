// Settings as the engine passes them to a program.

import type { RawConfig } from "../../settings/raw";

/**
 * Returns the configuration of a stack: every setting as a string.
 *
 * @param settings bare keys are those of the project; undefined: the setting is not given.
 */
export function configOf(project: string, settings: object): Record<string, string> {
  const given = Object.entries(settings).filter(([, value]) => value !== undefined);
  const config = given.map(([key, value]): [string, string] => [
    key.includes(":") ? key : `${project}:${key}`,
    typeof value === "string" ? value : JSON.stringify(value),
  ]);
  return Object.fromEntries(config);
}

/** Returns the configuration of a stack of the organization acme, before it is checked. */
export function rawConfigOf(settings: object, changes: Partial<RawConfig> = {}): RawConfig {
  const project = "project";
  return { values: configOf(project, settings), secretKeys: [], project, organization: "acme", ...changes };
}
