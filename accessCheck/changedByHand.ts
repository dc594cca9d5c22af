// What was changed by hand in a deployed stack: the policies of its OIDC issuer in Pulumi Cloud, and the ConfigMaps of its
// service accounts in the cluster, compared with the stack's state.

import { isDeepStrictEqual } from "node:util";
import {
  createdConfigMap,
  type Data,
  type DeployedStack,
  type IssuerPolicy,
  type Kubectl,
} from "./deployedStack";
import { idOf, namesServiceAccount, type ServiceAccount } from "./serviceAccounts";
import { redact, shellQuoted, shown } from "./terminal";
import { type Run, ToolError } from "./tools";

/** One difference, with what to show of it. Nothing in it can be a token. */
export interface Change {
  heading: string;
  details: string[];
}

/**
 * Compares the policies of a stack's issuer in Pulumi Cloud with those of the stack.
 *
 * https://www.pulumi.com/docs/reference/cloud-rest-api/oidc-issuers/
 *
 * @throws Error that names the required right if the policies could not be read.
 */
export async function findChangedPolicies(
  stack: DeployedStack,
  accounts: ServiceAccount[],
  run: Run,
): Promise<Change[]> {
  const { organization, pulumiCloudUrl, issuerUrl, issuerId } = stack;
  async function get(right: string, ...segments: string[]) {
    const endpoint = ["/api/orgs", organization, ...segments].join("/");
    // The CLI otherwise asks the backend of its current login, which can be another Pulumi Cloud.
    const environment = { PULUMI_BACKEND_URL: pulumiCloudUrl };
    try {
      return JSON.parse(await run("pulumi", ["api", endpoint, "--non-interactive"], { environment }));
    } catch (error) {
      if (!(error instanceof ToolError)) throw error;
      const reported = reportedError(error);
      const failure =
        reported === undefined ? error.message : `Failed to run pulumi api ${endpoint}: ${reported}`;
      const needs = `This needs the right ${right} in organization ${organization}, which the role Admin contains, and a login.`;
      const login = `pulumi login ${shellQuoted(pulumiCloudUrl)}`;
      throw new Error(`${failure}\nNo token was sent. ${needs}\nTo sign in: ${login}`);
    }
  }

  const { oidcIssuers = [] } = await get("oidc_issuers:read", "oidc", "issuers");
  const registered: { id: string; url: string }[] = oidcIssuers;
  const ids = registered.filter(({ url }) => url === issuerUrl).map(({ id }) => id);
  const other = ids.find((id) => id !== issuerId);
  if (other !== undefined) {
    const up = `pulumi up --refresh --stack ${shellQuoted(stack.name)}`;
    throw new Error(
      `Organization ${organization} has the OIDC issuer ${issuerUrl} under the ID ${other}, and the stack has ${issuerId}: it was registered by hand. No token was sent.\nDelete it in Pulumi Cloud. To register the stack's: ${up}`,
    );
  }
  if (ids.length === 0) return comparePolicies([], stack.policies, accounts);
  const { policies = [] } = await get("auth_policies:read", "auth", "policies", "oidcissuers", issuerId);
  return comparePolicies(policies, stack.policies, accounts);
}

/**
 * Returns the message of the error that `pulumi api` prints as JSON, on the last line of standard error: undefined if it
 * has printed none. See pkg/cmd/pulumi/cloud/envelope.go in pulumi/pulumi.
 */
function reportedError({ stderr }: ToolError): string | undefined {
  const lastLine = stderr.trimEnd().split("\n").at(-1) ?? "";
  try {
    const { error }: { error?: { message?: string } } = JSON.parse(lastLine);
    return error?.message;
  } catch {
    return undefined;
  }
}

/**
 * Compares the policies in Pulumi Cloud with those of a stack, as sets.
 *
 * @param actual those in Pulumi Cloud.
 * @param inState those of the issuer in the stack's state. `pulumi refresh` writes there what it finds, so that only those
 *   count that the program could have generated.
 * @param accounts all service accounts of the stack.
 */
export function comparePolicies(
  actual: IssuerPolicy[],
  inState: IssuerPolicy[],
  accounts: ServiceAccount[],
): Change[] {
  const found = distinct(actual.map(essenceOf));
  const generated = distinct(inState.map(essenceOf)).flatMap((policy) => {
    const account = accounts.find((candidate) => isGeneratedFor(policy, candidate));
    return account ? [{ account, policy }] : [];
  });

  const missing = generated
    .filter(({ policy }) => !contains(found, policy))
    .map(({ account, policy }) => {
      return { heading: `The policy of ${idOf(account)} was changed or removed by hand:`, policy };
    });
  const intended = generated.map(({ policy }) => policy);
  const added = found
    .filter((policy) => !contains(intended, policy))
    .map((policy) => ({ heading: "A policy was added or changed by hand:", policy }));
  return [...missing, ...added].map(({ heading, policy }) => ({ heading, details: [readable(policy)] }));
}

function contains(policies: IssuerPolicy[], policy: IssuerPolicy): boolean {
  return policies.some((other) => isDeepStrictEqual(other, policy));
}

/** Returns each policy once. */
function distinct(policies: IssuerPolicy[]): IssuerPolicy[] {
  return policies.filter((policy, index) => !contains(policies.slice(0, index), policy));
}

/**
 * Returns whether a policy allows one service account, by its name, to be granted the token of its settings.
 *
 * It says again what a token type means, and shares nothing with settings/tokenTypes.ts, whose errors it is to find.
 */
function isGeneratedFor({ rules = {}, ...policy }: IssuerPolicy, account: ServiceAccount): boolean {
  if (policy.decision !== "allow" || policy.tokenType !== account.tokenType) return false;
  if (!namesServiceAccount(rules, account.namespace, account.name)) return false;

  const isAdmin = policy.authorizedPermissions?.includes("admin") ?? false;
  switch (account.tokenType) {
    case "personal":
      return account.tokenScope === `user:${policy.userLogin}`;
    case "team":
      return account.tokenScope === `team:${policy.teamName}`;
    case "organization":
      return isAdmin === (account.tokenScope === "admin");
    default:
      // The policy has the ID of the runner pool, the scope its name.
      return policy.runnerID !== undefined;
  }
}

/**
 * Returns what a policy decides: without its ID, nulls, and empty lists, and with its lists in one order. A claim named `id`,
 * in its rules, stays.
 */
function essenceOf(policy: IssuerPolicy): IssuerPolicy {
  const entries = Object.entries(policy).filter(([key]) => key !== "id");
  return normalized(Object.fromEntries(entries)) as IssuerPolicy;
}

/** Returns a value of JSON without nulls and empty lists, and with sorted lists. */
function normalized(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(normalized).sort();
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value)
    .filter(([, item]) => item !== null && !(Array.isArray(item) && item.length === 0))
    .map(([key, item]) => [key, normalized(item)] as const);
  // Two objects are equal in any order: this one is for the report.
  return Object.fromEntries(entries.sort());
}

/** Returns a policy as JSON with spaces, at which a line can break. */
function readable(policy: IssuerPolicy): string {
  return redact(JSON.stringify(policy, null, 1).replaceAll(/\n\s*/g, " "));
}

/** Compares the ConfigMap of each service account in the cluster with the stack's state, key by key. */
export async function findChangedConfigMaps(stack: DeployedStack, kubectl: Kubectl): Promise<Change[]> {
  const changes: Change[] = [];
  for (const [account, { configMap }] of Object.entries(stack.serviceAccounts)) {
    const [namespace = ""] = account.split("/");
    const options = [`--namespace=${namespace}`, "--output=json"];
    const printed = await kubectl(["get", "configmap"], options, [configMap]);
    const { data = {}, binaryData = {} }: Record<string, Data | undefined> = JSON.parse(printed);
    const found = { ...binaryData, ...data };
    const created = createdConfigMap(stack, `${namespace}/${configMap}`);
    for (const key of Object.keys({ ...created, ...found })) {
      if (created[key] === found[key]) continue;
      changes.push({
        heading: `In the ConfigMap of ${account}, ${shown(key)} was ${changeOf(created[key], found[key])} by hand.`,
        // The script is longer than what is shown of a value.
        details: key.endsWith(".sh")
          ? []
          : [`Stack: ${valueText(created[key])}`, `Cluster: ${valueText(found[key])}`],
      });
    }
  }
  return changes;
}

function changeOf(created: string | undefined, found: string | undefined): string {
  if (created === undefined) return "added";
  return found === undefined ? "removed" : "changed";
}

function valueText(value: string | undefined): string {
  return value === undefined ? "none" : shown(JSON.stringify(value));
}
