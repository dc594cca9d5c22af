// The access of one cluster's service accounts to Pulumi Cloud, as one component. `pulumi package add` generates SDKs from it.

import { Provider } from "@pulumi/kubernetes/provider";
import * as pulumi from "@pulumi/pulumi";
import * as v from "valibot";
import { createInjection } from "./injection";
import { allowPolicy, createOidcIssuer } from "./oidcIssuer";
import { createNamespaces } from "./serviceAccount";
import {
  type AccessSettings,
  accessEntries,
  accessRules,
  defaultAccountWarnings,
  INSTEAD_OF_OUTPUTS,
  issuerAudiences,
  unknownAccessSettings,
  unknownEntrySettings,
  withDefaults,
} from "./settings/access";
import { afterwards } from "./settings/outputs";
import { userError } from "./settings/userError";
import {
  check,
  type Incomplete,
  input,
  messageOf,
  type Problem,
  schemasOf,
  settings,
  string,
} from "./settings/validation";
import { type RoleCluster, type ServiceAccountAccess, WorkloadIdentity } from "./workloadIdentity";

/**
 * The cluster and the settings of its service accounts. What names resources or decides which exist is a plain value.
 */
export interface PulumiCloudAccessArgs extends AccessSettings, RoleCluster {}

/** Lets the service accounts of one EKS cluster exchange their own ID tokens for Pulumi Cloud access tokens. */
export class PulumiCloudAccess extends pulumi.ComponentResource {
  /** ID of the OIDC issuer in Pulumi Cloud. */
  readonly oidcIssuerId: pulumi.Output<string>;
  /** The access of each service account, by `NAMESPACE/NAME`. */
  readonly serviceAccounts: Record<string, ServiceAccountAccess>;

  /**
   * @param args are checked before anything is registered.
   * @param options the Kubernetes provider of the cluster, in `providers` or from the parent. Without an AWS provider,
   *   the default one is used. Without a Pulumi Cloud provider, the component creates one for `pulumiApiUrl`.
   * @throws pulumi.RunError that lists every problem of the arguments, and says if the Kubernetes provider is missing.
   */
  constructor(name: string, args: PulumiCloudAccessArgs, options?: pulumi.ComponentResourceOptions) {
    const { checked, isValid } = checkArguments(name, args, options);
    const access = withDefaults(isValid ? afterwards(checked, isValid) : checked);
    super("eks-pulumi-oidc:index:PulumiCloudAccess", name, access, options);
    const inComponent = { parent: this };
    for (const warning of defaultAccountWarnings(access.serviceAccounts)) void pulumi.log.warn(warning, this);

    const namespaces = createNamespaces(name, access.createNamespaces, inComponent);

    // Pulumi Cloud: the organization trusts the issuer, with one allow policy for each service account.
    const accounts = access.serviceAccounts.map((account) => ({ account, policy: allowPolicy(account) }));
    const oidcIssuer = createOidcIssuer(
      `${name}.oidc-issuer`,
      {
        organization: access.organization,
        name: access.issuerName,
        url: access.issuerUrl,
        maxExpirationSeconds: access.maxExpirationSeconds,
        policies: accounts.map(({ policy }) => policy),
        apiUrl: access.pulumiApiUrl,
      },
      inComponent,
    );

    // Each service account: its role, its ConfigMap, and the Job that tests the token exchange.
    const identities = accounts.map(({ account, policy }) => {
      const identity = new WorkloadIdentity(
        `${name}.${account.namespace}.${account.name}`,
        {
          account,
          policy,
          oidcIssuer,
          cluster: access,
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

const clusterEntries = {
  issuerUrl: input(
    string(/^https:\/\/./, "must begin with https://, as oidcProviderUrl of @pulumi/eks does"),
  ),
  oidcProviderArn: v.optional(input(string(/^arn:/, "must be an ARN"))),
  clusterArn: v.optional(input(string(/^arn:/, "must be an ARN"))),
};

const CLUSTER_KEYS = Object.keys(clusterEntries);

const argsSchema = settings(schemasOf<PulumiCloudAccessArgs>()({ ...accessEntries, ...clusterEntries }));
type CheckedArgs = v.InferOutput<typeof argsSchema>;

/**
 * Checks arguments and waits for the outputs among them, as the component does before it is registered.
 *
 * @throws pulumi.RunError that lists every problem.
 */
export async function checkOutputs(
  name: string,
  args: PulumiCloudAccessArgs,
  options?: pulumi.ComponentResourceOptions,
): Promise<void> {
  await checkArguments(name, args, options).isValid;
}

/**
 * Checks the arguments before the component is registered, so that the state never contains a rejected argument. Outputs
 * are checked once they are known, which the registration waits for.
 *
 * @returns the arguments with the defaults of their schemas, and a promise that is rejected if an output is invalid.
 * @throws pulumi.RunError that lists every problem that is known immediately.
 */
function checkArguments(
  name: string,
  args: PulumiCloudAccessArgs,
  options: pulumi.ComponentResourceOptions | undefined,
) {
  const title = `Invalid arguments of PulumiCloudAccess "${name}"`;
  const { settings: checked, problems, late } = check(argsSchema, args, argumentRules, INSTEAD_OF_OUTPUTS);
  const all = [
    ...unknownAccessSettings(args, CLUSTER_KEYS),
    ...unknownEntrySettings(args.serviceAccounts),
    ...problems,
    ...providerProblems(options),
  ];
  if (!checked || all.length > 0) throw userError(messageOf(title, all));
  if (!late) return { checked };

  const isValid = late.then((found) => {
    if (found.length === 0) return true;
    throw userError(messageOf(title, found, "None of its resources was changed."));
  });
  return { checked, isValid };
}

/** Returns the problems of arguments that are valid by themselves, but not together. */
function argumentRules(args: Incomplete<CheckedArgs>): Problem[] {
  return [
    ...accessRules(args),
    ...issuerAudiences(args.serviceAccounts, args.issuerUrl),
    ...missingForRoles(args),
  ];
}

/** Returns a problem for each missing argument that an IAM role requires. */
function missingForRoles({
  serviceAccounts = [],
  oidcProviderArn,
  clusterArn,
}: Incomplete<CheckedArgs>): Problem[] {
  const roles = serviceAccounts.map((account) => account?.awsRole);
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
 * Returns the problems of the providers, such as that there is none for Kubernetes. Pulumi would use the current context of the kubeconfig,
 * which can be any cluster.
 */
function providerProblems({
  provider,
  providers = {},
  parent,
}: pulumi.ComponentResourceOptions = {}): Problem[] {
  // Without a check, the SDK ends with a TypeError.
  const absent = Object.entries(providers).filter(([, given]) => !pulumi.Resource.isInstance(given));
  if (absent.length > 0) {
    const reason = "is not a provider. Leave it out to use the default one";
    const keyOf = (key: string) => (Array.isArray(providers) ? Number(key) : key);
    return absent.map(([key]) => ({ path: ["providers", keyOf(key)], reason }));
  }
  const isGiven = Array.isArray(providers) ? providers.some(Provider.isInstance) : "kubernetes" in providers;
  if (isGiven || Provider.isInstance(provider)) return [];
  if (parent?.getProvider("kubernetes:core/v1:ServiceAccount")) return [];
  const reason = "this resource option must contain the Kubernetes provider of the cluster";
  return [{ path: ["providers"], reason }];
}
