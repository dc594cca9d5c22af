// The guardrails about AWS: who can assume the roles of service accounts.

import { AWS_AUDIENCES, isClusterUrl } from "./clusters";
import { list, type Resource, type Rule } from "./rule";
import { at, fieldsOf, isUnknown, listOf, parsed, stringsOf, textOf, type Value } from "./values";

const ROLE = /^(aws:iam\/role:Role|aws-native:iam:Role)$/;

/** EKS Pod Identity: https://docs.aws.amazon.com/eks/latest/userguide/pod-id-role.html */
const POD_IDENTITY = "pods.eks.amazonaws.com";

/** Returns the trust policy of a role; undefined for other resources, if it is not known yet, and if its JSON is invalid. */
function trustPolicyOf({ type, inputs }: Resource): Value | undefined {
  const policy = inputs.assumeRolePolicy ?? inputs.assumeRolePolicyDocument;
  if (!ROLE.test(type) || isUnknown(policy)) return undefined;
  return typeof policy === "string" ? parsed(policy) : policy;
}

/** Returns the statements of a trust policy that allow something. */
function statementsOf(role: Resource): Value[] {
  return listOf(at(trustPolicyOf(role), "Statement")).filter((it) => at(it, "Effect") !== "Deny");
}

/** Returns the URLs of the clusters' issuers whose ID tokens a statement accepts, as conditions name them: without `https://`. */
function issuersIn(statement: Value, clusters: string[]): string[] {
  const providers = stringsOf(at(statement, "Principal", "Federated"));
  // Whatever AWS account a provider is in.
  return providers
    .flatMap((it) => it.split(":oidc-provider/")[1] ?? [])
    .filter((it) => isClusterUrl(it, clusters));
}

/** Returns whom a statement trusts. Without a principal, it has a NotPrincipal, which is anyone else. */
function principalsIn(statement: Value): string[] {
  const principal = at(statement, "Principal") ?? "*";
  return [principal, ...Object.values(fieldsOf(principal))].flatMap(stringsOf);
}

/** Returns whether a role is for service accounts of a cluster, by IRSA or by EKS Pod Identity. */
export function isOfServiceAccounts(role: Resource, clusters: string[]): boolean {
  return statementsOf(role).some((it) => {
    return principalsIn(it).includes(POD_IDENTITY) || issuersIn(it, clusters).length > 0;
  });
}

/** Returns what each condition of a statement requires of a key: one of these values. AWS ignores the case of a key. */
function required(statement: Value, key: string): string[][] {
  const operators = Object.entries(fieldsOf(at(statement, "Condition")));
  const requiring = operators.filter(([name]) =>
    /^(ForAnyValue:)?String(Equals(IgnoreCase)?|Like)$/.test(name),
  );
  const keys = requiring.flatMap(([, it]) => Object.entries(fieldsOf(it)));
  return keys.filter(([name]) => name.toLowerCase() === key.toLowerCase()).map(([, it]) => stringsOf(it));
}

/** Returns whether one of several conditions accepts only such values: AWS requires all conditions. */
function areAll(conditions: string[][], test: (value: string) => boolean): boolean {
  return conditions.some((values) => values.length > 0 && values.every(test));
}

/** Returns whether a subject names service accounts of one namespace. A policy variable can be any. */
const namesAccounts = (subject: string) => /^system:serviceaccount:[a-z0-9-]+:[^:$]+$/.test(subject);

export const trust: Rule = {
  name: "trust",
  displayName: "Trust policies of IAM roles",
  description: "No role can be assumed by anyone, or by service accounts of any namespace of a cluster.",
  level: "mandatory",
  remediation: "Require the sub of one service account by StringEquals in the trust policy.",
  settings: { allowed: list("The sub of a role, with its * or ?, that can be of several namespaces.") },
  check(role, { settings, clusters, report }) {
    const { assumeRolePolicy: json } = role.inputs;
    const isText = ROLE.test(role.type) && typeof json === "string" && !isUnknown(json);
    if (isText && trustPolicyOf(role) === undefined) report("Its assumeRolePolicy is invalid JSON.");
    const allowed = stringsOf(settings.allowed);
    for (const statement of statementsOf(role)) {
      if (trustsAnyone(statement)) report("Anyone can assume it.");
      for (const issuer of issuersIn(statement, clusters)) {
        const subjects = required(statement, `${issuer}:sub`);
        if (areAll(subjects, (it) => namesAccounts(it) || allowed.includes(it))) continue;
        const found = `Its trust policy requires the sub ${textOf(subjects.flat())}`;
        const due = `"system:serviceaccount:NAMESPACE:NAME", by StringEquals of ${issuer}:sub`;
        report(`${found} instead of ${due}.`, "allowed");
      }
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
  displayName: "Patterns in trust policies of EKS roles",
  description:
    "The role of a cluster's service account names it without * or ?, requires AWS' audience, and trusts no one else.",
  level: "advisory",
  remediation: "Require one sub and the aud by StringEquals, and give others another role.",
  settings: { allowed: list("The sub of a role, with its * or ?, or another principal that it can trust.") },
  check(role, { settings, clusters, report }) {
    const allowed = stringsOf(settings.allowed);
    const statements = statementsOf(role);
    for (const statement of statements) {
      for (const issuer of issuersIn(statement, clusters)) {
        const subjects = required(statement, `${issuer}:sub`);
        // The guardrail trust is for others.
        if (!areAll(subjects, namesAccounts)) continue;
        if (!areAll(subjects, (it) => !/[*?]/.test(it) || allowed.includes(it))) {
          report(`Its trust policy has a pattern: the sub ${textOf(subjects.flat())}.`, "allowed");
        }
        const audiences = required(statement, `${issuer}:aud`);
        if (areAll(audiences, (it) => AWS_AUDIENCES.includes(it))) continue;
        report(
          `Its trust policy requires the aud ${textOf(audiences.flat())} instead of "${AWS_AUDIENCES[0]}".`,
        );
      }
    }
    if (!isOfServiceAccounts(role, clusters)) return;
    const isOfCluster = (it: string) => isClusterUrl(it.split(":oidc-provider/")[1], clusters);
    const known = [POD_IDENTITY, ...allowed];
    const others = statements.flatMap(principalsIn).filter((it) => !known.includes(it) && !isOfCluster(it));
    if (others.length > 0) report(`It also trusts ${textOf(others)}.`, "allowed");
  },
};

export const permissionsBoundary: Rule = {
  name: "permissions-boundary",
  displayName: "Permissions boundaries of EKS roles",
  description:
    "If the configuration lists permissions boundaries, a role of a cluster's service accounts has one.",
  level: "mandatory",
  remediation: "Set permissionsBoundary of the role.",
  settings: { arns: list("ARNs of the permissions boundaries. If empty, a role needs none.") },
  check(role, { settings, clusters, report }) {
    const arns = stringsOf(settings.arns);
    const boundary = role.inputs.permissionsBoundary;
    if (arns.length === 0 || !isOfServiceAccounts(role, clusters)) return;
    if (isUnknown(boundary) || arns.includes(`${boundary}`)) return;
    report(`Its permissionsBoundary is ${textOf(boundary)} instead of one of ${textOf(arns)}.`, "arns");
  },
};
