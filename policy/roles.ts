// The guardrails about AWS: who can assume the roles of service accounts.

import { accountsOf, grantsOf, isOfCluster, SUBJECT } from "./grants";
import { type Level, list, type Resource, type Rule } from "./rule";
import { at, canMatch, fieldsOf, isUnknown, listOf, stringsOf, textOf, type Value } from "./values";

const ROLE = /^(aws:iam\/role:Role|aws-native:iam:Role)$/;
const ASSOCIATION = /^aws(-native)?:eks(\/podIdentityAssociation)?:PodIdentityAssociation$/;

/** What EKS Pod Identity tells AWS about a pod: https://docs.aws.amazon.com/eks/latest/userguide/pod-id-abac.html */
const POD_IDENTITY = "pods.eks.amazonaws.com";
const CLUSTER_TAG = "aws:RequestTag/eks-cluster-arn";
const NAMESPACE_TAG = "aws:RequestTag/kubernetes-namespace";
const NAME_TAG = "aws:RequestTag/kubernetes-service-account";

/** What a statement of a trust policy allows. */
interface Trust {
  statement: Value;
  /** The issuers of clusters whose ID tokens it accepts, as conditions name them: URLs without `https://`. */
  issuers: string[];
  isPodIdentity: boolean;
  /** The only service account that it names, as `NAMESPACE/NAME`. */
  account: string | undefined;
}

/** Returns what a role's trust policy allows; nothing if it is not known yet. */
function trustOf({ type, inputs }: Resource, program: Resource[]): Trust[] {
  const policy = inputs.assumeRolePolicy ?? inputs.assumeRolePolicyDocument;
  if (!ROLE.test(type) || isUnknown(policy)) return [];
  const document: Value | undefined = typeof policy === "string" ? JSON.parse(policy) : policy;
  const allowed = listOf(at(document, "Statement")).filter((it) => at(it, "Effect") !== "Deny");
  return allowed.map((statement) => {
    const providers = stringsOf(at(statement, "Principal", "Federated"));
    // Whatever AWS account a provider is in.
    const urls = providers.flatMap((it) => it.split(":oidc-provider/")[1] ?? []);
    const issuers = urls.filter((it) => isOfCluster(it, program));
    const isPodIdentity = stringsOf(at(statement, "Principal", "Service")).includes(POD_IDENTITY);
    return { statement, issuers, isPodIdentity, account: accountIn(statement, issuers) };
  });
}

function accountIn(statement: Value, [issuer]: string[]): string | undefined {
  const names = issuer
    ? required(statement, `${issuer}:sub`).map((it) => it.replace(SUBJECT, "").replace(":", "/"))
    : [`${required(statement, NAMESPACE_TAG)}/${required(statement, NAME_TAG)}`];
  return names.length === 1 && names.every(isLiteral) ? names[0] : undefined;
}

/** Returns the values of which a statement requires one. AWS ignores the case of a key. */
function required(statement: Value, key: string): string[] {
  const operators = Object.entries(fieldsOf(at(statement, "Condition")));
  const requiring = operators.filter(([name]) => /^(ForAnyValue:)?String(Equals|Like)$/.test(name));
  const keys = requiring.flatMap(([, it]) => Object.entries(fieldsOf(it)));
  return keys.flatMap(([name, value]) => (name.toLowerCase() === key.toLowerCase() ? stringsOf(value) : []));
}

/** Returns whether a value has no pattern and no policy variable. */
const isLiteral = (value: string) => !/[*?$]/.test(value);

/** Returns whether service accounts can assume a role. */
function isOfServiceAccounts(role: Resource, program: Resource[]): boolean {
  return trustOf(role, program).some(({ isPodIdentity, issuers }) => isPodIdentity || issuers.length > 0);
}

/** Returns the roles of service accounts that a resource shows to be such: itself, or if it is an issuer, those before it. */
export function rolesShownBy(resource: Resource, program: Resource[]): Resource[] {
  const others = program.filter((it) => it.urn !== resource.urn);
  const isIssuer = grantsOf(resource).length > 0;
  const before = isIssuer ? others.filter((it) => !isOfServiceAccounts(it, others)) : [];
  return [resource, ...before].filter((it) => isOfServiceAccounts(it, program));
}

/** Returns the service account that a role is for, if the program grants that a token, as `NAMESPACE/NAME`. */
export function granteeOf(role: Resource, program: Resource[]): string | undefined {
  const accounts = trustOf(role, program).flatMap(({ account }) => account ?? []);
  return accounts.find((it) => accountsOf(program).includes(it));
}

type Problems = Record<Level, string[]>;

/** Returns what is wrong with a trust policy: mandatory if it concerns a service account with a token, or any. */
function problemsOf(role: Resource, program: Resource[], alsoTrusted: string[] = []): Problems {
  const problems: Problems = { mandatory: [], advisory: [] };
  const grantee = granteeOf(role, program);
  for (const { statement, issuers, isPodIdentity, account } of trustOf(role, program)) {
    if (trustsAnyone(statement)) {
      problems.mandatory.push(`Anyone can assume it: ${textOf(statement)}.`);
      continue;
    }
    for (const issuer of issuers) addProblemsOf(statement, issuer, program, problems);
    if (grantee === undefined) continue;
    const isElsewhere = issuers.some((it) => !accountsOf(program, it).includes(grantee));
    if (account === grantee && isElsewhere) problems.advisory.push(`It trusts ${textOf(issuers)}, too.`);
    let others = principalsIn(statement);
    // Anyone who assumes a role chooses the tags of the session, but has no sub.
    if (account === grantee) others = isPodIdentity ? others.filter((it) => it !== POD_IDENTITY) : [];
    if (others.every((it) => alsoTrusted.includes(it))) continue;
    const found = `${grantee}, which is granted a token, shares its role with ${textOf(others)}`;
    problems.mandatory.push(`${found} instead of no one. To allow it, change alsoTrusted of "trust".`);
  }
  return problems;
}

/** Returns whom a statement trusts. Without a principal, it has a NotPrincipal, which is anyone else. */
function principalsIn(statement: Value): string[] {
  const principal = at(statement, "Principal") ?? "*";
  return [principal, ...Object.values(fieldsOf(principal))].flatMap(stringsOf);
}

/** Returns whether anyone can assume a role: a condition can limit accounts of AWS, but not who issues ID tokens. */
function trustsAnyone(statement: Value): boolean {
  const isAny = principalsIn(statement).includes("*");
  const isLimited = Object.keys(fieldsOf(at(statement, "Condition"))).length > 0;
  const actions = JSON.stringify(at(statement, "Action") ?? "*");
  return isAny && (!isLimited || /WebIdentity|SAML|\*/i.test(actions));
}

/** https://docs.aws.amazon.com/eks/latest/userguide/associate-service-account-role.html */
function addProblemsOf(statement: Value, issuer: string, program: Resource[], problems: Problems): void {
  const subjects = required(statement, `${issuer}:sub`);
  const audiences = required(statement, `${issuer}:aud`);
  const granted = accountsOf(program, issuer).map((it) => SUBJECT + it.replace("/", ":"));
  const isGranted = granted.some((account) => subjects.some((it) => canMatch(it, account)));
  // A subject whose namespace is a pattern, or that has a policy variable, can be any.
  const isAny = (it: string) => !/^system:serviceaccount:[a-z0-9-]+:[^:$]+$/.test(it);
  const isOpen = subjects.length === 0 || subjects.some(isAny);
  const isExact = !isOpen && subjects.every(isLiteral) && (subjects.length === 1 || !isGranted);
  if (isExact && `${audiences}` === "sts.amazonaws.com") return;
  const found = `the sub ${textOf(subjects)} and the aud ${textOf(audiences)}`;
  const due = `one service account and "sts.amazonaws.com", by StringEquals of ${issuer}:sub and :aud`;
  problems[isGranted || isOpen ? "mandatory" : "advisory"].push(
    `Its trust policy requires ${found} instead of ${due}.`,
  );
}

export const trust: Rule = {
  name: "trust",
  description:
    "The IRSA role of a service account with a token trusts no one else in its cluster, and no role trusts a whole known cluster.",
  level: "mandatory",
  severity: "critical",
  remediation: "Require the sub and the aud of one service account by StringEquals in the trust policy.",
  settings: { alsoTrusted: list("Principals with which a service account can share its role.") },
  check(resource, { program, settings, report }) {
    const allowed = stringsOf(settings.alsoTrusted);
    for (const message of problemsOf(resource, program, allowed).mandatory) report(message);
    // What an issuer tells about the roles before it: these exist already, but no one is granted a token yet.
    if (grantsOf(resource).length === 0) return;
    const others = program.filter((it) => it.urn !== resource.urn);
    for (const role of others) {
      const known = problemsOf(role, others, allowed).mandatory;
      const problems = problemsOf(role, program, allowed).mandatory.filter((it) => !known.includes(it));
      for (const message of problems) report(`The role ${role.name}: ${message}`);
    }
  },
};

export const otherTrust: Rule = {
  name: "other-trust",
  description:
    "Other IRSA roles name their service accounts, and service accounts with a token use roles of the program.",
  level: "advisory",
  severity: "medium",
  remediation: "Name them by StringEquals in the trust policy, and look at the roles of others.",
  // Who is granted a token is known when all issuers are.
  isAskedAtEnd: true,
  check(resource, { program, report }) {
    for (const message of problemsOf(resource, program).advisory) report(message);
    const { targetRoleArn } = resource.inputs;
    const { account, arn, roles } = useOfRole(resource, program);
    if (arn === undefined || !accountsOf(program).includes(account)) return;
    if (targetRoleArn) report(`${account}, which is granted a token, also uses ${textOf(targetRoleArn)}.`);
    if (isUnknown(arn) || roles.length > 0) return;
    report(`${account}, which is granted a token, uses ${textOf(arn)} instead of a role of this program.`);
  },
};

/** Returns which role a resource gives to which service account: by its ARN or, if that is not known yet, by its source. */
function useOfRole({ type, inputs, propertyDependencies }: Resource, program: Resource[]) {
  const { namespace = "default", name, annotations } = fieldsOf(inputs.metadata);
  const isAssociation = ASSOCIATION.test(type);
  const account = isAssociation ? `${inputs.namespace}/${inputs.serviceAccount}` : `${namespace}/${name}`;
  const arn = isAssociation ? inputs.roleArn : at(annotations, "eks.amazonaws.com/role-arn");
  const sources = propertyDependencies?.[isAssociation ? "roleArn" : "metadata"] ?? [];
  const isUsed = (it: Resource) => (isUnknown(arn) ? sources.includes(it.urn) : it.outputs?.arn === arn);
  const roles = program.filter((it) => arn !== undefined && ROLE.test(it.type) && isUsed(it));
  return { account, arn, roles };
}

export const podIdentity: Rule = {
  name: "pod-identity",
  description:
    "If EKS Pod Identity gives a service account with a token a role of the program, that role names it, and its cluster by name.",
  level: "mandatory",
  severity: "high",
  remediation: `Require ${CLUSTER_TAG}, ${NAMESPACE_TAG}, and ${NAME_TAG} by StringEquals in the trust policy.`,
  // The ARN of a role is an output.
  isAskedAtEnd: true,
  check(resource, { program, report }) {
    const { account, roles } = useOfRole(resource, program);
    if (!ASSOCIATION.test(resource.type) || !accountsOf(program).includes(account)) return;
    const { clusterName } = resource.inputs;
    const trusts = roles.flatMap((it) => trustOf(it, program)).filter(({ isPodIdentity }) => isPodIdentity);
    for (const { statement, account: named } of trusts) {
      const [cluster = "", ...others] = required(statement, CLUSTER_TAG);
      const isCluster = isUnknown(clusterName) ? cluster !== "" : cluster.endsWith(`:cluster/${clusterName}`);
      if (named === account && isCluster && isLiteral(cluster) && others.length === 0) continue;
      const condition = textOf(fieldsOf(at(statement, "Condition")));
      report(`The role of ${account} requires ${condition} instead of its cluster, namespace, and name.`);
    }
  },
};

export const permissionsBoundary: Rule = {
  name: "permissions-boundary",
  description:
    "If this pack's configuration lists permissions boundaries, a role of a known cluster's service accounts has one.",
  level: "mandatory",
  severity: "medium",
  remediation: "Set permissionsBoundary of the role.",
  settings: { arns: list("ARNs of the permissions boundaries. If empty, a role needs none.") },
  check(resource, { program, settings, report }) {
    const arns = stringsOf(settings.arns);
    if (arns.length === 0) return;
    for (const { name, inputs } of rolesShownBy(resource, program)) {
      const boundary = inputs.permissionsBoundary;
      if (isUnknown(boundary) || arns.includes(`${boundary}`)) continue;
      const found = `The permissionsBoundary of ${name} is ${textOf(boundary)}`;
      report(`${found} instead of one of ${textOf(arns)}.`, "arns");
    }
  },
};
