// The EKS cluster: an existing one that is looked up, or a new one. The rest of the stack sees no difference.

import * as awsEks from "@pulumi/aws/eks";
import * as iam from "@pulumi/aws/iam";
import { Provider } from "@pulumi/kubernetes/provider";
import * as pulumi from "@pulumi/pulumi";
import { userError } from "./userError";

export interface Cluster {
  /** The cluster's OIDC issuer, `https://…`; a plain string if the cluster exists already. */
  issuerUrl: pulumi.Input<string>;
  /** The IAM OIDC provider of the issuer in this AWS account; undefined if it has to be created. */
  oidcProviderArn: string | undefined;
  /** Connects to this cluster only: no object can be created on a cluster whose issuer is not the trusted one. */
  kubeconfig: pulumi.Input<string>;
  /** The new cluster, which has to be complete before a pod can run. */
  created?: pulumi.Resource;
}

export interface ClusterArgs {
  clusterName: string;
  /** Creates the cluster instead of looking it up. */
  createCluster: boolean;
  /** Creates the IAM OIDC provider that the existing cluster lacks. */
  createOidcProvider: boolean;
  /** The AWS provider's own; undefined if it takes them from the environment. */
  awsRegion: string | undefined;
  awsProfile: string | undefined;
  awsRoleArn: string | undefined;
}

/**
 * Looks up the existing cluster, or creates the new one.
 *
 * @returns the cluster. Looking one up registers no resource.
 * @throws pulumi.RunError if the cluster or its IAM OIDC provider does not exist.
 */
export async function getCluster(name: string, args: ClusterArgs): Promise<Cluster> {
  return args.createCluster ? createCluster(name, args) : lookUpCluster(args);
}

/**
 * Registers what the stack needs to use a cluster.
 *
 * @returns the Kubernetes provider, and the ARN of the IAM OIDC provider, which is created if it does not exist.
 */
export function connectCluster(
  name: string,
  cluster: Cluster,
): {
  provider: Provider;
  oidcProviderArn: pulumi.Input<string>;
} {
  const { kubeconfig, created } = cluster;
  return {
    provider: new Provider(
      name,
      // ConfigMaps keep their names, which the manifests of other workloads contain.
      { kubeconfig, enableConfigMapMutable: true },
      { dependsOn: created ? [created] : [] },
    ),
    oidcProviderArn: cluster.oidcProviderArn ?? createOidcProvider(name, cluster),
  };
}

async function lookUpCluster(args: ClusterArgs): Promise<Cluster> {
  const { clusterName: name, awsRegion } = args;
  const region = awsRegion ? ` --region ${awsRegion}` : "";
  const cluster = await awsEks.getCluster({ name }).catch((error: Error) => {
    throw userError(
      `Failed to look up EKS cluster "${name}"${awsRegion ? ` in ${awsRegion}` : ""}: ${reason(error)}\n\n` +
        "  If the name is wrong:              pulumi config set clusterName CLUSTER\n" +
        "  If the region is wrong:            pulumi config set aws:region REGION\n" +
        "  If the cluster does not exist yet: pulumi config set createCluster true\n",
    );
  });
  const issuerUrl = cluster.identities[0]?.oidcs[0]?.issuer;
  const certificateAuthority = cluster.certificateAuthorities[0]?.data;
  if (!issuerUrl || !certificateAuthority) {
    throw userError(
      `EKS cluster "${name}" has no OIDC issuer yet; its status is ${cluster.status}. Wait until it is ACTIVE:\n\n` +
        `  aws eks wait cluster-active --name ${name}${region}\n`,
    );
  }
  return {
    issuerUrl,
    oidcProviderArn: args.createOidcProvider ? undefined : await lookUpOidcProvider(name, issuerUrl, region),
    kubeconfig: kubeconfig(args, cluster.endpoint, certificateAuthority),
  };
}

async function lookUpOidcProvider(clusterName: string, issuerUrl: string, region: string): Promise<string> {
  const provider = await iam.getOpenIdConnectProvider({ url: issuerUrl }).catch((error: Error) => {
    throw userError(
      `Failed to look up the IAM OIDC provider of EKS cluster "${clusterName}": ${reason(error)}\n\n` +
        "  To create it with this stack: pulumi config set createOidcProvider true\n" +
        `  To create it separately:      eksctl utils associate-iam-oidc-provider --cluster ${clusterName}${region} --approve\n`,
    );
  });
  return provider.arn;
}

function createOidcProvider(name: string, { issuerUrl, created }: Cluster): pulumi.Output<string> {
  const provider = new iam.OpenIdConnectProvider(
    name,
    { url: issuerUrl, clientIdLists: ["sts.amazonaws.com"] },
    // Roles of an existing cluster that other stacks created come to depend on it.
    { retainOnDelete: !created },
  );
  return provider.arn;
}

async function createCluster(name: string, args: ClusterArgs): Promise<Cluster> {
  // Loaded here only: it loads all of @pulumi/aws.
  const eks = await import("@pulumi/eks");
  const cluster = new eks.Cluster(name, {
    name: args.clusterName,
    // Access entries instead of the ConfigMap aws-auth, which would need the creator's credentials once more.
    authenticationMode: "API",
    instanceType: "t3.medium",
    desiredCapacity: 1,
    minSize: 1,
    maxSize: 2,
  });
  const { endpoint, certificateAuthority } = cluster.eksCluster;
  return {
    issuerUrl: cluster.oidcProviderUrl,
    oidcProviderArn: undefined,
    kubeconfig: pulumi
      .all([endpoint, certificateAuthority.data])
      .apply(([server, data]) => kubeconfig(args, server, data)),
    created: cluster,
  };
}

// As `aws eks update-kubeconfig` writes it, with the region, the profile, and the role of the AWS provider.
function kubeconfig(args: ClusterArgs, server: string, certificateAuthority: string): string {
  const { clusterName: name } = args;
  const options = { region: args.awsRegion, profile: args.awsProfile, "role-arn": args.awsRoleArn };
  const credentials = Object.entries(options).flatMap(([key, value]) => (value ? [`--${key}`, value] : []));
  const exec = {
    apiVersion: "client.authentication.k8s.io/v1beta1",
    command: "aws",
    args: ["eks", "get-token", "--cluster-name", name, "--output", "json", ...credentials],
  };
  return JSON.stringify({
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name, cluster: { server, "certificate-authority-data": certificateAuthority } }],
    users: [{ name, user: { exec } }],
    contexts: [{ name, context: { cluster: name, user: name } }],
    "current-context": name,
  });
}

// The engine puts the call in front of the provider's words.
function reason(error: Error): string {
  return error.message.replace(/^.*(returned an error|occurred):\s*(\* )?/s, "").trim();
}
