// The emulated AWS account: its EKS cluster, and what the program creates in IAM.

import { type Emulator, randomSuffix, storedKind } from "./emulator";

export interface AwsOptions {
  region: string;
  /** The issuer of the cluster. */
  issuerUrl: string;
  /** The cluster that exists already, with its IAM OIDC provider; undefined if the stack creates it. */
  cluster: { name: string } | undefined;
}

const arn = (resource: string) => `arn:aws:iam::123456789012:${resource}`;
/** IAM names an issuer without `https://`. */
const providerArn = (url: unknown) => arn(`oidc-provider/${String(url).replace("https://", "")}`);
const certificateAuthority = { data: Buffer.from("the cluster's authority").toString("base64") };

/** Returns an account without roles. */
export function startAws({ region, issuerUrl, cluster }: AwsOptions): Emulator {
  const stored = new Map<string, Record<string, unknown>>();
  if (cluster) {
    stored.set(cluster.name, cluster);
    stored.set(providerArn(issuerUrl), { url: issuerUrl });
  }
  const clusterOutputs = (name: string) => {
    const endpoint = `https://${issuerUrl.slice(-32)}.gr7.${region}.eks.amazonaws.com`;
    return { name, arn: `arn:aws:eks:${region}:123456789012:cluster/${name}`, endpoint };
  };
  return {
    existing: () => [...stored.keys()],
    resources: {
      "aws:iam/role:Role": storedKind(
        stored,
        // The provider's unique suffix has 26 characters: hashicorp/terraform-plugin-sdk, helper/id/id.go.
        ({ namePrefix }) => `${namePrefix}${String(Date.now()).padEnd(26, randomSuffix())}`,
        (id, inputs) => ({ ...inputs, name: id, arn: arn(`role${inputs.path ?? "/"}${id}`) }),
      ),
      "aws:iam/rolePolicyAttachment:RolePolicyAttachment": storedKind(
        stored,
        ({ role, policyArn }) => `${role}/${policyArn}`,
      ),
      "aws:iam/openIdConnectProvider:OpenIdConnectProvider": storedKind(
        stored,
        ({ url }) => providerArn(url),
        (id, inputs) => ({ ...inputs, arn: id }),
      ),
      "aws:eks/podIdentityAssociation:PodIdentityAssociation": storedKind(
        stored,
        ({ clusterName, namespace, serviceAccount }) => `${clusterName},${namespace}/${serviceAccount}`,
      ),
      // The component of @pulumi/eks has some thirty resources. This is only what programs use of it.
      "eks:index:Cluster": storedKind(
        stored,
        ({ name }) => String(name),
        (name) => ({
          eksCluster: { ...clusterOutputs(name), certificateAuthority },
          oidcProviderUrl: issuerUrl,
          oidcProviderArn: providerArn(issuerUrl),
        }),
      ),
    },
    calls: {
      "aws:eks/getCluster:getCluster": {
        answer({ name }: { name: string }) {
          if (!stored.has(name)) throw new Error(`reading EKS Cluster (${name}): couldn't find resource`);
          return {
            ...clusterOutputs(name),
            region,
            status: "ACTIVE",
            version: "1.36",
            certificateAuthorities: [certificateAuthority],
            identities: [{ oidcs: [{ issuer: issuerUrl }] }],
          };
        },
      },
      "aws:index/getRegion:getRegion": { answer: () => ({ region }) },
      "aws:iam/getOpenIdConnectProvider:getOpenIdConnectProvider": {
        answer: ({ url }: { url: string }) => ({ arn: providerArn(url) }),
      },
    },
  };
}
