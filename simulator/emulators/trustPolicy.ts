// The trust policies of IAM roles, and what they decide.

import type { JWTPayload } from "jose";
import type { Decision } from "./emulator";
import { evaluateIamPolicy, type IamPolicy, listOf } from "./iamPolicy";

/** A request to assume a role, as IAM sees it. */
interface AssumeRequest {
  principal: { Federated: string } | { Service: string };
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

function evaluate(policy: IamPolicy, request: AssumeRequest): Decision {
  const { principal, actions, values, principalName } = request;
  for (const action of actions) {
    const { allowed, failedKeys } = evaluateIamPolicy(policy, { action, principal, values });
    if (allowed) continue;
    if (!failedKeys) return { allowed: false, reason: `the trust policy does not name ${principalName}` };
    if (failedKeys.length === 0) return { allowed: false, reason: "the trust policy denies it" };
    const names = failedKeys.map((key) => key.split(/[:/]/).pop() ?? key);
    return { allowed: false, reason: `the trust policy requires another ${names.join(" and ")}` };
  }
  return { allowed: true, reason: "the trust policy allows it" };
}

// A condition key begins with the issuer, without `https://`.
function claimValues(claims: JWTPayload, key: string): string[] {
  const issuer = claims.iss?.replace("https://", "");
  if (key === `${issuer}:sub`) return listOf(claims.sub);
  return key === `${issuer}:aud` ? listOf(claims.aud) : [];
}
