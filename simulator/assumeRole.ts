// The request of the live access check for a role: the one that the AWS SDK in a pod sends, once.

import type { Answer } from "./accessCheck";

// The shortest that AWS grants.
const LIFETIME_SECONDS = 900;

/**
 * Requests credentials of a role, without a signature as a pod does, and drops them.
 * https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
 *
 * @param url of STS.
 * @param signal ends the request.
 * @returns whether the role's trust policy allows it; for a denial the reason is the error code and its message.
 * @throws Error if STS does not decide, such as when it limits the rate.
 */
export async function assumeRole(url: string, roleArn: string, token: string, signal: AbortSignal): Promise<Answer> {
  const body = new URLSearchParams({
    Action: "AssumeRoleWithWebIdentity",
    Version: "2011-06-15",
    RoleArn: roleArn,
    RoleSessionName: "live-access-check",
    DurationSeconds: String(LIFETIME_SECONDS),
    WebIdentityToken: token,
  });
  const response = await fetch(url, { method: "POST", redirect: "error", signal, body });
  const xml = await response.text();
  if (response.ok && xml.includes("<AssumeRoleWithWebIdentityResult>")) return { allowed: true, reason: "granted" };
  const [code, message] = ["Code", "Message"].map((name) => xml.match(`<${name}>([^<]*)</${name}>`)?.[1]);
  const reason = [code, message].filter(Boolean).join(": ");
  // Also an InvalidIdentityToken: "Couldn't retrieve verification key from your identity provider".
  const isDenial = ["AccessDenied", "IDPRejectedClaim", "InvalidIdentityToken"].includes(code ?? "");
  if (!isDenial || reason.includes("verification key")) throw new Error(`HTTP ${response.status} ${reason}`);
  return { allowed: false, reason };
}
