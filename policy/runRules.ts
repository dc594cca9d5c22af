// Asks the guardrails about resources that are plain data.

import { levelOf, requireValid, settingsOf } from "./configuration";
import { policies } from "./index";
import type { Level, Resource, Rule } from "./rule";
import { type Fields, stringsOf } from "./values";

/** What breaks a guardrail, which Pulumi calls a policy. */
export interface Violation {
  policy: string;
  level: Level;
  name: string;
  message: string;
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
 * Returns what the guardrails report, as Pulumi's engine does in a preview.
 *
 * @param configuration the content of a file for `--policy-pack-config`: for each guardrail, its settings or its level.
 * @throws Error that lists all problems of the configuration.
 */
export function runRules(resources: Resource[], configuration: Fields = {}): Violation[] {
  requireValid(policies, configuration);
  return resources.flatMap((resource) => {
    return policies.flatMap((rule) => {
      const level = levelOf(rule, configuration);
      if (level === "disabled") return [];
      const messages = ask(rule, resource, configuration);
      return messages.map((message) => ({ policy: rule.name, level, name: resource.name, message }));
    });
  });
}
