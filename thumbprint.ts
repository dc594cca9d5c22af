// The thumbprint of an issuer's TLS certificate.

import { once } from "node:events";
import { isIP } from "node:net";
import { connect, rootCertificates } from "node:tls";
import * as pulumi from "@pulumi/pulumi";

/** How long the TLS certificate may take to arrive. */
const TIMEOUT_SECONDS = 10;

/**
 * Reads the thumbprint of an issuer's TLS certificate: SHA-256, in lowercase hex. Pulumi Cloud verifies the certificate
 * itself, and compares thumbprints only if that fails: https://www.pulumi.com/docs/administration/concepts/oidc-issuers/
 *
 * @param issuerUrl `https://…`.
 * @returns the one thumbprint. Undefined in a preview and, with a warning, if the certificate cannot be read, or verified by
 *   the authorities that Node.js ships: nothing unverified is registered, and no certificate of a proxy. Does not throw.
 */
export async function readThumbprints(issuerUrl: string): Promise<string[] | undefined> {
  if (pulumi.runtime.isDryRun()) return undefined;
  try {
    return [await readThumbprint(new URL(issuerUrl))];
  } catch (error) {
    pulumi.log.warn(
      `Failed to read the TLS certificate of ${issuerUrl}: ${error instanceof Error ? error.message : error}. ` +
        "The thumbprint is left to Pulumi Cloud, which verifies the certificate itself. If the issuer is new, run " +
        "`pulumi refresh` once after this update: until then, previews show `+ thumbprints`.",
    );
    return undefined;
  }
}

async function readThumbprint({ hostname: host, port }: URL): Promise<string> {
  const socket = connect({
    host,
    port: Number(port || 443),
    // A server name must not be an IP address.
    ...(isIP(host) === 0 && { servername: host }),
    // Explicit, so that NODE_TLS_REJECT_UNAUTHORIZED=0 cannot disable it.
    rejectUnauthorized: true,
    // Explicit too: behind TLS inspection, NODE_EXTRA_CA_CERTS would register the certificate of the proxy.
    ca: [...rootCertificates],
  });
  const timeout = new Error(`no answer within ${TIMEOUT_SECONDS} seconds`);
  const timer = setTimeout(() => socket.destroy(timeout), TIMEOUT_SECONDS * 1000);
  try {
    await once(socket, "secureConnect");
    return socket.getPeerCertificate().fingerprint256.replaceAll(":", "").toLowerCase();
  } catch (error) {
    if (!socket.authorizationError || !process.env.NODE_EXTRA_CA_CERTS) throw error;
    throw new Error(`${(error as Error).message}. The authorities in NODE_EXTRA_CA_CERTS do not count here`);
  } finally {
    clearTimeout(timer);
    socket.destroy();
  }
}
