// Runs the guardrails on resources that are plain data, as the engine runs them on those of a preview.

import { levelOf, requireValid, settingsOf } from "./configuration";
import { policies } from "./index";
import { ask, type Level, type Resource, type Rule } from "./rule";
import type { Fields } from "./values";

/** What breaks a guardrail, which Pulumi calls a policy. */
export interface Violation {
  policy: string;
  description: string;
  level: Level;
  urn: string;
  name: string;
  message: string;
}

/**
 * Returns what the guardrails report: first before each resource, then at the end.
 *
 * @param resources in the order of their registration.
 * @param configuration the content of a file for `--policy-pack-config`: for each guardrail, its settings or its level.
 * @throws Error that lists all problems of the configuration.
 */
export function runRules(resources: Resource[], configuration: Fields = {}): Violation[] {
  requireValid(policies, configuration);
  const violations = (rule: Rule, resource: Resource, program: Resource[]): Violation[] => {
    const level = levelOf(rule, configuration);
    if (level === "disabled") return [];
    const { name: policy, description } = rule;
    const { urn, name } = resource;
    const messages = ask(rule, resource, program, settingsOf(policy, configuration));
    return messages.map((message) => ({ policy, description, level, urn, name, message }));
  };
  const before = policies.filter((it) => !it.isAskedAtEnd);
  const atEnd = policies.filter((it) => it.isAskedAtEnd);
  return [
    ...resources.flatMap((resource, index) => {
      return before.flatMap((rule) => violations(rule, resource, resources.slice(0, index + 1)));
    }),
    ...atEnd.flatMap((rule) => resources.flatMap((resource) => violations(rule, resource, resources))),
  ];
}
