// The allow policies of a component: those of its service accounts, and others.

import { isDeepStrictEqual } from "node:util";
import { names, type Policy } from "./component";
import { isKnown } from "./plan";
import type { ServiceAccount } from "./serviceAccounts";

/**
 * Returns the policies that are of no service account, grant it another token than the one that it requests, or are the second
 * one of it, whose rules can be less strict.
 */
export function foreignPolicies(policies: Policy[] = [], accounts: ServiceAccount[]): Policy[] {
  const own = accounts.map((account) => policies.find((policy) => isOf(account, policy)));
  return policies.filter((policy) => !own.includes(policy));
}

function isOf(account: ServiceAccount, policy: Policy): boolean {
  const { tokenType, tokenScope } = account;
  if (!names(account, policy)) return false;
  if (!isKnown(tokenScope)) return policy.decision === "allow" && policy.tokenType === tokenType;
  const { rules: _rules, ...grant } = policy;
  return isDeepStrictEqual(essenceOf(grant), { decision: "allow", tokenType, ...ownerOf(account) });
}

/** Returns what the allow policy of a service account contains besides its rules and its type. */
function ownerOf({ tokenType, tokenScope, runnerId }: ServiceAccount): object {
  const name = tokenScope.slice(tokenScope.indexOf(":") + 1);
  switch (tokenType) {
    case "personal":
      return { userLogin: name };
    case "team":
      return { teamName: name };
    case "runner":
      return { runnerID: runnerId };
    default:
      return tokenScope === "admin" ? { authorizedPermissions: ["admin"] } : {};
  }
}

/** Returns what a policy decides: without its ID, and without what is empty. */
export function essenceOf(policy: object): object {
  const isEmpty = (value: unknown) =>
    [undefined, null, ""].includes(value as null) || isDeepStrictEqual(value, []);
  const entries = Object.entries(policy).filter(([key, value]) => key !== "id" && !isEmpty(value));
  return Object.fromEntries(entries);
}

/** Returns a policy as text with spaces, at which a line can break. */
export function policyText(policy: object): string {
  return JSON.stringify(policy, null, 1).replaceAll(/\n\s*/g, " ");
}

/** Returns whether only a pod of a real cluster has a claim. */
export function isClaimOfPod(path: string): boolean {
  return /^kubernetes\.io\.(pod|node)\./.test(path.replaceAll('"', ""));
}

/** Returns whether only a real cluster knows the value of a claim. */
export function isClaimOfCluster(path: string): boolean {
  return isClaimOfPod(path) || /^(iss|kubernetes\.io\.serviceaccount\.uid)$/.test(path.replaceAll('"', ""));
}
