// The stack's configuration: read here only, and checked as a whole.

import * as pulumi from "@pulumi/pulumi";
import * as v from "valibot";
import {
  type Access,
  type AccessSettings,
  accessEntries,
  accessRules,
  accessSchema,
  accountsOf,
  issuerAudiences,
  withAccountName,
} from "./settings/access";
import {
  AWS_KEYS,
  awsSchema,
  type ClusterConfig,
  type ClusterSettings,
  clusterEntries,
} from "./settings/cluster";
import { loginProblems } from "./settings/login";
import type { Path, Problem } from "./settings/problems";
import {
  invalidConfiguration,
  projectValues,
  type RawConfig,
  readRawConfig,
  withEncrypted,
  withoutValue,
} from "./settings/raw";
import { check, type Incomplete } from "./settings/validation";

/** What a stack has besides the settings of the cluster and of the access. */
export interface UserSettings {
  /**
   * Pulumi user that the service account `default/pulumi-service-account` acts as, with a personal token. Set either
   * `userLogin` or `serviceAccounts`.
   */
  userLogin?: string;
}

/** The configuration with every default filled in; durations are in seconds. */
interface StackConfig {
  cluster: ClusterConfig;
  access: Access;
}

type Settings = ClusterSettings & UserSettings & AccessSettings;

/** The names of the settings that are not strings. */
type JsonKey = { [Key in keyof Settings]-?: string extends Settings[Key] ? never : Key }[keyof Settings];

const JSON_KEYS: Record<JsonKey, true> = {
  createCluster: true,
  createOidcProvider: true,
  maxExpirationSeconds: true,
  jobPodSpec: true,
  createNamespaces: true,
  teams: true,
  serviceAccounts: true,
};

/** The settings of a stack. What is optional here has a default that follows from other settings. */
const stackSchema = accessSchema(
  {
    ...clusterEntries,
    ...accessEntries,
    issuerName: v.optional(accessEntries.issuerName),
    userLogin: v.optional(
      v.never(
        "is not valid with serviceAccounts: move it into an entry. If the stack is deployed, also add " +
          "default/pulumi-service-account as an entry, or it will be deleted",
      ),
    ),
  },
  {
    required: {
      organization: "required, because the stack has no organization: set it to yours in Pulumi Cloud",
      // It is userLogin that is reported, because the stack can make its entry from that.
      serviceAccounts: 'required without serviceAccounts; both belong under "config:" in the stack file',
    },
    unknown: (key) => (/[.[]/.test(key) ? "is a path: remove it, and set it with --path" : undefined),
  },
);

/** The program creates the provider of Pulumi Cloud itself, so it would ignore these. */
const pulumiCloudSchema = v.object({
  "pulumiservice:accessToken": v.optional(
    v.never("is not used: remove it, and run `pulumi login` or set PULUMI_ACCESS_TOKEN in the environment"),
  ),
  "pulumiservice:apiUrl": v.optional(v.never("is not used: remove it, and set pulumiApiUrl")),
});

/** What the template's Pulumi.dev.yaml sets, which `pulumi new` keeps where it gets no answer. */
const TEMPLATE_SETTINGS: Record<string, string> = {
  clusterName: "sample-cluster",
  userLogin: "sample-login",
};

/**
 * Reads the configuration of the current stack, and warns of what is still the template's.
 *
 * @returns the configuration with every default filled in; durations are in seconds.
 * @throws pulumi.RunError that lists every problem of the settings, or the one of the login if they are valid.
 */
export function readConfig(): StackConfig {
  const raw = readRawConfig();
  const { config, problems } = parseConfig(raw);
  if (!config) throw invalidConfiguration(problems);

  const loginIssues = loginProblems(config.access.pulumiApiUrl);
  if (loginIssues.length > 0) throw invalidConfiguration(loginIssues);

  const unchanged = templateSettings(raw, pulumi.getStack()).join(" and ");
  if (unchanged) {
    void pulumi.log.warn(`Pulumi.dev.yaml still has the template's ${unchanged}. Replace what is not yours.`);
  }
  return config;
}

/**
 * Checks the settings that depend on the cluster's issuer, once an existing cluster has been looked up, and before anything is
 * registered. The component checks them for every cluster.
 *
 * @throws pulumi.RunError that lists every problem.
 */
export function checkIssuer({ serviceAccounts }: Access, issuerUrl: string): void {
  const problems = issuerAudiences(serviceAccounts, issuerUrl).map((problem) => {
    return withAccountName(problem, serviceAccounts);
  });
  if (problems.length > 0) throw invalidConfiguration(problems);
}

/** Returns each setting that a stack has from the template, such as `clusterName (sample-cluster)`. */
export function templateSettings({ values, project }: RawConfig, stack: string): string[] {
  // Only a stack of this name starts with the template's file.
  if (stack !== "dev") return [];
  return Object.entries(TEMPLATE_SETTINGS)
    .filter(([key, value]) => values[`${project}:${key}`] === value)
    .map(([key, value]) => `${key} (${value})`);
}

/** Returns the configuration of a stack, or every problem that it has. Does not throw. */
export function parseConfig(raw: RawConfig): { config?: StackConfig; problems: Problem[] } {
  const values = projectValues(raw, Object.keys(JSON_KEYS));
  const stackDefaults = raw.organization ? { organization: raw.organization } : {};

  // An encrypted value is not printed, so nothing is compared with it.
  const isEncrypted = raw.secretKeys.includes(`${raw.project}:maxExpirationSeconds`);
  const stack = check(stackSchema, { ...stackDefaults, ...withUserEntry(values) }, (knownSettings) => {
    const comparable = isEncrypted ? { ...knownSettings, maxExpirationSeconds: undefined } : knownSettings;
    return [...clusterRules(comparable), ...accessRules(comparable, comparable.createCluster)];
  });
  const aws = check(awsSchema, raw.values);
  const pulumiCloud = check(pulumiCloudSchema, raw.values);

  const found = [
    ...stack.problems.map((problem) => asWritten(problem, values, raw)),
    // A value of a provider can be a credential.
    ...[...aws.problems, ...pulumiCloud.problems].map(withoutValue),
  ];
  // Last: it also hides what the others have added to a problem, such as the name of an entry.
  const problems = withEncrypted(found, raw, AWS_KEYS);
  if (problems.length > 0 || !stack.settings || !aws.settings) return { problems };

  const { clusterName, createCluster, createOidcProvider, ...access } = stack.settings;
  const { issuerName = `eks-${clusterName}` } = access;
  const config = {
    cluster: { clusterName, createCluster, createOidcProvider, aws: aws.settings },
    access: { ...access, issuerName, serviceAccounts: accountsOf(access) },
  };
  return { config, problems };
}

/** Returns the settings of a stack, of one that sets only a user with the entry for that user. */
function withUserEntry(values: Record<string, unknown>): Record<string, unknown> {
  if ("serviceAccounts" in values || !("userLogin" in values)) return values;
  const { userLogin, ...others } = values;
  const token = { tokenType: "personal", userLogin };
  const entry = { namespace: "default", name: "pulumi-service-account", ...token, awsRole: "irsa" };
  return { ...others, serviceAccounts: [entry] };
}

/** Returns the problems of settings of the cluster that are valid by themselves, but not together. */
function clusterRules({ createCluster, createOidcProvider }: Incomplete<ClusterSettings>): Problem[] {
  if (!createCluster || !createOidcProvider) return [];
  const reason = "must be false with createCluster, which creates what its roles need";
  return [{ path: ["createOidcProvider"], value: true, reason }];
}

/**
 * Returns a problem with the path that the user wrote, the name of the entry, and a possible cause if the setting is missing.
 *
 * @param values of the project.
 */
function asWritten(problem: Problem, values: Record<string, unknown>, raw: RawConfig): Problem {
  // A problem of the user's entry, or of a missing one, is one of userLogin.
  const isOfUser = problem.path[0] === "serviceAccounts" && !("serviceAccounts" in values);
  const path = isOfUser ? ["userLogin"] : problem.path;
  const reason = [problem.reason, ...otherProjects(path, values, raw)].join(". ");
  return withAccountName({ ...problem, path, reason }, values.serviceAccounts);
}

/**
 * Returns what other projects have under the name of a missing setting, since the name of the project may be wrong. Pulumi
 * ignores the settings of other projects otherwise.
 */
function otherProjects(
  path: Path,
  values: Record<string, unknown>,
  { values: all, project }: RawConfig,
): string[] {
  const key = path.join(".");
  if (key in values) return [];
  // Either of these two is required.
  const keys = key === "userLogin" ? [key, "serviceAccounts"] : [key];
  const others = Object.keys(all).filter((qualified) => {
    return !qualified.startsWith(`${project}:`) && keys.some((name) => qualified.endsWith(`:${name}`));
  });
  if (others.length === 0) return [];
  return [`Pulumi ignores ${others.join(" and ")}, because the name of this project is ${project}`];
}
