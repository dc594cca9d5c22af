// The stack's configuration: read here only, and checked as a whole.

import * as pulumi from "@pulumi/pulumi";
import * as v from "valibot";
import {
  accountsOf,
  type CompleteSettings,
  settingsEntries,
  settingsProblems,
  unknownBesideEntries,
  withAccountName,
} from "./settings/access";
import type { Account } from "./settings/account";
import { AWS_KEYS, awsSchema, foreignArns } from "./settings/aws";
import { type ClusterConfig, type ClusterSettings, clusterEntries } from "./settings/cluster";
import { loginProblems } from "./settings/login";
import { INITIAL_NAMESPACES } from "./settings/names";
import { lineOf, type Path, type Problem, withoutValue } from "./settings/problems";
import {
  invalidConfiguration,
  projectValues,
  type RawConfig,
  readRawConfig,
  withEncrypted,
} from "./settings/raw";
import { check, type Incomplete, isEmpty, settingsSchema } from "./settings/validation";

/** The configuration with every default filled in; durations are in seconds. */
interface StackConfig {
  cluster: ClusterConfig;
  settings: CompleteSettings;
}

/** What the template's Pulumi.dev.yaml sets, which `pulumi new` keeps if the stack has the same name. No user has this login. */
const TEMPLATE_LOGIN = "sample-login";
const TEMPLATE_ENTRY =
  "{ namespace: default, name: pulumi-service-account, tokenType: personal, " +
  `userLogin: ${TEMPLATE_LOGIN} }`;

/** The settings of a stack. What is optional here has a default that follows from other settings. */
const stackEntries = {
  ...clusterEntries,
  ...settingsEntries,
  issuerName: v.optional(settingsEntries.issuerName),
};

const stackSchema = settingsSchema(stackEntries, {
  required: {
    organization: "required, because the stack has no organization: set it to yours in Pulumi Cloud",
    serviceAccounts: `required under "config:" in the stack file, such as [${TEMPLATE_ENTRY}]`,
  },
  unknown(key) {
    return /[.[]/.test(key) ? "is a path: remove it, and set it with --path" : unknownBesideEntries(key);
  },
});

/** The program creates the provider of Pulumi Cloud itself, so it would ignore these. */
const pulumiCloudSchema = v.object({
  "pulumiservice:accessToken": v.optional(
    v.never("is not used: remove it, and run `pulumi login` or set PULUMI_ACCESS_TOKEN in the environment"),
  ),
  "pulumiservice:apiUrl": v.optional(v.never("is not used: remove it, and set pulumiApiUrl")),
});

/**
 * Reads the configuration of the current stack, and in a preview warns of the template's login.
 *
 * @returns the configuration with every default filled in; durations are in seconds.
 * @throws pulumi.RunError that lists every problem of the settings, or if they are valid, the one of the login, or if that is
 *   valid, too, and in an update only, the login of the template.
 */
export function readConfig(): StackConfig {
  const raw = readRawConfig();
  const { config, problems } = parseConfig(raw);
  if (!config) throw invalidConfiguration(problems);

  const loginIssues = loginProblems(config.settings.pulumiApiUrl);
  if (loginIssues.length > 0) throw invalidConfiguration(loginIssues);

  const ofTemplate = templateProblems(config.settings.serviceAccounts);
  if (ofTemplate.length > 0 && !pulumi.runtime.isDryRun()) throw invalidConfiguration(ofTemplate);
  for (const problem of ofTemplate) void pulumi.log.warn(`${lineOf(problem)}. An update stops here.`);
  return config;
}

function templateProblems(serviceAccounts: Account[]): Problem[] {
  return serviceAccounts.flatMap(({ userLogin }, index): Problem[] => {
    if (userLogin !== TEMPLATE_LOGIN) return [];
    const reason = "is the template's. Set it to the login of a Pulumi user, such as a machine user";
    return [{ path: ["serviceAccounts", index, "userLogin"], value: userLogin, reason }];
  });
}

/** Returns the configuration of a stack, or every problem that it has. Does not throw. */
export function parseConfig(raw: RawConfig): { config?: StackConfig; problems: Problem[] } {
  const values = projectValues(raw, stackEntries);
  const organization = isEmpty(values.organization) ? raw.organization : values.organization;
  const aws = check(awsSchema, raw.values);
  const pulumiCloud = check(pulumiCloudSchema, raw.values);

  // An encrypted value is not printed, so nothing is compared with it.
  const isEncrypted = raw.secretKeys.includes(`${raw.project}:maxExpirationSeconds`);
  const stack = check(stackSchema, { ...values, organization }, (knownSettings) => {
    const comparable = isEncrypted ? { ...knownSettings, maxExpirationSeconds: undefined } : knownSettings;
    return [
      ...clusterProblems(comparable),
      ...settingsProblems(comparable),
      ...foreignArns(arnsOf(comparable), aws.settings?.accountIds),
    ];
  });

  const found = [
    ...stack.problems.map((problem) => inContext(problem, values, raw)),
    // A value of a provider can be a credential.
    ...[...aws.problems, ...pulumiCloud.problems].map(withoutValue),
  ];
  // Last: it also hides what the others have added to a problem, such as the name of an entry.
  const problems = withEncrypted(found, raw, AWS_KEYS);
  if (problems.length > 0 || !stack.settings || !aws.settings) return { problems };

  const { clusterName, createCluster, createOidcProvider, ...settings } = stack.settings;
  const { issuerName = `eks-${clusterName}` } = settings;
  const config = {
    cluster: { clusterName, createCluster, createOidcProvider, aws: aws.settings.options },
    settings: { ...settings, issuerName, serviceAccounts: accountsOf(settings) },
  };
  return { config, problems };
}

/** Returns the problems of settings that are valid by themselves, but not for a new cluster. */
function clusterProblems(settings: Incomplete<ClusterSettings & CompleteSettings>): Problem[] {
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

/** Returns the ARNs of all policies, with the paths of their settings. */
function arnsOf({ permissionsBoundaryArn, serviceAccounts = [] }: Incomplete<CompleteSettings>) {
  const attached = serviceAccounts.flatMap((account, index) => {
    return (account?.rolePolicyArns ?? []).map((arn, position) => {
      return { path: ["serviceAccounts", index, "rolePolicyArns", position], arn };
    });
  });
  return [{ path: ["permissionsBoundaryArn"], arn: permissionsBoundaryArn }, ...attached];
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
