// The service accounts of one cluster, and what they have in common.
//
// Declares each setting twice. An interface has its type and description, from which the SDKs of the component are
// generated. A schema checks its value and fills in its default. The compiler compares the two.

import type * as pulumi from "@pulumi/pulumi";
import * as v from "valibot";
import { EXPRESSION_LIMIT, longestExpression } from "../kubernetes/injectionPolicy";
import {
  type Account,
  accountEntries,
  accountProblems,
  defaultAudience,
  idOf,
  type ServiceAccount,
  seconds,
  withAccountDefaults,
} from "./account";
import { jobPodSpec } from "./jobPodSpec";
import {
  apiUrl,
  DEFAULT_API_URL,
  INITIAL_NAMESPACES,
  INVISIBLE,
  kubernetesName,
  ORGANIZATION_NAME,
  policyArn,
  rolePath,
} from "./names";
import { type Problem, withoutValue } from "./problems";
import {
  booleanSchema,
  duplicates,
  type Incomplete,
  inputSchema,
  listSchema,
  schemasOf,
  settingsSchema,
  stringSchema,
} from "./validation";

/** The service accounts of one cluster, and what they have in common. */
export interface Settings {
  /** Service accounts of the cluster. */
  serviceAccounts: ServiceAccount[];
  /** Pulumi organization. Default of a stack: the organization of the stack. */
  organization: pulumi.Input<string>;
  /** Name of the OIDC issuer in Pulumi Cloud. Default of a stack: `eks-CLUSTER_NAME`. */
  issuerName: string;
  /**
   * Namespaces to create, with Pod Security level `restricted`. List only namespaces that an entry uses. They are never deleted.
   * Default: `[]`.
   */
  createNamespaces?: string[];
  /** Upper bound for the lifetime of every access token from this issuer, in seconds, at least 600. Default: `3600`. */
  maxExpirationSeconds?: number;
  /**
   * Require each entry's `tokenAudience` in its allow policy, so that ID tokens for other services are denied. Default:
   * `true`.
   */
  audienceRule?: boolean;
  /** ARN of the permissions boundary of every IAM role. Default: none. */
  permissionsBoundaryArn?: pulumi.Input<string>;
  /**
   * Path of every IAM role. Changing it replaces the roles: running pods keep the old ARN, and policies that others attached
   * are lost. Default: `/`.
   */
  rolePath?: string;
  /** Image of the Jobs. Requires bash, curl, and CA certificates. Default: `pulumi/pulumi-base:3.274.1`. */
  image?: string;
  /** Overrides for the Jobs' pod spec, such as tolerations. The container is named `token-exchange`. Default: `{}`. */
  // biome-ignore lint/suspicious/noExplicitAny: SDKs have no other type for any value.
  jobPodSpec?: Record<string, any>;
  /**
   * URL of Pulumi Cloud, if yours is self-hosted. You must be signed in to it, and a deployed access stack keeps it.
   * Default: `https://api.pulumi.com`.
   */
  pulumiApiUrl?: string;
  /** Suspend every entry, such as those of a compromised cluster. Default: `false`. */
  suspended?: boolean;
}

const newNamespace = v.pipe(
  kubernetesName,
  v.check((name) => !INITIAL_NAMESPACES.includes(name), "exists on every cluster"),
);

const organizationName = stringSchema(
  new RegExp(`^${ORGANIZATION_NAME}$`),
  "must be the name of a Pulumi organization",
);

const issuerName = stringSchema(
  new RegExp(`^(?! )[^${INVISIBLE}]+(?<! )$`, "u"),
  "must not begin or end with a space, or contain invisible characters",
);

const image = v.pipe(
  stringSchema(/^[a-z0-9][^\s@]*(@sha256:[0-9a-f]{64})?$/, "must be the name of an image"),
  v.regex(/@|:(?!latest$)\w[\w.-]*$/, 'must be pinned to a digest or to a tag other than "latest"'),
);

function unknownInEntry(key: string): string | undefined {
  return Object.hasOwn(settingsEntries, key) ? "belongs beside serviceAccounts, not in an entry" : undefined;
}

const serviceAccounts = v.pipe(
  listSchema(settingsSchema(accountEntries, { unknown: unknownInEntry, rejectsEmpty: true })),
  v.minLength(1, "must not be empty. To end all access, run `pulumi destroy`, or remove the component"),
);

/** The default of `image`. */
export const DEFAULT_IMAGE = "pulumi/pulumi-base:3.274.1";

/** The default of `maxExpirationSeconds`. */
export const DEFAULT_MAX_EXPIRATION_SECONDS = 3600;

export const settingsEntries = schemasOf<Settings>()({
  organization: inputSchema(organizationName),
  issuerName,
  maxExpirationSeconds: v.optional(
    v.pipe(seconds, v.minValue(600, "must be at least 600 seconds")),
    DEFAULT_MAX_EXPIRATION_SECONDS,
  ),
  audienceRule: v.optional(booleanSchema, true),
  permissionsBoundaryArn: v.optional(inputSchema(policyArn)),
  rolePath: v.optional(rolePath, "/"),
  image: v.optional(image, DEFAULT_IMAGE),
  jobPodSpec: v.optional(jobPodSpec, {}),
  pulumiApiUrl: v.optional(apiUrl, DEFAULT_API_URL),
  createNamespaces: v.optional(listSchema(newNamespace), []),
  suspended: v.optional(booleanSchema, false),
  serviceAccounts,
});

const TEAMS_MOVED =
  "is not a setting: a team belongs to the organization, not to a cluster. Create teams and their permissions with a " +
  "program of their own, such as examples/fleet/teams";

/** Returns the reason for a key that is not a setting beside `serviceAccounts`; undefined if it is only unknown. */
export function unknownBesideEntries(key: string): string | undefined {
  if (key === "teams") return TEAMS_MOVED;
  return Object.hasOwn(accountEntries, key) ? "is a setting of an entry of serviceAccounts" : undefined;
}

/** Settings that are valid by themselves, with the defaults that depend on no other setting. */
export type ValidSettings = v.InferOutput<ReturnType<typeof settingsSchema<typeof settingsEntries>>>;

/** The settings with every default filled in; durations are in seconds. */
export interface CompleteSettings extends Omit<ValidSettings, "serviceAccounts"> {
  serviceAccounts: Account[];
}

/** Returns the service accounts of valid settings, with the defaults that depend on other settings. */
export function accountsOf(
  settings: Pick<ValidSettings, "serviceAccounts" | "organization" | "maxExpirationSeconds" | "suspended">,
): Account[] {
  return settings.serviceAccounts.map((account) => withAccountDefaults(account, settings));
}

/** Returns the problems of settings that are valid by themselves, but not together. */
export function settingsProblems(access: Incomplete<CompleteSettings>): Problem[] {
  const { serviceAccounts = [] } = access;
  const problems = serviceAccounts.flatMap((account, index) => {
    if (!account) return [];
    return accountProblems(account, access).map((problem) => {
      return { ...problem, path: ["serviceAccounts", index, ...problem.path] };
    });
  });

  const ids = serviceAccounts.map((account) => {
    const { namespace, name } = account ?? {};
    return namespace && name && idOf({ namespace, name });
  });
  return [
    ...problems,
    ...duplicates(ids, (index) => ["serviceAccounts", index, "name"]).map(withoutValue),
    ...unusedNamespaces(access),
    ...oversizedPolicy(access),
    ...duplicates(access.createNamespaces ?? [], (index) => ["createNamespaces", index]),
  ];
}

/**
 * Returns a problem with the service account of the entry that it is about, if the entry says which.
 *
 * @param entries the list of service accounts, which can be anything.
 */
export function withAccountName(problem: Problem, entries: unknown): Problem {
  const [list, index] = problem.path;
  if (list !== "serviceAccounts" || !Array.isArray(entries)) return problem;
  const { namespace, name } = { ...entries[Number(index)] };
  const isNamed = v.is(kubernetesName, namespace) && v.is(kubernetesName, name);
  return isNamed ? { ...problem, element: idOf({ namespace, name }) } : problem;
}

/**
 * Returns a warning for each service account that more pods have than the user may think of.
 *
 * @param access with every default filled in.
 */
export function settingsWarnings({ serviceAccounts, audienceRule }: CompleteSettings): string[] {
  return serviceAccounts.flatMap((account) => {
    const { namespace, name, injectToken } = account;
    const warnings: string[] = [];
    if (namespace === "kube-system" && injectToken) {
      warnings.push(
        `injectToken of ${idOf(account)} changes pods on which the cluster depends. Use another namespace.`,
      );
    }
    // Pods that name no service account have this one.
    if (name === "default") {
      const sentences = [
        `Every pod of namespace ${namespace} that names no service account can get the access token of ${idOf(account)}.`,
        audienceRule ? "" : "Its Kubernetes API token can be enough, because audienceRule is false.",
        injectToken
          ? "injectToken changes each of them, and replaces any other Pulumi access token that they use."
          : "",
        "Use another service account.",
      ];
      warnings.push(sentences.filter(Boolean).join(" "));
    }
    return warnings;
  });
}

/** Returns a problem for each new namespace that no entry uses. */
function unusedNamespaces({
  serviceAccounts,
  createNamespaces = [],
}: Incomplete<CompleteSettings>): Problem[] {
  const used = serviceAccounts?.map((account) => account?.namespace);
  // With an invalid entry, it is not known which namespaces are used.
  if (!used || used.includes(undefined)) return [];
  const reason = "no entry of serviceAccounts has this namespace";
  return createNamespaces.flatMap((value, index): Problem[] => {
    return !value || used.includes(value) ? [] : [{ path: ["createNamespaces", index], value, reason }];
  });
}

/** Returns a problem if the API server would reject the admission policy of `injectToken`, as the last step of an update. */
function oversizedPolicy({ serviceAccounts = [], organization }: Incomplete<CompleteSettings>): Problem[] {
  const injected = serviceAccounts.flatMap((account) => {
    const {
      namespace,
      name,
      injectToken,
      tokenAudience = defaultAudience(organization ?? ""),
    } = account ?? {};
    if (!namespace || !name || !injectToken) return [];
    // An output is not known yet, and counts as empty.
    const known = typeof tokenAudience === "string" ? tokenAudience : "";
    return [{ namespace, id: idOf({ namespace, name }), tokenAudience: known }];
  });
  const length = longestExpression(injected);
  if (length <= EXPRESSION_LIMIT) return [];
  const reason =
    `too many entries have injectToken: its admission policy has an expression of ${length} characters, and the API server ` +
    `accepts ${EXPRESSION_LIMIT}. Remove injectToken from some of them, and add what their pods need to the manifests`;
  return [{ path: ["serviceAccounts"], reason }];
}
