// The IAM role of a service account: what it may do in AWS, the trust policy that names the service account, and how its pods
// receive it.

import { PodIdentityAssociation } from "@pulumi/aws/eks";
import * as iam from "@pulumi/aws/iam";
import * as pulumi from "@pulumi/pulumi";
import type { CompleteSettings } from "./settings/access";
import { type Account, idOf } from "./settings/account";
import type { RoleSource } from "./settings/cluster";
import type { RolePermissions } from "./settings/grants";

export interface AwsRoleArgs {
  account: Account;
  source: RoleSource;
  /** OIDC issuer of the cluster, `https://…`. */
  issuerUrl: pulumi.Input<string>;
  settings: Pick<CompleteSettings, "permissionsBoundaryArn" | "rolePath">;
}

/** The role of a service account, and what depends on how its pods receive it. */
export interface AwsRoleResources {
  /** Missing if the pods have no role. */
  role?: iam.Role;
  /** The role that the service account is annotated with. Only IRSA requires it. */
  irsaRoleArn?: pulumi.Output<string>;
  /** What the role may do, as it is registered. */
  permissions?: RolePermissions;
  /** What a pod has to wait for to receive the role. */
  prerequisites: pulumi.Resource[];
  /** What denies the role everything while the entry is suspended. */
  denials: pulumi.Resource[];
}

/**
 * Creates the role of one service account, attaches its policies, and lets the pods of the service account assume it: by
 * IRSA, by EKS Pod Identity, or not at all, as `awsRole` says.
 *
 * @returns the role, and what the service account and its pods require to use it.
 */
export function createAwsRole(
  name: string,
  { account, source, issuerUrl, settings }: AwsRoleArgs,
  options: pulumi.CustomResourceOptions,
): AwsRoleResources {
  if (source.awsRole === "none") return { prerequisites: [], denials: [] };

  const isIrsa = source.awsRole === "irsa";
  const trustedArn = pulumi.output(isIrsa ? source.oidcProviderArn : source.clusterArn);
  const permissions = {
    awsRole: source.awsRole,
    policyArns: account.rolePolicyArns,
    permissionsBoundary: settings.permissionsBoundaryArn,
  };
  const role = new iam.Role(
    name,
    {
      namePrefix: roleNamePrefix(account),
      path: settings.rolePath,
      description: `Role of the Kubernetes service account ${idOf(account)}`,
      assumeRolePolicy: isIrsa
        ? pulumi.all([issuerUrl, trustedArn]).apply(([url, arn]) => irsaTrustPolicy(url, arn, account))
        : trustedArn.apply((arn) => podIdentityTrustPolicy(arn, account)),
      permissionsBoundary: permissions.permissionsBoundary,
      // Other programs attach policies by the role's name. AWS does not delete a role that has some, and the role of a
      // removed entry would still trust its service account.
      forceDetachPolicies: true,
    },
    options,
  );
  const attach = (suffix: string, policyArn: pulumi.Input<string>) => {
    return new iam.RolePolicyAttachment(`${name}.${suffix}`, { role: role.name, policyArn }, options);
  };
  const attachments = permissions.policyArns.map((policyArn) => attach(policyArn, policyArn));
  const denials = account.suspended ? [attach("suspended", trustedArn.apply(denyAllIn))] : [];
  if (isIrsa) return { role, permissions, irsaRoleArn: role.arn, prerequisites: attachments, denials };

  const association = new PodIdentityAssociation(
    name,
    {
      // arn:PARTITION:eks:REGION:ACCOUNT:cluster/NAME. The AWS provider's own region can be another one.
      region: trustedArn.apply((arn) => `${arn.split(":")[3]}`),
      clusterName: trustedArn.apply((arn) => arn.slice(arn.indexOf("/") + 1)),
      namespace: account.namespace,
      serviceAccount: account.name,
      roleArn: role.arn,
    },
    options,
  );
  // An association takes seconds to become effective, and changes no pod that exists:
  // https://docs.aws.amazon.com/eks/latest/userguide/pod-identities.html
  return { role, permissions, prerequisites: [...attachments, association], denials };
}

/**
 * Returns AWS' managed policy that denies everything: https://docs.aws.amazon.com/aws-managed-policy/latest/reference/AWSDenyAll.html
 *
 * @param arn of the same partition, such as `aws-us-gov`.
 */
function denyAllIn(arn: string): string {
  return `arn:${arn.split(":")[1]}:iam::aws:policy/AWSDenyAll`;
}

/** Returns an OIDC issuer as IAM names it, in ARNs and condition keys: its URL without `https://`. */
export function issuerInIam(url: string): string {
  return url.replace("https://", "");
}

// A role's name has at most 64 characters, 26 of which the AWS provider adds to a prefix. One is the hyphen between them.
const PREFIX_CHARACTERS = 64 - 26 - 1;

function roleNamePrefix({ namespace, name }: Account): string {
  return `${`pulumi-oidc-${namespace}-${name}`.slice(0, PREFIX_CHARACTERS)}-`;
}

/**
 * Builds the trust policy of a role for IRSA: this issuer, this subject, and only tokens for AWS STS.
 * https://docs.aws.amazon.com/eks/latest/userguide/associate-service-account-role.html
 *
 * @returns the policy document, which requires both the subject and the audience.
 */
function irsaTrustPolicy(
  issuerUrl: string,
  oidcProviderArn: string,
  { namespace, name }: Account,
): iam.PolicyDocument {
  const issuer = issuerInIam(issuerUrl);
  return {
    Version: "2012-10-17",
    Statement: [
      {
        Effect: "Allow",
        Principal: { Federated: oidcProviderArn },
        Action: "sts:AssumeRoleWithWebIdentity",
        Condition: {
          StringEquals: {
            [`${issuer}:sub`]: `system:serviceaccount:${namespace}:${name}`,
            [`${issuer}:aud`]: "sts.amazonaws.com",
          },
        },
      },
    ],
  };
}

/**
 * Builds the trust policy of a role for EKS Pod Identity: only the pods of one service account of one cluster. The name
 * of a cluster repeats in other regions and accounts, its ARN does not.
 *
 * Principal and actions: https://docs.aws.amazon.com/eks/latest/userguide/pod-id-role.html
 * The session's tags: https://docs.aws.amazon.com/eks/latest/userguide/pod-id-abac.html
 *
 * @returns the policy document, which requires all three tags that EKS adds to the session.
 */
function podIdentityTrustPolicy(clusterArn: string, { namespace, name }: Account): iam.PolicyDocument {
  return {
    Version: "2012-10-17",
    Statement: [
      {
        Effect: "Allow",
        Principal: { Service: "pods.eks.amazonaws.com" },
        Action: ["sts:AssumeRole", "sts:TagSession"],
        Condition: {
          StringEquals: {
            "aws:RequestTag/eks-cluster-arn": clusterArn,
            "aws:RequestTag/kubernetes-namespace": namespace,
            "aws:RequestTag/kubernetes-service-account": name,
          },
        },
      },
    ],
  };
}
