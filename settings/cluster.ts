// The settings of the cluster in the stack's configuration, and the arguments of the component that are about it.

import type * as pulumi from "@pulumi/pulumi";
import * as v from "valibot";
import type { AwsRole } from "./account";
import type { AwsOptions } from "./aws";
import type { Problem } from "./problems";
import { booleanSchema, inputSchema, schemasOf, stringSchema } from "./validation";

/** What a stack says about its cluster. */
export interface ClusterSettings {
  /** Name of the EKS cluster. */
  clusterName: string;
  /** Create a small EKS cluster instead of using an existing one. Costs money. Default: `false`. */
  createCluster?: boolean;
  /** Create the IAM OIDC provider that the existing cluster lacks. It is retained on destroy. Default: `false`. */
  createOidcProvider?: boolean;
}

export const clusterEntries = schemasOf<ClusterSettings>()({
  clusterName: stringSchema(/^[0-9A-Za-z][\w-]{0,99}$/, "must be the name of an EKS cluster"),
  createCluster: v.optional(booleanSchema, false),
  createOidcProvider: v.optional(booleanSchema, false),
});

/** The settings with every default filled in, and how the AWS CLI signs in to the cluster. */
export type ClusterConfig = Required<ClusterSettings> & { aws: AwsOptions };

const oidcProviderArn = stringSchema(
  /^arn:aws(-[a-z]+)*:iam::\d{12}:oidc-provider\/.+$/,
  "must be the ARN of an IAM OIDC provider",
);

const clusterArn = stringSchema(
  /^arn:aws(-[a-z]+)*:eks:[a-z0-9-]+:\d{12}:cluster\/[\w-]+$/,
  "must be the ARN of an EKS cluster",
);

/** The cluster, as far as its issuer and the IAM roles need it. */
export interface ClusterInputs {
  /** OIDC issuer of the cluster, with `https://`. */
  issuerUrl: pulumi.Input<string>;
  /** ARN of the cluster's IAM OIDC provider in this AWS account. Required if an `awsRole` is `irsa`. */
  oidcProviderArn?: pulumi.Input<string>;
  /** ARN of the cluster. Required if an `awsRole` is `pod-identity`. */
  clusterArn?: pulumi.Input<string>;
}

export const clusterInputEntries = schemasOf<ClusterInputs>()({
  issuerUrl: inputSchema(
    v.pipe(
      stringSchema(/^https:\/\//, "must begin with https://, as oidcProviderUrl of @pulumi/eks does"),
      v.check((url) => URL.canParse(url), "must be a URL"),
    ),
  ),
  oidcProviderArn: v.optional(inputSchema(oidcProviderArn)),
  clusterArn: v.optional(inputSchema(clusterArn)),
});

/** How the pods of a service account receive a role, with what that requires of the cluster. */
export type RoleSource =
  | { awsRole: "none" }
  | { awsRole: "irsa"; oidcProviderArn: pulumi.Input<string> }
  | { awsRole: "pod-identity"; clusterArn: pulumi.Input<string> };

/** Returns how the pods of a service account receive a role, or the problem if the cluster lacks what that requires. */
export function roleSourceOf(
  awsRole: AwsRole,
  { oidcProviderArn, clusterArn }: Pick<ClusterInputs, "oidcProviderArn" | "clusterArn">,
): RoleSource | Problem {
  switch (awsRole) {
    case "none":
      return { awsRole };
    case "irsa": {
      if (oidcProviderArn !== undefined) return { awsRole, oidcProviderArn };
      const reason = "required, because an awsRole is irsa, the default with rolePolicyArns";
      return { path: ["oidcProviderArn"], reason };
    }
    case "pod-identity":
      if (clusterArn !== undefined) return { awsRole, clusterArn };
      return { path: ["clusterArn"], reason: "required, because an awsRole is pod-identity" };
  }
}
