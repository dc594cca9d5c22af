// One service account with its access: the role, the service account, what its workloads mount, and the Job that tests
// the token exchange.

import type * as iam from "@pulumi/aws/iam";
import { ServiceAccount } from "@pulumi/kubernetes/core/v1";
import * as pulumi from "@pulumi/pulumi";
import { associateRole, createRole, irsaTrustPolicy, podIdentityTrustPolicy, type RoleArgs } from "./iam";
import { createJob, jobName } from "./job";
import { createServiceAccount } from "./serviceAccount";
import type { Access, Account } from "./settings/access";
import { scopeOf, type TokenType } from "./settings/tokenTypes";
import { userError } from "./settings/userError";
import { createTokenExchange } from "./tokenExchange";
import { CREDENTIAL_HELPER, tokenVolume, VOLUME_MOUNT } from "./tokenVolume";

// The names are plain, so that what a program attaches to a role does not depend on the Job. Through a package, it would
// depend on everything in its output: Pulumi would delete the attachment whenever it replaces the Job.

/** What workloads and other programs need to know about one service account. */
export interface ServiceAccountAccess {
  /** ARN of its IAM role, if it has one. */
  roleArn?: pulumi.Output<string>;
  /** Name of its IAM role, if it has one, to attach other policies. */
  roleName?: pulumi.Output<string>;
  /** Name of the Job that tested the token exchange, if it has one. */
  jobName?: string;
  /** Type of its access token. */
  tokenType: TokenType;
  /** Name of the ConfigMap with the exchange script and its settings. */
  configMap: string;
  /** Environment variables for each container of a pod that uses the token, a list. */
  // biome-ignore lint/suspicious/noExplicitAny: a pod spec takes it as it is, in every language.
  env: any[];
  /** Volume for the pod. */
  // biome-ignore lint/suspicious/noExplicitAny: a pod spec takes it as it is, in every language.
  volume: any;
  /** Mount of the volume for each of these containers. */
  // biome-ignore lint/suspicious/noExplicitAny: a pod spec takes it as it is, in every language.
  volumeMount: any;
}

/** The cluster, as far as its issuer and the IAM roles need it. */
export interface RoleCluster {
  /** OIDC issuer of the cluster, with `https://`. */
  issuerUrl: pulumi.Input<string>;
  /** ARN of the cluster's IAM OIDC provider in this AWS account. Required if an `awsRole` is `irsa`. */
  oidcProviderArn?: pulumi.Input<string>;
  /** ARN of the cluster. Required if an `awsRole` is `pod-identity`. */
  clusterArn?: pulumi.Input<string>;
}

export interface WorkloadIdentityArgs {
  account: Account;
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
    const { account, namespace, shared } = args;
    requireOneOrganization(this, name, account);
    const inComponent = { parent: this };

    const { role, irsaRoleArn, prerequisites } = createAwsRole(name, args, inComponent);
    const created = account.createServiceAccount
      ? createServiceAccount(name, { name: account.name, namespace, irsaRoleArn }, inComponent)
      : undefined;
    const tokenExchange = createTokenExchange(
      name,
      {
        namespace,
        serviceAccountName: account.name,
        settings: {
          organization: shared.organization,
          tokenType: account.tokenType,
          tokenScope: scopeOf(account),
          tokenExpirationSeconds: account.tokenExpirationSeconds,
          apiUrl: shared.pulumiApiUrl,
        },
      },
      // Workloads keep their settings, such as the organization, until those can be granted.
      { ...inComponent, dependsOn: args.oidcIssuer },
    );

    this.access = {
      ...(role && { roleArn: role.arn, roleName: role.name }),
      tokenType: account.tokenType,
      configMap: tokenExchange.configMapName,
      env: [CREDENTIAL_HELPER],
      volume: tokenVolume<pulumi.Input<string>>(tokenExchange.configMapName, account.tokenAudience),
      volumeMount: VOLUME_MOUNT,
    };
    if (account.runJob) {
      const serviceAccount = created ?? existingServiceAccount(name, account, inComponent);
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
          dependsOn: [args.oidcIssuer, serviceAccount, ...prerequisites],
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
  recordOwner(owners, provider, account, name);
}

/** The names of the components by `NAMESPACE/NAME` of their service account, for each cluster. */
interface Owners<Cluster> {
  get(cluster: Cluster): Map<string, string> | undefined;
  set(cluster: Cluster, owners: Map<string, string>): unknown;
}

/**
 * Records which component configures a service account of a cluster.
 *
 * @param owners are changed.
 * @param cluster what the clusters of a program differ in, such as their provider.
 * @throws pulumi.RunError that names both components if another one does already.
 */
export function recordOwner<Cluster>(
  owners: Owners<Cluster>,
  cluster: Cluster,
  { namespace, name }: { namespace: string; name: string },
  component: string,
): void {
  const ownersOfCluster = owners.get(cluster) ?? new Map<string, string>();
  owners.set(cluster, ownersOfCluster);

  const id = `${namespace}/${name}`;
  const owner = ownersOfCluster.get(id) ?? component;
  if (owner !== component) {
    throw userError(
      `Two components configure service account ${id}: "${owner}" and "${component}". A service account can have the ` +
        "access of one organization. Use another service account for the other organization.",
    );
  }
  ownersOfCluster.set(id, component);
}

/** The role of a service account, and what depends on how its pods receive it. */
interface AwsRoleResources {
  /** Missing if the pods have no role. */
  role?: iam.Role;
  /** The role that the service account is annotated with. Only IRSA requires it. */
  irsaRoleArn?: pulumi.Output<string>;
  /** What a pod has to wait for to receive the role. */
  prerequisites: pulumi.Resource[];
}

function createAwsRole(
  name: string,
  args: WorkloadIdentityArgs,
  options: pulumi.CustomResourceOptions,
): AwsRoleResources {
  const { account, cluster, namespace } = args;
  switch (account.awsRole) {
    case "none":
      return { prerequisites: [] };

    case "irsa": {
      const { role, attachments } = createRoleWith(irsaTrust(account, cluster), name, args, options);
      return { role, irsaRoleArn: role.arn, prerequisites: attachments };
    }

    case "pod-identity": {
      const { role, attachments } = createRoleWith(podIdentityTrust(account, cluster), name, args, options);
      const association = associateRole(
        name,
        {
          clusterArn: required(cluster.clusterArn, "clusterArn"),
          namespace,
          serviceAccountName: account.name,
          role,
        },
        options,
      );
      return { role, prerequisites: [...attachments, association] };
    }
  }
}

function createRoleWith(
  trustPolicy: RoleArgs["trustPolicy"],
  name: string,
  { account, shared }: WorkloadIdentityArgs,
  options: pulumi.CustomResourceOptions,
) {
  return createRole(
    name,
    {
      namespace: account.namespace,
      serviceAccountName: account.name,
      trustPolicy,
      policyArns: account.rolePolicyArns,
      permissionsBoundaryArn: shared.permissionsBoundaryArn,
      path: shared.rolePath,
    },
    options,
  );
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

function existingServiceAccount(
  name: string,
  account: Account,
  options: pulumi.CustomResourceOptions,
): ServiceAccount {
  return ServiceAccount.get(name, `${account.namespace}/${account.name}`, options);
}
