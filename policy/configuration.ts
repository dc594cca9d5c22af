// The configuration of the pack, in the form of https://www.pulumi.com/docs/insights/policy/policy-packs/configuration/

import type { Rule, Setting } from "./rule";
import { type Fields, fieldsOf, type Value } from "./values";

const LEVELS = ["mandatory", "advisory", "disabled"] as const;

/**
 * Checks a configuration. The engine checks the values, too, but ignores a name that no guardrail or setting has.
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
      if (!known.includes(key))
        return `${name}.${key}: unknown setting. The settings are ${known.join(", ")}.`;
      const setting = settings[key];
      const expected = setting
        ? `must be a valid ${setting.type}. ${setting.description}`
        : `must be one of ${LEVELS.join(", ")}.`;
      return isValid(value, setting) ? [] : `${name}.${key}: ${expected}`;
    });
  });
  if (problems.length === 0) return;
  const message = ["Invalid configuration of the policy pack:", ...problems].join("\n  ");
  // The SDK prints the stack of an error.
  throw Object.assign(new Error(message), { stack: message });
}

/** Returns whether a value is valid for a setting, or without one, is a level. */
function isValid(value: Value | undefined, setting: Setting | undefined): boolean {
  if (!setting) return LEVELS.some((level) => level === value);
  if (setting.type === "integer") return Number.isInteger(value);
  if (!Array.isArray(value)) return setting.type === typeof value;
  const pattern = RegExp(setting.items?.pattern ?? "");
  return setting.type === "array" && value.every((it) => typeof it === "string" && pattern.test(it));
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
