// Asks the real Pulumi Cloud and AWS STS, with ID tokens of the real cluster.

import { decodeJwt } from "jose";
import { assumeRole } from "./awsSts";
import type { Kubectl } from "./cluster";
import { accountId } from "./components";
import { mapEightAtOnce } from "./concurrency";
import { type DeployedComponent, irsaRoleOf, requestOf } from "./deployedComponent";
import { type Answer, type Question, withInvalidSignature } from "./questions";
import { requestAccessToken } from "./requestAccessToken";
import { shown } from "./terminal";
import { type Run, ToolError } from "./tools";
import { valueAt } from "./values";

/** The shortest lifetime that Kubernetes grants. */
const ID_TOKEN_SECONDS = 600;

/** No role is asked for. */
const NO_REGION = { region: "", stsUrl: undefined };

/**
 * Requests the ID tokens of all questions from the cluster, each once.
 *
 * @returns the questions with their ID tokens. A question has none if its caller does not exist yet.
 * @throws Error if one of them cannot be issued, or if they are not of the component's issuer.
 */
export async function requestIdTokens(
  { issuerUrl, component }: Pick<DeployedComponent, "issuerUrl" | "component">,
  questions: Question[],
  kubectl: Kubectl,
): Promise<{ question: Question; idToken: string | undefined }[]> {
  // Only one that the component does not create can come later.
  const isOptional = ({ caller: { namespace, name } }: Question) => {
    const account = component.after.accounts.find((it) => it.namespace === namespace && it.name === name);
    return valueAt(account?.settings, "createServiceAccount") === false;
  };
  const identityOf = ({ caller, audience }: Question) => `${accountId(caller)} ${audience}`;
  const distinct = new Map(questions.map((question) => [identityOf(question), question]));
  const issued = await mapEightAtOnce([...distinct], async ([identity, question]) => {
    try {
      return [identity, await requestIdToken(issuerUrl, question, kubectl)] as const;
    } catch (error) {
      const isAbsent = error instanceof ToolError && error.stderr.includes("(NotFound)");
      if (!isAbsent || !isOptional(question)) throw error;
      return [identity, undefined] as const;
    }
  });
  const tokens = new Map(issued);
  return questions.map((question) => {
    const idToken = tokens.get(identityOf(question));
    const isInvalid = question.caller.defect === "invalid signature";
    return { question, idToken: idToken && isInvalid ? withInvalidSignature(idToken) : idToken };
  });
}

/** Requests the ID token of a question from the cluster. */
async function requestIdToken(
  issuerUrl: string,
  { caller: { namespace, name }, audience }: Question,
  kubectl: Kubectl,
): Promise<string> {
  const options = [`--namespace=${namespace}`, `--audience=${audience}`, `--duration=${ID_TOKEN_SECONDS}s`];
  const advice = `\nTo check your permission: kubectl auth can-i create serviceaccounts/token --namespace ${namespace}`;
  // This command counts only the names before `--`. The program has checked that this one is a name.
  const token = (await kubectl(["create", "token", name], options, [], { advice })).trim();
  const { iss } = decodeJwt(token);
  if (iss === issuerUrl) return token;
  throw new Error(
    `The kubeconfig points to a different cluster: its issuer is ${iss}, but the component's is ${issuerUrl}. No token was sent.`,
  );
}

/**
 * Returns the function that asks Pulumi Cloud and AWS STS.
 *
 * @param run runs the AWS CLI, which asks AWS STS.
 * @param stop ends the requests that run.
 */
export function askServices(
  { apiUrl, aws = NO_REGION, component: { after } }: Pick<DeployedComponent, "apiUrl" | "aws" | "component">,
  run: Run,
  stop: AbortSignal,
): (question: Question, idToken: string) => Promise<Answer> {
  return async ({ account, service }, idToken) => {
    const isRole = service === "IAM role";
    try {
      const answer = isRole
        ? await assumeRole(aws, irsaRoleOf(account, after) ?? "", idToken, run)
        : await requestAccessToken(apiUrl, requestOf(account, after), idToken, stop);
      return { ...answer, reason: shown(answer.reason) };
    } catch (error) {
      const sts = `AWS STS ${aws.stsUrl ? `at ${aws.stsUrl}` : `in ${aws.region}`}`;
      const asked = isRole ? sts : `Pulumi Cloud at ${apiUrl}`;
      const reason = shown((error as Error).message);
      throw new Error(`Failed to ask ${asked}: ${reason}. The check is incomplete; run it again.`);
    }
  };
}
