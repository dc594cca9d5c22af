// Asks the guardrails about resources that are plain data, with a configuration in the form of
// https://www.pulumi.com/docs/insights/policy/policy-packs/configuration/

import { policies } from "./index";
import type { Resource, Rule } from "./rule";
import { type Fields, fieldsOf, stringsOf } from "./values";

const LEVELS = ["mandatory", "advisory", "disabled"] as const;

/** What breaks a guardrail, which Pulumi calls a policy. */
export interface Violation {
  policy: string;
  level: Rule["level"];
  name: string;
  message: string;
}

/**
 * Returns what the guardrails report, as Pulumi's engine does in a preview.
 *
 * @param configuration the content of a file for `--policy-pack-config`: for each guardrail, its settings or its level.
 * @throws Error that lists all unknown names of the configuration.
 */
export function runRules(resources: Resource[], configuration: Fields = {}): Violation[] {
  requireKnown(configuration);
  return resources.flatMap((resource) => {
    return policies.flatMap((rule) => {
      const level = levelOf(rule, configuration);
      if (level === "disabled") return [];
      const messages = ask(rule, resource, configuration);
      return messages.map((message) => ({ policy: rule.name, level, name: resource.name, message }));
    });
  });
}

/** Returns the messages of a guardrail about a resource, each once. @param configuration of the pack, which is valid. */
export function ask(rule: Rule, resource: Resource, configuration: Fields): string[] {
  if (Object.keys(resource.inputs).length === 0) return [];
  const messages = new Set<string>();
  const report = (message: string, setting?: string) => {
    messages.add(setting ? `${message} To allow it, change ${setting} of "${rule.name}".` : message);
  };
  const defaults = Object.entries(rule.settings ?? {}).map(([name, it]) => [name, it.default]);
  const settings = { ...Object.fromEntries(defaults), ...settingsOf(rule.name, configuration) };
  const clusters = stringsOf(settingsOf("limits", configuration).clusters);
  rule.check(resource, { settings, clusters, report });
  return [...messages];
}

/**
 * Checks the names in a configuration. The engine checks the values, but ignores a name that no guardrail or setting has.
 *
 * @throws Error that lists all unknown names.
 */
export function requireKnown(configuration: Fields): void {
  const known = policies.flatMap((it) => namesIn(it.name, it.settings ?? {}));
  const given = Object.keys(configuration).flatMap((it) => namesIn(it, settingsOf(it, configuration)));
  const unknown = given.filter((it) => !["all", ...known].includes(it));
  if (unknown.length === 0) return;
  const message = `Unknown in the configuration of the policy pack: ${unknown.join(", ")}. Known: all, ${known.join(", ")}.`;
  // The SDK prints the stack of an error.
  throw Object.assign(new Error(message), { stack: message });
}

function namesIn(rule: string, settings: object): string[] {
  const names = Object.keys(settings).filter((it) => it !== "enforcementLevel");
  return [rule, ...names.map((it) => `${rule}.${it}`)];
}

/** Returns the settings that a configuration has for a guardrail, with its level as `enforcementLevel`. */
function settingsOf(rule: string, configuration: Fields): Fields {
  const given = configuration[rule];
  return typeof given === "string" ? { enforcementLevel: given } : fieldsOf(given);
}

/** Returns the level of a guardrail: its own in the configuration, that of all, or its default. */
function levelOf({ name, level }: Rule, configuration: Fields): (typeof LEVELS)[number] {
  const [given, ofAll] = [name, "all"].map((it) => settingsOf(it, configuration).enforcementLevel);
  return LEVELS.find((it) => it === (given ?? ofAll)) ?? level;
}
