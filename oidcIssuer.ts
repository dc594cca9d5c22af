// The Pulumi Cloud side: it trusts the cluster's OIDC issuer, and its allow policies say which service account is granted
// which access token.

import { once } from "node:events";
import { isIP } from "node:net";
import { connect, rootCertificates } from "node:tls";
import * as pulumi from "@pulumi/pulumi";
import * as pulumiservice from "@pulumi/pulumiservice";
import type { Account } from "./settings/access";
import { grantOf } from "./settings/tokenTypes";
import { userError } from "./settings/userError";

/** How long the TLS certificate may take to arrive. */
const THUMBPRINT_TIMEOUT_SECONDS = 10;

export interface OidcIssuerArgs {
  organization: pulumi.Input<string>;
  /** The name of the issuer in Pulumi Cloud. */
  name: pulumi.Input<string>;
  /** The cluster's OIDC issuer, `https://…`. */
  url: pulumi.Input<string>;
  /** Upper bound for the lifetime of every access token of this issuer, in seconds. */
  maxExpirationSeconds: number;
  /** At least one: an empty list would leave the previous policies in force. */
  policies: AllowPolicy[];
}

export type AllowPolicy = ReturnType<typeof allowPolicy>;

/**
 * Registers the cluster's OIDC issuer in a Pulumi organization, with its allow policies. Everything else stays denied.
 *
 * Another organization or URL replaces it. The new one is registered before the old one is deleted, so that the old one stays
 * in force if the new one is denied. The two do not collide: an organization rejects only a URL that it has already. Only a
 * replacement that someone forces, such as with `--target-replace`, has the same URL and fails, which changes nothing.
 *
 * @returns the issuer, whose policies are in force once it exists.
 */
export function createOidcIssuer(
  name: string,
  args: OidcIssuerArgs,
  options: pulumi.CustomResourceOptions,
): pulumiservice.OidcIssuer {
  return new pulumiservice.OidcIssuer(
    name,
    {
      organization: args.organization,
      name: args.name,
      url: args.url,
      maxExpirationSeconds: args.maxExpirationSeconds,
      policies: args.policies,
      thumbprints: pulumi.output(args.url).apply(readThumbprints),
    },
    {
      ...options,
      // What is registered stays: a rotated certificate changes nothing, and a refresh shows no drift.
      ignoreChanges: ["thumbprints"],
    },
  );
}

/**
 * Creates the provider of Pulumi Cloud, which sends the access token of the current login to `apiUrl`. The URL remains that
 * of the first update: the engine would send the requests for what exists to another one, and the issuer that is registered
 * at the old URL would remain in force, with its allow policies.
 *
 * @param apiUrl the origin that the login is for, as `loginProblems` checks.
 * @returns the provider. It, and what depends on it, fails with what to do if the URL has changed.
 */
export function createPulumiCloudProvider(
  name: string,
  apiUrl: string,
  options?: pulumi.ResourceOptions,
): pulumiservice.Provider {
  // The output of a Stash remains its first input. A changed one would only be an update in every preview.
  const deployed = new pulumi.Stash(
    `${name}.url`,
    { input: apiUrl },
    { ...options, ignoreChanges: ["input"] },
  );
  const sameUrl = deployed.output.apply((previous: string | undefined) => {
    if (previous === undefined || previous === apiUrl) return apiUrl;
    throw userError(
      `pulumiApiUrl is ${apiUrl}, but this stack was deployed with ${previous}, which would continue to grant access ` +
        "tokens.\n\n" +
        `  To move, set pulumiApiUrl to ${previous} again, log in to it, and run \`pulumi destroy\`. Then deploy to ` +
        `${apiUrl}.\n`,
    );
  });
  // Without an explicit URL, the provider uses the state backend as its API URL, such as file:// or s3://.
  return new pulumiservice.Provider(name, { apiUrl: sameUrl }, options);
}

/**
 * Builds the allow policy of one service account: who is granted an access token, and of which type.
 * https://www.pulumi.com/docs/administration/concepts/oidc-issuers/
 *
 * @returns the policy as data. Every rule has to match; the quotes in a key keep its dot from separating two names.
 */
export function allowPolicy(account: Account) {
  return {
    decision: "allow",
    ...grantOf(account),
    rules: {
      ...account.policyRules,
      '"kubernetes.io".namespace': account.namespace,
      '"kubernetes.io".serviceaccount.name': account.name,
      ...(account.audienceRule && { aud: account.tokenAudience }),
    },
  } satisfies pulumiservice.types.input.AuthPolicyDefinitionArgs;
}

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
        (process.env.NODE_EXTRA_CA_CERTS
          ? "The authorities in NODE_EXTRA_CA_CERTS do not count here. "
          : "") +
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
  const timeout = new Error(`no answer within ${THUMBPRINT_TIMEOUT_SECONDS} seconds`);
  const timer = setTimeout(() => socket.destroy(timeout), THUMBPRINT_TIMEOUT_SECONDS * 1000);
  try {
    await once(socket, "secureConnect");
    return socket.getPeerCertificate().fingerprint256.replaceAll(":", "").toLowerCase();
  } finally {
    clearTimeout(timer);
    socket.destroy();
  }
}
