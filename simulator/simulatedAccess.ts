// The access check of the simulation: asks the emulated Pulumi Cloud and the emulated STS with real ID tokens.

import {
  type Answers,
  accessQuestions,
  audienceOf,
  type Caller,
  checkAccess,
  type Question,
  type Row,
  readServiceAccounts,
  STS_AUDIENCE,
} from "./accessCheck";
import type { Simulation } from "./simulation";
import { requestAccessToken } from "./tokenExchange";

const AT_ONCE = 16;

/**
 * Checks the access of every service account of a stack.
 *
 * @param simulation in which the stack is up.
 * @param outputs the stack's outputs.
 */
export async function checkSimulatedAccess(simulation: Simulation, outputs: Record<string, unknown>): Promise<Row[]> {
  const { kubernetes, pulumiCloud } = simulation;
  const policies = pulumiCloud.list().flatMap(({ registration }) => registration.policies ?? []);
  const accounts = await readServiceAccounts(
    outputs.serviceAccounts as Parameters<typeof readServiceAccounts>[0],
    async (namespace, name) => kubernetes.configMap(namespace, name),
    policies,
  );
  return checkAccess(accessQuestions(accounts), askEmulators(simulation), AT_ONCE);
}

/** Returns the function that asks the emulators. Each ID token is signed once. */
function askEmulators(simulation: Simulation): (question: Question) => Promise<Answers> {
  const tokens = new Map<string, Promise<string>>();
  const idToken = (caller: Caller, audience: string): Promise<string> => {
    const { namespace, name, defect } = caller;
    const key = [namespace, name, defect, audience].join(" ");
    const issuer = defect === "other cluster" ? simulation.otherIssuer : simulation.issuer;
    const token =
      tokens.get(key) ??
      issuer.token(simulation.kubernetes.podOf(namespace, name), {
        audience: [audienceOf(caller, audience)],
        ...(defect === "expired token" && { expiresIn: -60 }),
        ...(defect === "invalid signature" && { forged: true }),
      });
    tokens.set(key, token);
    return token;
  };
  return async ({ account, caller }) => {
    const { audience, environment, roleArn } = account;
    const [forPulumiCloud, forRole] = await Promise.all([idToken(caller, audience), idToken(caller, STS_AUDIENCE)]);
    return {
      pulumiCloud: await requestAccessToken(simulation.pulumiCloud.url, environment, forPulumiCloud),
      role: roleArn ? await simulation.aws.assumeRoleWithWebIdentity(roleArn, forRole) : undefined,
    };
  };
}
