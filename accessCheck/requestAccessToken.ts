// The request of the access check to Pulumi Cloud: that of scripts/exchange-token.sh, sent once. What it is granted is dropped.

import type { Answer } from "./questions";

const MAX_BYTES = 64 * 1024;

/**
 * Exchanges an ID token for an access token.
 *
 * @param apiUrl the URL of Pulumi Cloud.
 * @param settings the data of the service account's ConfigMap.
 * @param signal ends the request.
 * @returns whether Pulumi Cloud grants the token; for a denial the reason is its own, and `form` says which fields of OAuth
 *   (`error`, `error_description`) and of Pulumi Cloud (`message`) the answer contains.
 * @throws Error if Pulumi Cloud does not decide, such as when it is not available.
 */
export async function requestAccessToken(
  apiUrl: string,
  settings: Record<string, string>,
  idToken: string,
  signal: AbortSignal | null = null,
): Promise<Answer> {
  const setting = (name: string) => settings[name] ?? "";
  const response = await fetch(`${apiUrl}/api/oauth/token`, {
    method: "POST",
    redirect: "error",
    signal,
    body: new URLSearchParams({
      audience: `urn:pulumi:org:${setting("organization")}`,
      grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
      subject_token_type: "urn:ietf:params:oauth:token-type:id_token",
      requested_token_type: `urn:pulumi:token-type:access_token:${setting("tokenType")}`,
      expiration: setting("tokenExpirationSeconds"),
      scope: setting("tokenScope"),
      subject_token: idToken,
    }),
  });
  const { status } = response;
  const body = parseObject(await textOf(response));
  if (response.ok && body.access_token) return { allowed: true, reason: "granted" };
  const fields = ["error", "error_description", "message"].filter((field) => field in body);
  const reason = String(body.error_description ?? body.message ?? body.error ?? `HTTP ${status}`);
  // What scripts/exchange-token.sh counts as a denial.
  if (![400, 401, 403].includes(status)) throw new Error(`HTTP ${status}: ${reason}`);
  return { allowed: false, reason, form: `HTTP ${status} with ${fields.join(" and ") || "no error field"}` };
}

/** Returns the body of an answer. @throws Error if it is longer than 64 KB; the rest is not read. */
async function textOf(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of response.body ?? []) {
    chunks.push(chunk);
    length += chunk.length;
    if (length > MAX_BYTES) throw new Error(`HTTP ${response.status}: the answer is longer than 64 KB`);
  }
  return Buffer.concat(chunks).toString();
}

function parseObject(text: string): Record<string, unknown> {
  try {
    return Object(JSON.parse(text));
  } catch {
    return {};
  }
}
