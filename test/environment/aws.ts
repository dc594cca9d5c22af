// The emulated AWS account: its EKS cluster, and what the program creates in IAM.

import { type Emulator, type ResourceKind, randomSuffix, storedKind } from "./emulator";

export interface AwsOptions {
  /** The ID of the account, with 12 digits. */
  account?: string;
  region: string;
  /** The issuer of the cluster of the stack. Any other one is that of another cluster, without an IAM OIDC provider. */
  issuerUrl: string;
  /** The cluster that exists already; undefined if the stack creates it. */
  cluster: { name: string; hasOidcProvider: boolean; version?: string } | undefined;
}

export interface Aws extends Emulator {
  /** The URL of the cluster's API server, at which nothing listens. */
  endpoint: string;
}

interface Role {
  namePrefix: string;
  path?: string;
  assumeRolePolicy: object;
  forceDetachPolicies?: boolean;
}

interface Association {
  clusterName: string;
  namespace: string;
  serviceAccount: string;
  roleArn: string;
}

/** The newest version of Kubernetes on EKS that the program knows. */
const KUBERNETES_VERSION = "1.36";

/**
 * What the provider notes beside inputs. It and the defaults are as recorded by pulumi-eks: tests/testdata/recorded. An association for
 * EKS Pod Identity has neither: its part of the provider is another one (pkg/pf in pulumi-terraform-bridge).
 */
const NOTED = { __defaults: [] };

/** Returns an OIDC issuer as IAM names it: its URL without `https://`. */
function issuerInIam(url: string): string {
  return url.replace("https://", "");
}

/** Returns an account without roles. */
export function startAws({ account = "123456789012", region, issuerUrl, cluster }: AwsOptions): Aws {
  const arn = (resource: string) => `arn:aws:iam::${account}:${resource}`;
  const clusterArn = (name: string) => `arn:aws:eks:${region}:${account}:cluster/${name}`;
  const providerArn = (url: string) => arn(`oidc-provider/${issuerInIam(url)}`);
  const endpoint = `https://${issuerUrl.slice(-32)}.gr7.${region}.eks.amazonaws.com`;
  const certificateAuthority = { data: Buffer.from("the cluster's authority").toString("base64") };

  const clusters = new Map<string, { name: string; version?: string }>();
  const addons = new Map<string, { clusterName: string; addonName: string }>();
  const associations = new Map<string, Association>();
  const roles = new Map<string, Role>();
  const attachments = new Map<string, { role: string; policyArn: string }>();
  const oidcProviders = new Map<string, { url: string; clientIdLists: string[] }>();
  const stores = [clusters, addons, associations, roles, attachments, oidcProviders];
  if (cluster) clusters.set(cluster.name, cluster);
  if (cluster?.hasOidcProvider) {
    oidcProviders.set(providerArn(issuerUrl), { url: issuerUrl, clientIdLists: ["sts.amazonaws.com"] });
  }

  const oidcProvider = storedKind(
    oidcProviders,
    ({ url }) => providerArn(url),
    (id, inputs) => ({ ...inputs, arn: id }),
  );
  const resources: Record<string, ResourceKind> = {
    "aws:iam/role:Role": {
      check: (inputs) => ({ ...NOTED, maxSessionDuration: 3600, path: "/", ...inputs }),
      ...storedKind(
        roles,
        // The provider's unique suffix has 26 characters: hashicorp/terraform-plugin-sdk, helper/id/id.go.
        ({ namePrefix }) => `${namePrefix}${String(Date.now()).padEnd(26, randomSuffix())}`,
        (id, inputs) => ({
          ...inputs,
          assumeRolePolicy: JSON.stringify(inputs.assumeRolePolicy),
          name: id,
          arn: arn(`role${inputs.path ?? "/"}${id}`),
        }),
      ),
      // hashicorp/terraform-provider-aws, internal/service/iam/role.go at 0040ea6911af00bea2cca6dbb14e86829826ad8e (DeleteRole). Not
      // emulated: policies that a refresh has read are detached, too.
      delete(id) {
        const attached = [...attachments].filter(([, { role }]) => role === id).map(([it]) => it);
        if (attached.length > 0 && !roles.get(id)?.forceDetachPolicies) {
          const reason = "DeleteConflict: Cannot delete entity, must detach all policies first.";
          throw new Error(`error deleting IAM Role (${id}): ${reason}`);
        }
        for (const it of attached) attachments.delete(it);
        roles.delete(id);
      },
    },
    "aws:iam/rolePolicyAttachment:RolePolicyAttachment": {
      check: (inputs) => ({ ...NOTED, ...inputs }),
      ...storedKind(attachments, ({ role, policyArn }) => `${role}/${policyArn}`),
    },
    "aws:iam/openIdConnectProvider:OpenIdConnectProvider": {
      ...oidcProvider,
      // https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateOpenIDConnectProvider.html
      async create(name, inputs: { url: string; clientIdLists: string[] }) {
        if (oidcProviders.has(providerArn(inputs.url))) {
          throw new Error(
            "creating IAM OIDC Provider: EntityAlreadyExists: Provider with this URL already exists.",
          );
        }
        return oidcProvider.create(name, inputs);
      },
    },
    // hashicorp/terraform-provider-aws, internal/service/eks/pod_identity_association.go at
    // 00a35305dc1b297a6fcdecdfbba33f1e63c3da39. The service's words: https://github.com/aws/eks-hybrid/pull/679.
    "aws:eks/podIdentityAssociation:PodIdentityAssociation": storedKind(
      associations,
      ({ clusterName, namespace, serviceAccount }) => {
        const id = `${clusterName},${namespace}/${serviceAccount}`;
        if (!associations.has(id)) return id;
        const reason = `ResourceInUseException: Association already exists: ${id}`;
        throw new Error(`creating EKS Pod Identity Association: ${reason}`);
      },
      (id, inputs) => ({ ...inputs, associationId: id }),
    ),
    "aws:eks/addon:Addon": storedKind(addons, ({ clusterName, addonName }) => `${clusterName}:${addonName}`),
    // The component of @pulumi/eks has some thirty resources. This is only what the program uses of it.
    "eks:index:Cluster": storedKind(
      clusters,
      ({ name }) => name,
      (name) => ({
        eksCluster: { name, arn: clusterArn(name), endpoint, certificateAuthority },
        oidcProviderUrl: issuerUrl,
      }),
    ),
  };

  const calls: Emulator["calls"] = {
    "aws:eks/getCluster:getCluster": {
      answer({ name }: { name: string }) {
        const found = clusters.get(name);
        if (!found) throw new Error(`reading EKS Cluster (${name}): couldn't find resource`);
        return {
          name,
          arn: clusterArn(name),
          region,
          endpoint,
          status: "ACTIVE",
          version: found.version ?? KUBERNETES_VERSION,
          certificateAuthorities: [certificateAuthority],
          identities: [{ oidcs: [{ issuer: issuerUrl }] }],
        };
      },
    },
    "aws:index/getRegion:getRegion": { answer: () => ({ region }) },
    "aws:iam/getOpenIdConnectProvider:getOpenIdConnectProvider": {
      answer({ url }: { url: string }) {
        const id = providerArn(url);
        if (oidcProviders.has(id)) return { id, arn: id, url: issuerInIam(url) };
        throw new Error(`reading IAM OIDC Provider (${url}): couldn't find resource`);
      },
    },
  };

  return { endpoint, resources, calls, existing: () => stores.flatMap((store) => [...store.keys()]) };
}
