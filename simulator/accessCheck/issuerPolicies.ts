// The policies of the stack's OIDC issuer, compared with those that the program has generated for it.

import { idOf, isAbout, type ServiceAccount } from "./questions";

/** A policy of an issuer, as the state of a stack and the API of Pulumi Cloud contain it. */
export interface IssuerPolicy {
  decision?: string;
  tokenType?: string;
  userLogin?: string;
  teamName?: string;
  runnerID?: string;
  authorizedPermissions?: string[];
  rules?: Record<string, string>;
}

/** One difference. Both policies are there if one replaced the other. */
export interface Difference {
  /** What Pulumi Cloud has, and the stack does not. */
  added?: IssuerPolicy;
  /** What the stack has, and Pulumi Cloud does not. */
  removed?: IssuerPolicy;
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
): Difference[] {
  const generated = inState.filter((policy) => accounts.some((account) => isGeneratedFor(policy, account)));
  const added = without(actual, generated);
  const removed = without(generated, actual);

  const changes = removed.map((policy): Difference => {
    const replacement = added.find((other) => isChangeOf(policy, other));
    if (!replacement) return { removed: policy };
    added.splice(added.indexOf(replacement), 1);
    return { removed: policy, added: replacement };
  });
  return [...changes, ...added.map((policy) => ({ added: policy }))];
}

/** Returns the policies of a set that another set does not contain. */
function without(policies: IssuerPolicy[], others: IssuerPolicy[]): IssuerPolicy[] {
  const known = new Set(others.map(textOf));
  const unknown = policies.filter((policy) => !known.has(textOf(policy)));
  return [...new Map(unknown.map((policy) => [textOf(policy), policy])).values()];
}

/**
 * Returns whether a policy allows one service account, by its name, to be granted the token of its settings.
 *
 * It says again what a token type means, and shares nothing with accessToken.ts, whose errors it is to find.
 */
function isGeneratedFor({ rules = {}, ...policy }: IssuerPolicy, account: ServiceAccount): boolean {
  if (policy.decision !== "allow" || policy.tokenType !== account.tokenType) return false;
  if (!isAbout(rules, account.namespace, account.name)) return false;

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

/** Returns whether one policy is most likely the other one with a change: for the same service account or token. */
function isChangeOf(
  { rules: a = {}, ...ownerA }: IssuerPolicy,
  { rules: b = {}, ...ownerB }: IssuerPolicy,
): boolean {
  const names = ['"kubernetes.io".namespace', '"kubernetes.io".serviceaccount.name'];
  const sameServiceAccount = names.every((name) => a[name] === b[name]);
  return sameServiceAccount || textOf(ownerA) === textOf(ownerB);
}

/** Returns a policy as JSON, the same for policies that decide the same: without IDs, nulls, and empty lists. */
function textOf(policy: IssuerPolicy): string {
  return JSON.stringify(essenceOf(policy));
}

/** Returns what a policy decides. Its own ID is not part of that; a claim named `id`, in its rules, is. */
function essenceOf(policy: IssuerPolicy): unknown {
  const entries = Object.entries(policy).filter(([key]) => key !== "id");
  return essence(Object.fromEntries(entries));
}

function essence(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(essence).sort();
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value)
    .filter(([, it]) => it !== null && it !== undefined && !(Array.isArray(it) && it.length === 0))
    .map(([key, it]) => [key, essence(it)] as const)
    .sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries);
}

/** A line of the report, with the columns by which it is indented. */
interface ReportLine {
  text: string;
  indent: number;
}

/** Returns a difference as lines: what happened, then the policies, which are indented further. */
export function differenceLines({ added, removed }: Difference, accounts: ServiceAccount[]): ReportLine[] {
  const heading = (text: string): ReportLine => ({ text, indent: 2 });
  const detail = (text: string): ReportLine => ({ text, indent: 4 });
  if (!removed) return [heading("A policy was added by hand:"), detail(readable(added ?? {}))];

  const account = accounts.find(({ namespace, name }) => isAbout(removed.rules ?? {}, namespace, name));
  const subject = `The policy of ${account ? idOf(account) : "a service account"}`;
  if (!added) return [heading(`${subject} was removed by hand:`), detail(readable(removed))];

  return [
    heading(`${subject} was changed by hand.`),
    detail(`Stack: ${readable(removed)}`),
    detail(`Pulumi Cloud: ${readable(added)}`),
  ];
}

/** Returns a policy as JSON with spaces, at which a line can break. */
function readable(policy: IssuerPolicy): string {
  return JSON.stringify(essenceOf(policy), null, 1).replaceAll(/\n\s*/g, " ");
}
