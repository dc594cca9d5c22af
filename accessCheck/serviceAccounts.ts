// The service accounts of a component, as its program registers them.

import {
  type Component,
  configMapOf,
  furtherRules,
  names,
  policiesOf,
  roleOf,
  teamsOf,
  trustPolicyOf,
} from "./component";
import { isKnown, readable, type State } from "./plan";

/** What grants access: Pulumi Cloud a token, and AWS a role. */
export type Service = "Pulumi Cloud" | "IAM role";

/** A service account of the component. */
export interface ServiceAccount {
  namespace: string;
  name: string;
  tokenType: string;
  /** Such as `user:LOGIN`; empty for an organization token. */
  tokenScope: string;
  /** The audience of the ID token that its workloads exchange. */
  audience: string;
  /** Whether its allow policy has a rule on `aud`. */
  audienceRule: boolean;
  /** The ID of the runner pool of a runner token. */
  runnerId?: string | undefined;
  /** What its team may do, as far as the program says it. Undefined without a team, or if the program does not create it. */
  permissions?: Record<string, string> | undefined;
  /** What its workloads request from Pulumi Cloud: the data of its ConfigMap. */
  settings: Record<string, string>;
  /** The rules of its allow policy besides those that name it. */
  rules: Record<string, string>;
  /** Undefined without an IAM role. */
  role: Role | undefined;
  /** What cannot be asked for, since a value of it is known after the update only. */
  unknown: Service[];
}

export interface Role {
  /** Undefined if it does not exist yet. */
  arn: string | undefined;
  /** How pods receive it: `awsRole` of the settings. */
  kind: "irsa" | "pod-identity";
  /** Whether the user, and not the program, tells the cluster that pods have this role. */
  isAnnotatedByUser: boolean;
}

/**
 * Returns the service accounts of a component, in the order of its settings. Of what exists it reads only the ARNs of the roles:
 * anyone who can change the cluster or the state could otherwise choose who is asked for which token.
 *
 * @throws Error if one of these ARNs is invalid.
 */
export function readServiceAccounts(component: Component): ServiceAccount[] {
  const { organization, oidcProviderArn, clusterArn, serviceAccounts } = component.settings;
  const policies = policiesOf(component);
  const teams = teamsOf(component);
  return serviceAccounts.map((account) => {
    const { namespace, name, tokenType, tokenAudience, audienceRule, runnerId } = account;
    const settings = stringsIn(configMapOf(component, account)?.inputs.data);
    const own = policies?.filter((policy) => names(account, policy));
    const role = roleOf(component, account);
    const [, team = ""] = /^team:(.*)$/.exec(settings.tokenScope ?? "") ?? [];
    const isTokenKnown = own !== undefined && isKnown([organization, tokenAudience, settings, own]);
    const isRoleKnown = role && isKnown([oidcProviderArn, clusterArn, trustPolicyOf(role)]);
    return {
      namespace,
      name,
      tokenType,
      tokenScope: settings.tokenScope ?? "",
      audience: tokenAudience,
      audienceRule,
      runnerId,
      permissions: teams.get(team),
      settings,
      rules: Object.fromEntries((own ?? []).flatMap((policy) => Object.entries(furtherRules(policy)))),
      role: role && readRole(role, account),
      unknown: [
        ...(isTokenKnown ? [] : (["Pulumi Cloud"] as const)),
        ...(isRoleKnown ? [] : (["IAM role"] as const)),
      ],
    };
  });
}

function readRole(
  role: State,
  { awsRole, createServiceAccount }: Component["settings"]["serviceAccounts"][number],
): Role | undefined {
  if (awsRole === "none") return undefined;
  const isAnnotatedByUser = awsRole === "irsa" && !createServiceAccount;
  return { arn: roleArnOf(role), kind: awsRole, isAnnotatedByUser };
}

/** Returns the strings in an object. */
function stringsIn(object: unknown): Record<string, string> {
  const entries = Object.entries(Object(object)).filter(([, value]) => typeof value === "string");
  return Object.fromEntries(entries) as Record<string, string>;
}

// With an argument such as `file://PATH`, the AWS CLI would read that file.
const ROLE_ARN = /^arn:[a-z-]+:iam::\d{12}:role\/[\w+=,.@/-]+$/;

function roleArnOf({ id, outputs }: State): string | undefined {
  if (!id) return undefined;
  const { arn } = Object(outputs) as { arn?: unknown };
  if (typeof arn === "string" && ROLE_ARN.test(arn)) return arn;
  throw new Error(
    `The ARN of an IAM role in the state is invalid: ${JSON.stringify(arn)}. No token was sent.`,
  );
}

/** Returns whose access token a service account requests, such as `team:platform`. */
export function tokenOf({ tokenType, tokenScope }: ServiceAccount): string {
  if (!isKnown(tokenScope)) return `${tokenType}:${readable(tokenScope)}`;
  if (tokenType !== "organization") return tokenScope;
  return tokenScope === "admin" ? "organization (admin)" : "organization";
}

/** Returns `NAMESPACE/NAME`. */
export function idOf({ namespace, name }: { namespace: string; name: string }): string {
  return `${namespace}/${name}`;
}
