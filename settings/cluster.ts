// The settings of the cluster in the stack's configuration, and the arguments of the component that are about it.

import type * as pulumi from "@pulumi/pulumi";
import * as v from "valibot";
import type { Problem } from "./problems";
import { booleanSchema, inputSchema, schemasOf, settingsSchema, stringSchema } from "./validation";

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

const UNSUPPORTED =
  "is not supported by `aws eks get-token`, which signs in to the cluster; use aws:profile, or one role in " +
  "aws:assumeRoles with no settings but roleArn, sessionName, and duration";
const unsupported = v.optional(v.never(UNSUPPORTED));

/** https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-envvars.html */
const unsupportedFiles = (variable: string) =>
  v.optional(
    v.never(
      `is not supported by \`aws eks get-token\`, which signs in to the cluster; set ${variable} in the environment, ` +
        "which both read",
    ),
  );

/**
 * The one role to assume. `aws eks get-token` cannot pass on its other settings, such as `externalId`. The session of that command
 * has its own name and duration.
 */
const assumedRole = settingsSchema(
  { roleArn: v.string(UNSUPPORTED), sessionName: v.optional(v.unknown()), duration: v.optional(v.unknown()) },
  { unknown: () => UNSUPPORTED },
);

const acceptedAwsEntries = {
  "aws:region": v.optional(v.string()),
  "aws:profile": v.optional(v.string()),
  "aws:assumeRoles": v.optional(
    v.pipe(
      v.string(),
      v.parseJson(undefined, UNSUPPORTED),
      v.array(assumedRole, UNSUPPORTED),
      v.maxLength(1, UNSUPPORTED),
    ),
    "[]",
  ),
};

const awsEntries = {
  ...acceptedAwsEntries,
  "aws:assumeRole": v.optional(
    v.never("is not read by the AWS provider: use aws:assumeRoles, which is a list"),
  ),
  "aws:assumeRoleWithWebIdentity": unsupported,
  "aws:accessKey": unsupported,
  "aws:secretKey": unsupported,
  "aws:token": unsupported,
  "aws:sharedCredentialsFiles": unsupportedFiles("AWS_SHARED_CREDENTIALS_FILE"),
  "aws:sharedConfigFiles": unsupportedFiles("AWS_CONFIG_FILE"),
};

/** The keys of the AWS provider's configuration whose values become part of the kubeconfig. */
export const AWS_KEYS = Object.keys(acceptedAwsEntries);

/**
 * Converts the AWS provider's configuration, a string for each `aws:KEY`, to options of the AWS CLI. An option that
 * is not set is undefined: the AWS CLI then reads it from the environment.
 */
export const awsSchema = v.pipe(
  v.object(awsEntries),
  v.transform((aws) => ({
    region: aws["aws:region"],
    profile: aws["aws:profile"],
    "role-arn": aws["aws:assumeRoles"][0]?.roleArn,
  })),
);

export type AwsOptions = v.InferOutput<typeof awsSchema>;

/** The settings with every default filled in. */
export interface ClusterConfig extends Required<ClusterSettings> {
  aws: AwsOptions;
}

const oidcProviderArn = stringSchema(
  /^arn:aws(-[a-z]+)*:iam::\d{12}:oidc-provider\/.+$/,
  "must be the ARN of an IAM OIDC provider",
);

const clusterArn = stringSchema(
  /^arn:aws(-[a-z]+)*:eks:[a-z0-9-]+:\d{12}:cluster\/[\w-]+$/,
  "must be the ARN of an EKS cluster",
);

/** The cluster, as far as its issuer and the IAM roles need it. */
export interface RoleCluster {
  /** OIDC issuer of the cluster, with `https://`. */
  issuerUrl: pulumi.Input<string>;
  /** ARN of the cluster's IAM OIDC provider in this AWS account. Required if an `awsRole` is `irsa`. */
  oidcProviderArn?: pulumi.Input<string>;
  /** ARN of the cluster. Required if an `awsRole` is `pod-identity`. */
  clusterArn?: pulumi.Input<string>;
}

export const roleClusterEntries = schemasOf<RoleCluster>()({
  issuerUrl: inputSchema(
    v.pipe(
      stringSchema(/^https:\/\//, "must begin with https://, as oidcProviderUrl of @pulumi/eks does"),
      v.check((url) => URL.canParse(url), "must be a URL"),
    ),
  ),
  oidcProviderArn: v.optional(inputSchema(oidcProviderArn)),
  clusterArn: v.optional(inputSchema(clusterArn)),
});

/** Returns a problem if the IAM OIDC provider is that of another issuer: a role would trust no token of the cluster. */
export function oidcProviderProblems(issuerUrl: unknown, arn: unknown): Problem[] {
  if (typeof issuerUrl !== "string" || typeof arn !== "string") return [];
  const provider = arn.replace(/^.*:oidc-provider\//, "https://");
  if (withoutSlash(provider) === withoutSlash(issuerUrl)) return [];
  const reason = `must be the IAM OIDC provider of issuerUrl, which is ${issuerUrl}`;
  return [{ path: ["oidcProviderArn"], value: arn, reason }];
}

// The issuer of an AKS cluster ends with a slash, which the ARN may not have.
function withoutSlash(url: string): string {
  return url.replace(/\/$/, "");
}
