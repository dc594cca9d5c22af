// The IAM role of a service account: what it may do in AWS, and the trust policy that names the service account.

import { PodIdentityAssociation } from "@pulumi/aws/eks";
import * as iam from "@pulumi/aws/iam";
import * as pulumi from "@pulumi/pulumi";

export interface RoleArgs {
  namespace: string;
  serviceAccountName: string;
  trustPolicy: pulumi.Input<iam.PolicyDocument>;
  policyArns: string[];
  permissionsBoundaryArn?: pulumi.Input<string> | undefined;
  /** `/`, or a path that begins and ends with `/`. */
  path: pulumi.Input<string>;
}

/**
 * Creates the role of one service account, and attaches its policies.
 *
 * @returns the role, and the attachments that a pod has to wait for.
 */
export function createRole(
  name: string,
  args: RoleArgs,
  options?: pulumi.CustomResourceOptions,
): { role: iam.Role; attachments: iam.RolePolicyAttachment[] } {
  const { namespace, serviceAccountName } = args;
  const role = new iam.Role(
    name,
    {
      namePrefix: roleNamePrefix(namespace, serviceAccountName),
      path: args.path,
      description: `Role of the Kubernetes service account ${namespace}/${serviceAccountName}`,
      assumeRolePolicy: args.trustPolicy,
      permissionsBoundary: args.permissionsBoundaryArn,
      // Other programs attach policies by the role's name. AWS does not delete a role that has some, and the role of a
      // removed entry would still trust its service account.
      forceDetachPolicies: true,
    },
    options,
  );

  const attachments = args.policyArns.map((policyArn) => {
    return new iam.RolePolicyAttachment(`${name}.${policyArn}`, { role: role.name, policyArn }, options);
  });
  return { role, attachments };
}

// A role's name has at most 64 characters, 26 of which the AWS provider adds to a prefix.
function roleNamePrefix(namespace: string, serviceAccountName: string): string {
  return `${`pulumi-oidc-${namespace}-${serviceAccountName}`.slice(0, 37)}-`;
}

/**
 * Builds the trust policy of a role for IRSA: this issuer, these subjects, and only tokens for AWS STS.
 * https://docs.aws.amazon.com/eks/latest/userguide/associate-service-account-role.html
 *
 * @returns the policy document, which requires both the subject and the audience.
 */
export function irsaTrustPolicy(args: {
  /** The cluster's OIDC issuer, `https://…`. */
  issuerUrl: string;
  /** The ARN of the issuer's IAM OIDC provider in this AWS account. */
  oidcProviderArn: pulumi.Input<string>;
  /** The `sub` claim of the ID tokens; each of a list is allowed. */
  subject: string | string[];
}): iam.PolicyDocument {
  const issuer = args.issuerUrl.replace("https://", "");
  return {
    Version: "2012-10-17",
    Statement: [
      {
        Effect: "Allow",
        Principal: { Federated: args.oidcProviderArn },
        Action: "sts:AssumeRoleWithWebIdentity",
        Condition: {
          StringEquals: {
            [`${issuer}:sub`]: args.subject,
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
export function podIdentityTrustPolicy(args: {
  clusterArn: string;
  namespace: string;
  serviceAccountName: string;
}): iam.PolicyDocument {
  return {
    Version: "2012-10-17",
    Statement: [
      {
        Effect: "Allow",
        Principal: { Service: "pods.eks.amazonaws.com" },
        Action: ["sts:AssumeRole", "sts:TagSession"],
        Condition: {
          StringEquals: {
            "aws:RequestTag/eks-cluster-arn": args.clusterArn,
            "aws:RequestTag/kubernetes-namespace": args.namespace,
            "aws:RequestTag/kubernetes-service-account": args.serviceAccountName,
          },
        },
      },
    ],
  };
}

/**
 * Associates a role with a service account. Pods that are created from now on receive it from the EKS Pod Identity agent;
 * an association takes seconds to become effective: https://docs.aws.amazon.com/eks/latest/userguide/pod-identities.html
 *
 * @returns the association, which a pod has to wait for.
 */
export function associateRole(
  name: string,
  args: {
    clusterArn: pulumi.Input<string>;
    namespace: pulumi.Input<string>;
    serviceAccountName: string;
    role: iam.Role;
  },
  options?: pulumi.CustomResourceOptions,
): PodIdentityAssociation {
  // arn:PARTITION:eks:REGION:ACCOUNT:cluster/NAME
  const clusterArn = pulumi.output(args.clusterArn);
  return new PodIdentityAssociation(
    name,
    {
      // The AWS provider's own region can be another one.
      region: clusterArn.apply((arn) => `${arn.split(":")[3]}`),
      clusterName: clusterArn.apply((arn) => arn.slice(arn.indexOf("/") + 1)),
      namespace: args.namespace,
      serviceAccount: args.serviceAccountName,
      roleArn: args.role.arn,
    },
    options,
  );
}
