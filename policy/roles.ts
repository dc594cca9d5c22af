// The guardrails about AWS: who can assume the roles of service accounts.

import { AWS_AUDIENCES, isClusterUrl } from "./clusters";
import { list, type Resource, type Rule } from "./rule";
import { at, fieldsOf, isUnknown, listOf, stringsOf, textOf, type Value } from "./values";

const ROLE = /^(aws:iam\/role:Role|aws-native:iam:Role)$/;

/** EKS Pod Identity: https://docs.aws.amazon.com/eks/latest/userguide/pod-id-role.html */
const POD_IDENTITY = "pods.eks.amazonaws.com";

/** Returns the trust policy of a role; undefined for other resources, and if it is not known yet; null if it is invalid JSON. */
function trustPolicyOf({ type, inputs }: Resource): Value | undefined {
  const policy = inputs.assumeRolePolicy ?? inputs.assumeRolePolicyDocument;
  if (!ROLE.test(type) || isUnknown(policy)) return undefined;
  if (typeof policy !== "string") return policy;
  try {
    return JSON.parse(policy);
  } catch {
    // The error would quote what a secret contains.
    return null;
  }
}

/** Returns the statements of a trust policy that allow something. */
function statementsOf(role: Resource): Value[] {
  return listOf(at(trustPolicyOf(role), "Statement")).filter((it) => at(it, "Effect") !== "Deny");
}

/** Returns whom a statement trusts. Without a principal, it has a NotPrincipal, which is anyone else. */
function principalsIn(statement: Value): string[] {
  const principal = at(statement, "Principal") ?? "*";
  return [principal, ...Object.values(fieldsOf(principal))].flatMap(stringsOf);
}

/** Returns the URL of a cluster's issuer that a principal names, as conditions do: without `https://`. */
function clusterIn(principal: string, clusters: string[]): string | undefined {
  // Whatever AWS account a provider is in.
  const [, url] = principal.split(":oidc-provider/");
  return isClusterUrl(url, clusters) ? url : undefined;
}

/** Returns whether a role is for service accounts of a cluster, by IRSA or by EKS Pod Identity. */
export function isOfServiceAccounts(role: Resource, clusters: string[]): boolean {
  const principals = statementsOf(role).flatMap(principalsIn);
  return principals.some((it) => it === POD_IDENTITY || clusterIn(it, clusters));
}

/** Returns what a role requires of the ID tokens of each cluster that it trusts. */
function requirementsOf(role: Resource, clusters: string[]) {
  return statementsOf(role).flatMap((statement) => {
    const issuers = principalsIn(statement).flatMap((it) => clusterIn(it, clusters) ?? []);
    return issuers.map((issuer) => ({
      issuer,
      subjects: required(statement, `${issuer}:sub`),
      audiences: required(statement, `${issuer}:aud`),
    }));
  });
}

/** Returns what each condition of a statement requires of a key: one of these values. AWS ignores the case of a key. */
function required(statement: Value, key: string): string[][] {
  return Object.entries(fieldsOf(at(statement, "Condition")))
    .filter(([operator]) => /^(ForAnyValue:)?String(Equals(IgnoreCase)?|Like)$/.test(operator))
    .flatMap(([, it]) => Object.entries(fieldsOf(it)))
    .filter(([name]) => name.toLowerCase() === key.toLowerCase())
    .map(([, it]) => stringsOf(it));
}

/** Returns whether one of several conditions accepts only such values: AWS requires all conditions. */
function areAll(conditions: string[][], test: (value: string) => boolean): boolean {
  return conditions.some((values) => values.length > 0 && values.every(test));
}

/** Returns whether a subject names service accounts of one namespace. A policy variable can be any. */
const namesAccounts = (subject: string) => /^system:serviceaccount:[a-z0-9-]+:[^:$]+$/.test(subject);

export const trust: Rule = {
  name: "trust",
  description: "No role can be assumed by anyone, or by service accounts of any namespace of a cluster.",
  level: "mandatory",
  settings: { allowed: list("The sub of a role, with its * or ?, that can be of several namespaces.") },
  check(role, { settings, clusters, report }) {
    if (trustPolicyOf(role) === null) report("Its trust policy is invalid JSON.");
    const allowed = stringsOf(settings.allowed);
    if (statementsOf(role).some(trustsAnyone)) report("Anyone can assume it.");
    for (const { issuer, subjects } of requirementsOf(role, clusters)) {
      if (areAll(subjects, (it) => namesAccounts(it) || allowed.includes(it))) continue;
      const found = `Its trust policy requires the sub ${textOf(subjects.flat())}`;
      const due = `"system:serviceaccount:NAMESPACE:NAME", by StringEquals of ${issuer}:sub`;
      report(`${found} instead of ${due}.`, "allowed");
    }
  },
};

/** Returns whether anyone can assume a role: a condition can limit accounts of AWS, but not who issues ID tokens. */
function trustsAnyone(statement: Value): boolean {
  const isLimited = Object.keys(fieldsOf(at(statement, "Condition"))).length > 0;
  const actions = JSON.stringify(at(statement, "Action") ?? "*");
  return principalsIn(statement).includes("*") && (!isLimited || /WebIdentity|SAML|\*/i.test(actions));
}

export const trustPatterns: Rule = {
  name: "trust-patterns",
  description: "A cluster's role names one service account and AWS' audience, and trusts no one else.",
  level: "advisory",
  settings: { allowed: list("The sub of a role, with its * or ?, or another principal that it can trust.") },
  check(role, { settings, clusters, report }) {
    const allowed = stringsOf(settings.allowed);
    for (const { subjects, audiences } of requirementsOf(role, clusters)) {
      // The guardrail trust is for others.
      if (!areAll(subjects, namesAccounts)) continue;
      if (!areAll(subjects, (it) => !/[*?]/.test(it) || allowed.includes(it))) {
        report(`Its trust policy has a pattern: the sub ${textOf(subjects.flat())}.`, "allowed");
      }
      if (areAll(audiences, (it) => AWS_AUDIENCES.includes(it))) continue;
      const found = `Its trust policy requires the aud ${textOf(audiences.flat())}`;
      report(`${found} instead of "${AWS_AUDIENCES[0]}".`);
    }
    if (!isOfServiceAccounts(role, clusters)) return;
    const known = [POD_IDENTITY, ...allowed];
    const principals = statementsOf(role).flatMap(principalsIn);
    const others = principals.filter((it) => !known.includes(it) && !clusterIn(it, clusters));
    if (others.length > 0) report(`It also trusts ${textOf(others)}.`, "allowed");
  },
};

export const permissionsBoundary: Rule = {
  name: "permissions-boundary",
  description: "A role of a cluster's service accounts has a permissions boundary of the configuration.",
  level: "mandatory",
  settings: { arns: list("ARNs of the permissions boundaries. If empty, a role needs none.") },
  check(role, { settings, clusters, report }) {
    const arns = stringsOf(settings.arns);
    const boundary = role.inputs.permissionsBoundary;
    if (arns.length === 0 || !isOfServiceAccounts(role, clusters)) return;
    if (isUnknown(boundary) || arns.includes(`${boundary}`)) return;
    report(`Its permissionsBoundary is ${textOf(boundary)} instead of one of ${textOf(arns)}.`, "arns");
  },
};
