// The token exchange of the access check: the request that scripts/exchange-token.sh sends, once, without its retries.

import type { Answer } from "./accessCheck";

/**
 * Exchanges an ID token for an access token, which is dropped.
 *
 * @param url of Pulumi Cloud.
 * @param environment the variables of the service account's ConfigMap.
 * @param signal ends the request.
 * @returns whether Pulumi Cloud grants the token, and the HTTP status; for a denial the reason is its own, and `form` says
 *   which fields of OAuth (`error`, `error_description`) and of Pulumi Cloud (`message`) the answer contains.
 */
export async function requestAccessToken(
  url: string,
  environment: Record<string, string>,
  idToken: string,
  signal: AbortSignal | null = null,
): Promise<Answer & { status: number; form?: string }> {
  const variable = (name: string) => environment[name] ?? "";
  const response = await fetch(`${url}/api/oauth/token`, {
    method: "POST",
    redirect: "error",
    signal,
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
  const { status } = response;
  const body = parseObject(await response.text());
  if (response.ok && body.access_token) return { allowed: true, reason: "granted", status };
  const fields = ["error", "error_description", "message"].filter((field) => field in body);
  const reason = String(body.error_description ?? body.message ?? body.error ?? `HTTP ${status}`);
  return { allowed: false, reason, status, form: `HTTP ${status} with ${fields.join(" and ") || "no error field"}` };
}

function parseObject(text: string): Record<string, unknown> {
  try {
    return Object(JSON.parse(text));
  } catch {
    return {};
  }
}
