// IAM policies, and what they decide. It knows what the policies of this project contain.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html

import { matchesWildcards } from "./wildcards";

type Strings = string | string[];

export interface IamStatement {
  Effect: string;
  Principal?: Record<string, Strings>;
  Action: Strings;
  Resource?: Strings;
  /** What each operator expects of each condition key. */
  Condition?: Record<string, Record<string, Strings>>;
}

export interface IamPolicy {
  Statement: IamStatement[];
}

export interface IamRequest {
  action: string;
  /** Left out in a trust policy, which has no resources. */
  resource?: string;
  /** Left out in a policy of an identity, which has no principals. */
  principal?: Record<string, string>;
  /** Returns the values of a condition key in the request: none if the request does not have the key. */
  values(key: string): string[];
}

export interface IamDecision {
  allowed: boolean;
  /** Of the closest Allow statement, the keys whose conditions are not met. Undefined without one, empty if a Deny decides. */
  failedKeys?: string[];
}

/** Evaluates a policy. A Deny wins over an Allow, and what no statement allows is denied. @throws Error for what it does not know. */
export function evaluateIamPolicy({ Statement }: IamPolicy, request: IamRequest): IamDecision {
  const matching = Statement.filter((statement) => isAbout(statement, request)).map((statement) => ({
    effect: statement.Effect,
    failedKeys: failedKeys(statement, request),
  }));
  const inForce = matching.filter((statement) => statement.failedKeys.length === 0);
  if (inForce.some(({ effect }) => effect === "Deny")) return { allowed: false, failedKeys: [] };
  if (inForce.some(({ effect }) => effect === "Allow")) return { allowed: true };

  const closest = matching.filter(({ effect }) => effect === "Allow").at(-1);
  return { allowed: false, ...(closest && { failedKeys: closest.failedKeys }) };
}

function isAbout({ Principal, Action, Resource }: IamStatement, request: IamRequest): boolean {
  const { action, resource, principal = {} } = request;
  const namesPrincipal = Object.entries(principal).every(([kind, name]) =>
    listOf(Principal?.[kind]).includes(name),
  );
  const namesResource = Resource === undefined || matches(Resource, resource ?? "");
  return namesPrincipal && namesResource && matches(Action, action);
}

function failedKeys({ Condition = {} }: IamStatement, { values }: IamRequest): string[] {
  const conditions = Object.entries(Condition).flatMap(([operator, keys]) =>
    Object.entries(keys).map(([key, expected]) => ({ operator, key, expected })),
  );
  return conditions
    .filter(({ operator, key, expected }) => !isTrue(operator, expected, values(key)))
    .map(({ key }) => key);
}

// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
function isTrue(operator: string, expected: Strings, actual: string[]): boolean {
  const isExpected = (value: string) => listOf(expected).includes(value);
  switch (operator) {
    // A missing key matches nothing.
    case "StringEquals":
      return actual.some(isExpected);
    case "StringEqualsIfExists":
      return actual.length === 0 || actual.some(isExpected);
    // Unlike StringEquals, it knows wildcards.
    case "ArnEquals":
      return actual.some((value) => matches(expected, value));
    case "ArnEqualsIfExists":
      return actual.length === 0 || actual.some((value) => matches(expected, value));
    // True without any value, too.
    case "ForAllValues:StringEquals":
      return actual.every(isExpected);
    case "Null":
      return String(actual.length === 0) === expected;
    default:
      throw new Error(`the emulated IAM does not know the condition operator ${operator}`);
  }
}

function matches(patterns: Strings, value: string): boolean {
  return listOf(patterns).some((pattern) => {
    if (pattern.includes("$")) throw new Error(`the emulated IAM does not know the variable in ${pattern}`);
    return matchesWildcards(pattern, value, { "*": "any", "?": "one" });
  });
}

/** Returns a value or a list of them as a list, which is empty if there is none. */
export function listOf(value: Strings | undefined): string[] {
  if (value === undefined) return [];
  return Array.isArray(value) ? value : [value];
}
