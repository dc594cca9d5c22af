// The AWS side: GitHub as an IAM OIDC provider, the role that trusts it, and its access to the clusters.

import * as eks from "@pulumi/aws/eks";
import * as iam from "@pulumi/aws/iam";
import type * as pulumi from "@pulumi/pulumi";
import { issuerInIam } from "../iam";
import { providerMessage, userError } from "../settings/userError";
import { ISSUER_URL, type Settings } from "./config";

/** What exists in AWS before this stack does. */
interface Existing {
  /** Each cluster, with the namespaces of all stacks on it. */
  clusters: (eks.GetClusterResult & { namespaces: string[] })[];
  /** GitHub's IAM OIDC provider; undefined if this stack creates it, or has no cluster. */
  oidcProviderArn: string | undefined;
}

/**
 * Looks up what must exist, all at the same time.
 *
 * @throws pulumi.RunError that lists everything that cannot be read, and every cluster that cannot have access entries.
 */
export async function lookUp({ stacks, githubOidcProvider }: Settings): Promise<Existing> {
  const onClusters = stacks.filter(hasCluster);
  const byCluster = new Map(onClusters.map((stack) => [`${stack.region}.${stack.clusterName}`, stack]));
  const clusters = [...byCluster.values()].map(async ({ clusterName, region }) => {
    const onIt = onClusters.filter((stack) => stack.clusterName === clusterName && stack.region === region);
    const namespaces = [...new Set(onIt.flatMap((stack) => stack.namespaces))];
    return { ...(await lookUpCluster(clusterName, region)), namespaces };
  });
  // Only a role trusts it, and without clusters there is none.
  const isUsed = byCluster.size > 0 && githubOidcProvider === "existing";
  const oidcProviderArn = isUsed ? lookUpOidcProvider() : undefined;

  const settled = await Promise.allSettled([...clusters, oidcProviderArn]);
  const messages = settled.flatMap((it) => (it.status === "rejected" ? [(it.reason as Error).message] : []));
  if (messages.length > 0) throw userError(messages.join("\n"));
  return { clusters: await Promise.all(clusters), oidcProviderArn: await oidcProviderArn };
}

/** Returns whether the cluster of a stack is in the AWS account of this pipeline stack. */
export function hasCluster<Stack extends Settings["stacks"][number]>(
  stack: Stack,
): stack is Stack & { clusterName: string; region: string } {
  return stack.clusterName !== undefined;
}

async function lookUpCluster(name: string, region: string): Promise<eks.GetClusterResult> {
  const what = `EKS cluster "${name}" in ${region}`;
  const cluster = await eks.getCluster({ name, region }).catch((error: Error) => {
    throw new Error(
      `Failed to look up ${what}: ${providerMessage(error)}\n\n` +
        "  Correct its clusterName or region in stacks, or use AWS credentials of its account.\n",
    );
  });
  if (cluster.accessConfigs[0]?.authenticationMode === "CONFIG_MAP") {
    throw new Error(`${what} has no access entries: its authentication mode must be API_AND_CONFIG_MAP.`);
  }
  return cluster;
}

async function lookUpOidcProvider(): Promise<string> {
  const provider = await iam.getOpenIdConnectProvider({ url: ISSUER_URL }).catch((error: Error) => {
    throw new Error(
      `Failed to look up the IAM OIDC provider of GitHub: ${providerMessage(error)}\n\n` +
        "  If the account has none, set githubOidcProvider to create.\n",
    );
  });
  return provider.arn;
}

/**
 * The Kubernetes group of the workflows, for what belongs to no namespace: clusterRole.yaml has its ClusterRole. Without `viewPolicy`,
 * role.yaml has its Role in a namespace. The access policies of EKS that can read admission policies can read every Secret, too.
 * https://docs.aws.amazon.com/eks/latest/userguide/access-policy-permissions.html
 */
const READERS = "eks-pulumi-oidc-preview";

/**
 * Creates the role of the workflows, with access to the clusters. All of it can only read.
 *
 * @param options of the first resources, which all others wait for.
 */
export function createPreviewRole(
  settings: Settings,
  { clusters, oidcProviderArn }: Existing,
  options: pulumi.CustomResourceOptions,
): iam.Role {
  const provider = { url: ISSUER_URL, clientIdLists: ["sts.amazonaws.com"] };
  // An account has only one, which the workflows of other repositories can use by the time this stack is destroyed.
  const retained = { ...options, retainOnDelete: true };
  const trustedArn = oidcProviderArn ?? new iam.OpenIdConnectProvider("github", provider, retained).arn;
  const role = new iam.Role(
    "github-preview",
    {
      description: `GitHub workflows of ${settings.repository}`,
      assumeRolePolicy: trustPolicy(trustedArn, settings),
    },
    options,
  );
  new iam.RolePolicy("github-preview", { role: role.name, policy: readPolicy(settings, clusters) });

  for (const { name: clusterName, region, arn, namespaces } of clusters) {
    const name = `preview.${region}.${clusterName}`;
    const principal = { clusterName, region, principalArn: role.arn };
    const accessEntry = new eks.AccessEntry(name, { ...principal, kubernetesGroups: [READERS] });
    if (!settings.viewPolicy) continue;
    const policyArn = `arn:${arn.split(":")[1]}:eks::aws:cluster-access-policy/AmazonEKSViewPolicy`;
    const access = { ...principal, policyArn, accessScope: { type: "namespace", namespaces } };
    // Changed namespaces replace it, and the new one has the same ID: deleted afterwards, the old one would take the access away.
    new eks.AccessPolicyAssociation(name, access, { dependsOn: accessEntry, deleteBeforeReplace: true });
  }
  return role;
}

/**
 * Builds the trust policy of the role: GitHub's ID tokens for AWS STS with one of the workflows' subjects, from the
 * repository with this ID. A different repository that takes over the name has a different ID.
 *
 * AWS STS compares the claim `repository_id` since January 2026. AWS announced it for its commercial regions only: where the
 * condition key does not exist, StringEquals would deny every request.
 * https://aws.amazon.com/about-aws/whats-new/2026/01/aws-sts-supports-validation-identity-provider-claims/
 * https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_iam-condition-keys.html#condition-keys-wif
 */
function trustPolicy(
  oidcProviderArn: pulumi.Input<string>,
  { subjects, repositoryId }: Settings,
): iam.PolicyDocument {
  const issuer = issuerInIam(ISSUER_URL);
  return {
    Version: "2012-10-17",
    Statement: [
      {
        Effect: "Allow",
        Principal: { Federated: oidcProviderArn },
        Action: "sts:AssumeRoleWithWebIdentity",
        Condition: {
          StringEquals: {
            [`${issuer}:sub`]: subjects,
            [`${issuer}:aud`]: "sts.amazonaws.com",
          },
          StringEqualsIfExists: { [`${issuer}:repository_id`]: repositoryId },
        },
      },
    ],
  };
}

/**
 * Builds the policy of the role: what the AWS provider reads in a preview with a refresh, of what belongs to the stacks. See
 * terraform-provider-aws, internal/service/iam/role.go and internal/service/eks/pod_identity_association.go.
 */
function readPolicy({ rolePath }: Settings, clusters: Existing["clusters"]): iam.PolicyDocument {
  const clusterArns = clusters.map(({ arn }) => arn);
  // All clusters are in one account.
  const [, partition, , , accountId] = clusterArns[0]?.split(":") ?? [];
  const arn = (resource: string) => `arn:${partition}:iam::${accountId}:${resource}`;
  const issuers = clusters.flatMap(({ identities }) => identities[0]?.oidcs[0]?.issuer ?? []);
  const oidcProviders = issuers.map((url) => arn(`oidc-provider/${issuerInIam(url)}`));
  const associations = clusterArns.map((it) => `${it.replace(":cluster/", ":podidentityassociation/")}/*`);

  return {
    Version: "2012-10-17",
    Statement: [
      allow(["eks:DescribeCluster"], clusterArns),
      allow(["eks:DescribePodIdentityAssociation"], associations),
      allow(["iam:ListOpenIDConnectProviders"], "*"),
      allow(["iam:GetOpenIDConnectProvider"], oidcProviders),
      allow(
        ["iam:GetRole", "iam:ListRolePolicies", "iam:GetRolePolicy", "iam:ListAttachedRolePolicies"],
        arn(`role${rolePath}pulumi-oidc-*`),
      ),
    ],
  };
}

function allow(Action: string[], Resource: string | string[]): iam.PolicyStatement {
  return { Effect: "Allow", Action, Resource };
}
