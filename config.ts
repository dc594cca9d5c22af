// The stack's configuration: read here only, and checked as a whole.

import * as pulumi from "@pulumi/pulumi";
import { AWS_KEYS, awsSchema, type ClusterConfig, clusterEntries } from "./cluster";
import { ACCESS_KEYS, type Access, checkAccess, unknownAccessSettings } from "./settings";
import { userError } from "./userError";
import { check, messageOf, type Problem, settings } from "./validation";

/** What the engine passes to the program. */
export interface RawConfig {
  /** A string for each `namespace:key`, JSON for lists and objects. */
  values: Record<string, string>;
  /** The keys of encrypted values, and of lists and objects that contain one. */
  secretKeys: string[];
  project: string;
  /** The stack's organization; undefined if the stack has none. */
  organization: string | undefined;
}

/** What a stack has besides the settings of the cluster and of the access. */
export interface OwnSettings {
  /**
   * Pulumi user that the service account default/pulumi-service-account acts as, with a personal token. Set either
   * userLogin or serviceAccounts.
   */
  userLogin?: string;
}

/** The configuration with every default filled in; durations are in seconds. */
export interface StackConfig {
  cluster: ClusterConfig;
  access: Access;
}

/** The settings that are not strings. The engine passes all as strings; these are JSON. */
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

/** The packages of the program, whose settings have names of their own. */
const PACKAGES = ["aws", "eks", "kubernetes", "pulumi", "pulumiservice"];

/**
 * Reads the configuration of the current stack.
 *
 * @returns the configuration with every default filled in; durations are in seconds.
 * @throws pulumi.RunError that lists every problem.
 */
export function readConfig(): StackConfig {
  const { config, problems } = parseConfig(readRawConfig());
  if (config) return config;
  throw invalidConfiguration(problems);
}

/** Returns the raw configuration of the current stack, as the SDK has it from the engine. */
export function readRawConfig(): RawConfig {
  const organization = pulumi.getOrganization();
  return {
    values: pulumi.runtime.allConfig(),
    // The SDK reads this variable too, but does not expose it.
    secretKeys: JSON.parse(process.env.PULUMI_CONFIG_SECRET_KEYS || "[]"),
    project: pulumi.getProject(),
    // A stack in a self-managed backend has no organization, and the engine passes this word.
    organization: organization === "organization" ? undefined : organization,
  };
}

/** Returns the error that lists the problems of the current stack's configuration. */
export function invalidConfiguration(problems: Problem[]): pulumi.RunError {
  return userError(messageOf(`Invalid configuration in Pulumi.${pulumi.getStack()}.yaml`, problems));
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
  const access = checkAccess(
    {
      organization: raw.organization,
      issuerName: given.clusterName && `eks-${given.clusterName}`,
      serviceAccounts: [firstServiceAccount(given.userLogin)],
      ...pick(given, ACCESS_KEYS),
    },
    OTHER_KEYS,
  );

  const problems = [
    ...unknownSettingsOf(given, raw),
    ...cluster.problems,
    ...access.problems.flatMap((problem) => inStack(problem, given)),
    ...ownerProblems(given),
    // A value of the AWS provider can be a credential.
    ...aws.problems.map(({ path, reason }) => ({ path, reason })),
  ];
  const encrypted = encryptedSettings(raw);
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

/**
 * Returns the values that belong to the project.
 *
 * @param jsonKeys the settings that are not strings.
 */
export function ownValues({ values, project }: RawConfig, jsonKeys: string[]): Record<string, unknown> {
  const prefix = `${project}:`;
  const own = Object.entries(values).flatMap(([qualified, text]): [string, unknown][] => {
    if (!qualified.startsWith(prefix)) return [];
    const key = qualified.slice(prefix.length);
    return [[key, jsonKeys.includes(key) ? withoutEmptyEntries(fromJson(text)) : text]];
  });
  return withoutEmpty(Object.fromEntries(own));
}

/** Returns a problem for each encrypted value of the project or of the AWS provider's credentials. */
export function encryptedSettings({ secretKeys, project }: RawConfig): Problem[] {
  const reason = "contains an encrypted value, which would be stored in plaintext in the stack's state";
  return secretKeys.flatMap((key): Problem[] => {
    if (key.startsWith(`${project}:`)) return [{ path: [key.slice(project.length + 1)], reason }];
    return AWS_KEYS.includes(key) ? [{ path: [key], reason }] : [];
  });
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

/** Returns a problem of the access at the setting that the stack has. */
function inStack(problem: Problem, given: Record<string, unknown>): Problem[] {
  const [first, , setting] = problem.path;
  if (first === "organization" && !("organization" in given)) {
    return [{ ...problem, reason: "required, because the stack has no organization" }];
  }
  // It follows from the name of the cluster, whose own problem is reported.
  if (first === "issuerName" && !("issuerName" in given)) return [];
  // The entry is the stack's own, and `ownerProblems` reports that its user is missing.
  if (first !== "serviceAccounts" || "serviceAccounts" in given) return [problem];
  return "userLogin" in given ? [{ ...problem, path: [setting ?? "userLogin"] }] : [];
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

function withoutValue({ path, reason }: Problem): Problem {
  return { path, reason };
}

function pick(values: Record<string, unknown>, keys: string[]): Record<string, unknown> {
  return Object.fromEntries(Object.entries(values).filter(([key]) => keys.includes(key)));
}

/** In YAML, `null` and `""` count as not given. */
function withoutEmpty(values: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== "" && value !== null));
}

function withoutEmptyEntries(value: unknown): unknown {
  if (!Array.isArray(value)) return value;
  return value.map((entry) => {
    const isEntry = typeof entry === "object" && entry !== null && !Array.isArray(entry);
    return isEntry ? withoutEmpty(entry) : entry;
  });
}

function fromJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
