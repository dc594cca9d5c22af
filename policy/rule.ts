// What a rule is: a promise about the program, and how it is checked.

import type { Program, Resource } from "./program";
import { differencesBetween, type Fields, textOf, type Value } from "./values";

/** What a violation does: a mandatory one stops an update, an advisory one is printed. */
export type Level = "mandatory" | "advisory";

interface Promise {
  name: string;
  /** A sentence that is true if nothing is reported. */
  description: string;
  level: Level;
  /** What `--policy-pack-config` can set, as JSON schemas with defaults. */
  configuration?: Record<string, Setting>;
}

interface Setting {
  type: "integer" | "array";
  items?: { type: "string" };
  default: number | string[];
}

/** A rule that the engine asks about each resource before it is created or changed, so that an update stops before that. */
export interface ResourceRule extends Promise {
  checkResource(resource: Resource, report: (message: string) => void, configuration: Fields): void;
}

/**
 * A rule that the engine asks once, when a preview or an update has ended: about what only all resources together, or their
 * outputs, can tell. Each says why it cannot be a rule about a resource.
 */
export interface StackRule extends Promise {
  checkStack(
    program: Program,
    report: (message: string, resource: Resource) => void,
    configuration: Fields,
  ): void;
}

export type Rule = ResourceRule | StackRule;

/** What a rule reports: what is, what should be, and of whom. */
export interface Reported {
  message: string;
  /** Undefined for the stack. */
  resource?: Resource;
}

/** Returns what a rule reports of a resource. @param configuration of the rule, without the defaults. */
export function checkResource(rule: ResourceRule, resource: Resource, configuration: Fields): Reported[] {
  // With --target, the engine sends what it does not create without inputs.
  if (Object.keys(resource.inputs).length === 0) return [];
  const reported: Reported[] = [];
  const report = (message: string) => void reported.push({ message, resource });
  try {
    rule.checkResource(resource, report, withDefaults(rule, configuration));
  } catch (error) {
    report(unreadable(error));
  }
  return reported;
}

/** Returns what a rule reports of all resources. @param configuration of the rule, without the defaults. */
export function checkStack(rule: StackRule, program: Program, configuration: Fields): Reported[] {
  const reported: Reported[] = [];
  try {
    const report = (message: string, resource: Resource) => void reported.push({ message, resource });
    rule.checkStack(program, report, withDefaults(rule, configuration));
  } catch (error) {
    reported.push({ message: unreadable(error) });
  }
  return reported;
}

function withDefaults({ configuration = {} }: Rule, given: Fields): Fields {
  const defaults = Object.entries(configuration).map(([name, setting]) => [name, setting.default]);
  return { ...Object.fromEntries(defaults), ...given };
}

/** What has another form than every program of this version gives it, such as a number in place of a list, does not pass. */
function unreadable(error: unknown): string {
  return `It cannot be compared: ${error instanceof Error ? error.message : error}.`;
}

/**
 * Reports each value that is not as it should be.
 *
 * @param what begins the sentence, such as `The trust policy of ci/deployer`.
 * @param hidesAdded only names what should not be there: an object of Kubernetes can contain a secret of the program.
 */
export function compare(
  report: (message: string) => void,
  what: string,
  found: Value | undefined,
  expected: Value | undefined,
  { hidesAdded = false } = {},
): void {
  for (const { path, ...values } of differencesBetween(found, expected)) {
    const where = path ? `${what}: ${path}` : what;
    if (hidesAdded && values.expected === undefined) {
      report(`${where} is set, which no setting requires.`);
    } else {
      report(`${where} is ${textOf(values.found)} instead of ${textOf(values.expected)}.`);
    }
  }
}
