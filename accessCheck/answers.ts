// What the answers of the real services mean for the report.

import type { Finding } from "./compare";
import { type Account, accountId } from "./components";
import { type Answer, isOnPod, type Question, type Service } from "./questions";
import { valueAt } from "./values";

export type Row = Question & Answer;

const NAMES: Record<Service, string> = { "Pulumi Cloud": "Pulumi Cloud", "IAM role": "AWS STS" };

const ADVICE: Record<Service, string> = {
  "Pulumi Cloud":
    "Its allow policy is as the settings say. Check them: policyRules, audienceRule, and whether the owner of the token exists.",
  "IAM role":
    "Its trust policy is as the settings say. Check the IAM OIDC provider of the cluster, which must have the audience sts.amazonaws.com.",
};

/** Returns the answers that the settings do not intend. */
export function answerFindings(rows: Row[]): Finding[] {
  const unexpected = rows.filter(({ allowed, intended }) => allowed !== intended);
  return unexpected.map((row) => ({
    account: row.account.id,
    text: `${answerText(row)} ${row.allowed ? "No setting allows this." : ADVICE[row.service]}`,
  }));
}

/** Returns an answer with its reason. */
export function answerText({ caller, service, allowed, reason }: Row): string {
  const answer = `As ${caller.label}: ${allowed ? "granted" : "denied"} by ${NAMES[service]}`;
  return allowed ? `${answer}.` : `${answer} (${reason}).`;
}

const IN_A_POD = "a rule is on a pod or a node, and this check has no pod";
const BY_AGENT = "EKS Pod Identity issues credentials only to its agent on a node";
const TO_COME = "createServiceAccount is false, and it does not exist yet";

/**
 * Returns what could not be asked, and why.
 *
 * @param absent the questions whose caller does not exist yet.
 */
export function notAsked(accounts: Account[], absent: Question[]): string[] {
  const ofAgent = accounts.filter(({ settings }) => valueAt(settings, "awsRole") === "pod-identity");
  const callers = new Set(absent.map(({ caller }) => accountId(caller)));
  return [
    ...reasonFor("for the role of", ofAgent.map(accountId), BY_AGENT),
    ...reasonFor("for the token of", accounts.filter(isOnPod).map(accountId), IN_A_POD),
    ...reasonFor("as", [...callers], TO_COME),
  ];
}

function reasonFor(what: string, ids: string[], reason: string): string[] {
  return ids.length === 0 ? [] : [`Not asked ${what} ${ids.join(", ")}: ${reason}.`];
}
