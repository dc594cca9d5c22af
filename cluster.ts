// The EKS cluster: an existing one that is looked up, or a new one. The rest of the stack sees no difference.

import * as awsEks from "@pulumi/aws/eks";
import * as iam from "@pulumi/aws/iam";
import { Provider } from "@pulumi/kubernetes/provider";
import * as pulumi from "@pulumi/pulumi";
import * as v from "valibot";
import type { StackConfig } from "./config";
import { list } from "./settings";
import { userError } from "./userError";

export interface Cluster {
  /** The cluster's OIDC issuer, `https://…`; a plain string if the cluster exists already. */
  issuerUrl: pulumi.Input<string>;
  /** The IAM OIDC provider of the issuer in this AWS account; undefined if it has to be created. */
  oidcProviderArn: string | undefined;
  /** Connects only to this cluster, so that no object is created on a cluster whose issuer is not trusted. */
  kubeconfig: pulumi.Input<string>;
  /** The new cluster, which has to be complete before a pod can run. */
  created?: pulumi.Resource;
}

export type ClusterArgs = Pick<StackConfig, "clusterName" | "createCluster" | "createOidcProvider" | "aws">;

const UNSUPPORTED =
  "not supported by `aws eks get-token`, which signs in to the cluster; use aws:profile, or one role without an external " +
  "ID in aws:assumeRoles";
const unsupported = v.optional(v.never(UNSUPPORTED));

/**
 * The AWS provider's configuration, a string for each `aws:KEY`, as options of the AWS CLI; undefined if they come from the
 * environment.
 */
export const awsSchema = v.pipe(
  v.object({
    "aws:region": v.optional(v.string()),
    "aws:profile": v.optional(v.string()),
    "aws:assumeRoles": v.optional(
      v.pipe(
        list(v.object({ roleArn: v.string(UNSUPPORTED), externalId: unsupported }, UNSUPPORTED), '[{"roleArn":"ARN"}]'),
        v.maxLength(1, UNSUPPORTED),
      ),
      [],
    ),
    "aws:assumeRoleWithWebIdentity": unsupported,
    "aws:accessKey": unsupported,
    "aws:secretKey": unsupported,
    "aws:token": unsupported,
  }),
  v.transform((aws) => ({
    region: aws["aws:region"],
    profile: aws["aws:profile"],
    "role-arn": aws["aws:assumeRoles"][0]?.roleArn,
  })),
);

export type AwsOptions = v.InferOutput<typeof awsSchema>;

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
export function connectCluster(name: string, cluster: Cluster) {
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
  const { clusterName: name, aws } = args;
  const options = ["", ...cliOptions({ ...aws, "role-arn": undefined })].join(" ");
  const cluster = await awsEks.getCluster({ name }).catch((error: Error) => {
    throw userError(
      `Failed to look up EKS cluster "${name}"${aws.region ? ` in ${aws.region}` : ""}: ${reason(error)}\n\n` +
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
        `  aws eks wait cluster-active --name ${name}${options}\n`,
    );
  }
  return {
    issuerUrl,
    oidcProviderArn: args.createOidcProvider ? undefined : await lookUpOidcProvider(name, issuerUrl, options),
    kubeconfig: kubeconfig(args, cluster.endpoint, certificateAuthority),
  };
}

async function lookUpOidcProvider(clusterName: string, issuerUrl: string, options: string): Promise<string> {
  const provider = await iam.getOpenIdConnectProvider({ url: issuerUrl }).catch((error: Error) => {
    throw userError(
      `Failed to look up the IAM OIDC provider of EKS cluster "${clusterName}": ${reason(error)}\n\n` +
        "  To create it with this stack: pulumi config set createOidcProvider true\n" +
        `  To create it separately:      eksctl utils associate-iam-oidc-provider --cluster ${clusterName}${options} --approve\n`,
    );
  });
  return provider.arn;
}

function createOidcProvider(name: string, { issuerUrl, created }: Cluster): pulumi.Output<string> {
  const provider = new iam.OpenIdConnectProvider(
    name,
    { url: issuerUrl, clientIdLists: ["sts.amazonaws.com"] },
    // Other stacks can create roles that depend on the provider of an existing cluster.
    { retainOnDelete: !created },
  );
  return provider.arn;
}

async function createCluster(name: string, args: ClusterArgs): Promise<Cluster> {
  // Loaded here only: it loads all of @pulumi/aws.
  const eks = await import("@pulumi/eks");
  const cluster = new eks.Cluster(name, {
    name: args.clusterName,
    // Access entries instead of the ConfigMap aws-auth, which would need the creator's credentials again.
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
  const exec = {
    apiVersion: "client.authentication.k8s.io/v1beta1",
    command: "aws",
    args: ["eks", "get-token", "--cluster-name", name, "--output", "json", ...cliOptions(args.aws)],
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

function cliOptions(options: AwsOptions): string[] {
  return Object.entries(options).flatMap(([key, value]) => (value ? [`--${key}`, value] : []));
}

/** Returns the error message of a provider without the prefix that the engine adds. */
export function reason(error: Error): string {
  return error.message.replace(/^.*(returned an error|occurred):\s*(\* )?/s, "").trim();
}
