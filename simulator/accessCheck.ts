// Who gets in: callers with id tokens of every kind show them to Pulumi Cloud and to the role, and take their answers.

import type { PodIdentity, TokenOptions } from "./issuer";
import type { Simulation } from "./simulation";

export interface Answer {
  allowed: boolean;
  reason: string;
}

export interface Caller {
  name: string;
  /** The setting that would keep it out of Pulumi Cloud, where one would. */
  refusedBy?: string;
  pulumiCloud: Answer;
  role: Answer;
}

/**
 * Lets each caller ask for what the stack's last pod asked for.
 *
 * @param simulation in which the stack is up. The pod's own variables say what to ask Pulumi Cloud for, and which role.
 * @returns the callers with the answers that they got.
 * @throws Error when no pod has run yet.
 */
export async function checkAccess(simulation: Simulation): Promise<Caller[]> {
  const pod = simulation.kubernetes.lastPod();
  const container = pod?.spec.containers[0];
  if (!pod || !container) throw new Error("no pod has run yet");
  const variables = new Map(container.env.map(({ name, value }) => [name, value]));
  const variable = (name: string) => variables.get(name) ?? "";

  const itself: PodIdentity = {
    namespace: pod.namespace,
    serviceAccount: pod.serviceAccount,
    pod: pod.name,
    node: pod.node,
  };
  // The pod shows Pulumi Cloud the token that its spec asks for, or else the one that the webhook mounts.
  const projected = pod.spec.volumes.find(({ name }) => name === "token")?.projected;
  const ownAudience = projected?.sources[0]?.serviceAccountToken.audience ?? WEBHOOK_AUDIENCE;

  async function caller(
    name: string,
    identity: Partial<PodIdentity>,
    options: TokenOptions = {},
    issuer = simulation.issuer,
  ): Promise<Caller> {
    const token = (audience: string) =>
      issuer.token({ ...itself, ...identity }, { audience: [audience], ...options });
    const [pulumiCloud, role] = await Promise.all([
      token(ownAudience).then((idToken) => exchange(simulation.pulumiCloud.url, idToken, variable)),
      token(WEBHOOK_AUDIENCE).then((idToken) =>
        simulation.aws.assumeRoleWithWebIdentity(variable("AWS_ROLE_ARN"), idToken),
      ),
    ]);
    return { name, pulumiCloud, role };
  }

  return Promise.all([
    caller("the pod itself", {}),
    caller("another service account", { serviceAccount: another(itself.serviceAccount) }),
    caller("another namespace", { namespace: another(itself.namespace) }),
    caller("another audience", {}, { audience: [`${ownAudience}-2`] }).then((answered) => {
      return { ...answered, refusedBy: "audienceRule" };
    }),
    caller("an expired token", {}, { expiresIn: -60 }),
    caller("a forged signature", {}, { forged: true }),
    caller("another cluster", {}, {}, simulation.otherIssuer),
  ]);
}

// Close to the real one, and never the same: a name has at most 63 characters.
function another(name: string): string {
  return name.slice(0, 61) + (name.endsWith("-2") ? "-3" : "-2");
}

const WEBHOOK_AUDIENCE = "sts.amazonaws.com";

async function exchange(url: string, idToken: string, variable: (name: string) => string): Promise<Answer> {
  const response = await fetch(`${url}/api/oauth/token`, {
    method: "POST",
    body: new URLSearchParams({
      audience: `urn:pulumi:org:${variable("PULUMI_ORG")}`,
      grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
      subject_token_type: "urn:ietf:params:oauth:token-type:id_token",
      requested_token_type: `urn:pulumi:token-type:access_token:${variable("PULUMI_TOKEN_TYPE")}`,
      expiration: variable("PULUMI_TOKEN_EXPIRATION"),
      scope: variable("PULUMI_TOKEN_SCOPE"),
      subject_token: idToken,
    }),
  });
  const answer: { error_description?: string } = JSON.parse(await response.text());
  return { allowed: response.ok, reason: answer.error_description ?? "" };
}
