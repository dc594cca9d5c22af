// One service account with its access: the role, the service account, what its workloads mount, and the Job that tests
// the token exchange.

import { ServiceAccount } from "@pulumi/kubernetes/core/v1";
import * as pulumi from "@pulumi/pulumi";
import { associateRole, createRole, irsaTrustPolicy, podIdentityTrustPolicy } from "./iam";
import { createJob, jobName } from "./job";
import { createServiceAccount } from "./serviceAccount";
import type { Access, Account, Token, TokenType } from "./settings";
import { createTokenExchange } from "./tokenExchange";
import { CREDENTIAL_HELPER, tokenVolume, VOLUME_MOUNT } from "./tokenVolume";
import { userError } from "./userError";

// The names are plain, so that what a program attaches to a role does not depend on the Job. Through a package, it would
// depend on everything in its output: Pulumi would delete the attachment whenever it replaces the Job.

/** What workloads and other programs need to know about one service account. */
export interface ServiceAccountAccess {
  /** ARN of its IAM role. */
  roleArn?: pulumi.Output<string>;
  /** Name of its IAM role, to attach other policies. */
  roleName?: pulumi.Output<string>;
  /** Name of the Job that tested the token exchange. */
  jobName?: string;
  /** Type of its access token. */
  tokenType: TokenType;
  /** Name of the ConfigMap with the exchange script and its settings. */
  configMap: string;
  /** Environment variables for each container of a pod that uses the token, a list. */
  // biome-ignore lint/suspicious/noExplicitAny: SDKs have no other type for any value.
  env: Record<string, any>[];
  /** Volume for the pod. */
  // biome-ignore lint/suspicious/noExplicitAny: SDKs have no other type for any value.
  volume: Record<string, any>;
  /** Mount of the volume for each of these containers. */
  // biome-ignore lint/suspicious/noExplicitAny: SDKs have no other type for any value.
  volumeMount: Record<string, any>;
}

/** The cluster, as far as IAM roles need it. */
export interface RoleCluster {
  /** The OIDC issuer, `https://…`. */
  issuerUrl: pulumi.Input<string>;
  /** ARN of the cluster's IAM OIDC provider; an IRSA role needs it. */
  oidcProviderArn?: pulumi.Input<string>;
  /** ARN of the cluster; EKS Pod Identity needs it. */
  clusterArn?: pulumi.Input<string>;
}

export interface WorkloadIdentityArgs {
  account: Account;
  token: Token;
  /** The name of the account's namespace, known once that exists. */
  namespace: pulumi.Input<string>;
  cluster: RoleCluster;
  /** What all service accounts have in common. */
  shared: Pick<
    Access,
    "organization" | "pulumiApiUrl" | "permissionsBoundaryArn" | "rolePath" | "image" | "jobPodSpec"
  >;
  /** The issuer that grants the access token, and the policy in it that allows this service account. */
  oidcIssuer: pulumi.CustomResource;
  policy: object;
}

/** Creates the access of one service account. Its children have its own name. */
export class WorkloadIdentity extends pulumi.ComponentResource {
  readonly access: ServiceAccountAccess;

  constructor(name: string, args: WorkloadIdentityArgs, options: pulumi.ComponentResourceOptions) {
    super("eks-pulumi-oidc:index:WorkloadIdentity", name, {}, options);
    const { account, token, namespace, shared } = args;
    requireOneOrganization(this, name, account);
    const inComponent = { parent: this };

    const aws = createAwsRole(name, args, inComponent);
    const serviceAccount = createOrReadServiceAccount(name, args, aws?.irsaRoleArn, inComponent);
    const tokenExchange = createTokenExchange(
      name,
      {
        namespace,
        serviceAccountName: account.name,
        settings: {
          organization: shared.organization,
          tokenType: token.tokenType,
          tokenScope: scopeOf(token),
          tokenExpirationSeconds: account.tokenExpirationSeconds,
          apiUrl: shared.pulumiApiUrl,
        },
      },
      // Workloads keep their settings, such as the organization, until those can be granted.
      { ...inComponent, dependsOn: args.oidcIssuer },
    );

    this.access = {
      ...(aws && { roleArn: aws.role.arn, roleName: aws.role.name }),
      tokenType: token.tokenType,
      configMap: tokenExchange.configMapName,
      env: [CREDENTIAL_HELPER],
      volume: tokenVolume(tokenExchange.configMapName, account.tokenAudience),
      volumeMount: VOLUME_MOUNT,
    };
    if (account.runJob && serviceAccount) {
      createJob(
        name,
        {
          namespace,
          serviceAccountName: serviceAccount.metadata.name,
          tokenExchange,
          tokenAudience: account.tokenAudience,
          image: shared.image,
          command: account.command,
          podSpec: shared.jobPodSpec,
        },
        {
          ...inComponent,
          dependsOn: [args.oidcIssuer, serviceAccount, ...(aws?.prerequisites ?? [])],
          // The pod's spec does not contain the policy, so a changed one would not run the exchange again.
          replacementTrigger: [args.oidcIssuer.id, args.policy],
        },
      );
      this.access.jobName = jobName(account.name);
    }
    this.registerOutputs({ access: this.access });
  }
}

/** The service accounts of this program by their Kubernetes provider, each with the name of its component. */
const owners = new WeakMap<pulumi.ProviderResource, Map<string, string>>();

/**
 * Requires that no other component of the program has the service account on the same cluster. Its ConfigMap, which pods
 * name, has room for one organization. Kubernetes only says that it exists already.
 *
 * @throws pulumi.RunError that names both components.
 */
function requireOneOrganization(resource: pulumi.Resource, name: string, account: Account): void {
  const provider = resource.getProvider("kubernetes:core/v1:ConfigMap");
  if (!provider) return;
  const ownersOfCluster = owners.get(provider) ?? new Map<string, string>();
  owners.set(provider, ownersOfCluster);

  const id = `${account.namespace}/${account.name}`;
  const owner = ownersOfCluster.get(id);
  if (owner !== undefined) {
    throw userError(
      `Two components configure service account ${id}: "${owner}" and "${name}". A service account can have the access ` +
        "of one organization. Use another service account for the other organization.",
    );
  }
  ownersOfCluster.set(id, name);
}

/** Creates the role of a service account, and what a pod has to wait for to receive it; undefined without a role. */
function createAwsRole(name: string, args: WorkloadIdentityArgs, options: pulumi.CustomResourceOptions) {
  const { account, cluster, shared } = args;
  const { awsRole } = account;
  if (awsRole === "none") return undefined;

  const { role, attachments } = createRole(
    name,
    {
      namespace: account.namespace,
      serviceAccountName: account.name,
      trustPolicy: awsRole === "irsa" ? irsaTrust(account, cluster) : podIdentityTrust(account, cluster),
      policyArns: account.rolePolicyArns,
      permissionsBoundaryArn: shared.permissionsBoundaryArn,
      path: shared.rolePath,
    },
    options,
  );
  if (awsRole === "irsa") return { role, irsaRoleArn: role.arn, prerequisites: attachments };

  const clusterArn = required(cluster.clusterArn, "clusterArn");
  const { namespace } = args;
  const association = associateRole(
    name,
    { clusterArn, namespace, serviceAccountName: account.name, role },
    options,
  );
  return { role, irsaRoleArn: undefined, prerequisites: [...attachments, association] };
}

function irsaTrust({ namespace, name }: Account, cluster: RoleCluster) {
  const subject = `system:serviceaccount:${namespace}:${name}`;
  const provider = required(cluster.oidcProviderArn, "oidcProviderArn");
  return pulumi.all([cluster.issuerUrl, provider]).apply(([issuerUrl, oidcProviderArn]) => {
    return irsaTrustPolicy({ issuerUrl, oidcProviderArn, subject });
  });
}

function podIdentityTrust({ namespace, name }: Account, cluster: RoleCluster) {
  return pulumi.output(required(cluster.clusterArn, "clusterArn")).apply((clusterArn) => {
    return podIdentityTrustPolicy({ clusterArn, namespace, serviceAccountName: name });
  });
}

/** Returns what `PulumiCloudAccess` has checked to be there. */
function required(value: pulumi.Input<string> | undefined, name: string): pulumi.Input<string> {
  if (value === undefined) throw new Error(`${name} is missing`);
  return value;
}

/** Creates the service account, or reads an existing one for the Job; undefined if neither is needed. */
function createOrReadServiceAccount(
  name: string,
  { account, namespace }: WorkloadIdentityArgs,
  irsaRoleArn: pulumi.Output<string> | undefined,
  options: pulumi.CustomResourceOptions,
): ServiceAccount | undefined {
  if (account.createServiceAccount) {
    return createServiceAccount(name, { name: account.name, namespace, irsaRoleArn }, options);
  }
  if (!account.runJob) return undefined;
  return ServiceAccount.get(name, `${account.namespace}/${account.name}`, options);
}

/** Returns the scope that the token exchange requests, such as `user:LOGIN`. */
function scopeOf(token: Token): string {
  switch (token.tokenType) {
    case "personal":
      return `user:${token.userLogin}`;
    case "team":
      return `team:${token.teamName}`;
    case "runner":
      return `runner:${token.runnerName}`;
    case "organization":
      return token.organizationAdmin ? "admin" : "";
  }
}
