// The access check: which callers ask for the access of each service account, and which of them should be allowed. How
// they ask, and whom, is up to the caller: the emulators, or the real services.

import { isClaimOfPod } from "./allowPolicies";
import { idOf, type Role, type Service, type ServiceAccount } from "./serviceAccounts";

/** Anyone who asks for the access of a service account with an ID token. It differs from that account in one thing. */
export interface Caller {
  /** Such as `other namespace`, or the `NAMESPACE/NAME` of another service account of the stack. */
  label: string;
  /** The service account that the ID token names. */
  namespace: string;
  name: string;
  defect?: Defect;
}

/** What is wrong with an ID token. */
type Defect = "other audience" | "expired token" | "invalid signature" | "other cluster";

/** One caller that asks one service for the access of a service account. */
export interface Question {
  account: ServiceAccount;
  caller: Caller;
  service: Service;
  /** Whether the settings intend that it is allowed. */
  intended: boolean;
}

export interface Answer {
  allowed: boolean;
  /** Why, for people; not secret. */
  reason: string;
  /** How Pulumi Cloud denies, such as `HTTP 400 with error`. */
  form?: string;
}

export type Row = Question & Answer;

/** The audience of the ID token with which a pod receives its role, by the kind of the role. */
const ROLE_AUDIENCES = {
  irsa: "sts.amazonaws.com",
  "pod-identity": "pods.eks.amazonaws.com",
} satisfies Record<Role["kind"], string>;

/**
 * Returns the questions that the emulators are asked: for each service account, as itself, as callers that differ from it
 * in one thing, and as every other service account of the stack.
 */
export function accessQuestions(accounts: ServiceAccount[]): Question[] {
  const defects: Defect[] = ["other audience", "expired token", "invalid signature", "other cluster"];
  const taken = new Set(accounts.map(idOf));
  return accounts.flatMap((account) => {
    const { namespace, name } = account;
    return questionsFor(account, accounts, [
      {
        label: "other service account",
        namespace,
        name: unlike(name, (other) => taken.has(`${namespace}/${other}`)),
      },
      {
        label: "other namespace",
        namespace: unlike(namespace, (other) => taken.has(`${other}/${name}`)),
        name,
      },
      ...defects.map((defect) => ({ label: defect, namespace, name, defect })),
      ...accounts.filter((other) => other !== account).map(asItself),
    ]);
  });
}

/**
 * Returns the questions that the real services are asked: for each service account, as itself, as callers for which the
 * cluster can issue an ID token, and as the next service account of the stack.
 *
 * @param allPairs every other service account instead of the next one.
 */
export function liveQuestions(accounts: ServiceAccount[], allPairs: boolean): Question[] {
  return accounts.flatMap((account, index) => {
    const { namespace, name } = account;
    const next = accounts[(index + 1) % accounts.length] ?? account;
    const others = [{ namespace, name: "default" }, ...(allPairs ? accounts : [next])].map(asItself);
    const byId = new Map(others.map((caller) => [caller.label, caller]));
    byId.delete(idOf(account));
    const defects: Defect[] = ["other audience", "invalid signature"];
    const questions = questionsFor(account, accounts, [
      ...defects.map((defect) => ({ label: defect, namespace, name, defect })),
      ...byId.values(),
    ]);
    return questions.filter(({ service, caller, intended }) => {
      // Only the agent on a node of the cluster can ask EKS Pod Identity for credentials.
      if (service === "IAM role") return account.role?.kind === "irsa";
      // The ID tokens of this check are of no pod.
      const isOnPod = Object.keys(account.rules).some(isClaimOfPod);
      return !isOfAnyAudience(account, caller) && !(intended && isOnPod);
    });
  });
}

function asItself({ namespace, name }: { namespace: string; name: string }): Caller {
  return { label: idOf({ namespace, name }), namespace, name };
}

// Each caller asks Pulumi Cloud and, if the service account has one, for the role.
function questionsFor(account: ServiceAccount, accounts: ServiceAccount[], callers: Caller[]): Question[] {
  return [{ ...asItself(account), label: "itself" }, ...callers].flatMap((caller) => {
    const known = caller.defect ? undefined : accounts.find((it) => idOf(it) === idOf(caller));
    // Settings may grant the same access token to several service accounts; a role belongs to one.
    const granted = (known !== undefined && isGranted(known, account)) || isOfAnyAudience(account, caller);
    const pulumiCloud = { account, caller, service: "Pulumi Cloud", intended: granted } as const;
    const role = { account, caller, service: "IAM role", intended: known === account } as const;
    const all = account.role ? [pulumiCloud, role] : [pulumiCloud];
    return all.filter(({ service }) => !account.unknown.includes(service));
  });
}

/** Returns whether the settings of a service account grant it the token of another one, or its own. */
function isGranted(caller: ServiceAccount, { tokenType, tokenScope, audience }: ServiceAccount): boolean {
  if (caller.tokenType !== tokenType) return false;
  // It asks with the audience of the other one.
  if (caller.audienceRule && caller.audience !== audience) return false;
  const isAdmin = tokenType === "organization" && caller.tokenScope === "admin";
  return caller.tokenScope === tokenScope || isAdmin;
}

/** Without a rule on `aud`, an allow policy allows the ID token of its service account with any audience. */
function isOfAnyAudience({ audienceRule }: ServiceAccount, { defect }: Caller): boolean {
  return defect === "other audience" && !audienceRule;
}

// Close to the name, so that a loose pattern shows; at most 63 characters.
function unlike(name: string, isTaken: (name: string) => boolean): string {
  let number = 2;
  const other = () => `${name.slice(0, 60)}-${number}`;
  while (isTaken(other())) number += 1;
  return other();
}

/** Returns the audience of the ID token with which a question is asked. */
export function audienceOf({ account, caller, service }: Question): string {
  const isOther = caller.defect === "other audience";
  if (service === "Pulumi Cloud") return isOther ? `${account.audience}-2` : account.audience;
  // What Pulumi Cloud receives must not be accepted by AWS.
  return isOther ? account.audience : ROLE_AUDIENCES[account.role?.kind ?? "irsa"];
}

/** Returns an ID token with its claims, and with a signature that no key verifies. */
export function withInvalidSignature(idToken: string): string {
  const [header, payload, signature = ""] = idToken.split(".");
  return [header, payload, Buffer.from(signature, "base64url").reverse().toString("base64url")].join(".");
}

/** Returns the rows whose answer is not the intended one. */
export function unexpected(rows: Row[]): Row[] {
  return rows.filter(({ allowed, intended }) => allowed !== intended);
}
