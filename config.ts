// The stack's configuration: read once, validated as a whole, passed on as plain typed data.

import * as pulumi from "@pulumi/pulumi";
import { closest } from "fastest-levenshtein";
import * as v from "valibot";
import {
  accountSchema,
  accountSettings,
  INITIAL_NAMESPACES,
  isObject,
  list,
  type Setting,
  STS_AUDIENCE,
  stackSchema,
  stackSettings,
  tokenSchema,
  tokenSettings,
} from "./settings";
import { userError } from "./userError";

export type Token = v.InferOutput<typeof tokenSchema>;

/** One service account, with what it inherits from the stack. */
export type AccountConfig = v.InferOutput<typeof accountSchema> & {
  token: Token;
  /** The scope that the token exchange requests, such as `user:LOGIN`. */
  tokenScope: string;
  audienceRule: boolean;
  command: string[];
};

export type StackConfig = Omit<v.InferOutput<typeof stackSchema>, "serviceAccounts"> & {
  issuerName: string;
  serviceAccounts: AccountConfig[];
  /** The AWS provider's own configuration, which the Kubernetes provider shares. */
  awsRegion: string | undefined;
  awsProfile: string | undefined;
  awsRoleArn: string | undefined;
};

/** One problem of the configuration: where it is, with the value if there is one, and the command that fixes it. */
export interface Problem {
  setting: string;
  reason: string;
  fix: string;
}

/** What the engine passes to the program. */
export interface RawConfig {
  /** A string for each `namespace:key`, JSON for lists and objects. */
  config: Record<string, string>;
  /** The keys of encrypted values. */
  secretKeys: string[];
  project: string;
  /** The stack's organization, used if no setting names one; undefined if the stack has none. */
  organization: string | undefined;
}

/**
 * Reads the configuration of the current stack.
 *
 * @returns the configuration with every default filled in; durations are in seconds.
 * @throws pulumi.RunError that lists every problem with the command that fixes it.
 */
export function readConfig(): StackConfig {
  const { problems, config } = parseConfig(readRawConfig());
  if (config) return config;
  throw invalidConfiguration(problems);
}

/** Returns the raw configuration of the current stack, as the SDK has it from the engine. */
export function readRawConfig(): RawConfig {
  const organization = pulumi.getOrganization();
  return {
    config: pulumi.runtime.allConfig(),
    // The SDK reads this variable too, but does not expose it.
    secretKeys: JSON.parse(process.env.PULUMI_CONFIG_SECRET_KEYS || "[]"),
    project: pulumi.getProject(),
    // A stack in a self-managed backend has no organization, and the engine passes this word.
    organization: organization === "organization" ? undefined : organization,
  };
}

/** Returns the error that reports problems of the configuration, all at once. */
export function invalidConfiguration(problems: Problem[]): pulumi.RunError {
  const count = problems.length === 1 ? "1 problem" : `${problems.length} problems`;
  const list = problems.map(({ setting, reason, fix }) => `  ${setting}: ${reason}\n      ${fix}\n`);
  return userError(
    `Invalid configuration for stack "${pulumi.getStack()}" (${count}). No changes were made.\n\n${list.join("")}`,
  );
}

/**
 * Validates the configuration of a stack. `""` and `null` count as unset, since a default in `Pulumi.yaml` has no other
 * way to say so.
 *
 * @returns the configuration, or every problem that it has. It throws nothing.
 */
export function parseConfig(
  raw: RawConfig,
): { config: StackConfig; problems?: never } | { config?: never; problems: Problem[] } {
  const { given, secrets } = ownValues(raw);
  const stack: Level = { values: withoutEmpty({ ...given, name: given.serviceAccountName }) };
  const parsed = v.safeParse(stackSchema, given);
  const accounts = levelsOf(given, stack, secrets).map((level) => parseAccount(level, stack));

  const issues = [...(parsed.issues ?? []), ...(v.safeParse(defaultsSchema, stack.values).issues ?? [])];
  const problems = [
    ...issues.map((issue) => toProblem(issue, () => stack)),
    ...unknownKeys({ values: given }, STACK_KEYS),
    ...tokenConflicts(stack, given.tokenType ?? "personal"),
    ...accounts.flatMap((account) => account.problems),
    ...duplicates(accounts),
    ...missingNamespaces(accounts),
    ...awsProblems(raw.config),
  ].filter(({ setting }) => !secrets.some((key) => isAt(key, setting)));
  problems.push(...secrets.map(secretProblem));
  if (!parsed.success || problems.length > 0) return { problems: unique(problems) };

  const config = {
    ...parsed.output,
    issuerName: parsed.output.issuerName ?? `eks-${parsed.output.clusterName}`,
    serviceAccounts: accounts.flatMap((account) => account.config ?? []),
    awsRegion: raw.config["aws:region"],
    awsProfile: raw.config["aws:profile"],
    awsRoleArn: assumedRoles(raw.config)?.[0]?.roleArn,
  };
  return { config };
}

// What the service accounts inherit may be incomplete: an entry can complete or replace it.
const defaultsSchema = v.object({ ...accountSettings, ...v.partial(v.object(tokenSettings)).entries });

const SETTINGS: Record<string, Setting> = { ...stackSettings, ...accountSettings, ...tokenSettings };
const TOKEN_KEYS = Object.keys(tokenSettings);
const ENTRY_KEYS = [...Object.keys(accountSettings), ...TOKEN_KEYS];
const STACK_KEYS = [...Object.keys(stackSettings), ...ENTRY_KEYS.map(stackKey)];

// What a setting can conflict with. A conflict is fixed in the entry that has one of the two: the stack's value is right
// for the other entries.
const CONFLICTS: Record<string, string[]> = {
  createServiceAccount: ["name"],
  createNamespace: ["createServiceAccount"],
  createRole: ["rolePolicyArns"],
};

/** A place for settings: the stack, or the entry of `serviceAccounts` with this index. */
interface Level {
  index?: number;
  values: Record<string, unknown>;
}

function stackKey(key: string): string {
  return key === "name" ? "serviceAccountName" : key;
}

/** Returns the path of a setting, as `pulumi config --path` takes it. */
function pathOf({ index }: Level, key: string, ...rest: unknown[]): string {
  const steps = index === undefined ? [key, ...rest] : ["serviceAccounts", index, key, ...rest];
  return steps
    .map((step) => (typeof step === "string" && /^\w+$/.test(step) ? `.${step}` : `[${JSON.stringify(step)}]`))
    .join("")
    .replace(/^\./, "");
}

/** Returns the values that belong to the project, without the encrypted ones, and the keys of those. */
export function ownValues({ config, secretKeys, project, organization }: RawConfig) {
  const own = (key: string) => (key.startsWith(`${project}:`) ? [key.slice(project.length + 1)] : []);
  const secrets = secretKeys.flatMap(own);
  const entries = Object.entries(config).flatMap(([key, value]) => own(key).map((name) => [name, value]));
  const given: Level["values"] = { organization, ...withoutEmpty(Object.fromEntries(entries)) };
  for (const key of secrets) delete given[key];
  // The default in Pulumi.yaml, which reaches every token type.
  if (given.organizationAdmin === "false") delete given.organizationAdmin;
  return { given, secrets };
}

function withoutEmpty(values: Level["values"]): Level["values"] {
  return Object.fromEntries(
    Object.entries(values).filter(([, value]) => value !== "" && value !== null && value !== undefined),
  );
}

/** Returns a level for each service account: the entries or, if there are none, the stack. */
function levelsOf({ serviceAccounts = [] }: Level["values"], stack: Level, secrets: string[]): Level[] {
  // Which service accounts an encrypted list contains is unknown.
  if (secrets.includes("serviceAccounts")) return [];
  const entries = v.safeParse(list(v.unknown()), serviceAccounts);
  if (!entries.success) return [];
  if (entries.output.length === 0) return [stack];
  return entries.output.flatMap((entry, index) => (isObject(entry) ? [{ index, values: withoutEmpty(entry) }] : []));
}

interface Account {
  level: Level;
  /** Namespace and name, whether or not they are valid. */
  id: string;
  config?: AccountConfig;
  problems: Problem[];
}

function parseAccount(level: Level, stack: Level): Account {
  const { index, values: own } = level;
  // An entry that completed an inherited token would be granted one that no one configured.
  const ownsToken = index !== undefined && TOKEN_KEYS.some((key) => key in own);
  const namespace = String(own.namespace ?? stack.values.namespace ?? "default");
  const ignored = [
    ...(ownsToken ? TOKEN_KEYS : []),
    ...(INITIAL_NAMESPACES.includes(namespace) ? ["createNamespace"] : []),
    ...(String(own.createRole) === "false" ? ["rolePolicyArns"] : []),
  ];
  const inherited = Object.entries(stack.values).filter(([key]) => !ignored.includes(key));
  const values: Level["values"] = {
    ...(!ownsToken && { tokenType: "personal" }),
    ...Object.fromEntries(inherited),
    ...own,
    maxExpirationSeconds: stack.values.maxExpirationSeconds,
  };
  const isOwn = (key: string) => key in own || (ownsToken && TOKEN_KEYS.includes(key));
  const owner = (...keys: string[]) => (keys.some(isOwn) ? level : stack);

  const account = v.safeParse(accountSchema, values);
  const token = v.safeParse(tokenSchema, values);
  const issues = [...(account.issues ?? []), ...(token.issues ?? [])];
  const problems = issues.map((issue) => toProblem(issue, owner, values.tokenType));
  if (index !== undefined) problems.push(...unknownKeys(level, ENTRY_KEYS), ...tokenConflicts(level, own.tokenType));
  const id = `${namespace}/${values.name ?? "pulumi-service-account"}`;
  if (!account.success || !token.success) return { level, id, problems };

  const { audienceRule, command, ...settings } = account.output;
  const config = {
    ...settings,
    token: token.output,
    tokenScope: scopeOf(token.output),
    audienceRule: audienceRule ?? settings.tokenAudience !== STS_AUDIENCE,
    command: command ?? (token.output.tokenType === "runner" ? ["true"] : ["pulumi", "whoami"]),
  };
  return { level, id, config, problems };
}

function scopeOf(token: Token): string {
  switch (token.tokenType) {
    case "personal":
      return `user:${token.userLogin}`;
    case "team":
      return `team:${token.teamName}`;
    case "runner":
      return `runner:${token.runnerName}`;
    case "organization":
      return token.organizationAdmin ? "admin" : "";
  }
}

// All of them, since v.strictObject stops at the first.
function unknownKeys(level: Level, known: string[]): Problem[] {
  const unknown = Object.keys(level.values).filter((key) => !known.includes(key));
  return unknown.map((key) => {
    const alias = level.index === undefined ? { name: "serviceAccountName" } : { serviceAccountName: "name" };
    const suggestion = new Map(Object.entries(alias)).get(key) ?? closest(key, known);
    const reason =
      level.index !== undefined && Object.hasOwn(stackSettings, key)
        ? "valid only for the whole stack"
        : `unknown setting; did you mean "${suggestion}"?`;
    return remove(pathOf(level, key), level.values[key], reason);
  });
}

function tokenConflicts(level: Level, tokenType: unknown): Problem[] {
  const type = tokenSchema.options.find(({ entries }) => entries.tokenType.literal === tokenType);
  return TOKEN_KEYS.filter((key) => type && key in level.values && !(key in type.entries)).map((key) =>
    remove(pathOf(level, key), level.values[key], `not valid with tokenType "${tokenType}"`),
  );
}

function duplicates(accounts: Account[]): Problem[] {
  return accounts.flatMap(({ level, id }, index) => {
    const first = accounts.findIndex((other) => other.id === id);
    const reason = `service account ${id} is configured by serviceAccounts[${accounts[first]?.level.index}] already`;
    return first < index ? [replace(pathOf(level, "name"), level.values.name, reason, "NAME")] : [];
  });
}

/** Service accounts that a Job needs to exist, in a namespace that does not exist yet. */
function missingNamespaces(accounts: Account[]): Problem[] {
  const created = accounts.flatMap(({ config }) => (config?.createNamespace ? config.namespace : []));
  return accounts
    .filter(({ config }) => config?.runJob && !config.createServiceAccount && created.includes(config.namespace))
    .map(({ level }) => {
      const reason = "must be false for a service account that exists, but whose namespace this stack creates";
      return replace(pathOf(level, "runJob"), true, reason, "false");
    });
}

function toProblem(issue: v.BaseIssue<unknown>, owner: (...keys: string[]) => Level, tokenType?: unknown): Problem {
  const [first, ...steps] = issue.path ?? [];
  const key = String(first?.key);
  const level = owner(key, ...((issue.type === "raw_check" && CONFLICTS[key]) || []));
  const name = level.index === undefined ? stackKey(key) : key;
  const path = pathOf(level, name, ...steps.map((step) => step.key));
  const { example = "VALUE", element = "" } = SETTINGS[key] ? v.getMetadata(SETTINGS[key]) : {};
  if (issue.type === "max_length") return remove(`${path}[${issue.requirement}]`, undefined, issue.message);
  if (steps.at(-1)?.origin === "key" || (key === "serviceAccounts" && steps.length > 0)) {
    return remove(path, issue.input, issue.message);
  }
  // The CLI cannot set an element of a nested value that is neither a list nor an object.
  const isReplaced = level.index !== undefined || key === "serviceAccounts";
  if (isReplaced && element && steps.length === 0 && /^must be (a list|an object)$/.test(issue.message)) {
    return remove(path, issue.input, issue.message);
  }
  const required =
    key === "organization"
      ? "required, because the stack has no organization"
      : key in tokenSettings && key !== "tokenType"
        ? `required with tokenType "${tokenType}"`
        : "required";
  const reason = issue.input === undefined ? required : issue.message;
  return replace(path, issue.input, reason, example, steps.length > 0 ? "" : element);
}

/** Returns a problem that another value fixes; `element` is the place in a list or object where it goes. */
export function replace(path: string, value: unknown, reason: string, example: string, element = ""): Problem {
  // Without the type, the CLI reads 511 as a number again.
  const type = reason.startsWith("must be a string") ? "--type string " : "";
  return {
    setting: describe(path, value),
    reason,
    fix: `pulumi config set ${type}${quote(path + element)} ${example}`,
  };
}

/** Returns a problem that is fixed by removing the setting. */
export function remove(path: string, value: unknown, reason: string): Problem {
  return { setting: describe(path, value), reason, fix: `pulumi config rm ${quote(path)}` };
}

function describe(path: string, value: unknown): string {
  return value === undefined ? path : `${path} = ${JSON.stringify(value)}`;
}

function quote(path: string): string {
  return /^[\w:]+$/.test(path) ? path : `--path '${path.replaceAll("'", "'\\''")}'`;
}

/** Returns whether what describes a problem begins with this key, and not with a longer one. */
function isAt(key: string, setting: string): boolean {
  return setting.startsWith(key) && !/^\w/.test(setting.slice(key.length));
}

function secretProblem(key: string): Problem {
  return {
    setting: key,
    reason: "is encrypted, but would be stored in plaintext in the stack's state and the pod spec",
    fix: `pulumi config set --plaintext ${key === "serviceAccounts" ? "--path 'serviceAccounts[INDEX].KEY'" : key} VALUE`,
  };
}

function unique(problems: Problem[]): Problem[] {
  return [...new Map(problems.map((found) => [JSON.stringify(found), found])).values()];
}

// `aws eks get-token`, which signs the Kubernetes provider in, finds credentials by itself and assumes one role at most.
function awsProblems(config: RawConfig["config"]): Problem[] {
  const unreachable = "does not reach `aws eks get-token`, which signs in to the cluster";
  const keys = ["accessKey", "secretKey", "token", "assumeRoleWithWebIdentity"].map((key) => `aws:${key}`);
  const problems = keys
    .filter((key) => key in config)
    .map((key) => remove(key, undefined, `${unreachable}; use aws:profile or the environment`));
  const roles = assumedRoles(config);
  if (!roles) return [...problems, remove("aws:assumeRoles", undefined, "must be a list of roles")];
  const [role, ...others] = roles;
  // From the last to the first, since the CLI moves the later ones up.
  for (const index of [...others.keys()].reverse()) {
    problems.push(remove(`aws:assumeRoles[${index + 1}]`, undefined, `${unreachable} with one role at most`));
  }
  if (role?.externalId) problems.push(remove("aws:assumeRoles[0].externalId", undefined, unreachable));
  return problems;
}

/** Returns undefined if the setting is not a list of roles. */
function assumedRoles(config: RawConfig["config"]): v.InferOutput<typeof assumeRoles> | undefined {
  const parsed = v.safeParse(assumeRoles, config["aws:assumeRoles"] || []);
  return parsed.success ? parsed.output : undefined;
}

const assumeRoles = list(v.object({ roleArn: v.optional(v.string()), externalId: v.optional(v.string()) }));
