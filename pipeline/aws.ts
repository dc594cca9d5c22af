// AWS's side: GitHub as an IAM OIDC provider, the two roles that trust it, and their access to the clusters.

import * as eks from "@pulumi/aws/eks";
import { getCallerIdentity } from "@pulumi/aws/getCallerIdentity";
import * as iam from "@pulumi/aws/iam";
import type * as pulumi from "@pulumi/pulumi";
import type { Problem } from "../problems";
import type { Settings } from "./config";
import { subjects } from "./github";

export interface Account {
  accountId: string;
  partition: string;
  clusters: Cluster[];
  /** GitHub's IAM OIDC provider; undefined where this stack creates it. */
  oidcProviderArn: string | undefined;
}

interface Cluster {
  clusterName: string;
  region: string;
  namespaces: string[];
  arn: string;
  /** The OIDC issuer, as in the ARN of its IAM OIDC provider: without `https://`. */
  issuer: string;
}

/**
 * Reads the account, the clusters of the stacks and, where it exists already, GitHub's IAM OIDC provider.
 *
 * @returns the account, and the problems that have to stop the program.
 */
export async function readAccount(settings: Settings): Promise<Account & { problems: Problem[] }> {
  const { githubOidcProvider, githubIssuerUrl: url } = settings;
  const problems: Problem[] = [];
  const report = (setting: string, fix: string) => (error: Error) => {
    // The engine puts the call in front of what the provider said.
    const reason = error.message.replace(/^.*(returned an error|occurred):\s*(\* )?/s, "").trim();
    problems.push({ setting, reason: `failed to look up: ${reason}`, fix });
  };

  const { accountId, arn } = await getCallerIdentity();
  const clusters: Cluster[] = [];
  for (const { clusterName, region, namespaces } of settings.stacks) {
    // Stacks that share a cluster share its access entries.
    const known = clusters.find((cluster) => cluster.clusterName === clusterName && cluster.region === region);
    if (known) known.namespaces = [...new Set([...known.namespaces, ...namespaces])];
    else clusters.push({ clusterName, region, namespaces, arn: "", issuer: "" });
  }
  for (const cluster of clusters) {
    const { clusterName: name, region } = cluster;
    const setting = `cluster ${name} in ${region}`;
    const found = await eks
      .getCluster({ name, region })
      .catch(report(setting, `aws eks describe-cluster --region ${region} --name ${name}`));
    cluster.arn = found?.arn ?? "";
    cluster.issuer = found?.identities[0]?.oidcs[0]?.issuer.replace("https://", "") ?? "";
    if (found?.accessConfigs[0]?.authenticationMode !== "CONFIG_MAP") continue;
    problems.push({
      setting,
      reason: "has no access entries, because its authentication mode is CONFIG_MAP",
      fix: `aws eks update-cluster-config --region ${region} --name ${name} --access-config authenticationMode=API_AND_CONFIG_MAP`,
    });
  }
  const provider =
    githubOidcProvider === "existing"
      ? await iam
          .getOpenIdConnectProvider({ url })
          .catch(report(`IAM OIDC provider ${url}`, "pulumi config set githubOidcProvider create"))
      : undefined;
  return {
    accountId,
    partition: arn.split(":")[1] ?? "",
    clusters,
    oidcProviderArn: provider?.arn,
    problems,
  };
}

/** Creates the roles, and GitHub's IAM OIDC provider unless the account has it. */
export function createRoles(settings: Settings, account: Account): { preview: iam.Role; deploy: iam.Role } {
  const { githubIssuerUrl: url, repository, subjectPrefix } = settings;
  const Federated =
    account.oidcProviderArn ??
    new iam.OpenIdConnectProvider("github", { url, clientIdLists: ["sts.amazonaws.com"] }).arn;
  const create = (name: string, subject: string | string[], policy: iam.PolicyDocument): iam.Role => {
    const role = new iam.Role(name, {
      description: `GitHub workflows of ${repository}`,
      assumeRolePolicy: trustPolicy(Federated, url, subject),
    });
    new iam.RolePolicy(name, { role: role.name, policy });
    return role;
  };
  const { preview, deploy } = subjects(subjectPrefix);
  const policies = rolePolicies(settings, account);
  return {
    preview: create("github-preview", preview, policies.preview),
    deploy: create("github-deploy", deploy, policies.deploy),
  };
}

/** Builds the trust policy of a role: ID tokens of GitHub with these subjects, meant for AWS STS. */
export function trustPolicy(
  Federated: pulumi.Input<string>,
  issuerUrl: string,
  subject: string | string[],
): iam.PolicyDocument {
  const issuer = issuerUrl.replace("https://", "");
  const StringEquals = { [`${issuer}:aud`]: "sts.amazonaws.com", [`${issuer}:sub`]: subject };
  return {
    Version: "2012-10-17",
    Statement: [
      {
        Effect: "Allow",
        Principal: { Federated },
        Action: "sts:AssumeRoleWithWebIdentity",
        Condition: { StringEquals },
      },
    ],
  };
}

/**
 * Builds the policies of both roles: the calls that the stacks make, on what belongs to them. For roles they are those of
 * terraform-provider-aws, internal/service/iam/role.go and role_policy_attachment.go.
 *
 * @returns the policy documents. Neither gives a workflow rights beyond the policies in `rolePolicyArns`, and those of other roles of this name.
 */
export function rolePolicies(
  settings: Pick<Settings, "rolePath" | "rolePolicyArns" | "permissionsBoundaryArn" | "createOidcProvider">,
  { partition, accountId, clusters }: Account,
): { preview: iam.PolicyDocument; deploy: iam.PolicyDocument } {
  const { rolePolicyArns, permissionsBoundaryArn } = settings;
  const arn = (resource: string) => `arn:${partition}:iam::${accountId}:${resource}`;
  const roles = arn(`role${settings.rolePath}pulumi-oidc-*`);
  const oidcProviders = clusters.map(({ issuer }) => arn(`oidc-provider/${issuer}`));
  const bounded = permissionsBoundaryArn !== undefined && {
    StringEquals: { "iam:PermissionsBoundary": permissionsBoundaryArn },
  };

  const read = [
    allow(
      ["eks:DescribeCluster"],
      clusters.map((cluster) => cluster.arn),
    ),
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

/** Gives a role access to the namespaces of each cluster, by one of the access policies of EKS. */
export function createAccessEntries(
  name: string,
  principalArn: pulumi.Input<string>,
  accessPolicy: "AmazonEKSViewPolicy" | "AmazonEKSEditPolicy",
  { partition, clusters }: Account,
): void {
  for (const { clusterName, region, namespaces } of clusters) {
    const args = { clusterName, region, principalArn };
    const entry = new eks.AccessEntry(`${name}.${region}.${clusterName}`, args);
    new eks.AccessPolicyAssociation(
      `${name}.${region}.${clusterName}`,
      {
        ...args,
        policyArn: `arn:${partition}:eks::aws:cluster-access-policy/${accessPolicy}`,
        accessScope: { type: "namespace", namespaces },
      },
      { dependsOn: entry },
    );
  }
}
