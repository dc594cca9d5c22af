// The request of the live check to Pulumi Cloud: that of scripts/exchange-token.sh, sent once. What it is granted is dropped.

import type { Answer } from "./questions";

// In seconds. Pulumi Cloud documents no lower bound for the first.
const ACCESS_TOKEN_SECONDS = 60;
const REQUEST_SECONDS = 10;

/**
 * Exchanges an ID token for an access token with the shortest lifetime.
 *
 * @param apiUrl the URL of Pulumi Cloud.
 * @param request the settings in the service account's ConfigMap.
 * @param stop ends the request.
 * @returns whether Pulumi Cloud grants the token; for a denial the reason is its own.
 * @throws Error if Pulumi Cloud does not decide, such as when it is not available.
 */
export async function requestAccessToken(
  apiUrl: string,
  request: Record<string, string>,
  idToken: string,
  stop: AbortSignal,
): Promise<Answer> {
  const setting = (name: string) => request[name] ?? "";
  // Used below, too: Node.js collects a signal to which nothing refers, and it then never aborts.
  const timeout = AbortSignal.timeout(REQUEST_SECONDS * 1000);
  try {
    const response = await fetch(`${apiUrl}/api/oauth/token`, {
      method: "POST",
      redirect: "error",
      signal: AbortSignal.any([timeout, stop]),
      body: new URLSearchParams({
        audience: `urn:pulumi:org:${setting("organization")}`,
        grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
        subject_token_type: "urn:ietf:params:oauth:token-type:id_token",
        requested_token_type: `urn:pulumi:token-type:access_token:${setting("tokenType")}`,
        expiration: String(ACCESS_TOKEN_SECONDS),
        scope: setting("tokenScope"),
        subject_token: idToken,
      }),
    });
    const { ok, status } = response;
    const body = Object(await response.json().catch(() => ({})));
    if (ok && body.access_token) return { allowed: true, reason: "granted" };
    const reason = String(body.error_description ?? body.message ?? body.error ?? `HTTP ${status}`);
    // What scripts/exchange-token.sh counts as a denial.
    if ([400, 401, 403].includes(status)) return { allowed: false, reason };
    throw new Error(`HTTP ${status}: ${reason}`);
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
