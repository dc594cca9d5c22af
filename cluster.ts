// The EKS cluster: one that exists, which is looked up first, or a new one. The rest of the stack sees no difference.

import * as awsEks from "@pulumi/aws/eks";
import { getRegion } from "@pulumi/aws/getRegion";
import * as iam from "@pulumi/aws/iam";
import { Provider } from "@pulumi/kubernetes/provider";
import * as pulumi from "@pulumi/pulumi";
import type { Account } from "./settings/account";
import type { ClusterConfig, ClusterInputs } from "./settings/cluster";
import { visible } from "./settings/problems";
import { providerMessage, userError } from "./settings/userError";

/** The first version with MutatingAdmissionPolicy v1: https://github.com/kubernetes/enhancements/issues/3962 */
const VERSION_WITH_ADMISSION_POLICIES = "1.36";

/** The version of a created cluster, with which docs/configuration.md and .ci/kubernetes change. */
const NEW_CLUSTER_VERSION = "1.36";

/** A cluster, with the provider that connects only to it, so that no object is created on one whose issuer is not trusted. */
type Cluster = ClusterInputs & { kubernetesProvider: Provider };

/** What is known of the cluster before anything is registered. */
export interface FoundCluster {
  /** The AWS region in use, whatever it comes from. */
  region: string;
  /** Missing if the cluster is still to be created. */
  existing?: ExistingCluster;
}

/** A cluster that exists. */
export interface ExistingCluster {
  arn: string;
  /** OIDC issuer of the cluster, `https://…`. */
  issuerUrl: string;
  /** URL of its API server. */
  endpoint: string;
  /** The authority of its API server's certificate, in Base64. */
  certificateAuthority: string;
  /** Its IAM OIDC provider, if an IRSA role requires it and the stack does not create it. */
  oidcProviderArn?: string | undefined;
}

/**
 * Looks up the cluster, or where a new one will be. Creates nothing.
 *
 * @param accounts of the stack, which say what else the cluster must have.
 * @throws pulumi.RunError if the cluster or its IAM OIDC provider does not exist, if the cluster is too old, or if there is no AWS
 *   region for a new one.
 */
export async function findCluster(config: ClusterConfig, accounts: Account[]): Promise<FoundCluster> {
  if (config.createCluster) return { region: await regionOfNewCluster() };

  const { clusterName, createOidcProvider } = config;
  const cluster = await awsEks.getCluster({ name: clusterName }).catch(async (error: Error) => {
    const where = await getRegion().then(
      ({ region }) => ` in ${visible(region)}`,
      () => "",
    );
    throw userError(
      `Failed to look up EKS cluster "${clusterName}"${where}: ${providerMessage(error)}\n\n` +
        "  If the name is wrong, correct clusterName.\n" +
        "  If the region is wrong, correct aws:region.\n" +
        "  If the cluster does not exist yet, set createCluster to true.\n",
    );
  });
  const issuerUrl = cluster.identities[0]?.oidcs[0]?.issuer;
  const certificateAuthority = cluster.certificateAuthorities[0]?.data;
  if (!issuerUrl || !certificateAuthority) {
    throw userError(
      `EKS cluster "${clusterName}" has no OIDC issuer yet. Its status is ${cluster.status}: wait until it is ACTIVE.`,
    );
  }
  if (accounts.some(({ injectToken }) => injectToken)) requireAdmissionPolicies(config, cluster.version);
  const mustExist = useIrsa(accounts) && !createOidcProvider;
  const oidcProviderArn = mustExist ? await lookUpOidcProvider(config, issuerUrl) : undefined;

  const { arn, endpoint, region } = cluster;
  return { region, existing: { arn, issuerUrl, endpoint, certificateAuthority, oidcProviderArn } };
}

/**
 * Registers the Kubernetes provider of a cluster that exists, and with `createOidcProvider` its IAM OIDC provider, which is retained:
 * other stacks can create roles that depend on it.
 *
 * @param existing as `findCluster` returns it.
 */
export function useCluster(
  name: string,
  config: ClusterConfig,
  existing: ExistingCluster,
  options: pulumi.ResourceOptions,
): Cluster {
  const { arn, issuerUrl, endpoint, certificateAuthority } = existing;
  const kubeconfig = kubeconfigOf(config, endpoint, certificateAuthority);
  const kubernetesProvider = createKubernetesProvider(name, { issuerUrl, kubeconfig }, options);
  const oidcProviderArn = config.createOidcProvider
    ? registerOidcProvider(name, issuerUrl, { ...options, retainOnDelete: true })
    : existing.oidcProviderArn;
  return { clusterArn: arn, issuerUrl, oidcProviderArn, kubernetesProvider };
}

/**
 * Creates a small cluster, its Kubernetes provider, and what the service accounts require of it.
 *
 * @param accounts of the stack.
 */
export async function createCluster(
  name: string,
  config: ClusterConfig,
  accounts: Account[],
  options: pulumi.ResourceOptions,
): Promise<Cluster> {
  // Loaded here only: it loads all of @pulumi/aws.
  const eks = await import("@pulumi/eks");
  const cluster = new eks.Cluster(
    `eks-${name}`,
    {
      name: config.clusterName,
      // Access entries instead of the ConfigMap aws-auth, which would need the creator's credentials again.
      authenticationMode: "API",
      // Always, or injectToken would change the version of a cluster that exists.
      version: NEW_CLUSTER_VERSION,
      instanceType: "t3.medium",
      desiredCapacity: 1,
      minSize: 1,
      maxSize: 2,
    },
    options,
  );
  const { arn, endpoint, certificateAuthority } = cluster.eksCluster;
  const issuerUrl = cluster.oidcProviderUrl;

  // A pod can run once the whole cluster exists, and receives its role once the agent runs.
  const complete: pulumi.Resource[] = [cluster];
  if (accounts.some(({ awsRole }) => awsRole === "pod-identity")) {
    const addonName = "eks-pod-identity-agent";
    const args = { clusterName: cluster.eksCluster.name, addonName };
    complete.push(new awsEks.Addon(addonName, args, { dependsOn: cluster }));
  }

  const kubeconfig = pulumi
    .all([endpoint, certificateAuthority.data])
    .apply(([server, authority]) => kubeconfigOf(config, server, authority));
  const kubernetesProvider = createKubernetesProvider(
    name,
    { issuerUrl, kubeconfig },
    { ...options, dependsOn: complete },
  );
  const oidcProviderArn = useIrsa(accounts) ? registerOidcProvider(name, issuerUrl, options) : undefined;
  return { clusterArn: arn, issuerUrl, oidcProviderArn, kubernetesProvider };
}

/** Returns the region of a new cluster. The configuration does not say: the provider also reads AWS_REGION and the profile. */
async function regionOfNewCluster(): Promise<string> {
  const { region } = await getRegion().catch((error: Error) => {
    throw userError(
      `Failed to look up the AWS region of the new EKS cluster: ${providerMessage(error)}\n\n` +
        "  If there is none, set aws:region.\n",
    );
  });
  return region;
}

/** Returns whether a service account has an IRSA role, for which the cluster's issuer must be an IAM OIDC provider. */
function useIrsa(accounts: Account[]): boolean {
  return accounts.some(({ awsRole }) => awsRole === "irsa");
}

function requireAdmissionPolicies({ clusterName }: ClusterConfig, version: string): void {
  const order = version.localeCompare(VERSION_WITH_ADMISSION_POLICIES, "en", { numeric: true });
  if (order >= 0) return;
  throw userError(
    `EKS cluster "${clusterName}" has Kubernetes ${version}, but injectToken requires ` +
      `${VERSION_WITH_ADMISSION_POLICIES} or later.\n\n` +
      "  To use injectToken, upgrade the cluster.\n" +
      "  To use the cluster as it is, remove injectToken from every entry of serviceAccounts, and use the manifests in docs/workloads.md.\n",
  );
}

async function lookUpOidcProvider({ clusterName }: ClusterConfig, issuerUrl: string): Promise<string> {
  const provider = await iam.getOpenIdConnectProvider({ url: issuerUrl }).catch((error: Error) => {
    throw userError(
      `Failed to look up the IAM OIDC provider of EKS cluster "${clusterName}": ${providerMessage(error)}\n\n` +
        "  To create it with this stack, set createOidcProvider to true.\n" +
        "  If no workload uses AWS, remove awsRole and rolePolicyArns from every entry of serviceAccounts.\n" +
        "  If the cluster uses EKS Pod Identity, set awsRole to pod-identity.\n",
    );
  });
  return provider.arn;
}

function registerOidcProvider(
  name: string,
  url: pulumi.Input<string>,
  options: pulumi.CustomResourceOptions,
): pulumi.Output<string> {
  return new iam.OpenIdConnectProvider(name, { url, clientIdLists: ["sts.amazonaws.com"] }, options).arn;
}

function createKubernetesProvider(
  name: string,
  { issuerUrl, kubeconfig }: { issuerUrl: pulumi.Input<string>; kubeconfig: pulumi.Input<string> },
  options: pulumi.ResourceOptions,
): Provider {
  return new Provider(
    name,
    {
      kubeconfig,
      // The issuer identifies the cluster: a renewed endpoint or authority replaces nothing.
      // https://www.pulumi.com/registry/packages/kubernetes/api-docs/provider/
      clusterIdentifier: issuerUrl,
      // ConfigMaps keep their names, which the manifests of other workloads contain.
      enableConfigMapMutable: true,
      // Explicit, so that PULUMI_K8S_UPSERT_EXISTING_OBJECTS cannot let the stack adopt, and later delete, what exists.
      upsertExistingObjects: false,
    },
    options,
  );
}

// As `aws eks update-kubeconfig` writes it, with the region, the profile, and the role of the AWS provider.
function kubeconfigOf(
  { clusterName: name, aws }: ClusterConfig,
  server: string,
  certificateAuthority: string,
): string {
  const options = Object.entries(aws).flatMap(([key, value]) => (value ? [`--${key}`, value] : []));
  const exec = {
    apiVersion: "client.authentication.k8s.io/v1beta1",
    command: "aws",
    args: ["eks", "get-token", "--cluster-name", name, "--output", "json", ...options],
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
