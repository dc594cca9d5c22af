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
  withAccountName,
} from "./settings/access";
import { AWS_KEYS, awsSchema, misspelledAwsKeys } from "./settings/aws";
import { type ClusterConfig, type ClusterSettings, clusterEntries } from "./settings/cluster";
import { loginProblems } from "./settings/login";
import { INITIAL_NAMESPACES } from "./settings/names";
import { type Path, type Problem, withoutValue } from "./settings/problems";
import {
  invalidConfiguration,
  projectValues,
  type RawConfig,
  readRawConfig,
  withEncrypted,
} from "./settings/raw";
import { check, type Incomplete, isEmpty } from "./settings/validation";

/** The configuration with every default filled in; durations are in seconds. */
interface StackConfig {
  cluster: ClusterConfig;
  access: Access;
}

type Settings = ClusterSettings & AccessSettings;

/** The names of the settings that are not strings. */
type JsonKey = { [Key in keyof Settings]-?: string extends Settings[Key] ? never : Key }[keyof Settings];

const JSON_KEYS: Record<JsonKey, true> = {
  createCluster: true,
  createOidcProvider: true,
  maxExpirationSeconds: true,
  audienceRule: true,
  jobPodSpec: true,
  createNamespaces: true,
  serviceAccounts: true,
};

/** What the template's Pulumi.dev.yaml sets, which `pulumi new` keeps if the stack has the same name. */
const TEMPLATE_CLUSTER = "sample-cluster";
const TEMPLATE_LOGIN = "sample-login";
const TEMPLATE_ENTRY =
  "{ namespace: default, name: pulumi-service-account, tokenType: personal, " +
  `userLogin: ${TEMPLATE_LOGIN}, awsRole: irsa }`;

/** The settings of a stack. What is optional here has a default that follows from other settings. */
const stackSchema = accessSchema(
  {
    ...clusterEntries,
    ...accessEntries,
    issuerName: v.optional(accessEntries.issuerName),
  },
  {
    required: {
      organization: "required, because the stack has no organization: set it to yours in Pulumi Cloud",
      serviceAccounts: `required under "config:" in the stack file, such as [${TEMPLATE_ENTRY}]`,
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

/**
 * Reads the configuration of the current stack, and warns of what is still the template's.
 *
 * @returns the configuration with every default filled in; durations are in seconds.
 * @throws pulumi.RunError that lists every problem of the settings, or if they are valid, the one of the login. An update also
 *   stops at the login of the template.
 */
export function readConfig(): StackConfig {
  const raw = readRawConfig();
  const { config, problems } = parseConfig(raw);
  if (!config) throw invalidConfiguration(problems);

  const loginIssues = loginProblems(config.access.pulumiApiUrl);
  if (loginIssues.length > 0) throw invalidConfiguration(loginIssues);

  if (config.cluster.clusterName === TEMPLATE_CLUSTER) warnOfTemplate(`clusterName (${TEMPLATE_CLUSTER})`);
  for (const [index, { userLogin }] of config.access.serviceAccounts.entries()) {
    if (userLogin !== TEMPLATE_LOGIN) continue;
    warnOfTemplate(`userLogin (${TEMPLATE_LOGIN})`);
    // A cluster can have the template's name, but no user has this one.
    if (pulumi.runtime.isDryRun()) continue;
    const reason = "is the template's. Set it to the login of a Pulumi user, such as a machine user";
    throw invalidConfiguration([{ path: ["serviceAccounts", index, "userLogin"], value: userLogin, reason }]);
  }
  return config;
}

function warnOfTemplate(setting: string): void {
  void pulumi.log.warn(`The stack still has the template's ${setting}. Replace it with yours.`);
}

/** Returns the configuration of a stack, or every problem that it has. Does not throw. */
export function parseConfig(raw: RawConfig): { config?: StackConfig; problems: Problem[] } {
  const values = projectValues(raw, Object.keys(JSON_KEYS));
  const organization = isEmpty(values.organization) ? raw.organization : values.organization;
  const aws = check(awsSchema, raw.values);
  const pulumiCloud = check(pulumiCloudSchema, raw.values);

  // An encrypted value is not printed, so nothing is compared with it.
  const isEncrypted = raw.secretKeys.includes(`${raw.project}:maxExpirationSeconds`);
  const stack = check(stackSchema, { ...values, organization }, (knownSettings) => {
    const comparable = isEncrypted ? { ...knownSettings, maxExpirationSeconds: undefined } : knownSettings;
    return [...clusterRules(comparable), ...accessRules(comparable)];
  });

  const found = [
    ...stack.problems.map((problem) => inContext(problem, values, raw)),
    // A value of a provider can be a credential.
    ...[...aws.problems, ...pulumiCloud.problems].map(withoutValue),
    ...misspelledAwsKeys(raw.values),
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

/** Returns the problems of settings that are valid by themselves, but not for a new cluster. */
function clusterRules(settings: Incomplete<ClusterSettings & Access>): Problem[] {
  const { createCluster, createOidcProvider, serviceAccounts = [], createNamespaces = [] } = settings;
  if (!createCluster) return [];
  const problems = serviceAccounts.flatMap((account, index): Problem[] => {
    const value = account?.namespace;
    if (!value || [...INITIAL_NAMESPACES, ...createNamespaces].includes(value)) return [];
    const reason = "must be in createNamespaces: the cluster that createCluster creates does not have it";
    return [{ path: ["serviceAccounts", index, "namespace"], value, reason }];
  });
  if (createOidcProvider) {
    const reason = "must be false with createCluster, which creates what its roles need";
    problems.push({ path: ["createOidcProvider"], value: true, reason });
  }
  return problems;
}

/**
 * Returns a problem with the name of the entry, and a possible cause if the setting is missing.
 *
 * @param values of the project.
 */
function inContext(problem: Problem, values: Record<string, unknown>, raw: RawConfig): Problem {
  const reason = [problem.reason, ...otherProjects(problem.path, values, raw)].join(". ");
  return withAccountName({ ...problem, reason }, values.serviceAccounts);
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
  if (!isEmpty(values[key])) return [];
  const others = Object.keys(all).filter((qualified) => {
    return !qualified.startsWith(`${project}:`) && qualified.endsWith(`:${key}`);
  });
  if (others.length === 0) return [];
  return [`Pulumi ignores ${others.join(" and ")}, because the name of this project is ${project}`];
}
