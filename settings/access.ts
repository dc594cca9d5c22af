// Declares each setting twice. An interface has its type and description, from which the SDKs of the component are
// generated. A schema checks its value and fills in its default. The compiler compares the two.

import { posix } from "node:path";
import * as pulumi from "@pulumi/pulumi";
import * as v from "valibot";
import { CREDENTIAL_HELPER, VOLUME_MOUNT, VOLUME_NAME } from "../tokenVolume";
import { type Team, teamProblems, teams } from "./teams";
import { TOKEN_TYPES, type TokenSettings, tokenEntries, tokenProblems } from "./tokenTypes";
import {
  checkOutputs,
  distinctList,
  flag,
  type Incomplete,
  input,
  isLater,
  isObject,
  list,
  mapInput,
  object,
  type Path,
  type Problem,
  plain,
  schemasOf,
  settings,
  string,
} from "./validation";

/** How the pods of a service account receive an IAM role. */
export const AwsRole = {
  /** IAM roles for service accounts. Requires the cluster's IAM OIDC provider. */
  Irsa: "irsa",
  /** EKS Pod Identity. Requires its agent on the cluster. */
  PodIdentity: "pod-identity",
  /** No role, for workloads that do not use AWS. */
  None: "none",
} as const;
export type AwsRole = (typeof AwsRole)[keyof typeof AwsRole];

/** One service account, and the access token that it is granted. */
export interface ServiceAccount extends TokenSettings {
  /** Namespace of the service account. */
  namespace: string;
  /** Name of the service account. */
  name: string;
  /** Lifetime of the access token in seconds, at most `maxExpirationSeconds`. Default: `maxExpirationSeconds`. */
  tokenExpirationSeconds?: number;
  /** Audience of the ID token. Default: `urn:pulumi:org:ORGANIZATION`. */
  tokenAudience?: pulumi.Input<string>;
  /** Require `tokenAudience` in the allow policy. Default: `false`. */
  audienceRule?: boolean;
  /** Additional claims that the allow policy requires, with their patterns. Default: `{}`. */
  policyRules?: Record<string, pulumi.Input<string>>;
  /**
   * Create the service account. Set it to `false` for one that exists, such as a Helm chart's. To give up one that was
   * created, set it to `false` and leave `runJob` on: an update with both off deletes the service account. Default: `true`.
   */
  createServiceAccount?: boolean;
  /**
   * How its pods receive an IAM role: `irsa`, `pod-identity`, or `none`. Default: `none`; with `rolePolicyArns`, even an
   * empty list, `irsa`.
   */
  awsRole?: AwsRole;
  /** IAM policies to attach to the role. Default: `[]`. */
  rolePolicyArns?: string[];
  /** Run the Job that tests the token exchange. Default: `true`. */
  runJob?: boolean;
  /** Command of the Job. Default: `["pulumi","whoami"]`; with a runner token, `["true"]`. */
  command?: string[];
}

/** The service accounts of one cluster, and what they have in common. */
export interface AccessSettings {
  /**
   * Service accounts of the cluster, at most 40. Default of a stack: `default/pulumi-service-account`, if `userLogin`
   * is set.
   */
  serviceAccounts: ServiceAccount[];
  /** Pulumi organization. Default of a stack: the organization of the stack. */
  organization: pulumi.Input<string>;
  /** Name of the OIDC issuer in Pulumi Cloud. Default of a stack: `eks-CLUSTER_NAME`. */
  issuerName: pulumi.Input<string>;
  /**
   * Namespaces to create, with Pod Security level `restricted`. List only namespaces that an entry uses. They are never deleted.
   * Default: `[]`.
   */
  createNamespaces?: string[];
  /**
   * Teams in Pulumi Cloud to create, with what they may do. Leave out those that exist. A team that leaves the list is
   * deleted. Default: `[]`.
   */
  createTeams?: Team[];
  /**
   * Create admission policies that add the token exchange to pods with the label `eks-pulumi-oidc/inject-token`.
   * Requires Kubernetes 1.36 and permission to manage admission policies in the whole cluster. Default: `false`.
   */
  injectToken?: boolean;
  /** Upper bound for the lifetime of every access token from this issuer, in seconds. Default: `7200`. */
  maxExpirationSeconds?: number;
  /** ARN of the permissions boundary of every IAM role. Default: none. */
  permissionsBoundaryArn?: pulumi.Input<string>;
  /** Path of every IAM role. Default: `/`. */
  rolePath?: pulumi.Input<string>;
  /** Image of the Jobs. Requires bash 4.4, curl 7.84, and CA certificates. Default: `pulumi/pulumi-base:3.274.1`. */
  image?: pulumi.Input<string>;
  /** Overrides for the Jobs' pod spec, such as tolerations. The container is named `token-exchange`. Default: `{}`. */
  // biome-ignore lint/suspicious/noExplicitAny: SDKs have no other type for any value.
  jobPodSpec?: Record<string, any>;
  /**
   * URL of Pulumi Cloud. Change it if yours is self-hosted. Your login must be for it, and a deployed stack keeps it.
   * Default: `https://api.pulumi.com`.
   */
  pulumiApiUrl?: string;
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

const seconds = v.pipe(
  v.number("must be a whole number of seconds"),
  v.integer("must be a whole number of seconds"),
  v.minValue(1, "must be at least 1 second"),
  v.maxValue(999_999_999, "must be at most 999999999 seconds"),
);

/** https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-label-names */
export const kubernetesName = string(
  /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/,
  "must be 1 to 63 lowercase letters, digits, or hyphens, and must not begin or end with a hyphen",
);

/** Every cluster has these: https://kubernetes.io/docs/concepts/overview/working-with-objects/namespaces/ */
const INITIAL_NAMESPACES = ["default", "kube-system", "kube-public", "kube-node-lease"];

const newNamespace = v.pipe(
  kubernetesName,
  v.check((name) => !INITIAL_NAMESPACES.includes(name), "exists on every cluster"),
);

export const policyArn = string(
  /^arn:aws(-[a-z]+)*:iam::([0-9]{12}|aws):policy\/([\w+=,.@-]+\/)*[\w+=,.@-]+$/,
  "must be the ARN of an IAM policy",
);

// https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateRole.html
// "*", "?", and "$" would be wildcards and variables in the pipeline's policies.
export const rolePath = string(
  /^\/([\w+=,.@-]+\/)*$/,
  'must be "/", or begin and end with "/", such as "/pulumi/"',
);

// The exchange script checks names and URLs by the same rules: scripts/exchange-token.sh says where they come from.

const organizationName = string(/^\w[\w.-]{0,99}$/, "must be the name of a Pulumi organization");

/** Characters that no one sees, such as control characters and zero-width spaces. */
const INVISIBLE = "\\p{C}\\p{Default_Ignorable_Code_Point}";

const issuerName = string(
  new RegExp(`^(?! )[^${INVISIBLE}]+(?<! )$`, "u"),
  "must not begin or end with a space, or contain invisible characters",
);

/** Audiences by which an ID token that Pulumi Cloud receives could sign in elsewhere, and who accepts them. */
const FOREIGN_AUDIENCES: [pattern: RegExp, owner: string][] = [
  [/(^|[./])(sts|pods\.eks)\..*amazonaws\./i, "AWS"],
  // https://learn.microsoft.com/entra/workload-id/workload-identity-federation-create-trust
  [/^api:\/\/AzureADTokenExchange/i, "Azure"],
  // https://cloud.google.com/kubernetes-engine/docs/concepts/workload-identity
  // https://cloud.google.com/iam/docs/workload-identity-federation-with-kubernetes
  [/\.svc\.id\.goog$|^(https:)?\/\/iam\.googleapis\.com\//i, "Google Cloud"],
  // https://docs.aws.amazon.com/eks/latest/userguide/service-accounts.html
  // AKS: https://learn.microsoft.com/azure/aks/outbound-rules-control-egress
  [/^(https:\/\/)?kubernetes\.default(\.|$)|\.azmk8s\.io(["/:]|$)/i, "the cluster's API server"],
];

/** Returns who else accepts ID tokens of an audience; undefined if no one is known to. */
function ownerOf(audience: string): string | undefined {
  return FOREIGN_AUDIENCES.find(([pattern]) => pattern.test(audience))?.[1];
}

const audience = v.pipe(
  string(
    new RegExp(`^(?=.*[^.])[^\\s*?${INVISIBLE}]+$`, "u"),
    'must not contain spaces, invisible characters, "*", or "?", and must not consist only of dots',
  ),
  v.check(
    (name) => ownerOf(name) === undefined,
    ({ input }) => `must not be an audience that ${ownerOf(input)} accepts`,
  ),
);

// Terminals and job summaries show what is in a policy.
const noInvisible = v.regex(new RegExp(`^[^${INVISIBLE}]*$`, "u"), "must not contain invisible characters");

const pattern = v.pipe(string(/[^*?.]/, "must not consist only of wildcards"), noInvisible);

// A name that contains a dot is quoted; without the quotes it would be the path of another claim.
const CLAIM_PATH = /^(?!kubernetes\.io\.)("[^"]+"|[^".\s]+)(\.("[^"]+"|[^".\s]+))*$/;
const BUILT_IN_RULES = ["kubernetes.io.namespace", "kubernetes.io.serviceaccount.name", "aud"];

const claim = v.pipe(
  string(CLAIM_PATH, 'must be the path of a claim, such as "kubernetes.io".pod.name with its quotes'),
  noInvisible,
  v.check(
    (path) => !BUILT_IN_RULES.includes(path.replaceAll('"', "")),
    "must not replace a rule that every policy has",
  ),
);

// v.record drops these names, and the allow policy would then require less.
const RESERVED = ["__proto__", "prototype", "constructor"];

const policyRules = v.pipe(
  v.custom<Record<string, pulumi.Input<string>>>(isObject, "must be an object"),
  v.check(
    (rules) => !RESERVED.some((name) => Object.hasOwn(rules, name)),
    `must not contain ${RESERVED.join(", ")}`,
  ),
  v.record(claim, input(pattern)),
);

const command = v.pipe(
  list(string(/^[^\0]*$/, "must not contain a null character")),
  v.check(([program]) => Boolean(program), 'must name a program, such as ["pulumi","whoami"]'),
);

const image = v.pipe(
  string(/^[a-z0-9][^\s@]*(@sha256:[0-9a-f]{64})?$/, "must be the name of an image"),
  v.regex(/@|:(?!latest$)\w[\w.-]*$/, 'must be pinned to a digest or to a tag other than "latest"'),
);

const FIXED_ACCOUNT = v.optional(v.never("must not be set: each Job runs as its own service account"));
const FIXED_COMMAND = v.optional(
  v.never("must not be set: the Job would not test the token exchange; use command of the service account"),
);

const FIXED_EXCHANGE =
  "must not be set: the Job would test something other than the token exchange of workloads";

/** Whether a path of a container is the directory of the volume, or in it. */
function isInVolume(path: unknown): boolean {
  return `${posix.resolve("/", String(path))}/`.startsWith(`${VOLUME_MOUNT.mountPath}/`);
}

// An element without a name would replace the Job's own container and its restrictions.
const named = v.pipe(object, v.looseObject({ name: kubernetesName }, "required"));

const otherVolume = v.pipe(
  named,
  v.check(({ name }) => name !== VOLUME_NAME, FIXED_EXCHANGE),
);

/** Returns a schema for lists of objects, of which it checks these keys. */
function listOf(entries: v.ObjectEntries) {
  return list(v.pipe(object, v.looseObject(entries)));
}

/** What the Job's own container must not have, since it would not test the exchange. */
const exchangeContainer = v.looseObject({
  command: FIXED_COMMAND,
  args: FIXED_COMMAND,
  env: v.optional(listOf({ name: v.custom((name) => name !== CREDENTIAL_HELPER.name, FIXED_EXCHANGE) })),
  volumeMounts: v.optional(listOf({ mountPath: v.custom((path) => !isInVolume(path), FIXED_EXCHANGE) })),
});

const container = v.lazy((value) => {
  return isObject(value) && value.name === "token-exchange" ? exchangeContainer : named;
});

const jobPodSpec = v.pipe(
  object,
  v.record(v.string(), plain),
  v.looseObject({
    serviceAccountName: FIXED_ACCOUNT,
    serviceAccount: FIXED_ACCOUNT,
    containers: v.optional(list(container)),
    volumes: v.optional(list(otherVolume)),
  }),
);

const OCTET = "(25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)";
// The last label begins with a letter, or the host would be an IP address in disguise, such as 127.1.
const HOST = `([\\w-]{1,63}\\.)*[A-Za-z][\\w-]{0,62}|${OCTET}(\\.${OCTET}){3}`;
const LOOPBACK_HOST = `localhost|127(\\.${OCTET}){3}|\\[::1\\]`;
const PORT = "(6553[0-5]|655[0-2]\\d|65[0-4]\\d{2}|6[0-4]\\d{3}|[1-5]\\d{4}|[1-9]\\d{0,3})";

export const apiUrl = v.pipe(
  string(
    new RegExp(`^(?=.{1,255}$)(https://(${HOST})|http://(${LOOPBACK_HOST}))(:${PORT})?/?$`),
    "must be https://HOST without a path; http:// is allowed only for a loopback host",
  ),
  // An internationalized name can be invalid.
  v.check((url) => URL.canParse(url), "must be a URL"),
  v.transform((url) => new URL(url).origin),
  v.check(
    (origin) => origin !== "https://app.pulumi.com",
    "must be the URL of the API, such as https://api.pulumi.com, not of the console",
  ),
);

const accountEntries = schemasOf<ServiceAccount>()({
  namespace: kubernetesName,
  // Kubernetes allows dots in it; the allow policy would read them as wildcards.
  name: kubernetesName,
  ...tokenEntries,
  tokenExpirationSeconds: v.optional(seconds),
  tokenAudience: v.optional(input(audience)),
  audienceRule: v.optional(flag, false),
  policyRules: v.optional(policyRules, {}),
  createServiceAccount: v.optional(flag, true),
  awsRole: v.optional(v.picklist(Object.values(AwsRole), "must be irsa, pod-identity, or none")),
  rolePolicyArns: v.optional(distinctList(policyArn)),
  runJob: v.optional(flag, true),
  command: v.optional(command),
});

/**
 * Returns the schema of the list of service accounts.
 *
 * @param settingsOfStack the names of the settings beside the list.
 */
function accountList(settingsOfStack: string[] = []) {
  const reason = "is a setting of the stack, not of an entry";
  return v.pipe(
    list(settings(accountEntries, { elsewhere: { names: settingsOfStack, reason } })),
    v.minLength(1, "must not be empty"),
    // The last documented limit of policies per issuer: https://github.com/pulumi/docs/pull/15573
    v.maxLength(40, "must have at most 40 entries: an issuer has at most 40 policies"),
  );
}

export const accessEntries = schemasOf<AccessSettings>()({
  organization: input(organizationName),
  issuerName: input(issuerName),
  maxExpirationSeconds: v.optional(seconds, 7200),
  permissionsBoundaryArn: v.optional(input(policyArn)),
  rolePath: v.optional(input(rolePath), "/"),
  image: v.optional(input(image), "pulumi/pulumi-base:3.274.1"),
  jobPodSpec: v.optional(jobPodSpec, {}),
  pulumiApiUrl: v.optional(apiUrl, "https://api.pulumi.com"),
  injectToken: v.optional(flag, false),
  createNamespaces: v.optional(distinctList(newNamespace), []),
  createTeams: v.optional(teams, []),
  serviceAccounts: accountList(),
});

export const roleClusterEntries = schemasOf<RoleCluster>()({
  issuerUrl: input(string(/^https:\/\//, "must begin with https://, as oidcProviderUrl of @pulumi/eks does")),
  oidcProviderArn: v.optional(input(string(/^arn:/, "must be an ARN"))),
  clusterArn: v.optional(input(string(/^arn:/, "must be an ARN"))),
});

/**
 * Returns the schema of all settings beside the list of service accounts, and of that list.
 *
 * @param entries those of `AccessSettings`, and others.
 * @param required why settings are required, by their names.
 */
export function accessSchema<Entries extends Record<keyof AccessSettings, v.GenericSchema>>(
  entries: Entries,
  required: Record<string, string> = {},
) {
  const serviceAccounts = accountList(Object.keys(entries));
  const reason = "is a setting of an entry of serviceAccounts";
  const elsewhere = { names: Object.keys(accountEntries), reason };
  return settings({ ...entries, serviceAccounts }, { required, elsewhere });
}

type ValidSettings = v.InferOutput<ReturnType<typeof settings<typeof accessEntries>>>;

/** The settings with every default filled in; durations are in seconds. */
export type Access = ReturnType<typeof withDefaults>;

/** One service account with every default filled in; durations are in seconds. */
export type Account = Access["serviceAccounts"][number];

/** Returns valid settings with the defaults that depend on other settings. */
export function withDefaults(settings: ValidSettings) {
  const { organization, maxExpirationSeconds } = settings;
  const serviceAccounts = settings.serviceAccounts.map((account) => ({
    ...account,
    tokenExpirationSeconds: account.tokenExpirationSeconds ?? maxExpirationSeconds,
    tokenAudience: account.tokenAudience ?? mapInput(organization, (name) => `urn:pulumi:org:${name}`),
    awsRole: awsRoleOf(account),
    rolePolicyArns: account.rolePolicyArns ?? [],
    command: account.command ?? TOKEN_TYPES[account.tokenType].defaultCommand,
  }));
  return { ...settings, serviceAccounts };
}

/** Returns how the pods of an entry receive a role. To empty the list of policies does not delete the role. */
export function awsRoleOf({ awsRole, rolePolicyArns }: Incomplete<ServiceAccount>): AwsRole {
  return awsRole ?? (rolePolicyArns ? AwsRole.Irsa : AwsRole.None);
}

/**
 * Returns valid settings whose outputs fail if they are invalid, once they are known.
 *
 * @param errorOf returns the error to fail with.
 */
export function withCheckedOutputs<Settings extends ValidSettings & RoleCluster>(
  settings: Settings,
  errorOf: (problem: Problem) => Error,
): Settings {
  const entries: v.ObjectEntries = { ...accessEntries, ...roleClusterEntries };
  const ofAccount: v.ObjectEntries = accountEntries;
  const serviceAccounts = settings.serviceAccounts.map((account, index) => {
    const path: Path = ["serviceAccounts", index];
    const policyRules = checkOutputs(
      account.policyRules,
      () => input(pattern),
      [...path, "policyRules"],
      errorOf,
    );
    return { ...checkOutputs(account, (key) => ofAccount[key], path, errorOf), policyRules };
  });
  const checked = checkOutputs({ ...settings, serviceAccounts }, (key) => entries[key], [], errorOf);
  return { ...checked, issuerUrl: otherThanAudiences(checked, errorOf) };
}

/** Returns the issuer, which fails if an audience is the same. Plain audiences stay plain, so that a preview shows them. */
function otherThanAudiences(
  { issuerUrl, serviceAccounts }: ValidSettings & RoleCluster,
  errorOf: (problem: Problem) => Error,
): pulumi.Input<string> {
  const audiences = serviceAccounts.map(({ tokenAudience }) => tokenAudience);
  if (![issuerUrl, ...audiences].some(isLater)) return issuerUrl;
  return pulumi.all([issuerUrl, pulumi.all(audiences)]).apply(([url, known]) => {
    const [problem] = issuerAudiences(
      known.map((tokenAudience) => ({ tokenAudience })),
      url,
    );
    if (problem) throw errorOf(problem);
    return url;
  });
}

/** What to write instead of an output, for settings that name resources or decide which exist. */
export const INSTEAD_OF_OUTPUTS = {
  namespace:
    "Write the name as a string. If the program creates the namespace, add it to dependsOn of this component",
  name: "Write the name as a string. If the program creates the service account, add it to dependsOn of this component",
  policyRules: "Only its values can be outputs",
  rolePolicyArns:
    "If the program creates the policy, attach it to roleName of the output serviceAccounts with a RolePolicyAttachment",
};

/**
 * Returns the problems of settings that are valid by themselves, but not together.
 *
 * @param createsCluster whether the stack creates the cluster.
 */
export function accessRules(access: Incomplete<Access>, createsCluster = false): Problem[] {
  const { serviceAccounts = [] } = access;
  const problems = serviceAccounts.flatMap((account, index) => {
    if (!account) return [];
    const path: Path = ["serviceAccounts", index];
    const ofEntry = [
      ...tokenProblems(account),
      ...roleProblems(account),
      ...lifetimeProblems(account, access),
      ...namespaceProblems(account, access, createsCluster),
      ...existenceProblems(account, access, createsCluster),
    ];
    return ofEntry.map((problem) => ({ ...problem, path: [...path, ...problem.path] }));
  });

  return [
    ...problems,
    ...duplicateAccounts(serviceAccounts),
    ...unusedNamespaces(access),
    ...teamProblems(access.createTeams, teamNamesOf(access)),
  ];
}

/**
 * Returns problems with the service account of the entry that each is about, if the entry says which.
 *
 * @param entries the list of service accounts, which can be anything.
 */
export function withAccountNames(problems: Problem[], entries: unknown): Problem[] {
  return problems.map((problem) => {
    const [list, index] = problem.path;
    if (list !== "serviceAccounts" || !Array.isArray(entries)) return problem;
    const { namespace, name } = { ...entries[Number(index)] };
    const isNamed = v.is(kubernetesName, namespace) && v.is(kubernetesName, name);
    return isNamed ? { ...problem, element: `${namespace}/${name}` } : problem;
  });
}

/**
 * Returns a problem for each ID token that could also sign in to the cluster: an API server without `--api-audiences`
 * accepts its issuer as the audience.
 * https://kubernetes.io/docs/reference/command-line-tools-reference/kube-apiserver/
 *
 * @param issuerUrl of the cluster, if it is known.
 */
export function issuerAudiences(
  serviceAccounts: ({ tokenAudience?: unknown } | undefined)[] = [],
  issuerUrl: unknown,
): Problem[] {
  return serviceAccounts.flatMap((account, index): Problem[] => {
    const value = account?.tokenAudience;
    if (typeof value !== "string" || value !== issuerUrl) return [];
    const reason = "must not be the cluster's OIDC issuer, an audience that its API server can accept";
    return [{ path: ["serviceAccounts", index, "tokenAudience"], value, reason }];
  });
}

/**
 * Returns a warning for each service account that a pod has unless it names another one.
 *
 * @param accounts with every default filled in.
 */
export function defaultAccountWarnings(accounts: Account[]): string[] {
  return accounts
    .filter(({ name }) => name === "default")
    .map(({ namespace, audienceRule }) => {
      const warning = `Every pod of namespace ${namespace} that names no service account can get the access token of ${namespace}/default.`;
      const withoutRule = "Its Kubernetes API token can be enough, because audienceRule is false.";
      return [warning, ...(audienceRule ? [] : [withoutRule]), "Use another service account."].join(" ");
    });
}

/** Returns the team of each entry; undefined if an entry is invalid, or its team is an output. */
function teamNamesOf({ serviceAccounts }: Incomplete<Access>): unknown[] | undefined {
  const isKnown = serviceAccounts?.every((account) => {
    return account?.tokenType && (account.tokenType !== "team" || typeof account.teamName === "string");
  });
  return isKnown ? serviceAccounts?.map((account) => account?.teamName) : undefined;
}

/** Returns a problem for each new namespace that no entry uses. */
function unusedNamespaces(access: Incomplete<Access>): Problem[] {
  const { serviceAccounts, createNamespaces = [] } = access;
  const used = serviceAccounts?.map((account) => account?.namespace);
  // With an invalid entry, it is not known which namespaces are used.
  if (!used || used.includes(undefined)) return [];
  return createNamespaces.flatMap((namespace, index): Problem[] => {
    if (!namespace || used.includes(namespace)) return [];
    return [
      {
        path: ["createNamespaces", index],
        value: namespace,
        reason: "no entry of serviceAccounts has this namespace",
      },
    ];
  });
}

function roleProblems({ awsRole, rolePolicyArns = [] }: Incomplete<Account>): Problem[] {
  if (awsRole !== "none" || rolePolicyArns.length === 0) return [];
  return [{ path: ["rolePolicyArns"], reason: "requires an IAM role, but awsRole is none" }];
}

function lifetimeProblems(account: Incomplete<Account>, access: Incomplete<Access>): Problem[] {
  const { tokenExpirationSeconds: value } = account;
  const { maxExpirationSeconds: limit } = access;
  if (value === undefined || limit === undefined || value <= limit) return [];
  const reason = `must be at most maxExpirationSeconds, which is ${limit}`;
  return [{ path: ["tokenExpirationSeconds"], value, reason }];
}

/** Returns a problem for a namespace that a new cluster does not have. */
function namespaceProblems(
  { namespace }: Incomplete<Account>,
  { createNamespaces = [] }: Incomplete<Access>,
  createsCluster: boolean,
): Problem[] {
  if (!createsCluster || !namespace) return [];
  if ([...INITIAL_NAMESPACES, ...createNamespaces].includes(namespace)) return [];
  const reason = "must be in createNamespaces: the cluster that createCluster creates does not have it";
  return [{ path: ["namespace"], value: namespace, reason }];
}

/** Returns a problem for a service account that must exist already. */
function existenceProblems(
  { namespace, name, createServiceAccount, runJob }: Incomplete<Account>,
  { createNamespaces = [] }: Incomplete<Access>,
  createsCluster: boolean,
): Problem[] {
  if (name === "default") {
    // Without the value: that of an entry that leaves it out is true, too.
    const reason = "must be false: every namespace has the service account default";
    return createServiceAccount ? [{ path: ["createServiceAccount"], reason }] : [];
  }
  // Something else can create it later, in a namespace of the stack. A new cluster has only such namespaces.
  if (createServiceAccount !== false || !runJob || createsCluster) return [];
  if (!name || !namespace || !createNamespaces.includes(namespace)) return [];
  const reason =
    `service account ${namespace}/${name} exists already, so namespace ${namespace} does too. ` +
    `Remove ${namespace} from createNamespaces`;
  return [{ path: ["createServiceAccount"], value: false, reason }];
}

/** Returns a problem for each entry with the service account of an earlier one. */
function duplicateAccounts(accounts: (Incomplete<Account> | undefined)[]): Problem[] {
  const ids = accounts.map((account) => {
    return account?.namespace && account.name && `${account.namespace}/${account.name}`;
  });
  return accounts.flatMap((account, index): Problem[] => {
    const first = ids.indexOf(ids[index]);
    if (!ids[index] || first === index) return [];
    const reason = `is the same service account as serviceAccounts[${first}]`;
    return [{ path: ["serviceAccounts", index, "name"], value: account?.name, reason }];
  });
}
