// The TLS certificate of a cluster's issuer, whose thumbprint the program registers in Pulumi Cloud.

import { once } from "node:events";
import { isIP } from "node:net";
import { connect, rootCertificates } from "node:tls";

/** How long the certificate may take to arrive. */
const TIMEOUT_SECONDS = 10;

/**
 * Reads the thumbprint of an issuer's certificate: SHA-256, in lowercase hex.
 * https://www.pulumi.com/docs/administration/concepts/oidc-issuers/
 *
 * @param url `https://…`.
 * @param stop ends the connection.
 * @throws Error if the certificate cannot be read, or verified by the authorities that Node.js bundles. Those of the environment do
 *   not count: behind TLS inspection, this would be the thumbprint of the proxy.
 */
export async function readThumbprint(url: string, stop: AbortSignal): Promise<string> {
  const { hostname: host, port } = new URL(url);
  const timeout = AbortSignal.timeout(TIMEOUT_SECONDS * 1000);
  const socket = connect({
    host,
    port: Number(port || 443),
    // A server name must not be an IP address.
    ...(isIP(host) === 0 && { servername: host }),
    rejectUnauthorized: true,
    ca: [...rootCertificates],
  });
  try {
    await once(socket, "secureConnect", { signal: AbortSignal.any([stop, timeout]) });
    return comparable(socket.getPeerCertificate().fingerprint256);
  } catch (error) {
    if (timeout.aborted) throw new Error(`no answer within ${TIMEOUT_SECONDS} seconds`);
    throw error;
  } finally {
    // An error that follows has no other listener.
    socket.on("error", () => {}).destroy();
  }
}

/** Returns the form of a thumbprint that all of its spellings have. */
export function comparable(thumbprint: string): string {
  return thumbprint.replaceAll(":", "").toLowerCase();
}
