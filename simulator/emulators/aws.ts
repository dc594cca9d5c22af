// The emulated AWS account: its EKS cluster, IAM, and the STS call of a pod's AWS SDK.

import { createRemoteJWKSet, decodeJwt, errors, type JWTPayload, jwtVerify } from "jose";
import { type Decision, type Emulator, randomSuffix, storedKind } from "./emulator";
import { DISCOVERY_PATH } from "./issuer";

export interface AwsOptions {
  region: string;
  /** The issuer of the account's one cluster. */
  issuerUrl: string;
  /** The cluster that exists already; undefined if the stack creates it. */
  cluster: { name: string; hasOidcProvider: boolean; version?: string } | undefined;
}

export interface Aws extends Emulator {
  /** The URL of the cluster's API server, at which nothing listens. */
  endpoint: string;
  /** Asks STS for the credentials of a role, which may not exist. */
  assumeRoleWithWebIdentity(roleArn: string, idToken: string): Promise<Decision>;
}

/** Returns an account without roles. */
export function startAws({ region, issuerUrl, cluster }: AwsOptions): Aws {
  const arn = (resource: string) => `arn:aws:iam::123456789012:${resource}`;
  const clusterArn = (name: string) => `arn:aws:eks:${region}:123456789012:cluster/${name}`;
  const providerArn = (url: string) => arn(`oidc-provider/${url.replace("https://", "")}`);
  const endpoint = `https://${issuerUrl.slice(-32)}.gr7.${region}.eks.amazonaws.com`;
  const certificateAuthority = { data: Buffer.from("the cluster's authority").toString("base64") };

  const clusters = new Map<string, { name: string }>();
  const roles = new Map<string, { namePrefix: string; path?: string; assumeRolePolicy: TrustPolicy }>();
  const attachments = new Map<string, { role: string; policyArn: string }>();
  const oidcProviders = new Map<string, { url: string; clientIdLists: string[] }>();
  if (cluster) clusters.set(cluster.name, cluster);
  if (cluster?.hasOidcProvider) {
    oidcProviders.set(providerArn(issuerUrl), { url: issuerUrl, clientIdLists: ["sts.amazonaws.com"] });
  }
  // jose keeps the keys of an issuer, as STS does.
  let keys: Promise<ReturnType<typeof createRemoteJWKSet>> | undefined;

  return {
    endpoint,
    existing: () => [clusters, roles, attachments, oidcProviders].flatMap((store) => [...store.keys()]),
    resources: {
      "aws:iam/role:Role": storedKind(
        roles,
        ["namePrefix", "path"],
        // The provider's unique suffix has 26 characters: hashicorp/terraform-plugin-sdk, helper/id/id.go.
        ({ namePrefix }) => `${namePrefix}${String(Date.now()).padEnd(26, randomSuffix())}`,
        (id, inputs) => ({
          ...inputs,
          assumeRolePolicy: JSON.stringify(inputs.assumeRolePolicy),
          name: id,
          arn: arn(`role${inputs.path ?? "/"}${id}`),
        }),
      ),
      "aws:iam/rolePolicyAttachment:RolePolicyAttachment": storedKind(
        attachments,
        ["role", "policyArn"],
        ({ role, policyArn }) => `${role}/${policyArn}`,
      ),
      "aws:iam/openIdConnectProvider:OpenIdConnectProvider": storedKind(
        oidcProviders,
        ["url"],
        ({ url }) => providerArn(url),
        (id, inputs) => ({ ...inputs, arn: id }),
      ),
      // The component of @pulumi/eks has some thirty resources. This is only what the program uses of it.
      "eks:index:Cluster": storedKind(
        clusters,
        ["name"],
        ({ name }) => name,
        (name) => ({
          eksCluster: { name, arn: clusterArn(name), endpoint, certificateAuthority },
          oidcProviderUrl: issuerUrl,
        }),
      ),
    },
    calls: {
      "aws:eks/getCluster:getCluster": {
        answer({ name }: { name: string }) {
          if (!clusters.has(name)) throw new Error(`reading EKS Cluster (${name}): couldn't find resource`);
          const certificateAuthorities = [certificateAuthority];
          const identities = [{ oidcs: [{ issuer: issuerUrl }] }];
          return {
            name,
            arn: clusterArn(name),
            region,
            endpoint,
            status: "ACTIVE",
            version: cluster?.version ?? "1.36",
            certificateAuthorities,
            identities,
          };
        },
      },
      "aws:iam/getOpenIdConnectProvider:getOpenIdConnectProvider": {
        answer({ url }: { url: string }) {
          const id = providerArn(url);
          if (oidcProviders.has(id)) return { id, arn: id, url: url.replace("https://", "") };
          throw new Error(`reading IAM OIDC Provider (${url}): couldn't find resource`);
        },
      },
    },
    async assumeRoleWithWebIdentity(roleArn, idToken) {
      const role = roles.get(roleArn.split("/").pop() ?? "");
      if (!role) return { allowed: false, reason: "no such role" };
      const issuer = String(decodeJwt(idToken).iss);
      const federated = providerArn(issuer);
      const provider = oidcProviders.get(federated);
      if (!provider) return { allowed: false, reason: "no IAM OIDC provider for this issuer" };
      try {
        keys ??= discoverKeys(issuerUrl);
        const { payload } = await jwtVerify(idToken, await keys, { issuer, audience: provider.clientIdLists });
        return evaluateTrustPolicy(role.assumeRolePolicy, federated, payload);
      } catch (error) {
        if (!(error instanceof errors.JOSEError)) throw error;
        return { allowed: false, reason: `the ID token is invalid: ${error.message}` };
      }
    },
  };
}

async function discoverKeys(issuerUrl: string): Promise<ReturnType<typeof createRemoteJWKSet>> {
  const response = await fetch(`${issuerUrl}${DISCOVERY_PATH}`);
  const { jwks_uri } = (await response.json()) as { jwks_uri: string };
  return createRemoteJWKSet(new URL(jwks_uri));
}

interface TrustPolicy {
  Statement: {
    Effect: string;
    Principal: { Federated?: string };
    Action: string;
    Condition?: Record<string, Record<string, string>>;
  }[];
}

/**
 * Evaluates a role's trust policy for a verified ID token. Of IAM's condition operators it knows StringEquals:
 * https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
 *
 * @param federated the ARN of the IAM OIDC provider that the token was verified with.
 * @param claims of the token.
 */
export function evaluateTrustPolicy(policy: TrustPolicy, federated: string, claims: JWTPayload): Decision {
  let reason = "the trust policy does not name the IAM OIDC provider of this issuer";
  for (const { Effect, Principal, Action, Condition = {} } of policy.Statement) {
    if (Effect !== "Allow" || Action !== "sts:AssumeRoleWithWebIdentity") continue;
    if (Principal.Federated !== federated) continue;

    const { StringEquals = {}, ...others } = Condition;
    const [operator] = Object.keys(others);
    if (operator) throw new Error(`the emulated IAM does not know the condition operator ${operator}`);
    const failed = Object.entries(StringEquals).filter(
      ([key, expected]) => !claimValues(claims, key).includes(expected),
    );
    if (failed.length === 0) return { allowed: true, reason: "the trust policy allows it" };
    reason = `the trust policy requires another ${failed.map(([key]) => key.split(":").pop()).join(" and ")}`;
  }
  return { allowed: false, reason };
}

// A condition key begins with the issuer, without `https://`.
function claimValues(claims: JWTPayload, key: string): string[] {
  const issuer = claims.iss?.replace("https://", "");
  if (key === `${issuer}:sub`) return [claims.sub ?? []].flat();
  return key === `${issuer}:aud` ? [claims.aud ?? []].flat() : [];
}
