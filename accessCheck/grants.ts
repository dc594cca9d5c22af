// What grants something, built a second time by the settings of a component: the program has its own functions for it, and nothing
// here is imported from there. A value that depends on a setting that is not known is not known either.

import { type Account, NAME_CLAIM, NAMESPACE_CLAIM, type View } from "./components";
import {
  type Fields,
  fieldsAt,
  isOpaque,
  jsonOf,
  type Opaque,
  SECRET,
  textOf,
  UNKNOWN,
  type Value,
  valueAt,
} from "./values";

/** The annotation by which the EKS webhook gives pods a role. */
export const ROLE_ANNOTATION = "eks.amazonaws.com/role-arn";

/**
 * Returns the allow policy of a service account of a component.
 * https://www.pulumi.com/docs/administration/concepts/oidc-issuers/
 */
export function allowPolicy(component: Fields, { namespace, name, settings }: Account): Fields {
  const audience = valueAt(settings, "tokenAudience") ?? null;
  const [further, isRequired] = [valueAt(settings, "policyRules"), valueAt(component, "audienceRule")];
  const rules = {
    ...fieldsAt(settings, "policyRules"),
    [NAMESPACE_CLAIM]: namespace,
    [NAME_CLAIM]: name,
    ...(isRequired === true && { aud: audience }),
  };
  return {
    decision: "allow",
    tokenType: valueAt(settings, "tokenType") ?? null,
    ...grantedTo(settings),
    rules: [further, isRequired].find(isOpaque) ?? rules,
  };
}

/** Returns whose token an allow policy grants. */
function grantedTo(settings: Fields): Fields {
  const setting = (key: string) => valueAt(settings, key) ?? null;
  switch (valueAt(settings, "tokenType")) {
    case "personal":
      return { userLogin: setting("userLogin") };
    case "team":
      return { teamName: setting("teamName") };
    case "runner":
      return { runnerID: setting("runnerId") };
    default:
      if (setting("organizationRoleId") !== null) return { roleID: setting("organizationRoleId") };
      return setting("organizationAdmin") === true ? { authorizedPermissions: ["admin"] } : {};
  }
}

/** Returns what the workloads of a service account request: a file for each. https://www.rfc-editor.org/rfc/rfc8693 */
export function request(component: Fields, { settings }: Account): Fields {
  return {
    organization: valueAt(component, "organization") ?? null,
    tokenType: valueAt(settings, "tokenType") ?? null,
    tokenScope: scopeOf(settings),
    tokenExpirationSeconds: joined(valueAt(settings, "tokenExpirationSeconds")),
    apiUrl: valueAt(component, "pulumiApiUrl") ?? null,
  };
}

function scopeOf(settings: Fields): Value {
  switch (valueAt(settings, "tokenType")) {
    case "personal":
      return joined("user:", valueAt(settings, "userLogin"));
    case "team":
      return joined("team:", valueAt(settings, "teamName"));
    case "runner":
      return joined("runner:", valueAt(settings, "runnerName"));
    default:
      return valueAt(settings, "organizationAdmin") === true ? "admin" : "";
  }
}

/** Returns whose access token a service account is granted, such as `team:platform`. */
export function tokenOf(component: Fields, account: Account): string {
  const requested = request(component, account);
  const type = textOf(valueAt(requested, "tokenType"));
  const scope = valueAt(requested, "tokenScope");
  const role = valueAt(account.settings, "organizationRoleId") ?? null;
  if (type === "organization" && role !== null) return `organization (role ${textOf(role)})`;
  if (type === "organization") return scope === "" ? type : `organization (${textOf(scope)})`;
  // Its scope is `user:LOGIN`, `team:NAME`, or `runner:NAME`, if it is known.
  return typeof scope === "string" ? scope : `${type}:${textOf(scope)}`;
}

/**
 * Returns the owner of the access token of a service account, in a form in which two of them are the same if the owner is: Pulumi Cloud
 * does not distinguish names by their case.
 *
 * @returns undefined if it is not known: two that are not known can differ.
 */
export function ownerOf({ settings }: View, account: Account): string | undefined {
  const { tokenType, tokenScope, organization, apiUrl } = request(settings, account);
  // Two organization tokens with the same role have the same permissions.
  const role = valueAt(account.settings, "organizationRoleId") ?? "";
  const parts = [apiUrl, organization, tokenType, tokenScope, role];
  return parts.every((part) => typeof part === "string") ? parts.join(" ").toLowerCase() : undefined;
}

/** What an admission policy compares with a list of `NAMESPACE/NAME`. */
const POD_ACCOUNT = "request.namespace + '/' + object.spec.?serviceAccountName.orValue('')";

/**
 * Returns which pods the admission policy of injection changes, and the audience of the ID token that it adds to them. Its other
 * conditions only exclude pods: https://kubernetes.io/docs/reference/access-authn-authz/mutating-admission-policy/
 *
 * @param accounts those with `injectToken`.
 * @returns with expressions: which service accounts they are, and a map from each of them to its audience.
 */
export function injection(
  accounts: Account[],
): Record<"matchConstraints" | "serviceAccount" | "audiences", Value> {
  const values = [...new Set(accounts.map(({ namespace }) => namespace))].sort();
  const ids = accounts.map(({ id }) => jsonOf(id)).sort();
  const audiences = accounts.map(({ id, settings }) => {
    const audience = valueAt(settings, "tokenAudience") ?? null;
    return isOpaque(audience) ? audience : `${jsonOf(id)}: ${jsonOf(audience)}`;
  });
  return {
    matchConstraints: {
      namespaceSelector: {
        matchExpressions: [{ key: "kubernetes.io/metadata.name", operator: "In", values }],
      },
      resourceRules: [{ apiGroups: [""], apiVersions: ["v1"], operations: ["CREATE"], resources: ["pods"] }],
    },
    serviceAccount: `${POD_ACCOUNT} in [\n${ids.join(",\n")}\n]`,
    audiences: audiences.find(isOpaque) ?? `{\n${audiences.sort().join(",\n")}\n}`,
  };
}

/** Returns the trust policy of the role of a service account; undefined if it has none. */
export function trustPolicy(component: Fields, account: Account): Value | undefined {
  switch (valueAt(account.settings, "awsRole")) {
    case "irsa":
      return irsaTrustPolicy(component, account);
    case "pod-identity":
      return podIdentityTrustPolicy(component, account);
    default:
      return undefined;
  }
}

/** https://docs.aws.amazon.com/eks/latest/userguide/associate-service-account-role.html */
function irsaTrustPolicy(component: Fields, { namespace, name }: Account): Value {
  const [issuerUrl, providerArn] = [valueAt(component, "issuerUrl"), valueAt(component, "oidcProviderArn")];
  const whole = joined(issuerUrl, providerArn);
  if (isOpaque(whole)) return whole;
  const issuer = textOf(issuerUrl).replace(/^https:\/\//, "");
  return allowedTo({ Federated: textOf(providerArn) }, "sts:AssumeRoleWithWebIdentity", {
    [`${issuer}:sub`]: `system:serviceaccount:${namespace}:${name}`,
    [`${issuer}:aud`]: "sts.amazonaws.com",
  });
}

/** https://docs.aws.amazon.com/eks/latest/userguide/pod-id-abac.html */
function podIdentityTrustPolicy(component: Fields, { namespace, name }: Account): Value {
  const clusterArn = joined(valueAt(component, "clusterArn"));
  if (isOpaque(clusterArn)) return clusterArn;
  return allowedTo({ Service: "pods.eks.amazonaws.com" }, ["sts:AssumeRole", "sts:TagSession"], {
    "aws:RequestTag/eks-cluster-arn": clusterArn,
    "aws:RequestTag/kubernetes-namespace": namespace,
    "aws:RequestTag/kubernetes-service-account": name,
  });
}

function allowedTo(Principal: Fields, Action: Value, equal: Fields): Fields {
  const statement = { Effect: "Allow", Principal, Action, Condition: { StringEquals: equal } };
  return { Version: "2012-10-17", Statement: [statement] };
}

/** Returns the association of a service account with its role, for EKS Pod Identity. */
export function association(component: Fields, { namespace, name }: Account, roleArn: Value): Fields {
  const clusterArn = joined(valueAt(component, "clusterArn"));
  const named = { namespace, serviceAccount: name, roleArn };
  if (isOpaque(clusterArn)) return { region: clusterArn, clusterName: clusterArn, ...named };
  // arn:PARTITION:eks:REGION:ACCOUNT:cluster/NAME
  const [, region = null, clusterName = null] =
    /^arn:[^:]*:eks:([^:]*):[^:]*:cluster\/(.*)$/.exec(clusterArn) ?? [];
  return { region, clusterName, ...named };
}

/** Returns the parts as one string; what is not known if one of them is not. */
function joined(...parts: (Value | undefined)[]): string | Opaque {
  if (parts.includes(SECRET)) return SECRET;
  return parts.includes(UNKNOWN) ? UNKNOWN : parts.map(textOf).join("");
}
