// The service account issuer of a real API server, in the form of the simulation's own: its ID tokens come from TokenRequest.

import assert from "node:assert/strict";
import type { KeyObject } from "node:crypto";
import { decodeJwt, decodeProtectedHeader, SignJWT } from "jose";
import type { ClusterIssuer, PodIdentity } from "../../simulator/emulators/issuer";
import type { ApiServer } from "./apiServer";

/** The shortest lifetime that Kubernetes grants. */
const SHORTEST_SECONDS = 600;

/**
 * Requests an ID token as the kubelet does, or as `kubectl create token`.
 *
 * @param audiences of the token, at least one.
 * @param pod the name and the UID of the pod that mounts it.
 */
export async function requestToken(
  server: ApiServer,
  { namespace, serviceAccount }: PodIdentity,
  audiences: string[],
  expirationSeconds = SHORTEST_SECONDS,
  pod?: { name: string; uid: string },
): Promise<string> {
  const path = `/api/v1/namespaces/${namespace}/serviceaccounts/${serviceAccount}/token`;
  const boundObjectRef = pod && { apiVersion: "v1", kind: "Pod", ...pod };
  const { status, body } = await server.request("POST", path, {
    spec: { audiences, expirationSeconds, ...(boundObjectRef && { boundObjectRef }) },
  });
  assert.equal(status, 201, body.message);
  return body.status.token;
}

/** Returns the issuer. The service accounts that it is asked for are created if they do not exist. */
export function realIssuer(server: ApiServer): Pick<ClusterIssuer, "url" | "token"> {
  return {
    url: server.url,
    async token(pod, { audience, expiresIn }) {
      await createCaller(server, pod);
      const token = await requestToken(server, pod, audience, Math.max(expiresIn, SHORTEST_SECONDS));
      return expiresIn < SHORTEST_SECONDS ? signedAgain(token, server.serviceAccountKey, expiresIn) : token;
    },
  };
}

/** Creates the namespace and the service account of a caller that is not one of the stack's, if they do not exist. */
async function createCaller(server: ApiServer, { namespace, serviceAccount }: PodIdentity): Promise<void> {
  const path = "/api/v1/namespaces";
  await server.request("POST", path, { metadata: { name: namespace } });
  await server.request("POST", `${path}/${namespace}/serviceaccounts`, {
    metadata: { name: serviceAccount },
  });
}

/** Returns a token of the API server with another expiry, such as -60 for a minute ago, signed with its own key. */
function signedAgain(token: string, key: KeyObject, expiresIn: number): Promise<string> {
  const { alg = "", kid = "" } = decodeProtectedHeader(token);
  const now = Math.floor(Date.now() / 1000);
  const issuedAt = Math.min(now, now + expiresIn) - SHORTEST_SECONDS;
  return new SignJWT({ ...decodeJwt(token), iat: issuedAt, nbf: issuedAt, exp: now + expiresIn })
    .setProtectedHeader({ alg, kid })
    .sign(key);
}
