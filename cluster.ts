// The cluster: an existing one that is read, or a new one. The rest of the stack sees no difference.

import * as awsEks from "@pulumi/aws/eks";
import * as iam from "@pulumi/aws/iam";
import { Provider } from "@pulumi/kubernetes/provider";
import type * as pulumi from "@pulumi/pulumi";
import { userError } from "./userError";

export interface Cluster {
  /** The cluster's OIDC issuer, `https://…`; a plain text where the cluster exists already. */
  issuerUrl: pulumi.Input<string>;
  /** The IAM OIDC provider that stands for the issuer in this AWS account; undefined where there is none yet. */
  oidcProviderArn: pulumi.Input<string> | undefined;
  /** Reaches this very cluster: no object can land on one whose issuer is not the trusted one. */
  kubeconfig: pulumi.Input<string>;
  /** What has to be there before a pod can run. */
  dependsOn: pulumi.Resource[];
}

export interface ClusterArgs {
  clusterName: string;
  /** Make the cluster instead of reading it. */
  createCluster: boolean;
  /** The existing cluster has no IAM OIDC provider yet: create it. */
  createOidcProvider: boolean;
  /** The AWS provider's own; undefined where it takes the environment's. */
  awsRegion: string | undefined;
  awsProfile: string | undefined;
}

/**
 * Reads the existing cluster, or makes the new one.
 *
 * @returns the cluster. Reading one registers nothing.
 * @throws pulumi.RunError when the cluster or its IAM OIDC provider is missing.
 */
export async function getCluster(args: ClusterArgs): Promise<Cluster> {
  return args.createCluster ? createCluster(args) : readCluster(args);
}

/**
 * Registers what the stack needs of a cluster beside the cluster itself.
 *
 * @returns the Kubernetes provider, and the IAM OIDC provider's ARN, which is created where it is missing.
 */
export function connectCluster(cluster: Cluster): {
  provider: Provider;
  oidcProviderArn: pulumi.Input<string>;
} {
  const { kubeconfig, dependsOn } = cluster;
  return {
    provider: new Provider("cluster", { kubeconfig }, { dependsOn }),
    oidcProviderArn: cluster.oidcProviderArn ?? createOidcProvider(cluster.issuerUrl),
  };
}

async function readCluster(args: ClusterArgs): Promise<Cluster> {
  const { clusterName: name, awsRegion } = args;
  const cluster = await awsEks.getCluster({ name }).catch((error: Error) => {
    throw userError(
      `The EKS cluster "${name}" cannot be read${awsRegion ? ` in ${awsRegion}` : ""}: ${reason(error)}\n\n` +
        "  another name:    pulumi config set clusterName CLUSTER\n" +
        "  another region:  pulumi config set aws:region REGION\n" +
        "  none exists yet: pulumi config set createCluster true\n",
    );
  });
  const issuerUrl = cluster.identities[0]?.oidcs[0]?.issuer;
  const certificateAuthority = cluster.certificateAuthorities[0]?.data;
  if (!issuerUrl || !certificateAuthority) {
    throw userError(
      `The EKS cluster "${name}" has no OIDC issuer; its status is ${cluster.status}. Wait until it is ACTIVE:\n\n` +
        `  aws eks wait cluster-active --name ${name}\n`,
    );
  }
  return {
    issuerUrl,
    oidcProviderArn: args.createOidcProvider ? undefined : await readOidcProvider(name, issuerUrl),
    kubeconfig: JSON.stringify(kubeconfig(args, cluster.endpoint, certificateAuthority)),
    dependsOn: [],
  };
}

async function readOidcProvider(clusterName: string, issuerUrl: string): Promise<string> {
  const provider = await iam.getOpenIdConnectProvider({ url: issuerUrl }).catch((error: Error) => {
    throw userError(
      `The EKS cluster "${clusterName}" has no IAM OIDC provider that can be read: ${reason(error)}\n\n` +
        "  create it with this stack: pulumi config set createOidcProvider true\n" +
        `  or beside it:              eksctl utils associate-iam-oidc-provider --cluster ${clusterName} --approve\n`,
    );
  });
  return provider.arn;
}

function createOidcProvider(url: pulumi.Input<string>): pulumi.Output<string> {
  const provider = new iam.OpenIdConnectProvider(
    "oidc-provider",
    { url, clientIdLists: ["sts.amazonaws.com"] },
    // Every other role of the cluster's service accounts comes to depend on it.
    { retainOnDelete: true },
  );
  return provider.arn;
}

async function createCluster({ clusterName, awsProfile }: ClusterArgs): Promise<Cluster> {
  // Loaded only here: it loads all of @pulumi/aws.
  const eks = await import("@pulumi/eks");
  const cluster = new eks.Cluster("eks-cluster", {
    name: clusterName,
    createOidcProvider: true,
    instanceType: "t3.medium",
    desiredCapacity: 1,
    minSize: 1,
    maxSize: 2,
    ...(awsProfile && { providerCredentialOpts: { profileName: awsProfile } }),
  });
  return {
    issuerUrl: cluster.oidcProviderUrl,
    oidcProviderArn: cluster.oidcProviderArn,
    kubeconfig: cluster.kubeconfigJson,
    dependsOn: [cluster],
  };
}

// As `aws eks update-kubeconfig` writes it, with the region and the profile of the AWS provider.
function kubeconfig(args: ClusterArgs, server: string, certificateAuthority: string) {
  const { clusterName: name, awsRegion, awsProfile } = args;
  const region = awsRegion ? ["--region", awsRegion] : [];
  const profile = awsProfile ? ["--profile", awsProfile] : [];
  const exec = {
    apiVersion: "client.authentication.k8s.io/v1beta1",
    command: "aws",
    args: ["eks", "get-token", "--cluster-name", name, "--output", "json", ...region, ...profile],
  };
  return {
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name, cluster: { server, "certificate-authority-data": certificateAuthority } }],
    users: [{ name, user: { exec } }],
    contexts: [{ name, context: { cluster: name, user: name } }],
    "current-context": name,
  };
}

// The engine puts the call in front of what the provider said.
function reason(error: Error): string {
  return error.message.replace(/^.*(returned an error|occurred):\s*(\* )?/s, "").trim();
}
