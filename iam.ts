// The IRSA role: what a service account may do in AWS, and the trust policy that names the service account.

import * as iam from "@pulumi/aws/iam";
import * as pulumi from "@pulumi/pulumi";

export interface RoleArgs {
  /** The cluster's OIDC issuer, `https://…`. */
  issuerUrl: pulumi.Input<string>;
  /** The ARN of the issuer's IAM OIDC provider in this AWS account. */
  oidcProviderArn: pulumi.Input<string>;
  namespace: string;
  serviceAccountName: string;
  policyArns: string[];
  permissionsBoundaryArn?: string | undefined;
  /** `/`, or a path that begins and ends with `/`. */
  path: string;
}

/**
 * Creates the role that the pods of one service account can assume, and attaches its policies.
 *
 * @returns the role, and the attachments that a pod has to wait for.
 */
export function createRole(
  name: string,
  args: RoleArgs,
  options?: pulumi.CustomResourceOptions,
): { role: iam.Role; attachments: iam.RolePolicyAttachment[] } {
  const { namespace, serviceAccountName, permissionsBoundaryArn } = args;
  const subject = `system:serviceaccount:${namespace}:${serviceAccountName}`;
  const role = new iam.Role(
    name,
    {
      namePrefix: roleNamePrefix(namespace, serviceAccountName),
      path: args.path,
      description: pulumi.interpolate`IRSA role for ${namespace}/${serviceAccountName} (issuer ${args.issuerUrl})`,
      assumeRolePolicy: pulumi
        .all([args.issuerUrl, args.oidcProviderArn])
        .apply(([issuerUrl, oidcProviderArn]) => trustPolicy({ issuerUrl, oidcProviderArn, subject })),
      ...(permissionsBoundaryArn && { permissionsBoundary: permissionsBoundaryArn }),
    },
    options,
  );

  const attachments = args.policyArns.map(
    (policyArn) => new iam.RolePolicyAttachment(`${name}.${policyArn}`, { role: role.name, policyArn }, options),
  );
  return { role, attachments };
}

// A role's name has at most 64 characters, 26 of which the AWS provider adds to a prefix.
function roleNamePrefix(namespace: string, serviceAccountName: string): string {
  return `${`pulumi-oidc-${namespace}-${serviceAccountName}`.slice(0, 37)}-`;
}

/**
 * Builds the trust policy of a role: this issuer, these subjects, and only tokens for AWS STS.
 * https://docs.aws.amazon.com/eks/latest/userguide/associate-service-account-role.html
 *
 * @returns the policy document, which requires both the subject and the audience.
 */
export function trustPolicy(args: {
  issuerUrl: string;
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
        Condition: { StringEquals: { [`${issuer}:sub`]: args.subject, [`${issuer}:aud`]: "sts.amazonaws.com" } },
      },
    ],
  };
}
