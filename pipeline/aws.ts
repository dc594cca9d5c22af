// The AWS side: GitHub as an IAM OIDC provider, the role that trusts it, and its access to the clusters.

import * as eks from "@pulumi/aws/eks";
import * as iam from "@pulumi/aws/iam";
import type * as pulumi from "@pulumi/pulumi";
import type { Settings } from "./config";
import { ISSUER_URL, subjects } from "./idTokens";
import { failed, lookUp } from "./lookups";

const WRONG_CLUSTER = "Correct its clusterName or region in stacks, or use AWS credentials of its account.";

export type Cluster = eks.GetClusterResult & { namespaces: string[] };

/**
 * Looks up the clusters of the stacks.
 *
 * @returns each cluster with the namespaces of all stacks on it.
 * @throws pulumi.RunError that lists every cluster that cannot be read, or cannot have access entries.
 */
export async function readClusters(stacks: Settings["stacks"]): Promise<Cluster[]> {
  const clusters = new Map(stacks.map((stack) => [`${stack.region}.${stack.clusterName}`, stack]));
  return lookUp(
    ...[...clusters.values()].map(async ({ clusterName: name, region }) => {
      const cluster = await eks
        .getCluster({ name, region })
        .catch(failed(`EKS cluster "${name}" in ${region}`, WRONG_CLUSTER));
      if (cluster.accessConfigs[0]?.authenticationMode === "CONFIG_MAP") {
        throw new Error(
          `EKS cluster "${name}" in ${region} has no access entries: its authentication mode is CONFIG_MAP. To change it:\n\n` +
            `  aws eks update-cluster-config --region ${region} --name ${name} --access-config authenticationMode=API_AND_CONFIG_MAP\n`,
        );
      }
      const stacksOnIt = stacks.filter((stack) => stack.clusterName === name && stack.region === region);
      return { ...cluster, namespaces: [...new Set(stacksOnIt.flatMap(({ namespaces }) => namespaces))] };
    }),
  );
}

/** Returns the ARN of GitHub's IAM OIDC provider in the account; undefined if this stack creates it. */
export async function readOidcProvider(mode: Settings["githubOidcProvider"]): Promise<string | undefined> {
  if (mode === "create") return undefined;
  const provider = await iam
    .getOpenIdConnectProvider({ url: ISSUER_URL })
    .catch(
      failed("the IAM OIDC provider of GitHub", "If the account has none, set githubOidcProvider to create."),
    );
  return provider.arn;
}

/**
 * Creates the role of the workflows, with access to the clusters. All of it can only read.
 *
 * @param existingProviderArn GitHub's IAM OIDC provider; undefined to create it.
 * @param options of the first resources, which all others wait for.
 */
export function createPreviewRole(
  settings: Settings,
  clusters: Cluster[],
  existingProviderArn: string | undefined,
  options: pulumi.CustomResourceOptions,
): iam.Role {
  const provider = { url: ISSUER_URL, clientIdLists: ["sts.amazonaws.com"] };
  const oidcProviderArn =
    existingProviderArn ?? new iam.OpenIdConnectProvider("github", provider, options).arn;
  const role = new iam.Role(
    "github-preview",
    {
      description: `GitHub workflows of ${settings.repository}`,
      assumeRolePolicy: trustPolicy(oidcProviderArn, settings),
      ...(settings.ownPermissionsBoundaryArn && { permissionsBoundary: settings.ownPermissionsBoundaryArn }),
    },
    options,
  );
  new iam.RolePolicy("github-preview", { role: role.name, policy: readPolicy(settings, clusters) });

  for (const { name: clusterName, region, arn, namespaces } of clusters) {
    const name = `preview.${region}.${clusterName}`;
    const entry = { clusterName, region, principalArn: role.arn };
    const dependsOn = new eks.AccessEntry(name, entry);
    const policyArn = `arn:${arn.split(":")[1]}:eks::aws:cluster-access-policy/AmazonEKSViewPolicy`;
    const access = { ...entry, policyArn, accessScope: { type: "namespace", namespaces } };
    new eks.AccessPolicyAssociation(name, access, { dependsOn });
  }
  return role;
}

/**
 * Builds the trust policy of the role: GitHub's ID tokens for AWS STS with one of the workflows' subjects, from the
 * repository with this ID. A different repository that takes over the name has a different ID.
 *
 * AWS STS compares the claim `repository_id` since January 2026, and outside the commercial regions maybe not: there the
 * condition key does not exist, and StringEquals would deny every request.
 * https://aws.amazon.com/about-aws/whats-new/2026/01/aws-sts-supports-validation-identity-provider-claims/
 * https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_iam-condition-keys.html#condition-keys-wif
 */
function trustPolicy(
  oidcProviderArn: pulumi.Input<string>,
  { subjectPrefix, repositoryId }: Settings,
): iam.PolicyDocument {
  const { host } = new URL(ISSUER_URL);
  return {
    Version: "2012-10-17",
    Statement: [
      {
        Effect: "Allow",
        Principal: { Federated: oidcProviderArn },
        Action: "sts:AssumeRoleWithWebIdentity",
        Condition: {
          StringEquals: {
            [`${host}:sub`]: subjects(subjectPrefix),
            [`${host}:aud`]: "sts.amazonaws.com",
          },
          StringEqualsIfExists: { [`${host}:repository_id`]: repositoryId },
        },
      },
    ],
  };
}

/**
 * Builds the policy of the role: what the AWS provider reads in a preview with a refresh, of what belongs to the stacks. See
 * terraform-provider-aws, internal/service/iam/role.go and internal/service/eks/pod_identity_association.go.
 */
function readPolicy({ rolePath }: Settings, clusters: Cluster[]): iam.PolicyDocument {
  const clusterArns = clusters.map(({ arn }) => arn);
  // All clusters are in one account.
  const [, partition, , , accountId] = clusterArns[0]?.split(":") ?? [];
  const arn = (resource: string) => `arn:${partition}:iam::${accountId}:${resource}`;
  const issuers = clusters.flatMap(({ identities }) => identities[0]?.oidcs[0]?.issuer ?? []);
  const oidcProviders = issuers.map((url) => arn(`oidc-provider/${url.replace("https://", "")}`));
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
