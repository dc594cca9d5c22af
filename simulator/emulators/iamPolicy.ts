// The trust policies of IAM roles, and what they decide. It knows what those of this project contain.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html

import type { JWTPayload } from "jose";
import type { Decision } from "./emulator";

type Strings = string | string[];

interface IamStatement {
  Effect: string;
  Principal: Record<string, Strings>;
  Action: Strings;
  /** What each operator expects of each condition key. */
  Condition?: Record<string, Record<string, Strings>>;
}

export interface IamPolicy {
  Statement: IamStatement[];
}

/** A request to assume a role, as IAM sees it. */
interface AssumeRequest {
  principal: { Federated: string } | { Service: string };
  /** What the principal is, for the reason of a denial. */
  principalName: string;
  /** Every one of them has to be allowed. */
  actions: string[];
  /** Returns the values of a condition key in the request: none if the request does not have the key. */
  values(key: string): string[];
}

/** @throws Error for what it does not know. */
function evaluate({ Statement }: IamPolicy, request: AssumeRequest): Decision {
  for (const action of request.actions) {
    const reason = denialOf(action, Statement, request);
    if (reason) return { allowed: false, reason };
  }
  return { allowed: true, reason: "the trust policy allows it" };
}

/**
 * Returns why an action is denied; undefined if it is allowed. A Deny wins over an Allow, and what no statement allows is denied.
 * The reason is that of the closest Allow.
 */
function denialOf(action: string, statements: IamStatement[], request: AssumeRequest): string | undefined {
  const applying = statements
    .filter((statement) => appliesTo(statement, action, request))
    .map((statement) => ({ effect: statement.Effect, failedKeys: failedKeys(statement, request) }));
  const inForce = applying.filter((statement) => statement.failedKeys.length === 0);
  if (inForce.some(({ effect }) => effect === "Deny")) return "the trust policy denies it";
  if (inForce.some(({ effect }) => effect === "Allow")) return undefined;

  const closest = applying.filter(({ effect }) => effect === "Allow").at(-1);
  if (!closest) return `the trust policy does not name ${request.principalName}`;
  const names = closest.failedKeys.map((key) => key.split(/[:/]/).pop() ?? key);
  return `the trust policy requires another ${names.join(" and ")}`;
}

function appliesTo(
  { Principal, Action }: IamStatement,
  action: string,
  { principal }: AssumeRequest,
): boolean {
  const isNamed = Object.entries(principal).every(([kind, name]) => listOf(Principal[kind]).includes(name));
  return isNamed && listOf(Action).includes(action);
}

function failedKeys({ Condition = {} }: IamStatement, { values }: AssumeRequest): string[] {
  const conditions = Object.entries(Condition).flatMap(([operator, keys]) =>
    Object.entries(keys).map(([key, expected]) => ({ operator, key, expected })),
  );
  return conditions
    .filter(({ operator, key, expected }) => !isTrue(operator, expected, values(key)))
    .map(({ key }) => key);
}

// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
function isTrue(operator: string, expected: Strings, actual: string[]): boolean {
  if (operator !== "StringEquals") throw new Error(`the emulated IAM does not know the operator ${operator}`);
  // A missing key matches nothing.
  return actual.some((value) => listOf(expected).includes(value));
}

/** Returns a value or a list of them as a list, which is empty if there is none. */
function listOf(value: Strings | undefined): string[] {
  if (value === undefined) return [];
  return Array.isArray(value) ? value : [value];
}

/**
 * Evaluates a role's trust policy for a verified ID token.
 *
 * @param federated the ARN of the IAM OIDC provider that the token was verified with.
 * @param claims of the token.
 */
export function evaluateTrustPolicy(policy: IamPolicy, federated: string, claims: JWTPayload): Decision {
  return evaluate(policy, {
    principal: { Federated: federated },
    actions: ["sts:AssumeRoleWithWebIdentity"],
    values: (key) => claimValues(claims, key),
    principalName: "the IAM OIDC provider of this issuer",
  });
}

/**
 * Evaluates a role's trust policy for EKS Pod Identity.
 *
 * @param tags of the session, which EKS sets: https://docs.aws.amazon.com/eks/latest/userguide/pod-id-abac.html
 */
export function evaluatePodIdentityTrust(policy: IamPolicy, tags: Record<string, string>): Decision {
  return evaluate(policy, {
    principal: { Service: "pods.eks.amazonaws.com" },
    // EKS assumes the role and tags the session: https://docs.aws.amazon.com/eks/latest/userguide/pod-id-role.html
    actions: ["sts:AssumeRole", "sts:TagSession"],
    values: (key) => tagValues(tags, key),
    principalName: "EKS Pod Identity",
  });
}

/** Returns the value of the tag that a condition key names; none if the session does not have it. */
function tagValues(tags: Record<string, string>, key: string): string[] {
  const prefix = "aws:RequestTag/";
  if (!key.startsWith(prefix)) return [];
  return listOf(tags[key.slice(prefix.length)]);
}

// A condition key begins with the issuer, without `https://`.
function claimValues(claims: JWTPayload, key: string): string[] {
  const issuer = claims.iss?.replace("https://", "");
  if (key === `${issuer}:sub`) return listOf(claims.sub);
  return key === `${issuer}:aud` ? listOf(claims.aud) : [];
}
