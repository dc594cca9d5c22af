// The AWS side: GitHub as an IAM OIDC provider, the two roles that trust it, and their access to the clusters.

import * as eks from "@pulumi/aws/eks";
import * as iam from "@pulumi/aws/iam";
import * as pulumi from "@pulumi/pulumi";
import { irsaTrustPolicy } from "../iam";
import type { Settings } from "./config";
import { ISSUER_URL, subjects } from "./github";
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
 * Creates the roles with their access to the clusters.
 *
 * @param repositoryId the ID of the repository, whose workflows can assume the roles.
 * @param existingProviderArn GitHub's IAM OIDC provider; undefined to create it.
 */
export function createRoles(
  settings: Settings,
  repositoryId: string,
  clusters: Cluster[],
  existingProviderArn: string | undefined,
) {
  const provider = { url: ISSUER_URL, clientIdLists: ["sts.amazonaws.com"] };
  const oidcProviderArn = existingProviderArn ?? new iam.OpenIdConnectProvider("github", provider).arn;
  const policies = rolePolicies(settings, clusters);
  const subject = subjects(settings.subjectPrefix);

  const createRole = (name: "preview" | "deploy", accessPolicy: string): iam.Role => {
    const role = new iam.Role(`github-${name}`, {
      description: `GitHub workflows of ${settings.repository}`,
      assumeRolePolicy: trustPolicy(oidcProviderArn, subject[name], repositoryId),
      ...(settings.ownPermissionsBoundaryArn && { permissionsBoundary: settings.ownPermissionsBoundaryArn }),
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
 * Builds the trust policy of a role: GitHub's ID tokens with one of these subjects, from the repository with this ID. A
 * different repository that takes over the name has a different ID.
 *
 * AWS STS compares the claim `repository_id` since January 2026, and outside the commercial regions maybe not: there the
 * condition key does not exist, and StringEquals would deny every request.
 * https://aws.amazon.com/about-aws/whats-new/2026/01/aws-sts-supports-validation-identity-provider-claims/
 * https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_iam-condition-keys.html#condition-keys-wif
 */
function trustPolicy(
  oidcProviderArn: pulumi.Input<string>,
  subject: string | string[],
  repositoryId: string,
): pulumi.Output<iam.PolicyDocument> {
  const { host } = new URL(ISSUER_URL);
  const sameRepository = { StringEqualsIfExists: { [`${host}:repository_id`]: repositoryId } };
  return pulumi
    .output(irsaTrustPolicy({ issuerUrl: ISSUER_URL, oidcProviderArn, subject }))
    .apply(({ Statement, ...policy }) => ({
      ...policy,
      Statement: Statement.map((it) => ({ ...it, Condition: { ...it.Condition, ...sameRepository } })),
    }));
}

/**
 * Builds the policies of both roles: the calls that the stacks make, on what belongs to them. For roles they are those of
 * terraform-provider-aws, internal/service/iam/role.go and role_policy_attachment.go; for associations, those of
 * internal/service/eks/pod_identity_association.go.
 *
 * @returns the policy documents. Neither lets a workflow exceed `rolePolicyArns` and the policies of roles that have these
 * names already.
 */
export function rolePolicies(
  settings: PolicySettings,
  clusters: Pick<Cluster, "arn" | "identities">[],
): { preview: iam.PolicyDocument; deploy: iam.PolicyDocument } {
  const clusterArns = clusters.map(({ arn }) => arn);
  // All clusters are in one account.
  const [, partition, , , accountId] = clusterArns[0]?.split(":") ?? [];
  const arn = (resource: string) => `arn:${partition}:iam::${accountId}:${resource}`;
  const issuers = clusters.flatMap(({ identities }) => identities[0]?.oidcs[0]?.issuer ?? []);
  const resources: Resources = {
    clusters: clusterArns,
    roles: arn(`role${settings.rolePath}pulumi-oidc-*`),
    oidcProviders: issuers.map((url) => arn(`oidc-provider/${url.replace("https://", "")}`)),
    associations: clusterArns.map((it) => `${it.replace(":cluster/", ":podidentityassociation/")}/*`),
  };

  const read = [
    allow(["eks:DescribeCluster"], resources.clusters),
    allow(["iam:ListOpenIDConnectProviders"], "*"),
    allow(["iam:GetOpenIDConnectProvider"], resources.oidcProviders),
    allow(
      ["iam:GetRole", "iam:ListRolePolicies", "iam:GetRolePolicy", "iam:ListAttachedRolePolicies"],
      resources.roles,
    ),
  ];
  if (settings.podIdentity) {
    read.push(allow(["eks:DescribePodIdentityAssociation"], resources.associations));
  }

  const write = [...roleStatements(settings, resources)];
  if (settings.createOidcProvider) {
    write.push(...oidcProviderStatements(settings, resources));
  }
  if (settings.podIdentity) {
    write.push(...associationStatements(settings, resources));
  }
  return {
    preview: { Version: "2012-10-17", Statement: read },
    deploy: { Version: "2012-10-17", Statement: [...read, ...write] },
  };
}

type PolicySettings = Pick<
  Settings,
  "rolePath" | "rolePolicyArns" | "permissionsBoundaryArn" | "tagKeys" | "createOidcProvider" | "podIdentity"
>;

/** The ARNs of what belongs to the stacks; `*` is a wildcard. */
interface Resources {
  clusters: string[];
  roles: string;
  oidcProviders: string[];
  associations: string[];
}

function roleStatements(settings: PolicySettings, { roles }: Resources): iam.PolicyStatement[] {
  const { rolePolicyArns, permissionsBoundaryArn, tagKeys } = settings;
  const bounded = permissionsBoundaryArn && {
    StringEquals: { "iam:PermissionsBoundary": permissionsBoundaryArn },
  };

  const statements = [
    allow(["iam:CreateRole"], roles, { ...bounded, ...createdWithTags(tagKeys) }),
    allow(["iam:UpdateRole", "iam:UpdateRoleDescription", "iam:UpdateAssumeRolePolicy"], roles),
    allow(["iam:ListInstanceProfilesForRole", "iam:DeleteRole"], roles),
    ...tagging(["iam:TagRole", "iam:UntagRole"], roles, tagKeys),
    // "*" matches slashes too: any role below a path that begins with "pulumi-oidc-".
    { Effect: "Deny" as const, Action: "iam:*", Resource: `${roles}/*` },
  ];
  if (bounded) {
    statements.push(allow(["iam:PutRolePermissionsBoundary"], roles, bounded));
  }
  if (rolePolicyArns.length > 0) {
    const named = { ArnEquals: { "iam:PolicyARN": rolePolicyArns } };
    statements.push(allow(["iam:AttachRolePolicy", "iam:DetachRolePolicy"], roles, named));
  }
  return statements;
}

function oidcProviderStatements(
  { tagKeys }: PolicySettings,
  { oidcProviders }: Resources,
): iam.PolicyStatement[] {
  return [
    allow(["iam:CreateOpenIDConnectProvider"], oidcProviders, createdWithTags(tagKeys)),
    ...tagging(["iam:TagOpenIDConnectProvider"], oidcProviders, tagKeys),
  ];
}

/**
 * The actions' resource types are a cluster for the creation, and an association for the others:
 * https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonelastickubernetesservice.html
 */
function associationStatements(
  { tagKeys }: PolicySettings,
  { clusters, roles, associations }: Resources,
): iam.PolicyStatement[] {
  return [
    allow(["eks:CreatePodIdentityAssociation"], clusters, createdWithTags(tagKeys)),
    allow(["eks:UpdatePodIdentityAssociation", "eks:DeletePodIdentityAssociation"], associations),
    ...tagging(["eks:TagResource", "eks:UntagResource"], associations, tagKeys),
    allow(["iam:PassRole"], roles, {
      StringEquals: { "iam:PassedToService": "pods.eks.amazonaws.com" },
      // No page says whether EKS sends this key. Where it does not, the clusters above are the limit.
      ArnEqualsIfExists: { "iam:AssociatedResourceARN": clusters },
    }),
  ];
}

// A tag can be what another policy of the account grants access by, such as with aws:PrincipalTag. ForAllValues is true if
// a request has no tag at all: a creation needs none, and tagging without a tag changes nothing but is denied all the same.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-single-vs-multi-valued-context-keys.html

/** Returns the condition of an action that creates something with these tags, some of them, or none. */
function createdWithTags(tagKeys: string[]): iam.PolicyStatement["Condition"] {
  return tagKeys.length > 0
    ? { "ForAllValues:StringEquals": { "aws:TagKeys": tagKeys } }
    : { Null: { "aws:TagKeys": "true" } };
}

/** Returns the statement that allows actions that change tags, for these tags only; none without a tag. */
function tagging(actions: string[], resources: string | string[], tagKeys: string[]): iam.PolicyStatement[] {
  if (tagKeys.length === 0) return [];
  const named = { "ForAllValues:StringEquals": { "aws:TagKeys": tagKeys }, Null: { "aws:TagKeys": "false" } };
  return [allow(actions, resources, named)];
}

function allow(
  Action: string[],
  Resource: string | string[],
  Condition?: iam.PolicyStatement["Condition"],
): iam.PolicyStatement {
  return { Effect: "Allow", Action, Resource, ...(Condition && { Condition }) };
}
