// The access check of the simulation: asks the emulated Pulumi Cloud and the emulated STS with real ID tokens.

import { foreignPolicies } from "../accessCheck/allowPolicies";
import type { Result } from "../accessCheck/answerReport";
import { type Component, policiesOf } from "../accessCheck/component";
import { mapEightAtOnce } from "../accessCheck/concurrency";
import {
  type Answer,
  accessQuestions,
  audienceOf,
  type Question,
  withInvalidSignature,
} from "../accessCheck/questions";
import { requestAccessToken } from "../accessCheck/requestAccessToken";
import { readServiceAccounts } from "../accessCheck/serviceAccounts";
import type { Aws } from "./emulators/aws";
import type { ClusterIssuer } from "./emulators/issuer";
import type { Kubernetes } from "./emulators/kubernetes";
import type { PulumiCloud } from "./emulators/pulumiCloud";

/** The shortest lifetime that Kubernetes grants. */
const ID_TOKEN_SECONDS = 600;

/** The services that are asked, and what issues the ID tokens: a simulation, or a part of one. */
export interface AskedServices {
  aws: Pick<Aws, "assumeRoleWithWebIdentity" | "assumeRoleForPodIdentity">;
  pulumiCloud: Pick<PulumiCloud, "apiUrl">;
  kubernetes: Pick<Kubernetes, "podOf">;
  issuer: Pick<ClusterIssuer, "token">;
  /** The issuer of a cluster that is not registered. */
  otherIssuer: Pick<ClusterIssuer, "token">;
}

/**
 * Checks the access of every service account of a component.
 *
 * @param services in which it exists.
 * @param accounts of the component, with the ARNs that their roles have there.
 */
export async function checkSimulatedAccess(
  services: AskedServices,
  component: Component,
  accounts = readServiceAccounts(component),
): Promise<Result> {
  const { aws, kubernetes, pulumiCloud, issuer, otherIssuer } = services;
  // To sign each ID token once takes a third off the time with 40 service accounts.
  const tokens = new Map<string, Promise<string>>();
  async function idToken(question: Question): Promise<string> {
    const { namespace, name, defect } = question.caller;
    const audience = audienceOf(question);
    // The other defects are in no claim.
    const inClaims = ["expired token", "other cluster"].find((it) => it === defect);
    const key = [namespace, name, inClaims, audience].join(" ");
    const signed =
      tokens.get(key) ??
      (defect === "other cluster" ? otherIssuer : issuer).token(kubernetes.podOf(namespace, name), {
        audience: [audience],
        expiresIn: defect === "expired token" ? -60 : ID_TOKEN_SECONDS,
      });
    tokens.set(key, signed);
    const token = await signed;
    return defect === "invalid signature" ? withInvalidSignature(token) : token;
  }

  async function ask(question: Question): Promise<Answer> {
    const { service, account } = question;
    const token = await idToken(question);
    if (service === "Pulumi Cloud") return requestAccessToken(pulumiCloud.apiUrl, account.settings, token);
    const { arn = "", kind } = account.role ?? {};
    return kind === "pod-identity"
      ? aws.assumeRoleForPodIdentity(arn, token)
      : aws.assumeRoleWithWebIdentity(arn, token);
  }

  const rows = await mapEightAtOnce(accessQuestions(accounts), async (question) => {
    return { ...question, ...(await ask(question)) };
  });
  return { accounts, rows, foreign: foreignPolicies(policiesOf(component), accounts), isLive: false };
}
