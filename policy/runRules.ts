// Runs the rules on resources that are plain data, as the engine runs them on those of a preview.

import { policies } from "./index";
import { Program, type RegisteredResource } from "./program";
import { checkResource, checkStack, type Level, type Reported, type Rule } from "./rule";
import { type Fields, isFields, type Value } from "./values";

export type { RegisteredResource } from "./program";

/** What breaks a promise. */
export interface Violation {
  /** The name of the rule. */
  policy: string;
  /** Its promise. */
  description: string;
  level: Level;
  /** URN and name of the resource; undefined for the stack. */
  urn?: string;
  name?: string;
  message: string;
}

/**
 * Returns what the rules report: first of each resource, then of all of them.
 *
 * @param resources in the order of their registration.
 * @param configuration the content of a file for `--policy-pack-config`: for each rule, its settings or its level.
 */
export function runRules(resources: RegisteredResource[], configuration: Fields = {}): Violation[] {
  const program = new Program();
  const ofResources = resources.flatMap((registered) => {
    const resource = program.add(registered);
    return policies.flatMap((rule) => {
      if (!("checkResource" in rule)) return [];
      return violations(rule, checkResource(rule, resource, settingsOf(rule, configuration)), configuration);
    });
  });
  const ofStack = policies.flatMap((rule) => {
    if (!("checkStack" in rule)) return [];
    return violations(rule, checkStack(rule, program, settingsOf(rule, configuration)), configuration);
  });
  return [...ofResources, ...ofStack];
}

/** The form of https://www.pulumi.com/docs/insights/policy/policy-packs/configuration/ */
function settingsOf({ name }: Rule, configuration: Fields): Fields {
  const settings = configuration[name];
  return isFields(settings) ? settings : {};
}

function violations(rule: Rule, reported: Reported[], configuration: Fields): Violation[] {
  const { name: policy, description } = rule;
  const level = levelOf(rule, configuration);
  if (level === "disabled") return [];
  return reported.map(({ message, resource }) => {
    return {
      policy,
      description,
      level,
      ...(resource && { urn: resource.urn, name: resource.name }),
      message,
    };
  });
}

function levelOf(rule: Rule, configuration: Fields): Level | "disabled" {
  const settings = configuration[rule.name] ?? configuration.all;
  const level: Value | undefined = isFields(settings) ? settings.enforcementLevel : settings;
  return level === "mandatory" || level === "advisory" || level === "disabled" ? level : rule.level;
}
