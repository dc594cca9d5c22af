// An organization in Pulumi Cloud trusts an OIDC issuer, such as the cluster's, and policies say who is granted which access token.

import * as pulumi from "@pulumi/pulumi";
import * as pulumiservice from "@pulumi/pulumiservice";
import type { Account } from "./settings/account";
import {
  AUDIENCE_RULE,
  type AuthPolicy,
  NAME_RULE,
  NAMESPACE_RULE,
  TOKEN_TYPES,
} from "./settings/tokenTypes";
import { readThumbprints } from "./thumbprint";

export interface OidcIssuerArgs {
  organization: pulumi.Input<string>;
  /** The name of the issuer in Pulumi Cloud. */
  name: pulumi.Input<string>;
  /** `https://…` */
  url: pulumi.Input<string>;
  /** Upper bound for the lifetime of every access token of this issuer, in seconds. */
  maxExpirationSeconds: number;
  /** At least one: an empty list would leave the previous policies in force. */
  policies: AuthPolicy[];
}

/**
 * Registers an OIDC issuer in a Pulumi organization, with its policies. Everything else stays denied.
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

/** Until the SDK has this version or a later one: an older provider rejects the `roleID` of an allow policy. */
const PROVIDER_VERSION = "1.5.0";

/**
 * Creates the provider of Pulumi Cloud, which sends the access token of the current login to `apiUrl`.
 *
 * @param apiUrl the origin that the login is for, as `loginProblems` checks.
 * @param options `dependsOn` the result of `requireFirstPlace`: with a changed URL, the engine would send the requests for
 *   what exists to another Pulumi Cloud.
 */
export function createPulumiCloudProvider(
  name: string,
  apiUrl: string,
  options: pulumi.ResourceOptions,
): pulumiservice.Provider {
  // Without an explicit URL, the provider uses the state backend as its API URL, such as file:// or s3://.
  return new pulumiservice.Provider(name, { apiUrl }, { ...options, version: PROVIDER_VERSION });
}

/**
 * Builds the policy of one service account: who is granted an access token, and of which type, or while the entry is suspended, denied.
 * "When a token's claims match more than one policy, deny wins": https://github.com/pulumi/docs/pull/20481
 *
 * @param audienceRule whether the audience of the ID token has to match, too. Kubernetes writes it as a list, and whether a rule
 *   matches one of its elements is not documented.
 * @returns the policy as data.
 */
export function policyOf(account: Account, audienceRule: boolean): AuthPolicy {
  return {
    // Not left out while it is suspended: without the last policy, the list would be empty, and the previous one would stay in force.
    decision: account.suspended ? "deny" : "allow",
    tokenType: account.tokenType,
    ...TOKEN_TYPES[account.tokenType].grant(account),
    rules: {
      ...account.policyRules,
      [NAMESPACE_RULE]: account.namespace,
      [NAME_RULE]: account.name,
      ...(audienceRule && { [AUDIENCE_RULE]: account.tokenAudience }),
    },
  };
}
