// AWS of the simulation: the account's cluster and its OIDC issuer, IAM, and the STS call that a pod's SDK makes.

import { createRemoteJWKSet, decodeJwt, errors, type JWTPayload, jwtVerify } from "jose";
import { type Emulator, randomSuffix } from "./emulator";

export interface AwsOptions {
  region: string;
  /** The issuer of the account's one cluster. */
  issuerUrl: string;
  /** The cluster that exists already; undefined where the stack makes it. */
  cluster: { name: string; hasOidcProvider: boolean } | undefined;
}

export interface Aws extends Emulator {
  /** Where the cluster's API server would be, as a kubeconfig names it. */
  endpoint: string;
  /**
   * Asks STS to let the bearer of an id token assume a role, as the AWS SDK in a pod does.
   *
   * @param roleArn a role that the stack made.
   * @param token an id token.
   * @returns whether the role's trust policy lets the bearer in, and why not.
   */
  assumeRoleWithWebIdentity(roleArn: string, token: string): Promise<{ allowed: boolean; reason: string }>;
}

interface RoleInputs {
  namePrefix?: string;
  path?: string;
  /** JSON, or the same as data: the provider makes one of the other. */
  assumeRolePolicy: string | TrustPolicy;
}

interface AttachmentInputs {
  role: string;
  policyArn: string;
}

interface OidcProviderInputs {
  url: string;
  clientIdLists: string[];
}

interface ClusterInputs {
  name: string;
}

const ACCOUNT = "123456789012";

/** Starts an account with no roles. It asks nobody, but for the issuer's keys when a token is shown to STS. */
export function startAws({ region, issuerUrl, cluster }: AwsOptions): Aws {
  const partition = region.startsWith("cn-") ? "aws-cn" : region.startsWith("us-gov-") ? "aws-us-gov" : "aws";
  const arn = (resource: string) => `arn:${partition}:iam::${ACCOUNT}:${resource}`;
  const providerArn = (url: string) => arn(`oidc-provider/${url.replace("https://", "")}`);
  const endpoint = `https://${issuerUrl.slice(-32)}.gr7.${region}.eks.amazonaws.com`;

  const certificateAuthority = { data: Buffer.from("the cluster's authority").toString("base64") };

  const clusters = new Set<string>();
  const roles = new Map<string, RoleInputs>();
  const attachments = new Map<string, AttachmentInputs>();
  const oidcProviders = new Map<string, OidcProviderInputs>();

  const putRole = (id: string, inputs: RoleInputs) => {
    roles.set(id, inputs);
    const assumeRolePolicy = JSON.stringify(trustPolicyOf(inputs));
    return { ...inputs, assumeRolePolicy, name: id, arn: arn(`role${inputs.path ?? "/"}${id}`) };
  };
  const addOidcProvider = (inputs: OidcProviderInputs) => {
    const id = providerArn(inputs.url);
    if (oidcProviders.has(id)) {
      throw new Error(
        `creating IAM OIDC Provider: EntityAlreadyExists: Provider with url ${inputs.url} already exists.`,
      );
    }
    oidcProviders.set(id, inputs);
    return id;
  };
  if (cluster) clusters.add(cluster.name);
  if (cluster?.hasOidcProvider) addOidcProvider({ url: issuerUrl, clientIdLists: ["sts.amazonaws.com"] });

  const resources: Emulator["resources"] = {
    "aws:iam/role:Role": {
      replaceOn: ["name", "namePrefix", "path"],
      async create(name, inputs: RoleInputs) {
        // The provider's unique suffix: hashicorp/terraform-plugin-sdk, helper/id/id.go.
        const { namePrefix = `${name}-` } = inputs;
        const id = `${namePrefix}${Date.now()}${randomSuffix()}`.padEnd(namePrefix.length + 26, "0");
        if (id.length > 64)
          throw new Error(`creating IAM Role (${id}): the name is longer than 64 characters`);
        return { id, outputs: putRole(id, inputs) };
      },
      update: async (id, inputs: RoleInputs) => putRole(id, inputs),
      read: (id) => roles.get(id),
      delete: (id) => void roles.delete(id),
    },
    "aws:iam/rolePolicyAttachment:RolePolicyAttachment": {
      replaceOn: ["role", "policyArn"],
      async create(_name, inputs: AttachmentInputs) {
        if (!roles.has(inputs.role))
          throw new Error(`attaching policy: NoSuchEntity: no role ${inputs.role}`);
        const id = `${inputs.role}/${inputs.policyArn}`;
        attachments.set(id, inputs);
        return { id, outputs: inputs };
      },
      update: async (_id, inputs) => inputs,
      read: (id) => attachments.get(id),
      delete: (id) => void attachments.delete(id),
    },
    "aws:iam/openIdConnectProvider:OpenIdConnectProvider": {
      replaceOn: ["url"],
      async create(_name, inputs: OidcProviderInputs) {
        const id = addOidcProvider(inputs);
        return { id, outputs: { ...inputs, arn: id } };
      },
      async update(id, inputs: OidcProviderInputs) {
        oidcProviders.set(id, inputs);
        return { ...inputs, arn: id };
      },
      read: (id) => oidcProviders.get(id),
      delete: (id) => void oidcProviders.delete(id),
    },
    // The component of @pulumi/eks makes some thirty resources. Here it is only what the rest of the stack takes of it.
    "eks:index:Cluster": {
      replaceOn: ["name"],
      async create(_name, { name }: ClusterInputs) {
        clusters.add(name);
        return {
          id: name,
          outputs: { eksCluster: { endpoint, certificateAuthority }, oidcProviderUrl: issuerUrl },
        };
      },
      update: async (_id, inputs) => inputs,
      read: (id) => (clusters.has(id) ? { name: id } : undefined),
      delete: (id) => void clusters.delete(id),
    },
  };

  const calls: Emulator["calls"] = {
    "aws:eks/getCluster:getCluster": {
      answer({ name }: ClusterInputs) {
        if (!clusters.has(name)) throw new Error(`reading EKS Cluster (${name}): couldn't find resource`);
        return {
          name,
          region,
          endpoint,
          status: "ACTIVE",
          certificateAuthorities: [certificateAuthority],
          identities: [{ oidcs: [{ issuer: issuerUrl }] }],
        };
      },
    },
    "aws:iam/getOpenIdConnectProvider:getOpenIdConnectProvider": {
      answer({ url }: OidcProviderInputs) {
        const id = providerArn(url);
        if (!oidcProviders.has(id))
          throw new Error(`reading IAM OIDC Provider (${url}): couldn't find resource`);
        return { id, arn: id, url: url.replace("https://", "") };
      },
    },
  };

  return {
    resources,
    calls,
    endpoint,
    existing: () => [...clusters, ...roles.keys(), ...attachments.keys(), ...oidcProviders.keys()],
    async assumeRoleWithWebIdentity(roleArn, token) {
      const role = roles.get(roleArn.split("/").pop() ?? "");
      if (!role) return { allowed: false, reason: "no such role" };
      const issuer = String(decodeJwt(token).iss);
      const provider = oidcProviders.get(providerArn(issuer));
      if (!provider) return { allowed: false, reason: "no IAM OIDC provider for this issuer" };
      try {
        // The keys are where EKS has them; STS finds them through the discovery document.
        const keys = createRemoteJWKSet(new URL(`${issuer}/keys`));
        const audience = provider.clientIdLists;
        const { payload } = await jwtVerify(token, keys, { issuer, audience, algorithms: ["RS256"] });
        return evaluateTrustPolicy(trustPolicyOf(role), providerArn(issuer), payload);
      } catch (error) {
        if (!(error instanceof errors.JOSEError)) throw error;
        return { allowed: false, reason: REFUSALS[error.code] ?? error.message };
      }
    },
  };
}

const REFUSALS: Record<string, string> = {
  ERR_JWT_EXPIRED: "the token has expired",
  ERR_JWT_CLAIM_VALIDATION_FAILED: "the IAM OIDC provider wants another aud",
  ERR_JWS_SIGNATURE_VERIFICATION_FAILED: "the signature does not verify",
};

function trustPolicyOf({ assumeRolePolicy }: RoleInputs): TrustPolicy {
  return typeof assumeRolePolicy === "string" ? JSON.parse(assumeRolePolicy) : assumeRolePolicy;
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
 * Evaluates a role's trust policy for a verified id token. Of IAM's condition operators it knows StringEquals and
 * StringLike: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
 *
 * @param federated the ARN of the IAM OIDC provider that the token was verified with.
 * @param claims of the token; its issuer, without `https://`, is in front of each condition key.
 */
export function evaluateTrustPolicy(
  policy: TrustPolicy,
  federated: string,
  claims: JWTPayload,
): { allowed: boolean; reason: string } {
  let reason = "the trust policy names another IAM OIDC provider";
  for (const { Effect, Principal, Action, Condition = {} } of policy.Statement) {
    if (Effect !== "Allow" || Action !== "sts:AssumeRoleWithWebIdentity") continue;
    if (Principal.Federated !== federated) continue;

    const failing = Object.entries(Condition).flatMap(([operator, keys]) =>
      Object.entries(keys)
        .filter(([key, expected]) => !holds(operator, expected, claimOf(claims, key)))
        .map(([key]) => key.split(":").pop()),
    );
    if (failing.length === 0) return { allowed: true, reason: "the trust policy allows it" };
    reason = `the trust policy wants another ${failing.join(" and ")}`;
  }
  return { allowed: false, reason };
}

function claimOf(claims: JWTPayload, key: string): string[] {
  const issuer = claims.iss?.replace("https://", "");
  if (key === `${issuer}:sub`) return claims.sub === undefined ? [] : [claims.sub];
  if (key === `${issuer}:aud`) return [claims.aud ?? []].flat();
  return [];
}

function holds(operator: string, expected: string, values: string[]): boolean {
  if (operator === "StringEquals") return values.includes(expected);
  if (operator !== "StringLike") throw new Error(`the emulated IAM has no condition operator ${operator}`);
  const escaped = expected.replace(/[.+^${}()|[\]\\]/g, "\\$&");
  const pattern = new RegExp(`^${escaped.replaceAll("*", ".*").replaceAll("?", ".")}$`, "s");
  return values.some((value) => pattern.test(value));
}
