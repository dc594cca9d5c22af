// The rules about AWS: which role the pods of a service account get, who else can assume it, and what it may do.

import { ROLE_ANNOTATION, SERVICE_ACCOUNT } from "./kubernetes";
import { type Account, COMPONENT, idOf, ownNameOf, type Resource, type Settings } from "./program";
import { compare, type ResourceRule, type StackRule } from "./rule";
import { at, type Fields, fieldsOf, isUnknown, stringsOf, textOf, UNKNOWN, type Value } from "./values";

export const ROLE = "aws:iam/role:Role";
export const ATTACHMENT = "aws:iam/rolePolicyAttachment:RolePolicyAttachment";
export const ASSOCIATION = "aws:eks/podIdentityAssociation:PodIdentityAssociation";

export const trustPolicies: ResourceRule = {
  name: "trust-policies",
  description:
    "Only its pods can assume the role of a service account. Any other role that trusts the cluster's issuer names one subject and the audience.",
  level: "mandatory",
  checkResource({ type, inputs, settings, account, program }, report) {
    if (type === COMPONENT) {
      // The roles that were registered before the component, when its issuer was any other one.
      for (const role of program.resources) {
        if (role.type !== ROLE || role.component) continue;
        const isTrusted = (providerArn: string) => providerArn === inputs.oidcProviderArn;
        for (const problem of openStatements(role.inputs, isTrusted))
          report(`The role ${role.name}: ${problem}`);
      }
    }
    if (type !== ROLE) return;
    if (settings && account) {
      const document = documentOf(inputs.assumeRolePolicy);
      compare(report, `The trust policy of ${idOf(account)}`, document, trustPolicy(settings, account));
      return;
    }
    const trusted = program.components.map(({ settings }) => settings?.oidcProviderArn);
    for (const problem of openStatements(inputs, (providerArn) => trusted.includes(providerArn)))
      report(problem);
  },
};

export const otherTrustPolicies: StackRule = {
  name: "other-trust-policies",
  description: "A role that trusts any other OIDC provider names one subject and the audience.",
  level: "advisory",
  // Which providers are those of components is known once all of them are.
  checkStack({ resources, components }, report) {
    const trusted = components.map(({ settings }) => settings?.oidcProviderArn);
    for (const resource of resources) {
      if (resource.type !== ROLE || resource.component) continue;
      const isOther = (providerArn: string) => !trusted.includes(providerArn);
      for (const problem of openStatements(resource.inputs, isOther)) report(problem, resource);
    }
  },
};

/** Returns what each statement lacks that lets some OIDC providers assume a role, but does not name one subject and the audience. */
function openStatements(role: Fields, isConcerned: (providerArn: string) => boolean): string[] {
  return statementsOf(role.assumeRolePolicy).flatMap((statement) => {
    const providers = stringsOf(at(statement, "Principal", "Federated")).filter((it) =>
      it.includes(":oidc-provider/"),
    );
    if (at(statement, "Effect") !== "Allow" || !providers.some(isConcerned)) return [];
    const required = Object.entries(fieldsOf(at(statement, "Condition", "StringEquals")));
    const open = ["sub", "aud"].filter((claim) => {
      return !required.some(([key, value]) => key.endsWith(`:${claim}`) && typeof value === "string");
    });
    return open.map((claim) => `Its trust policy does not require one value of ":${claim}" by StringEquals.`);
  });
}

/** Returns the statements of a policy document. AWS accepts a single one in place of a list. */
function statementsOf(policy: Value | undefined): Value[] {
  return [at(documentOf(policy), "Statement") ?? []].flat();
}

/** Returns a policy document, which a program writes as JSON or as an object. */
function documentOf(value: Value | undefined): Value | undefined {
  if (typeof value !== "string" || isUnknown(value)) return value;
  try {
    return JSON.parse(value);
  } catch {
    return value;
  }
}

/** The trust policy of the role of a service account; unknown if the cluster is. */
function trustPolicy(settings: Settings, account: Account): Value {
  return account.awsRole === "irsa" ? irsa(settings, account) : podIdentity(settings, account);
}

/** https://docs.aws.amazon.com/eks/latest/userguide/associate-service-account-role.html */
function irsa({ issuerUrl, oidcProviderArn }: Settings, { namespace, name }: Account): Value {
  if (isUnknown(issuerUrl) || isUnknown(oidcProviderArn)) return UNKNOWN;
  const issuer = issuerUrl.replace("https://", "");
  return allowing({ Federated: oidcProviderArn }, "sts:AssumeRoleWithWebIdentity", {
    [`${issuer}:sub`]: `system:serviceaccount:${namespace}:${name}`,
    [`${issuer}:aud`]: "sts.amazonaws.com",
  });
}

/** https://docs.aws.amazon.com/eks/latest/userguide/pod-id-abac.html */
function podIdentity({ clusterArn }: Settings, { namespace, name }: Account): Value {
  if (isUnknown(clusterArn)) return UNKNOWN;
  return allowing({ Service: "pods.eks.amazonaws.com" }, ["sts:AssumeRole", "sts:TagSession"], {
    "aws:RequestTag/eks-cluster-arn": clusterArn,
    "aws:RequestTag/kubernetes-namespace": namespace,
    "aws:RequestTag/kubernetes-service-account": name,
  });
}

function allowing(Principal: Fields, Action: Value, equal: Fields): Fields {
  const statement = { Effect: "Allow", Principal, Action, Condition: { StringEquals: equal } };
  return { Version: "2012-10-17", Statement: [statement] };
}

export const rolePermissions: ResourceRule = {
  name: "role-permissions",
  description: "A component gives a role its entry's policies, the permissions boundary, and nothing else.",
  level: "mandatory",
  checkResource({ type, inputs, settings, account, ownName = "" }, report) {
    if (!settings || !account) return;
    const what = `The role of ${idOf(account)}`;
    if (type === ROLE) {
      const boundary = settings.permissionsBoundaryArn;
      // A default of the provider.
      compare(report, `${what}: maxSessionDuration`, inputs.maxSessionDuration ?? 3600, 3600);
      compare(report, `${what}: permissionsBoundary`, inputs.permissionsBoundary, boundary);
      compare(report, `${what}: inlinePolicies`, inputs.inlinePolicies, undefined);
      compare(report, `${what}: managedPolicyArns`, inputs.managedPolicyArns, undefined);
    }
    if (type === ATTACHMENT) {
      // Its name ends with the policy: the rule nothing-else finds one that is not in the entry.
      const policyArn = ownName.slice(`${ownNameOf(account)}.`.length);
      compare(report, `${what}: policyArn`, inputs.policyArn, policyArn);
    }
  },
};

export const associations: ResourceRule = {
  name: "associations",
  description: "An association for EKS Pod Identity is for its cluster and its entry's service account.",
  level: "mandatory",
  checkResource({ type, inputs, settings, account }, report) {
    if (type !== ASSOCIATION || !settings || !account) return;
    const { clusterArn = "" } = settings;
    // arn:PARTITION:eks:REGION:ACCOUNT:cluster/NAME
    const [, region, clusterName] = /^arn:[^:]*:eks:([^:]*):[^:]*:cluster\/(.*)$/.exec(clusterArn) ?? [];
    const what = `The association of ${idOf(account)}`;
    compare(report, `${what}: region`, inputs.region, isUnknown(clusterArn) ? UNKNOWN : region);
    compare(
      report,
      `${what}: clusterName`,
      inputs.clusterName,
      isUnknown(clusterArn) ? UNKNOWN : clusterName,
    );
    compare(report, `${what}: namespace`, inputs.namespace, account.namespace);
    compare(report, `${what}: serviceAccount`, inputs.serviceAccount, account.name);
    compare(report, `${what}: targetRoleArn`, inputs.targetRoleArn, undefined);
  },
};

export const ownRoles: StackRule = {
  name: "own-roles",
  description: "What a component creates for a service account uses its entry's role.",
  level: "mandatory",
  // The name and the ARN of a role are outputs, which no rule about a resource receives.
  checkStack({ resources }, report) {
    for (const resource of resources) {
      const { account, component, propertyDependencies = {} } = resource;
      const use = account && useOfRole(resource);
      if (!use) continue;
      const role = resources.find(
        (it) => it.type === ROLE && it.component?.urn === component?.urn && it.ownName === ownNameOf(account),
      );
      const sources = propertyDependencies[use.input] ?? [];
      const isOwn = isUnknown(use.value)
        ? sources.length > 0 && sources.every((urn) => urn === role?.urn)
        : use.value === role?.outputs?.[use.output];
      if (isOwn) continue;
      const found = isUnknown(use.value)
        ? `that of ${sources.join(", ") || "no resource"}`
        : textOf(use.value);
      report(`It does not use the role of ${idOf(account)}, but ${found}.`, resource);
    }
  },
};

/** Returns which output of a role a resource uses, and by which input; undefined if it uses none. */
function useOfRole({ type, inputs }: Resource) {
  // With --target, the engine sends what it does not create without inputs.
  if (Object.keys(inputs).length === 0) return undefined;
  const annotation = at(inputs, "metadata", "annotations", ROLE_ANNOTATION);
  switch (type) {
    case ATTACHMENT:
      return { input: "role", value: inputs.role, output: "name" };
    case ASSOCIATION:
      return { input: "roleArn", value: inputs.roleArn, output: "arn" };
    case SERVICE_ACCOUNT:
      return annotation === undefined ? undefined : { input: "metadata", value: annotation, output: "arn" };
    default:
      return undefined;
  }
}

/** The resources by which a program attaches a policy to a role. */
const POLICIES_OF_ROLES = /^aws:iam\/(rolePolicy\w*|policyAttachment):/;

const INPUTS_WITH_ROLES = ["role", "roleName", "roles"];

/** Policies of AWS that allow everything, or to become someone who may: https://docs.aws.amazon.com/aws-managed-policy/ */
const FULL_ACCESS = /:policy\/(AdministratorAccess|PowerUserAccess|IAMFullAccess)$/;

export const otherRolePolicies: StackRule = {
  name: "other-role-policies",
  description:
    "The program attaches further policies only by the output roleName, and none that allows everything.",
  level: "advisory",
  // The name of a role is an output.
  checkStack({ resources }, report) {
    const roles = resources.filter((it) => it.type === ROLE && it.account);
    for (const resource of resources) {
      const { type, inputs, component, propertyDependencies = {} } = resource;
      if (component || !POLICIES_OF_ROLES.test(type)) continue;
      const names = INPUTS_WITH_ROLES.flatMap((it) => stringsOf(inputs[it]));
      const sources = INPUTS_WITH_ROLES.flatMap((it) => propertyDependencies[it] ?? []);
      const isFull = allowsEverything(inputs);
      for (const { urn, outputs, account } of roles) {
        const isSource = sources.includes(urn);
        const isNamed = names.some((name) => (isUnknown(name) ? isSource : name === outputs?.name));
        if (!account || !isNamed || (isSource && !isFull)) continue;
        const policy = inputs.policyArn ?? inputs.policyArns ?? documentOf(inputs.policy);
        report(`The role of ${idOf(account)} also gets ${textOf(policy)}.`, resource);
      }
    }
  },
};

function allowsEverything({ policyArn, policyArns, policy }: Fields): boolean {
  const isAnything = (statement: Value) =>
    stringsOf(at(statement, "Action")).some((it) => /^(iam:)?\*$/.test(it));
  const arns = [...stringsOf(policyArn), ...stringsOf(policyArns)];
  return arns.some((arn) => FULL_ACCESS.test(arn)) || statementsOf(policy).some(isAnything);
}
