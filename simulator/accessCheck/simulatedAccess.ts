// The access check of the simulation: asks the emulated Pulumi Cloud and the emulated STS with real ID tokens.

import type { Simulation } from "../emulators/simulation";
import {
  accessQuestions,
  audienceOf,
  checkAccess,
  type Question,
  type Row,
  readServiceAccounts,
  withInvalidSignature,
} from "./questions";
import { requestAccessToken } from "./tokenExchange";

/**
 * Checks the access of every service account of a stack.
 *
 * @param simulation in which the stack is up.
 * @param outputs the stack's outputs.
 */
export async function checkSimulatedAccess(simulation: Simulation, outputs: Record<string, unknown>): Promise<Row[]> {
  const { aws, kubernetes, pulumiCloud, issuer, otherIssuer } = simulation;
  const accounts = await readServiceAccounts(
    outputs.serviceAccounts as Parameters<typeof readServiceAccounts>[0],
    async (namespace, name) => kubernetes.configMap(namespace, name),
    pulumiCloud.list().flatMap(({ registration }) => registration.policies ?? []),
    aws.podIdentities(),
  );

  // To sign each ID token once takes a third off the time with 40 service accounts.
  const tokens = new Map<string, string>();
  async function idToken(question: Question): Promise<string> {
    const { namespace, name, defect } = question.caller;
    const audience = audienceOf(question);
    const key = [namespace, name, defect, audience].join(" ");
    const token =
      tokens.get(key) ??
      (await (defect === "other cluster" ? otherIssuer : issuer).token(kubernetes.podOf(namespace, name), {
        audience: [audience],
        ...(defect === "expired token" && { expiresIn: -60 }),
      }));
    tokens.set(key, token);
    return defect === "invalid signature" ? withInvalidSignature(token) : token;
  }

  return checkAccess(accessQuestions(accounts), async (question) => {
    const { service, account } = question;
    const token = await idToken(question);
    if (service === "Pulumi Cloud") return requestAccessToken(pulumiCloud.url, account.environment, token);
    const { arn = "", kind } = account.role ?? {};
    return kind === "pod-identity"
      ? aws.assumeRoleForPodIdentity(arn, token)
      : aws.assumeRoleWithWebIdentity(arn, token);
  });
}
