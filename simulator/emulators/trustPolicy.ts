// The trust policies of IAM roles, and what they decide.

import type { JWTPayload } from "jose";
import type { Decision } from "./emulator";

export interface TrustPolicy {
  Statement: {
    Effect: string;
    Principal: { Federated?: string; Service?: string };
    Action: string | string[];
    Condition?: Record<string, Record<string, string>>;
  }[];
}

/** A request to assume a role, as IAM sees it. */
interface AssumeRequest {
  principal: { Federated?: string; Service?: string };
  /** Every one of them has to be allowed. */
  actions: string[];
  /** Returns the values of a condition key in the request. */
  values(key: string): string[];
  /** What the principal is, for the reason of a denial. */
  principalName: string;
}

/**
 * Evaluates a role's trust policy for a verified ID token.
 *
 * @param federated the ARN of the IAM OIDC provider that the token was verified with.
 * @param claims of the token.
 */
export function evaluateTrustPolicy(policy: TrustPolicy, federated: string, claims: JWTPayload): Decision {
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
export function evaluatePodIdentityTrust(policy: TrustPolicy, tags: Record<string, string>): Decision {
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

function evaluate(policy: TrustPolicy, request: AssumeRequest): Decision {
  for (const action of request.actions) {
    const decision = evaluateAction(policy, request, action);
    if (!decision.allowed) return decision;
  }
  return { allowed: true, reason: "the trust policy allows it" };
}

function evaluateAction(policy: TrustPolicy, request: AssumeRequest, action: string): Decision {
  const { principal, values, principalName } = request;
  let reason = `the trust policy does not name ${principalName}`;
  for (const { Effect, Principal, Action, Condition = {} } of policy.Statement) {
    if (Effect !== "Allow" || !listOf(Action).includes(action)) continue;
    if (Principal.Federated !== principal.Federated || Principal.Service !== principal.Service) continue;

    const failed = failedConditions(Condition, values);
    if (failed.length === 0) return { allowed: true, reason: "the trust policy allows it" };
    reason = `the trust policy requires another ${failed.join(" and ")}`;
  }
  return { allowed: false, reason };
}

/**
 * Returns the names of the conditions that a request does not meet. Of IAM's condition operators it knows StringEquals:
 * https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
 */
function failedConditions(
  { StringEquals = {}, ...others }: Record<string, Record<string, string>>,
  values: AssumeRequest["values"],
): string[] {
  const [operator] = Object.keys(others);
  if (operator) throw new Error(`the emulated IAM does not know the condition operator ${operator}`);
  const failed = Object.entries(StringEquals).filter(([key, expected]) => !values(key).includes(expected));
  return failed.map(([key]) => key.split(/[:/]/).pop() ?? key);
}

// A condition key begins with the issuer, without `https://`.
function claimValues(claims: JWTPayload, key: string): string[] {
  const issuer = claims.iss?.replace("https://", "");
  if (key === `${issuer}:sub`) return listOf(claims.sub);
  return key === `${issuer}:aud` ? listOf(claims.aud) : [];
}

/** Returns a value or a list of them as a list, which is empty if there is none. */
function listOf(value: string | string[] | undefined): string[] {
  if (value === undefined) return [];
  return Array.isArray(value) ? value : [value];
}
