// The IRSA role: what the pods may do in AWS, and the trust policy that says which pods.

import * as iam from "@pulumi/aws/iam";
import * as pulumi from "@pulumi/pulumi";

export interface RoleArgs {
  /** The cluster's OIDC issuer, `https://…`. */
  issuerUrl: pulumi.Input<string>;
  /** The IAM OIDC provider that stands for the issuer in this AWS account. */
  oidcProviderArn: pulumi.Input<string>;
  namespace: string;
  serviceAccountName: string;
  policyArns: string[];
  permissionsBoundaryArn: string | undefined;
}

/**
 * Creates the role that the pods of one service account may assume, and attaches its policies.
 *
 * @returns the role, and the attachments that a pod has to wait for.
 */
export function createRole(args: RoleArgs): { role: iam.Role; attachments: iam.RolePolicyAttachment[] } {
  const role = new iam.Role("pulumi-oidc", {
    description: pulumi.interpolate`Pods of ${args.namespace}/${args.serviceAccountName}, by ${args.issuerUrl}`,
    assumeRolePolicy: pulumi
      .all([args.issuerUrl, args.oidcProviderArn])
      .apply(([issuerUrl, oidcProviderArn]) => trustPolicy({ ...args, issuerUrl, oidcProviderArn })),
    ...(args.permissionsBoundaryArn && { permissionsBoundary: args.permissionsBoundaryArn }),
  });

  const attachments = args.policyArns.map(
    (policyArn) => new iam.RolePolicyAttachment(policyArn, { role: role.name, policyArn }),
  );
  return { role, attachments };
}

/**
 * Builds the trust policy of IRSA: this issuer, this service account, and tokens that were meant for AWS STS.
 * https://docs.aws.amazon.com/eks/latest/userguide/associate-service-account-role.html
 *
 * @returns the policy document, which demands both the subject and the audience.
 */
export function trustPolicy(args: {
  issuerUrl: string;
  oidcProviderArn: string;
  namespace: string;
  serviceAccountName: string;
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
            [`${issuer}:sub`]: `system:serviceaccount:${args.namespace}:${args.serviceAccountName}`,
            [`${issuer}:aud`]: "sts.amazonaws.com",
          },
        },
      },
    ],
  };
}
