// Whom the live check asks for the access of each service account, and who should be granted it by the settings.

import { type Account, accountId, type View } from "./components";
import { irsaRoleOf } from "./deployedComponent";
import { sharersOf } from "./grants";
import { fieldsAt, valueAt } from "./values";

/** What grants access: Pulumi Cloud a token, and AWS a role. */
export type Service = "Pulumi Cloud" | "IAM role";

/** Anyone who asks for the access of a service account with an ID token. */
export interface Caller {
  /** Such as `itself with another audience`, or the `NAMESPACE/NAME` of another service account. */
  label: string;
  /** The service account that the ID token names. */
  namespace: string;
  name: string;
  /** What is wrong with the ID token. */
  defect?: "other audience" | "invalid signature";
}

/** One caller that asks one service for the access of a service account. */
export interface Question {
  account: Account;
  caller: Caller;
  service: Service;
  /** Of the ID token. */
  audience: string;
  /** Whether the settings intend that it is allowed. */
  intended: boolean;
}

export interface Answer {
  allowed: boolean;
  /** Why, for people; not secret. */
  reason: string;
}

/**
 * Returns the questions: for each service account, as itself, with an ID token that has a defect, as `default` of its namespace, and
 * as the next service account of the component.
 *
 * @param allPairs every other service account instead of the next one.
 */
export function liveQuestions(view: View, allPairs: boolean): Question[] {
  const { accounts } = view;
  return accounts.flatMap((account, index) => {
    const { id, namespace, name } = account;
    const next = accounts[(index + 1) % accounts.length] ?? account;
    const others = [{ namespace, name: "default" }, ...(allPairs ? accounts : [next])].map((it) => {
      return { label: accountId(it), namespace: it.namespace, name: it.name };
    });
    const byLabel = new Map(others.map((caller) => [caller.label, caller]));
    byLabel.delete(id);
    const callers: Caller[] = [
      { label: "itself", namespace, name },
      { label: "itself with another audience", namespace, name, defect: "other audience" },
      { label: "itself with an invalid signature", namespace, name, defect: "invalid signature" },
      ...byLabel.values(),
    ];
    return callers.flatMap((caller) => questionsOf(view, account, caller));
  });
}

function questionsOf(view: View, account: Account, caller: Caller): Question[] {
  const { namespace, name, defect } = caller;
  const listed = view.accounts.find((it) => it.namespace === namespace && it.name === name);
  const own = audienceOf(listed ?? account);
  const isAny = valueAt(account.settings, "audienceRule") !== true;
  const isSharer = listed !== undefined && [account, ...sharersOf(view, account, view)].includes(listed);
  const isGranted = isSharer && defect === undefined;
  const token: Question = {
    ...{ account, caller, service: "Pulumi Cloud", intended: isGranted },
    audience: defect === "other audience" ? `${own}-2` : own,
  };
  const role: Question = {
    ...{ account, caller, service: "IAM role", intended: listed === account && defect === undefined },
    // What Pulumi Cloud receives must not be accepted by AWS.
    audience: defect === "other audience" ? own : "sts.amazonaws.com",
  };
  // Without a rule on `aud`, Pulumi Cloud accepts any audience. An ID token of this check is of no pod.
  const isOpen = (defect === "other audience" && isAny) || (isGranted && isOnPod(listed));
  return [...(isOpen ? [] : [token]), ...(irsaRoleOf(account, view) ? [role] : [])];
}

function audienceOf({ settings }: Account): string {
  return String(valueAt(settings, "tokenAudience"));
}

/** Returns whether a rule of the allow policy of a service account is on a claim that only a pod's ID tokens have. */
export function isOnPod({ settings }: Account): boolean {
  const claims = Object.keys(fieldsAt(settings, "policyRules")).map((path) => path.replaceAll('"', ""));
  return claims.some((claim) => /^kubernetes\.io\.(pod|node)\./.test(claim));
}

/** Returns an ID token with its claims, and with a signature that no key verifies. */
export function withInvalidSignature(idToken: string): string {
  const [header, payload, signature = ""] = idToken.split(".");
  return [header, payload, Buffer.from(signature, "base64url").reverse().toString("base64url")].join(".");
}
