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
  /** `https://…` */
  url: pulumi.Input<string>;
  /** Upper bound for the lifetime of every access token of this issuer, in seconds. */
  maxExpirationSeconds: number;
  /** At least one: an empty list would leave the previous policies in force. */
  policies: AllowPolicy[];
}

export type AllowPolicy = pulumiservice.types.input.AuthPolicyDefinitionArgs;

/**
 * Registers an OIDC issuer in a Pulumi organization, with its allow policies. Everything else stays denied.
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

/** Where a stack or a component is deployed. */
export interface Place {
  pulumiApiUrl: string;
  organization?: pulumi.Input<string>;
  clusterName?: string;
  /** `true` or `false`: a created cluster has another issuer, or is deleted. */
  createCluster?: string;
  /** The cluster's OIDC issuer, `https://…`. */
  issuerUrl?: pulumi.Input<string> | undefined;
}

/** What the Stash of each value is named after. */
const STASH_NAMES: Record<string, string> = {
  pulumiApiUrl: "url",
  organization: "organization",
  clusterName: "cluster-name",
  createCluster: "create-cluster",
  issuerUrl: "issuer-url",
};

/**
 * Keeps the place where a stack or a component was first deployed, and requires that it is still there. Everything that must
 * not change at another place depends on the result.
 *
 * A move cannot be undone: if one resource fails at the new place, both places have an issuer with the same policies, and
 * the way back deletes what both have, such as a live service account.
 *
 * @param name of the resources, such as that of the provider of Pulumi Cloud.
 * @param place its values are known in a preview, except outputs of resources that are still to be created.
 * @param component the name of the component. Without it, the whole stack stays.
 * @returns what to pass as `dependsOn`. It fails, with what to do, if a value differs from the first one.
 */
export function stayWhereDeployed(
  name: string,
  place: Place,
  component?: string,
  options?: pulumi.CustomResourceOptions,
): pulumi.Input<pulumi.Resource>[] {
  const unmoved: pulumi.Output<pulumi.Resource>[] = [];
  for (const [setting, current] of Object.entries(place)) {
    if (current === undefined) continue;
    // The output of a Stash remains its first input. A changed one would only be an update in every preview.
    // One after the other: an update that stops must not keep a first value of the other place.
    const stash = new pulumi.Stash(
      `${name}.${STASH_NAMES[setting]}`,
      { input: current },
      { ...options, dependsOn: [...unmoved], ignoreChanges: ["input"] },
    );
    // Each value is compared separately: an unknown one must not hide that another one has changed.
    const compared = pulumi.output({ current, first: stash.output }).apply(({ current, first }) => {
      // A Stash that this update does not create, such as with --target, has no output.
      const hasMoved = first !== undefined && first !== current;
      if (hasMoved) throw userError(moveMessage({ setting, current, first }, component));
      return stash;
    });
    unmoved.push(compared);
  }
  return unmoved;
}

interface Move {
  setting: string;
  current: string;
  first: string;
}

function moveMessage({ setting, current, first }: Move, component: string | undefined): string {
  // `pulumi destroy` does not run the program, which would stop a token of another Pulumi Cloud.
  const restored = setting === "pulumiApiUrl" ? `restore it, log in to ${first}` : "restore it";
  const difference = `  ${setting} = "${current}": deployed with "${first}"`;

  const [title, ...ways] = component
    ? [
        `PulumiCloudAccess "${component}" stays where it was deployed. None of its resources was changed.`,
        "  To stay, restore the previous value.",
        `  To move, ${restored}, remove the component from the program, and run \`pulumi up\`. Then add it again with the ` +
          "new value. For a whole stack, run `pulumi destroy` instead.",
      ]
    : [
        "This stack stays where it was deployed. Nothing was changed.",
        "  To stay, restore the previous value.",
        `  To move, ${restored}, and run \`pulumi destroy\`. Then deploy the stack with the new value.`,
        "  To have both, restore it, and create another stack with the new value.",
      ];
  // The stack has no such setting.
  const isLookedUp = !component && setting === "issuerUrl";
  const cause = isLookedUp
    ? ["  The AWS account or region is another one, or the cluster was deleted and created again.", ""]
    : [];
  return [title, "", difference, "", ...cause, ...ways, ""].join("\n");
}

/**
 * Creates the provider of Pulumi Cloud, which sends the access token of the current login to `apiUrl`.
 *
 * @param apiUrl the origin that the login is for, as `loginProblems` checks.
 * @param options `dependsOn` the result of `stayWhereDeployed`: with a changed URL, the engine would send the requests for
 *   what exists to another Pulumi Cloud.
 */
export function createPulumiCloudProvider(
  name: string,
  apiUrl: string,
  options: pulumi.ResourceOptions,
): pulumiservice.Provider {
  // Without an explicit URL, the provider uses the state backend as its API URL, such as file:// or s3://.
  return new pulumiservice.Provider(name, { apiUrl }, options);
}

/**
 * Builds the allow policy of one service account: who is granted an access token, and of which type.
 * https://www.pulumi.com/docs/administration/concepts/oidc-issuers/
 *
 * @returns the policy as data. Every rule has to match; the quotes in a key keep its dot from separating two names.
 */
export function allowPolicy(account: Account): AllowPolicy {
  return {
    decision: "allow",
    ...grantOf(account),
    rules: {
      ...account.policyRules,
      '"kubernetes.io".namespace': account.namespace,
      '"kubernetes.io".serviceaccount.name': account.name,
      ...(account.audienceRule && { aud: account.tokenAudience }),
    },
  };
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
