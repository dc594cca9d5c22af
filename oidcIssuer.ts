// Pulumi Cloud's side: it trusts the cluster's OIDC issuer, and its allow policy says whose token buys which access token.

import { ADDRCONFIG } from "node:dns";
import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import { connect } from "node:tls";
import * as pulumi from "@pulumi/pulumi";
import * as pulumiservice from "@pulumi/pulumiservice";
import { userError } from "./userError";

/** The access tokens that the policy allows, one kind at a time. */
export type AllowedToken =
  | { tokenType: "personal"; userLogin: string }
  | { tokenType: "organization"; organizationAdmin: boolean }
  | { tokenType: "team"; teamName: string }
  | { tokenType: "runner"; runnerId: string };

export interface AllowPolicyArgs {
  token: AllowedToken;
  namespace: string;
  serviceAccountName: string;
  /** The audience that the id token must have, or undefined where any will do. */
  audience: string | undefined;
  /** Further claims with the patterns that they must match. */
  rules: Record<string, string>;
}

export interface OidcIssuerArgs {
  organization: string;
  name: string;
  /** The cluster's OIDC issuer, `https://…`. */
  url: pulumi.Input<string>;
  /** SHA-256 of the issuer's serving certificates, in lower-case hex. */
  thumbprints: pulumi.Input<string[]>;
  /** Upper bound for every access token of this issuer. */
  maxExpirationSeconds: number;
  policy: AllowPolicyArgs;
  /** Where Pulumi Cloud is. */
  apiUrl: string;
}

/**
 * Registers the cluster's OIDC issuer in a Pulumi organization, with one allow policy. All else stays denied.
 *
 * The access token that this takes comes from the environment or from `pulumi login`, and stays there.
 *
 * @returns the issuer, whose policy is in force once it exists.
 */
export function createOidcIssuer(args: OidcIssuerArgs): pulumiservice.OidcIssuer {
  // Without a URL of its own the provider would take the state's backend for its API, such as file:// or s3://.
  const provider = new pulumiservice.Provider("pulumi-cloud", { apiUrl: args.apiUrl });

  return new pulumiservice.OidcIssuer(
    "oidc-issuer",
    {
      organization: args.organization,
      name: args.name,
      url: args.url,
      maxExpirationSeconds: args.maxExpirationSeconds,
      thumbprints: args.thumbprints,
      // An empty list would leave the policies of before in force.
      policies: [allowPolicy(args.policy)],
    },
    // An organization knows each URL once, so that the new registration has to wait for the old one to go.
    { provider, deleteBeforeReplace: true },
  );
}

/**
 * Builds the allow policy: who gets an access token, and of what kind.
 * https://www.pulumi.com/docs/administration/access-identity/oidc-issuers/
 *
 * @returns the policy as data. Every rule has to match; the quotes in a key keep the dot out of the path.
 */
export function allowPolicy(args: AllowPolicyArgs) {
  return {
    decision: "allow",
    ...grant(args.token),
    rules: {
      ...args.rules,
      '"kubernetes.io".namespace': args.namespace,
      '"kubernetes.io".serviceaccount.name': args.serviceAccountName,
      ...(args.audience !== undefined && { aud: args.audience }),
    },
  } satisfies pulumiservice.types.input.AuthPolicyDefinitionArgs;
}

function grant(token: AllowedToken) {
  switch (token.tokenType) {
    case "personal":
      return { tokenType: token.tokenType, userLogin: token.userLogin };
    case "team":
      return { tokenType: token.tokenType, teamName: token.teamName };
    case "runner":
      return { tokenType: token.tokenType, runnerID: token.runnerId };
    case "organization":
      // An empty list of permissions would read back as absent, and show as drift.
      return {
        tokenType: token.tokenType,
        ...(token.organizationAdmin && { authorizedPermissions: ["admin" as const] }),
      };
  }
}

/**
 * Gives the thumbprints to register: the configured ones or, for want of any, those of the issuer as it serves now.
 * They are always registered, so that a rotated certificate is a change that a preview shows and an update mends.
 *
 * @param configured SHA-256 in lower-case hex.
 * @param issuerUrl a plain text is read at once, an output when it is known.
 * @returns the configured thumbprints as they are; those that are read sorted, each once.
 * @throws pulumi.RunError when a certificate cannot be read or does not verify: nothing unverified is ever trusted.
 */
export async function getThumbprints(
  configured: string[],
  issuerUrl: pulumi.Input<string>,
): Promise<pulumi.Input<string[]>> {
  if (configured.length > 0) return configured;
  return typeof issuerUrl === "string"
    ? readThumbprints(issuerUrl)
    : pulumi.output(issuerUrl).apply(readThumbprints);
}

const CONNECTION_SECONDS = 10;

// Each address may serve a certificate of its own, and Pulumi Cloud may meet any of them.
async function readThumbprints(issuerUrl: string): Promise<string[]> {
  const { hostname, port } = new URL(issuerUrl);
  const host = hostname.replace(/^\[|\]$/g, "");
  // ADDRCONFIG: a machine without IPv6 cannot read from an address of IPv6, and need not.
  const addresses = await lookup(host, { all: true, hints: ADDRCONFIG }).catch((error: Error) => error);
  const results = Array.isArray(addresses)
    ? await Promise.all(
        addresses.map(({ address }) =>
          readThumbprint(host, address, Number(port || 443)).catch((error: Error) => error),
        ),
      )
    : [addresses];

  const failures = results.filter((result) => result instanceof Error);
  if (failures.length > 0) {
    throw userError(
      `The serving certificate of ${issuerUrl} cannot be trusted:\n\n` +
        failures.map(({ message }) => `  ${message}\n`).join("") +
        "\nRun this where the issuer can be reached and its certificate verifies, or name the SHA-256 that you trust:\n\n" +
        "  pulumi config set --path 'thumbprints[0]' SHA256\n",
    );
  }
  return [...new Set(results.filter((result) => typeof result === "string"))].sort();
}

function readThumbprint(host: string, address: string, port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    // A server name may not be an IP address; without one the certificate must name the address itself.
    const name = isIP(host) === 0 ? { servername: host } : {};
    // Said aloud, or NODE_TLS_REJECT_UNAUTHORIZED could switch it off.
    const socket = connect({ host: address, port, ...name, rejectUnauthorized: true });
    const timeout = setTimeout(
      () => socket.destroy(new Error(`no answer within ${CONNECTION_SECONDS} seconds`)),
      CONNECTION_SECONDS * 1000,
    );
    socket.once("close", () => clearTimeout(timeout));
    socket.once("error", (error) => reject(new Error(`${address} port ${port}: ${error.message}`)));
    socket.once("secureConnect", () => {
      resolve(socket.getPeerCertificate().fingerprint256.replaceAll(":", "").toLowerCase());
      socket.destroy();
    });
  });
}
