// The configuration of the pack, in the form of https://www.pulumi.com/docs/insights/policy/policy-packs/configuration/

import type { Rule, Setting } from "./rule";
import { type Fields, fieldsOf, stringsOf, type Value } from "./values";

const LEVELS = ["mandatory", "advisory", "disabled"] as const;

/**
 * Checks a configuration. The engine checks only the values, and ignores a name that no guardrail or setting has.
 *
 * @param configuration for each guardrail, or for all, its level, or an object with its settings.
 * @throws Error that lists all problems.
 */
export function requireValid(policies: Rule[], configuration: Fields): void {
  const rules = ["all", ...policies.map(({ name }) => name)];
  const problems = Object.keys(configuration).flatMap((name) => {
    if (!rules.includes(name)) return `${name}: unknown guardrail. The guardrails are ${rules.join(", ")}.`;
    const settings = policies.find((it) => it.name === name)?.settings ?? {};
    const known = ["enforcementLevel", ...Object.keys(settings)];
    return Object.entries(settingsOf(name, configuration)).flatMap(([key, value]) => {
      const problem = known.includes(key)
        ? problemOf(value, settings[key])
        : `unknown setting. The settings are ${known.join(", ")}.`;
      return problem ? [`${name}.${key}: ${problem}`] : [];
    });
  });
  if (problems.length === 0) return;
  const message = ["Invalid configuration of the policy pack:", ...problems].join("\n  ");
  // The SDK prints the stack of an error.
  throw Object.assign(new Error(message), { stack: message });
}

/** Returns what is wrong with the value of a setting, or with a level if there is no setting; undefined if nothing is. */
function problemOf(value: Value | undefined, setting: Setting | undefined): string | undefined {
  switch (setting?.type) {
    case "integer":
      return Number.isInteger(value) ? undefined : "must be a whole number.";
    case "boolean":
      return typeof value === "boolean" ? undefined : "must be true or false.";
    case "array":
      return Array.isArray(value) && value.length === stringsOf(value).length
        ? undefined
        : "must be a list of strings.";
    default:
      return LEVELS.some((level) => level === value) ? undefined : `must be one of ${LEVELS.join(", ")}.`;
  }
}

/** Returns the settings that a configuration has for a guardrail, with its level as `enforcementLevel`. */
export function settingsOf(rule: string, configuration: Fields): Fields {
  const given = configuration[rule];
  return typeof given === "string" ? { enforcementLevel: given } : fieldsOf(given);
}

/** Returns the level of a guardrail: its own in the configuration, that of all, or its default. */
export function levelOf({ name, level }: Rule, configuration: Fields): (typeof LEVELS)[number] {
  const [given, ofAll] = [name, "all"].map((it) => settingsOf(it, configuration).enforcementLevel);
  return LEVELS.find((it) => it === (given ?? ofAll)) ?? level;
}
