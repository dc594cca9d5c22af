// The EKS cluster: an existing one that is looked up, or a new one. The rest of the stack sees no difference.

import * as awsEks from "@pulumi/aws/eks";
import { getRegion } from "@pulumi/aws/getRegion";
import * as iam from "@pulumi/aws/iam";
import { Provider } from "@pulumi/kubernetes/provider";
import * as pulumi from "@pulumi/pulumi";
import type { Account } from "./settings/account";
import type { ClusterConfig, ClusterInputs } from "./settings/cluster";
import { visible } from "./settings/problems";
import { providerMessage, userError } from "./settings/userError";

/** The first version with MutatingAdmissionPolicy v1, and that of a created cluster: https://github.com/kubernetes/enhancements/issues/3962 */
const VERSION_WITH_ADMISSION_POLICIES = "1.36";

/** A cluster, with the provider that connects only to it, so that no object is created on one whose issuer is not trusted. */
type Cluster = ClusterInputs & { kubernetesProvider: Provider };

/** The cluster, before anything of it is registered. */
export interface PreparedCluster {
  /** The AWS region in use, whatever it comes from. */
  region: string;
  /** The OIDC issuer, if the cluster exists already. */
  issuerUrl?: string;
  /** Creates what does not exist, and registers the Kubernetes provider. */
  register(name: string, options: pulumi.ResourceOptions): Cluster;
}

/**
 * Looks up a cluster that exists. Creates nothing.
 *
 * @param accounts of the stack, which say what else the cluster must have.
 * @returns the cluster, to be registered. The IAM OIDC provider that it creates with `createOidcProvider` is retained.
 * @throws pulumi.RunError if the cluster or its IAM OIDC provider does not exist, or the cluster is too old.
 */
export async function existingCluster(config: ClusterConfig, accounts: Account[]): Promise<PreparedCluster> {
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
  const existingProviderArn = mustExist ? await lookUpOidcProvider(config, issuerUrl) : undefined;

  return {
    region: cluster.region,
    issuerUrl,
    register(name, options) {
      const kubernetesProvider = createKubernetesProvider(
        name,
        { issuerUrl, kubeconfig: kubeconfigOf(config, cluster.endpoint, certificateAuthority) },
        options,
      );
      // Other stacks can create roles that depend on the provider of an existing cluster.
      const retained = { ...options, retainOnDelete: true };
      const oidcProviderArn = createOidcProvider
        ? registerOidcProvider(name, issuerUrl, retained)
        : existingProviderArn;
      return { clusterArn: cluster.arn, issuerUrl, oidcProviderArn, kubernetesProvider };
    },
  };
}

/**
 * Prepares a small cluster. Creates nothing.
 *
 * @param accounts of the stack, which say what else the cluster must have.
 * @returns the cluster, to be registered.
 * @throws pulumi.RunError if there is no AWS region.
 */
export async function newCluster(config: ClusterConfig, accounts: Account[]): Promise<PreparedCluster> {
  // Loaded here only: it loads all of @pulumi/aws.
  const eks = await import("@pulumi/eks");

  // The configuration does not say: the provider also reads AWS_REGION and the profile.
  const { region } = await getRegion().catch((error: Error) => {
    throw userError(
      `Failed to look up the AWS region of the new EKS cluster: ${providerMessage(error)}\n\n` +
        "  If there is none, set aws:region.\n",
    );
  });

  return {
    region,
    register(name, options) {
      const cluster = new eks.Cluster(
        `eks-${name}`,
        {
          name: config.clusterName,
          // Access entries instead of the ConfigMap aws-auth, which would need the creator's credentials again.
          authenticationMode: "API",
          // Always, or injectToken would change the version of a cluster that exists.
          version: VERSION_WITH_ADMISSION_POLICIES,
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
        complete.push(
          new awsEks.Addon(
            addonName,
            { clusterName: cluster.eksCluster.name, addonName },
            { dependsOn: cluster },
          ),
        );
      }

      const connection = pulumi.all([endpoint, certificateAuthority.data]);
      const kubernetesProvider = createKubernetesProvider(
        name,
        {
          issuerUrl,
          kubeconfig: connection.apply(([server, authority]) => kubeconfigOf(config, server, authority)),
        },
        { ...options, dependsOn: complete },
      );
      const oidcProviderArn = useIrsa(accounts) ? registerOidcProvider(name, issuerUrl, options) : undefined;
      return { clusterArn: arn, issuerUrl, oidcProviderArn, kubernetesProvider };
    },
  };
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
