// Asks the real Pulumi Cloud and AWS STS, with ID tokens of the real cluster.

import { decodeJwt } from "jose";
import { assumeRole } from "./awsSts";
import { mapEightAtOnce } from "./concurrency";
import type { DeployedComponent, Kubectl } from "./deployedComponent";
import { type Answer, audienceOf, type Question, withInvalidSignature } from "./questions";
import { requestAccessToken } from "./requestAccessToken";
import { idOf, type ServiceAccount } from "./serviceAccounts";
import { shown } from "./terminal";
import type { Run } from "./tools";

// In seconds. The first is the shortest that Kubernetes grants; Pulumi Cloud documents no lower bound.
const ID_TOKEN_SECONDS = 600;
const ACCESS_TOKEN_SECONDS = 60;

const REQUEST_SECONDS = 10;

/** No role is asked for. */
const NO_REGION = { region: "", stsUrl: undefined };

/**
 * Requests the ID tokens of all questions from the cluster, each once.
 *
 * @returns the function that returns the ID token of a question.
 * @throws Error if one of them cannot be issued, or if they are not of the component's issuer.
 */
export async function requestIdTokens(
  component: DeployedComponent,
  questions: Question[],
  kubectl: Kubectl,
): Promise<(question: Question) => string> {
  const identity = (question: Question) => `${idOf(question.caller)} ${audienceOf(question)}`;
  const distinct = new Map(questions.map((question) => [identity(question), question]));
  const issued = await mapEightAtOnce([...distinct], async ([key, question]) => {
    return [key, await requestIdToken(component, question, kubectl)] as const;
  });
  const tokens = new Map(issued);
  return (question) => {
    const token = tokens.get(identity(question)) ?? "";
    return question.caller.defect === "invalid signature" ? withInvalidSignature(token) : token;
  };
}

/**
 * Returns the function that asks Pulumi Cloud and AWS STS.
 *
 * @param tokenOf returns the ID token of a question.
 * @param run runs the AWS CLI, which asks AWS STS.
 * @param stop ends the requests that run.
 */
export function askServices(
  { apiUrl, aws = NO_REGION }: Pick<DeployedComponent, "apiUrl" | "aws">,
  tokenOf: (question: Question) => string,
  run: Run,
  stop: AbortSignal,
): (question: Question) => Promise<Answer> {
  return async (question) => {
    const { account, service } = question;
    const token = tokenOf(question);
    const isRole = service === "IAM role";
    try {
      const answer = isRole
        ? await assumeRole(aws, account.role?.arn ?? "", token, run)
        : await exchange(apiUrl, account, token, stop);
      return { ...answer, reason: shown(answer.reason) };
    } catch (error) {
      const sts = `AWS STS ${aws.stsUrl ? `at ${aws.stsUrl}` : `in ${aws.region}`}`;
      const asked = isRole ? sts : `Pulumi Cloud at ${apiUrl}`;
      const reason = shown((error as Error).message);
      throw new Error(`Failed to ask ${asked}: ${reason}. The check is incomplete; run it again.`);
    }
  };
}

/** Requests the access token of a service account, with the shortest lifetime. */
async function exchange(
  apiUrl: string,
  { settings }: ServiceAccount,
  token: string,
  stop: AbortSignal,
): Promise<Answer> {
  const shortest = { ...settings, tokenExpirationSeconds: String(ACCESS_TOKEN_SECONDS) };
  // Used below, too: Node.js collects a signal to which nothing refers, and it then never aborts.
  const timeout = AbortSignal.timeout(REQUEST_SECONDS * 1000);
  try {
    return await requestAccessToken(apiUrl, shortest, token, AbortSignal.any([stop, timeout]));
  } catch (error) {
    const { message, cause } = error as RequestError;
    // Node.js also limits the time for a connection to 10 seconds.
    const isLate = timeout.aborted || cause?.code === "UND_ERR_CONNECT_TIMEOUT";
    throw new Error(
      isLate ? `no answer within ${REQUEST_SECONDS} s` : (cause?.code ?? cause?.message ?? message),
    );
  }
}

/** An error of `fetch`. */
type RequestError = Error & { cause?: Error & { code?: string } };

/** Requests the ID token of a question from the cluster. */
async function requestIdToken(
  { issuer }: DeployedComponent,
  question: Question,
  kubectl: Kubectl,
): Promise<string> {
  const { namespace, name } = question.caller;
  const options = [
    `--namespace=${namespace}`,
    `--audience=${audienceOf(question)}`,
    `--duration=${ID_TOKEN_SECONDS}s`,
  ];
  const advice = `\nTo check your permission: kubectl auth can-i create serviceaccounts/token --namespace ${namespace}`;
  // This command counts only the names before `--`. The program has checked that this one is a name.
  const token = (await kubectl(["create", "token", name], options, [], { advice })).trim();
  const { iss } = decodeJwt(token);
  if (iss !== issuer.url) {
    throw new Error(
      `The kubeconfig points to a different cluster: its issuer is ${iss}, but the component's is ${issuer.url}. No token was sent.`,
    );
  }
  return token;
}
