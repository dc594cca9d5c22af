// The stack's configuration: read here only, and checked as a whole.

import * as pulumi from "@pulumi/pulumi";
import * as v from "valibot";
import { AWS_KEYS, awsSchema, type ClusterConfig, clusterEntries } from "./cluster";
import {
  encryptedSettings,
  invalidConfiguration,
  ownValues,
  type RawConfig,
  readRawConfig,
} from "./rawConfig";
import {
  ACCESS_KEYS,
  type Access,
  checkAccess,
  INITIAL_NAMESPACES,
  kubernetesName,
  unknownAccessSettings,
} from "./settings";
import { check, isObject, type Problem, settings } from "./validation";

/** What a stack has besides the settings of the cluster and of the access. */
export interface OwnSettings {
  /**
   * Pulumi user that the service account default/pulumi-service-account acts as, with a personal token. Set either
   * userLogin or serviceAccounts.
   */
  userLogin?: string;
}

/** The configuration with every default filled in; durations are in seconds. */
interface StackConfig {
  cluster: ClusterConfig;
  access: Access;
}

/** The settings that are not strings. */
const JSON_KEYS = [
  "createCluster",
  "createOidcProvider",
  "maxExpirationSeconds",
  "jobPodSpec",
  "createNamespaces",
  "injectToken",
  "serviceAccounts",
];

const CLUSTER_KEYS = Object.keys(clusterEntries);
const OTHER_KEYS = [...CLUSTER_KEYS, "userLogin"];

/** The program creates the provider of Pulumi Cloud itself, so it would ignore these. */
const pulumiCloudSchema = v.object({
  "pulumiservice:accessToken": v.optional(
    v.never("is not used: remove it, and run `pulumi login` or set PULUMI_ACCESS_TOKEN in the environment"),
  ),
  "pulumiservice:apiUrl": v.optional(v.never("is not used: remove it, and set pulumiApiUrl")),
});

/** The packages of the program, whose settings have names of their own. */
const PACKAGES = ["aws", "eks", "kubernetes", "pulumi", "pulumiservice"];

/** What the template's Pulumi.dev.yaml sets, which `pulumi new` keeps where it gets no answer. */
const TEMPLATE_SETTINGS: Record<string, string> = {
  clusterName: "sample-cluster",
  userLogin: "sample-login",
};

/**
 * Reads the configuration of the current stack, and warns of what is still the template's.
 *
 * @returns the configuration with every default filled in; durations are in seconds.
 * @throws pulumi.RunError that lists every problem.
 */
export function readConfig(): StackConfig {
  const raw = readRawConfig();
  const { config, problems } = parseConfig(raw);
  if (!config) throw invalidConfiguration(problems);

  const kept = templateSettings(raw, pulumi.getStack());
  if (kept.length > 0) {
    const settings = kept.join(" and ");
    void pulumi.log.warn(`Pulumi.dev.yaml still has the template's ${settings}. Replace what is not yours.`);
  }
  return config;
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
  const given = ownValues(raw, JSON_KEYS);

  const cluster = check(
    settings(clusterEntries),
    pick(given, CLUSTER_KEYS),
    ({ createCluster, createOidcProvider }) => {
      if (!createCluster || !createOidcProvider) return [];
      const reason = "must be false with createCluster, which creates what its roles need";
      return [{ path: ["createOidcProvider"], value: true, reason }];
    },
  );
  const aws = check(awsSchema, raw.values);
  const pulumiCloud = check(pulumiCloudSchema, raw.values);
  const access = checkAccess(
    {
      organization: raw.organization,
      issuerName: `eks-${given.clusterName}`,
      serviceAccounts: [firstServiceAccount(given.userLogin)],
      ...pick(given, ACCESS_KEYS),
    },
    OTHER_KEYS,
  );

  const problems = [
    ...unknownSettingsOf(given, raw),
    ...cluster.problems,
    ...inStack(access.problems, given),
    ...ownerProblems(given),
    ...newClusterProblems(given),
    // A value of a provider can be a credential.
    ...aws.problems.map(withoutValue),
    ...pulumiCloud.problems.map(withoutValue),
  ];
  const encrypted = encryptedSettings(raw, AWS_KEYS);
  const isEncrypted = ({ path }: Problem) => encrypted.some((problem) => problem.path[0] === path[0]);
  const all = [
    ...encrypted,
    ...problems.map((problem) => (isEncrypted(problem) ? withoutValue(problem) : problem)),
  ];
  if (all.length > 0 || !cluster.settings || !aws.settings || !access.access) return { problems: all };
  return {
    config: { cluster: { ...cluster.settings, aws: aws.settings }, access: access.access },
    problems: [],
  };
}

/** The service account of a stack that lists none. */
function firstServiceAccount(userLogin: unknown) {
  return { namespace: "default", name: "pulumi-service-account", tokenType: "personal", userLogin };
}

/** Returns a problem for each key that is not a setting of the stack. */
function unknownSettingsOf(given: Record<string, unknown>, { values, project }: RawConfig): Problem[] {
  const unknown = unknownAccessSettings(given, OTHER_KEYS).map((problem) => {
    const isPath = /[.[]/.test(String(problem.path[0]));
    return isPath ? { ...problem, reason: "is a path: remove it, and set it with --path" } : problem;
  });

  const known = [...ACCESS_KEYS, ...OTHER_KEYS];
  const misplaced = Object.keys(values).flatMap((qualified): Problem[] => {
    const [namespace = "", key = ""] = qualified.split(":");
    if (namespace === project || PACKAGES.includes(namespace) || !known.includes(key)) return [];
    return [
      { path: [qualified], reason: `belongs to project "${namespace}", but this project is "${project}"` },
    ];
  });
  return [...unknown, ...misplaced];
}

/** Returns the problems of the access at the settings that the stack has. */
function inStack(problems: Problem[], given: Record<string, unknown>): Problem[] {
  const isListed = "serviceAccounts" in given;
  const reported = problems.filter(({ path: [setting] }) => {
    // By default, it follows from the name of the cluster, whose own problem is reported.
    if (setting === "issuerName") return "issuerName" in given;
    // Only the user of the stack's own entry can be invalid. `ownerProblems` reports that it is missing.
    if (setting === "serviceAccounts" && !isListed) return "userLogin" in given;
    return true;
  });

  return reported.map((problem) => {
    const [setting] = problem.path;
    if (setting === "serviceAccounts" && !isListed) return { ...problem, path: ["userLogin"] };
    if (setting === "organization" && !("organization" in given)) {
      return { ...problem, reason: "required, because the stack has no organization" };
    }
    return problem;
  });
}

/** Returns the problem that `userLogin` is missing, or is set beside a list. */
function ownerProblems(given: Record<string, unknown>): Problem[] {
  if (!("serviceAccounts" in given) && !("userLogin" in given)) {
    return [{ path: ["userLogin"], reason: "required without serviceAccounts" }];
  }
  if (!("serviceAccounts" in given) || !("userLogin" in given)) return [];
  const reason =
    "is not valid with serviceAccounts. Move it into an entry. If the stack is deployed, keep its first service " +
    "account as an entry, or it is deleted: namespace default, name pulumi-service-account, tokenType personal";
  return [{ path: ["userLogin"], value: given.userLogin, reason }];
}

/** Returns the problems of entries that a cluster cannot have when it is created. */
function newClusterProblems({ createCluster, serviceAccounts, createNamespaces }: Record<string, unknown>) {
  if (createCluster !== true || !Array.isArray(serviceAccounts)) return [];
  const created: unknown[] = Array.isArray(createNamespaces) ? createNamespaces : [];

  return serviceAccounts.flatMap((entry, index): Problem[] => {
    if (!isObject(entry)) return [];
    const { namespace, name, createServiceAccount, runJob } = entry;
    if (!v.is(kubernetesName, namespace) || created.includes(namespace)) return [];

    if (!INITIAL_NAMESPACES.includes(namespace)) {
      const reason = "must be in createNamespaces: the cluster that createCluster creates does not have it";
      return [{ path: ["serviceAccounts", index, "namespace"], value: namespace, reason }];
    }
    const isMissing = createServiceAccount === false && name !== "default";
    if (!isMissing || runJob === false) return [];
    const reason = "must be false: the service account cannot exist before the stack creates its cluster";
    return [{ path: ["serviceAccounts", index, "runJob"], value: true, reason }];
  });
}

function withoutValue({ path, reason }: Problem): Problem {
  return { path, reason };
}

function pick(values: Record<string, unknown>, keys: string[]): Record<string, unknown> {
  return Object.fromEntries(Object.entries(values).filter(([key]) => keys.includes(key)));
}
