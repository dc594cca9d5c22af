// The access of one cluster's service accounts to Pulumi Cloud, as one component. `pulumi package add` generates SDKs from it.
//
// 1. place.ts             where the component was first deployed, and that it still is there
// 2. oidcIssuer.ts        the provider of Pulumi Cloud, unless the program passes one
// 3. serviceAccount.ts    the namespaces
// 4. oidcIssuer.ts        the OIDC issuer in Pulumi Cloud, with the allow policies of all service accounts
// 5. workloadIdentity.ts  for each service account: its role, itself, its ConfigMap, and last its Job
// 6. injection.ts         the admission policy for the service accounts with injectToken, once their Jobs have succeeded

import { Provider } from "@pulumi/kubernetes/provider";
import * as pulumi from "@pulumi/pulumi";
import { Provider as PulumiCloudProvider } from "@pulumi/pulumiservice/provider";
import { createInjection } from "./injection";
import { createOidcIssuer, createPulumiCloudProvider, policyOf } from "./oidcIssuer";
import { requireFirstPlace } from "./place";
import { createNamespaces } from "./serviceAccount";
import {
  accountsOf,
  type CompleteSettings,
  type Settings,
  settingsEntries,
  settingsProblems,
  settingsWarnings,
  unknownBesideEntries,
  withAccountName,
} from "./settings/access";
import { type Account, awsRoleOf, idOf } from "./settings/account";
import { type ClusterInputs, clusterInputEntries, type RoleSource, roleSourceOf } from "./settings/cluster";
import { commonLineOf } from "./settings/grants";
import { loginProblems } from "./settings/login";
import { messageOf, type Problem } from "./settings/problems";
import { userError } from "./settings/userError";
import { check, type Incomplete, settingsSchema, withCheckedOutputs } from "./settings/validation";
import { type ServiceAccountOutputs, WorkloadIdentity } from "./workloadIdentity";

/**
 * The cluster and the settings of its service accounts. What names resources or decides which exist is a plain value.
 */
export interface PulumiCloudAccessArgs extends Settings, ClusterInputs {}

/** Lets the service accounts of one Kubernetes cluster exchange their own ID tokens for Pulumi Cloud access tokens. */
export class PulumiCloudAccess extends pulumi.ComponentResource {
  /** ID of the OIDC issuer in Pulumi Cloud. */
  readonly oidcIssuerId: pulumi.Output<string>;
  /**
   * What each service account is granted, by `NAMESPACE/NAME`, such as `team:platform, 3600 s`, and under `all` what they have in
   * common. A preview compares the lines one by one, and shows what it does not know as `known after the update`.
   */
  readonly grants: pulumi.Output<Record<string, string>>;
  /** What each service account has, by `NAMESPACE/NAME`. */
  readonly serviceAccounts: Record<string, ServiceAccountOutputs>;

  /**
   * @param args are checked before anything is registered.
   * @param options the Kubernetes provider of the cluster, in `providers` or from the parent. Without an AWS provider,
   *   the default one is used. Without a Pulumi Cloud provider, the component creates one for `pulumiApiUrl`.
   * @throws pulumi.RunError that lists every problem of the arguments, and says if the Kubernetes provider is missing.
   */
  constructor(name: string, args: PulumiCloudAccessArgs, options?: pulumi.ComponentResourceOptions) {
    // JavaScript lets a program leave out the arguments.
    const { settings, accounts } = checkArguments(name, { ...args }, options);
    super("eks-pulumi-oidc:index:PulumiCloudAccess", name, { ...settings }, options);
    for (const warning of settingsWarnings(settings)) void pulumi.log.warn(warning, this);

    // The component stays where it was deployed, for which everything else waits.
    const { pulumiApiUrl, organization, issuerUrl } = settings;
    const place = { pulumiApiUrl, organization, issuerUrl };
    const dependsOn = requireFirstPlace(`${name}.first-deployment`, place, name, { parent: this });
    const inPlace = { parent: this, dependsOn };

    const pulumiCloud =
      this.getProvider(OIDC_ISSUER) ??
      createPulumiCloudProvider(`${name}.oidc-issuer`, pulumiApiUrl, inPlace);

    const namespaces = createNamespaces(name, settings.createNamespaces, inPlace);

    // Pulumi Cloud: the organization trusts the issuer, with one policy for each service account.
    const granted = accounts.map(({ account, roleSource }) => {
      return { account, roleSource, policy: policyOf(account, settings.audienceRule) };
    });
    const oidcIssuer = createOidcIssuer(
      `${name}.oidc-issuer`,
      {
        organization,
        name: settings.issuerName,
        url: issuerUrl,
        maxExpirationSeconds: settings.maxExpirationSeconds,
        policies: granted.map(({ policy }) => policy),
      },
      { ...inPlace, provider: pulumiCloud },
    );

    // If the cluster is unreachable, what is suspended has to be denied before the update fails. The promise is for what follows it.
    const isSuspended = accounts.some(({ account }) => account.suspended);
    const denials: Promise<pulumi.Resource[]> = Promise.resolve().then(() => {
      return isSuspended ? [oidcIssuer, ...identities.flatMap(({ identity }) => identity.denials)] : [];
    });

    // Each service account: its role, its ConfigMap, and the Job that tests the token exchange.
    const identities = granted.map(({ account, roleSource, policy }) => {
      const namespace = namespaces.get(account.namespace);
      const identity = new WorkloadIdentity(
        `${name}.${account.namespace}.${account.name}`,
        { account, policy, oidcIssuer, settings, roleSource, denials },
        { ...inPlace, dependsOn: [...dependsOn, ...(namespace ? [namespace] : [])] },
      );
      return { account, identity };
    });

    // It waits for the Jobs by `dependsOn`, not by a property: a replaced Job does not replace the policy.
    const injected = identities.filter(({ account }) => account.injectToken);
    if (injected.length > 0) {
      createInjection(
        `${name}.inject-token`,
        { accounts: injected.map(({ account }) => account) },
        { ...inPlace, dependsOn: [...dependsOn, ...injected.flatMap(({ identity }) => identity.ready)] },
      );
    }

    this.oidcIssuerId = oidcIssuer.id;
    const lines = [
      commonLineOf(settings).then((line) => ["all", line] as const),
      ...identities.map(async ({ account, identity }) => [idOf(account), await identity.grant] as const),
    ];
    this.grants = pulumi.output(Promise.all(lines).then(Object.fromEntries<string>));
    this.serviceAccounts = Object.fromEntries(
      identities.map(({ account, identity }) => [idOf(account), identity.outputs]),
    );
    this.registerOutputs({
      oidcIssuerId: this.oidcIssuerId,
      grants: this.grants,
      serviceAccounts: this.serviceAccounts,
    });
  }
}

/** The resource of the package pulumiservice whose provider the component uses. */
const OIDC_ISSUER = "pulumiservice:index:OidcIssuer";

const argsSchema = settingsSchema(
  { ...settingsEntries, ...clusterInputEntries },
  { unknown: unknownBesideEntries },
);

/**
 * Checks the arguments before the component is registered, so that the state never contains a rejected argument.
 *
 * @returns the arguments with every default filled in, and how each service account receives its role. Their outputs fail if they
 *   are invalid, once they are known, which the registration waits for.
 * @throws pulumi.RunError that lists every problem that is known immediately.
 */
function checkArguments(
  name: string,
  args: PulumiCloudAccessArgs,
  options: pulumi.ComponentResourceOptions = {},
): { settings: CompleteSettings & ClusterInputs; accounts: { account: Account; roleSource: RoleSource }[] } {
  const errorOf = (problems: Problem[], consequence?: string) => {
    const title = `Invalid arguments of PulumiCloudAccess "${name}"`;
    const named = problems.map((problem) => withAccountName(problem, args.serviceAccounts));
    return userError(messageOf(title, named, consequence));
  };
  const result = (values: unknown) => check(argsSchema, values, argumentProblems);
  const { settings: valid, problems } = result(args);
  const createsPulumiCloud = !hasProvider(options, "pulumiservice", PulumiCloudProvider, OIDC_ISSUER);
  const all = [
    ...problems,
    ...providerProblems(options),
    ...(valid && createsPulumiCloud ? loginProblems(valid.pulumiApiUrl) : []),
  ];
  if (!valid || all.length > 0) throw errorOf(all);

  const problemsOf = (values: unknown) => result(values).problems;
  const checked = withCheckedOutputs(valid, problemsOf, (problem) => {
    return errorOf([problem], "None of its resources was changed.");
  });
  const settings = { ...checked, serviceAccounts: accountsOf(checked) };
  const accounts = settings.serviceAccounts.map((account) => {
    const roleSource = roleSourceOf(account.awsRole, settings);
    if ("reason" in roleSource) throw errorOf([roleSource]);
    return { account, roleSource };
  });
  return { settings, accounts };
}

/** Returns the problems of arguments that are valid by themselves, but not together. */
function argumentProblems(args: Incomplete<CompleteSettings & ClusterInputs>): Problem[] {
  const { serviceAccounts = [] } = args;
  const awsRoles = new Set(serviceAccounts.flatMap((account) => (account ? awsRoleOf(account) : [])));
  const roleProblems = [...awsRoles].flatMap((awsRole): Problem[] => {
    const roleSource = roleSourceOf(awsRole, args);
    return "reason" in roleSource ? [roleSource] : [];
  });
  return [...settingsProblems(args), ...roleProblems];
}

/**
 * Returns the problems of the providers, such as that there is none for Kubernetes. Pulumi would use the current context of the
 * kubeconfig, which can be any cluster.
 */
function providerProblems(options: pulumi.ComponentResourceOptions): Problem[] {
  const { providers = {} } = options;
  // Without a check, the SDK ends with a TypeError.
  const absent = Object.entries(providers).filter(([, value]) => !pulumi.Resource.isInstance(value));
  if (absent.length > 0) {
    const keyOf = (key: string) => (Array.isArray(providers) ? Number(key) : key);
    return absent.map(([key]) => ({ path: ["providers", keyOf(key)], reason: "must be a provider" }));
  }
  if (hasProvider(options, "kubernetes", Provider, "kubernetes:core/v1:ServiceAccount")) return [];
  const reason = "this resource option must contain the Kubernetes provider of the cluster";
  return [{ path: ["providers"], reason }];
}

/** Returns whether the caller passes the provider of a package, of which `type` is a resource. */
function hasProvider(
  { provider, providers = {}, parent }: pulumi.ComponentResourceOptions,
  packageName: string,
  { isInstance }: Pick<typeof Provider, "isInstance">,
  type: string,
): boolean {
  const isGiven = Array.isArray(providers) ? providers.some(isInstance) : packageName in providers;
  return isGiven || isInstance(provider) || parent?.getProvider(type) !== undefined;
}
