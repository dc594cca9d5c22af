// The Pulumi Cloud side: it trusts the cluster's OIDC issuer, and its allow policies say which service account is granted
// which access token.

import { once } from "node:events";
import { isIP } from "node:net";
import { connect } from "node:tls";
import * as pulumi from "@pulumi/pulumi";
import * as pulumiservice from "@pulumi/pulumiservice";
import type { AccountConfig } from "./config";

/** The service account, the owner of its access token, and the claims that its ID token must have. */
export type AllowPolicyArgs = Pick<
  AccountConfig,
  "namespace" | "name" | "token" | "audienceRule" | "tokenAudience" | "policyRules"
>;

export interface OidcIssuerArgs {
  organization: string;
  name: string;
  /** The cluster's OIDC issuer, `https://…`. */
  url: pulumi.Input<string>;
  thumbprints: Thumbprints;
  /** Upper bound for the lifetime of every access token of this issuer, in seconds. */
  maxExpirationSeconds: number;
  /** At least one: an empty list would leave the previous policies in force. */
  policies: AllowPolicy[];
  /** The URL of Pulumi Cloud. */
  apiUrl: string;
}

export type AllowPolicy = ReturnType<typeof allowPolicy>;

/**
 * Registers the cluster's OIDC issuer in a Pulumi organization, with its allow policies. Everything else stays denied.
 *
 * The access token that this requires comes from the environment or from `pulumi login`, and is not stored.
 *
 * @returns the issuer, whose policies are in force once it exists.
 */
export function createOidcIssuer(
  name: string,
  args: OidcIssuerArgs,
  options?: pulumi.CustomResourceOptions,
): pulumiservice.OidcIssuer {
  const { organization, url, maxExpirationSeconds, policies, thumbprints } = args;
  // Without an explicit URL the provider uses the state backend as its API URL, such as file:// or s3://.
  const provider = new pulumiservice.Provider(name, { apiUrl: args.apiUrl });

  return new pulumiservice.OidcIssuer(
    name,
    {
      organization,
      name: args.name,
      url,
      maxExpirationSeconds,
      policies,
      ...(thumbprints.values && { thumbprints: thumbprints.values }),
    },
    {
      ...options,
      provider,
      // An organization accepts each URL once, so the old registration has to be deleted first.
      deleteBeforeReplace: true,
      ignoreChanges: thumbprints.ignoreChanges ? ["thumbprints"] : [],
    },
  );
}

/**
 * Builds the allow policy of one service account: who is granted an access token, and of which type.
 * https://www.pulumi.com/docs/administration/access-identity/oidc-issuers/
 *
 * @returns the policy as data. Every rule has to match; the quotes in a key keep its dot from separating two names.
 */
export function allowPolicy(args: AllowPolicyArgs) {
  return {
    decision: "allow",
    ...tokenOf(args.token),
    rules: {
      ...args.policyRules,
      '"kubernetes.io".namespace': args.namespace,
      '"kubernetes.io".serviceaccount.name': args.name,
      ...(args.audienceRule && { aud: args.tokenAudience }),
    },
  } satisfies pulumiservice.types.input.AuthPolicyDefinitionArgs;
}

// A name that contains a dot is quoted; without the quotes it would be the path of another claim.
const CLAIM_PATH = /^(?!kubernetes\.io\.)("[^"]+"|[^".\s]+)(\.("[^"]+"|[^".\s]+))*$/;
const BUILT_IN_RULES = ["kubernetes.io.namespace", "kubernetes.io.serviceaccount.name", "aud"];

/** Returns whether `policyRules` can have this key: the path of a claim without a built-in rule, however it is quoted. */
export function isAdditionalClaim(path: unknown): boolean {
  return CLAIM_PATH.test(String(path)) && !BUILT_IN_RULES.includes(String(path).replaceAll('"', ""));
}

function tokenOf(token: AccountConfig["token"]) {
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

/** The thumbprints to register, in lowercase hex. */
export interface Thumbprints {
  /** Undefined leaves them to Pulumi Cloud. */
  values: pulumi.Input<string[] | undefined>;
  /** Keep what is registered once the issuer exists. */
  ignoreChanges: boolean;
}

/**
 * Returns the thumbprints to register: the configured ones, or the one of the issuer's TLS certificate. Pulumi Cloud
 * verifies the certificate itself, and compares thumbprints only if that fails; they are registered so that a refresh
 * shows no drift. https://www.pulumi.com/docs/administration/concepts/oidc-issuers/
 *
 * @param configured SHA-256 in lowercase hex.
 * @param issuerUrl a plain string is read at once. An output belongs to a new cluster: it is read for the creation only.
 * @returns the thumbprints. A certificate that cannot be read or verified is a warning: nothing unverified is registered.
 */
export async function getThumbprints(configured: string[], issuerUrl: pulumi.Input<string>): Promise<Thumbprints> {
  if (configured.length > 0) return { values: configured, ignoreChanges: false };
  if (typeof issuerUrl !== "string") {
    return { values: pulumi.output(issuerUrl).apply(readThumbprints), ignoreChanges: true };
  }
  const values = await readThumbprints(issuerUrl);
  return { values, ignoreChanges: values === undefined };
}

async function readThumbprints(issuerUrl: string): Promise<string[] | undefined> {
  try {
    return [await readThumbprint(issuerUrl)];
  } catch (error) {
    pulumi.log.warn(
      `Failed to read the TLS certificate of ${issuerUrl}: ${error instanceof Error ? error.message : error}. ` +
        "The thumbprint is left to Pulumi Cloud. For a new issuer, run `pulumi refresh` once after `pulumi up`; until " +
        "then, previews show `+ thumbprints`. To set it: pulumi config set --path 'thumbprints[0]' SHA256",
    );
    return undefined;
  }
}

const TIMEOUT_SECONDS = 10;

async function readThumbprint(issuerUrl: string): Promise<string> {
  const { hostname: host, port } = new URL(issuerUrl);
  const socket = connect({
    host,
    port: Number(port || 443),
    // A server name must not be an IP address.
    ...(isIP(host) === 0 && { servername: host }),
    // Explicit, so that NODE_TLS_REJECT_UNAUTHORIZED=0 cannot disable it.
    rejectUnauthorized: true,
  });
  const timeout = new Error(`no answer within ${TIMEOUT_SECONDS} seconds`);
  const timer = setTimeout(() => socket.destroy(timeout), TIMEOUT_SECONDS * 1000);
  try {
    await once(socket, "secureConnect");
    return socket.getPeerCertificate().fingerprint256.replaceAll(":", "").toLowerCase();
  } finally {
    clearTimeout(timer);
    socket.destroy();
  }
}
