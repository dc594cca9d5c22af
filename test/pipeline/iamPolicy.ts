// Evaluates the policies of the pipeline's roles, as far as IAM documents it:
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html

import type { PolicyDocument } from "@pulumi/aws/iam";
import { matchesWildcards } from "../../simulator/emulators/wildcards";

type Strings = string | string[];

interface Statement {
  Effect: "Allow" | "Deny";
  Action: Strings;
  /** Left out in a trust policy. */
  Resource?: Strings;
  Condition?: Record<string, Record<string, Strings>>;
}

/** The condition keys of a request. */
export type Context = Record<string, Strings>;

/** Returns the actions that a policy allows, in alphabetical order. */
export function actionsOf(policy: PolicyDocument): string[] {
  const allowing = statementsOf(policy).filter(({ Effect }) => Effect === "Allow");
  return allowing.flatMap(({ Action }) => Action).sort();
}

/** Returns whether a policy allows a request. @throws Error for what this module does not know. */
export function allows(policy: PolicyDocument, action: string, resource: string, context: Context = {}) {
  const inForce = statementsOf(policy).filter(({ Action, Resource = "*", Condition = {} }) => {
    const conditions = Object.entries(Condition).flatMap(([operator, keys]) =>
      Object.entries(keys).map(([key, expected]) => isTrue(operator, expected, listOf(context[key] ?? []))),
    );
    return matches(Action, action) && matches(Resource, resource) && conditions.every(Boolean);
  });
  return inForce.some(({ Effect }) => Effect === "Allow") && inForce.every(({ Effect }) => Effect !== "Deny");
}

/** Returns the statements of a policy as AWS receives them. */
function statementsOf(policy: PolicyDocument): Statement[] {
  return JSON.parse(JSON.stringify(policy)).Statement;
}

// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
function isTrue(operator: string, expected: Strings, actual: string[]): boolean {
  if (operator.endsWith("IfExists") && actual.length === 0) return true;
  switch (operator.replace("IfExists", "")) {
    case "StringEquals":
      return actual.some((value) => listOf(expected).includes(value));
    case "ForAllValues:StringEquals":
      return actual.every((value) => listOf(expected).includes(value));
    case "ArnEquals":
      return actual.some((value) => matches(expected, value));
    case "Null":
      return String(actual.length === 0) === expected;
    default:
      throw new Error(`unknown condition operator ${operator}`);
  }
}

function matches(patterns: Strings, value: string): boolean {
  return listOf(patterns).some((pattern) => {
    if (pattern.includes("$")) throw new Error(`unknown variable in ${pattern}`);
    return matchesWildcards(pattern, value, { "*": "any", "?": "one" });
  });
}

function listOf(value: Strings): string[] {
  return Array.isArray(value) ? value : [value];
}
