// The token exchange of the access check: the request that scripts/exchange-token.sh sends, once, without its retries.

import type { Answer } from "./accessCheck";

/**
 * Exchanges an ID token for an access token, which is dropped.
 *
 * @param url of Pulumi Cloud.
 * @param environment the variables of the service account's ConfigMap.
 * @returns whether Pulumi Cloud grants the token; for a denial the reason is its own, with the HTTP status if it has none.
 */
export async function requestAccessToken(
  url: string,
  environment: Record<string, string>,
  idToken: string,
): Promise<Answer> {
  const variable = (name: string) => environment[name] ?? "";
  const response = await fetch(`${url}/api/oauth/token`, {
    method: "POST",
    redirect: "error",
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
  const body = await response.text();
  if (response.ok) return { allowed: true, reason: "granted" };
  return { allowed: false, reason: describe(body) || `HTTP ${response.status}` };
}

function describe(body: string): string {
  try {
    const { error_description, message, error } = JSON.parse(body);
    return String(error_description ?? message ?? error ?? "");
  } catch {
    return "";
  }
}
