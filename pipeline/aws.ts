// The AWS side: GitHub as an IAM OIDC provider, the two roles that trust it, and their access to the clusters.

import * as eks from "@pulumi/aws/eks";
import * as iam from "@pulumi/aws/iam";
import { irsaTrustPolicy } from "../iam";
import type { Settings } from "./config";
import { ISSUER_URL, subjects } from "./github";
import { failed, lookUp } from "./lookups";

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
        .catch(failed(`EKS cluster "${name}" in ${region}`, `aws eks list-clusters --region ${region}`));
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
    .catch(failed("the IAM OIDC provider of GitHub", "pulumi config set githubOidcProvider create"));
  return provider.arn;
}

/**
 * Creates the roles with their access to the clusters.
 *
 * @param existingProviderArn GitHub's IAM OIDC provider; undefined to create it.
 */
export function createRoles(settings: Settings, clusters: Cluster[], existingProviderArn: string | undefined) {
  const provider = { url: ISSUER_URL, clientIdLists: ["sts.amazonaws.com"] };
  const oidcProviderArn = existingProviderArn ?? new iam.OpenIdConnectProvider("github", provider).arn;
  const policies = rolePolicies(settings, clusters);
  const subject = subjects(settings.subjectPrefix);

  const createRole = (name: "preview" | "deploy", accessPolicy: string): iam.Role => {
    const role = new iam.Role(`github-${name}`, {
      description: `GitHub workflows of ${settings.repository}`,
      assumeRolePolicy: irsaTrustPolicy({ issuerUrl: ISSUER_URL, oidcProviderArn, subject: subject[name] }),
    });
    new iam.RolePolicy(`github-${name}`, { role: role.name, policy: policies[name] });
    for (const { name: clusterName, region, arn, namespaces } of clusters) {
      const entryName = `${name}.${region}.${clusterName}`;
      const entry = { clusterName, region, principalArn: role.arn };
      const dependsOn = new eks.AccessEntry(entryName, entry);
      const policyArn = `arn:${arn.split(":")[1]}:eks::aws:cluster-access-policy/${accessPolicy}`;
      const access = { ...entry, policyArn, accessScope: { type: "namespace", namespaces } };
      new eks.AccessPolicyAssociation(entryName, access, { dependsOn });
    }
    return role;
  };
  return {
    preview: createRole("preview", "AmazonEKSViewPolicy"),
    deploy: createRole("deploy", "AmazonEKSEditPolicy"),
  };
}

/**
 * Builds the policies of both roles: the calls that the stacks make, on what belongs to them. For roles they are those of
 * terraform-provider-aws, internal/service/iam/role.go and role_policy_attachment.go.
 *
 * @returns the policy documents. Neither lets a workflow exceed `rolePolicyArns` and the policies of roles that have these
 * names already.
 */
export function rolePolicies(
  settings: Pick<Settings, "rolePath" | "rolePolicyArns" | "permissionsBoundaryArn" | "createOidcProvider">,
  clusters: Pick<Cluster, "arn" | "identities">[],
): { preview: iam.PolicyDocument; deploy: iam.PolicyDocument } {
  const { rolePolicyArns, permissionsBoundaryArn } = settings;
  const clusterArns = clusters.map(({ arn }) => arn);
  // All clusters are in one account.
  const [, partition, , , accountId] = clusterArns[0]?.split(":") ?? [];
  const arn = (resource: string) => `arn:${partition}:iam::${accountId}:${resource}`;
  const roles = arn(`role${settings.rolePath}pulumi-oidc-*`);
  const issuers = clusters.flatMap(({ identities }) => identities[0]?.oidcs[0]?.issuer ?? []);
  const oidcProviders = issuers.map((url) => arn(`oidc-provider/${url.replace("https://", "")}`));
  const bounded = permissionsBoundaryArn && {
    StringEquals: { "iam:PermissionsBoundary": permissionsBoundaryArn },
  };

  const read = [
    allow(["eks:DescribeCluster"], clusterArns),
    allow(["iam:ListOpenIDConnectProviders"], "*"),
    allow(["iam:GetOpenIDConnectProvider"], oidcProviders),
    allow(["iam:GetRole", "iam:ListRolePolicies", "iam:GetRolePolicy", "iam:ListAttachedRolePolicies"], roles),
  ];
  const write = [
    bounded
      ? allow(["iam:CreateRole", "iam:PutRolePermissionsBoundary"], roles, bounded)
      : allow(["iam:CreateRole"], roles),
    allow(["iam:UpdateRole", "iam:UpdateRoleDescription", "iam:UpdateAssumeRolePolicy"], roles),
    allow(["iam:TagRole", "iam:UntagRole", "iam:ListInstanceProfilesForRole", "iam:DeleteRole"], roles),
    // "*" matches slashes too: any role below a path that begins with "pulumi-oidc-".
    { Effect: "Deny" as const, Action: "iam:*", Resource: `${roles}/*` },
  ];
  if (rolePolicyArns.length > 0) {
    const named = { ArnEquals: { "iam:PolicyARN": rolePolicyArns } };
    write.push(allow(["iam:AttachRolePolicy", "iam:DetachRolePolicy"], roles, named));
  }
  if (settings.createOidcProvider) {
    write.push(allow(["iam:CreateOpenIDConnectProvider", "iam:TagOpenIDConnectProvider"], oidcProviders));
  }
  return {
    preview: { Version: "2012-10-17", Statement: read },
    deploy: { Version: "2012-10-17", Statement: [...read, ...write] },
  };
}

function allow(Action: string[], Resource: string | string[], Condition?: iam.PolicyStatement["Condition"]) {
  return { Effect: "Allow" as const, Action, Resource, ...(Condition && { Condition }) };
}
