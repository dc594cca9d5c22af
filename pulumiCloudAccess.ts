// The access of one cluster's service accounts to Pulumi Cloud, as one component. `pulumi package add` generates SDKs from it.

import { Provider } from "@pulumi/kubernetes/provider";
import * as pulumi from "@pulumi/pulumi";
import { createInjection } from "./injection";
import { allowPolicy, createOidcIssuer } from "./oidcIssuer";
import { createNamespaces } from "./serviceAccount";
import {
  type AccessSettings,
  checkAccessSettings,
  DEFAULT_AWS_ROLE,
  unknownAccessSettings,
} from "./settings";
import { userError } from "./userError";
import { isObject, messageOf, type Problem } from "./validation";
import { type ServiceAccountAccess, WorkloadIdentity } from "./workloadIdentity";

/**
 * The cluster and the settings of its service accounts. Only issuerUrl, oidcProviderArn, and clusterArn can be
 * outputs.
 */
export interface PulumiCloudAccessArgs extends AccessSettings {
  /** OIDC issuer of the cluster, with https://. */
  issuerUrl: pulumi.Input<string>;
  /** ARN of the cluster's IAM OIDC provider in this AWS account. Required if an awsRole is irsa. */
  oidcProviderArn?: pulumi.Input<string>;
  /** ARN of the cluster. Required if an awsRole is pod-identity. */
  clusterArn?: pulumi.Input<string>;
}

/** Lets the service accounts of one EKS cluster exchange their own ID tokens for Pulumi Cloud access tokens. */
export class PulumiCloudAccess extends pulumi.ComponentResource {
  /** ID of the OIDC issuer in Pulumi Cloud. */
  readonly oidcIssuerId: pulumi.Output<string>;
  /** The access of each service account, by NAMESPACE/NAME. */
  readonly serviceAccounts: Record<string, ServiceAccountAccess>;

  /**
   * @param args are checked before anything is registered.
   * @param options the Kubernetes provider of the cluster, in `providers` or from the parent. Without an AWS provider,
   *   the default one is used. Without a Pulumi Cloud provider, the component creates one for `pulumiApiUrl`.
   * @throws pulumi.RunError that lists every problem of the arguments, and says if the Kubernetes provider is missing.
   */
  constructor(name: string, args: PulumiCloudAccessArgs, options?: pulumi.ComponentResourceOptions) {
    const { access, cluster } = checkArguments(name, args, options);
    super("eks-pulumi-oidc:index:PulumiCloudAccess", name, { ...access, ...cluster }, options);
    const inComponent = { parent: this };

    const namespaces = createNamespaces(name, access.createNamespaces, inComponent);

    // Pulumi Cloud: the organization trusts the issuer, with one allow policy for each service account.
    const accounts = access.serviceAccounts.map((account) => ({ account, policy: allowPolicy(account) }));
    const oidcIssuer = createOidcIssuer(
      `${name}.oidc-issuer`,
      {
        organization: access.organization,
        name: access.issuerName,
        url: cluster.issuerUrl,
        maxExpirationSeconds: access.maxExpirationSeconds,
        policies: accounts.map(({ policy }) => policy),
        apiUrl: access.pulumiApiUrl,
      },
      inComponent,
    );

    // Each service account: its role, its ConfigMaps, and the Job that tests the token exchange.
    const identities = accounts.map(({ account, policy }) => {
      const identity = new WorkloadIdentity(
        `${name}.${account.namespace}.${account.name}`,
        {
          account,
          policy,
          oidcIssuer,
          cluster,
          namespace: namespaces.get(account.namespace) ?? account.namespace,
          shared: access,
        },
        inComponent,
      );
      return [`${account.namespace}/${account.name}`, identity.access] as const;
    });

    if (access.injectToken) {
      createInjection(`${name}.inject-token`, { accounts: access.serviceAccounts }, inComponent);
    }

    this.oidcIssuerId = oidcIssuer.id;
    this.serviceAccounts = Object.fromEntries(identities);
    this.registerOutputs({ oidcIssuerId: this.oidcIssuerId, serviceAccounts: this.serviceAccounts });
  }
}

/** The arguments that can be outputs. */
const CLUSTER_KEYS = ["issuerUrl", "oidcProviderArn", "clusterArn"];

/**
 * Checks the arguments before the component is registered, so that the state never contains a rejected argument.
 *
 * @returns the settings with every default filled in, and the cluster.
 * @throws pulumi.RunError that lists every problem.
 */
function checkArguments(
  name: string,
  args: PulumiCloudAccessArgs,
  options: pulumi.ComponentResourceOptions | undefined,
) {
  const { issuerUrl, oidcProviderArn, clusterArn, ...given } = args;
  const { access, problems } = checkAccessSettings(given);
  const all = [
    ...unknownAccessSettings(given, CLUSTER_KEYS),
    ...issuerProblems(issuerUrl),
    ...problems,
    ...missingForRoles(args),
    ...missingProvider(options),
  ];
  if (access && all.length === 0) return { access, cluster: { issuerUrl, oidcProviderArn, clusterArn } };
  throw userError(messageOf(`Invalid arguments of PulumiCloudAccess "${name}"`, all));
}

/** Returns the problem of an issuer's URL that is missing or, if it is known, not an https URL. */
function issuerProblems(url: pulumi.Input<string> | undefined): Problem[] {
  if (!url) return [{ path: ["issuerUrl"], reason: "required" }];
  if (typeof url !== "string" || url.startsWith("https://")) return [];
  return [{ path: ["issuerUrl"], value: url, reason: "must begin with https://" }];
}

/** Returns a problem for each missing argument that an IAM role requires. */
function missingForRoles({ serviceAccounts, oidcProviderArn, clusterArn }: PulumiCloudAccessArgs): Problem[] {
  const entries: unknown[] = Array.isArray(serviceAccounts) ? serviceAccounts : [];
  const roles = entries.map((entry) => (isObject(entry) && entry.awsRole) || DEFAULT_AWS_ROLE);
  const problems: Problem[] = [];
  if (roles.includes("irsa") && oidcProviderArn === undefined) {
    const reason = "required, because an awsRole is irsa, which is the default";
    problems.push({ path: ["oidcProviderArn"], reason });
  }
  if (roles.includes("pod-identity") && clusterArn === undefined) {
    problems.push({ path: ["clusterArn"], reason: "required, because an awsRole is pod-identity" });
  }
  return problems;
}

/**
 * Returns a problem if the component has no Kubernetes provider. Pulumi would use the current context of the kubeconfig,
 * which can be any cluster.
 */
function missingProvider({
  provider,
  providers = {},
  parent,
}: pulumi.ComponentResourceOptions = {}): Problem[] {
  const isGiven = Array.isArray(providers) ? providers.some(Provider.isInstance) : "kubernetes" in providers;
  if (isGiven || Provider.isInstance(provider)) return [];
  if (parent?.getProvider("kubernetes:core/v1:ServiceAccount")) return [];
  const reason = "this resource option must contain the Kubernetes provider of the cluster";
  return [{ path: ["providers"], reason }];
}
