// The stack's configuration: read once, validated as a whole, passed on as plain typed data.

import * as pulumi from "@pulumi/pulumi";
import { closest } from "fastest-levenshtein";
import * as v from "valibot";
import { type AwsOptions, awsSchema } from "./cluster";
import { encrypted, inOrder, invalidConfiguration, type Problem, pathOf, remove, replace, type Step } from "./problems";
import { INITIAL_NAMESPACES } from "./serviceAccount";
import { accountSettings, isObject, parseJson, stackSchema, stackSettings, tokenSettings } from "./settings";

/** The configuration with every default filled in; durations are in seconds. */
export type StackConfig = v.InferOutput<typeof stackSchema> & { aws: AwsOptions };

/** One service account, with what it inherits from the stack. */
export type AccountConfig = StackConfig["serviceAccounts"][number];

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

type Values = Record<string, unknown>;

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

/** Returns the values that belong to the project. */
export function ownValues(raw: RawConfig): Values {
  const own = Object.entries(givenValues(raw)).filter(([key]) => key.startsWith(`${raw.project}:`));
  const given: Values = Object.fromEntries(own.map(([key, value]) => [key.slice(raw.project.length + 1), value]));
  // The default in Pulumi.yaml also applies to token types with which this setting is not valid.
  if (given.organizationAdmin === "false") delete given.organizationAdmin;
  return { ...(raw.organization && { organization: raw.organization }), ...given };
}

/** Returns every value that is set, by `namespace:key`. An encrypted one is null, which no schema accepts. */
function givenValues({ config, secretKeys }: RawConfig): Values {
  return { ...withoutEmpty(config), ...Object.fromEntries(secretKeys.map((key) => [key, null])) };
}

function withoutEmpty(values: Values): Values {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== "" && value != null));
}

/**
 * Validates the configuration of a stack. `""` and `null` count as unset, since `Pulumi.yaml` has no other way to
 * leave a default unset.
 *
 * @returns the configuration, or every problem that it has. Does not throw.
 */
export function parseConfig(raw: RawConfig): { config?: StackConfig; problems: Problem[] } {
  const given = ownValues(raw);
  const { serviceAccounts = [], ...settings } = given;
  const listed = parseJson(serviceAccounts) ?? serviceAccounts;
  const values = Array.isArray(listed) ? listed.map(parseJson) : [];
  const entries = values.map((entry) => (isObject(entry) ? withoutEmpty(entry) : entry));

  // Without entries, the stack's settings describe the one service account.
  const stack: Values = { tokenType: "personal", ...settings, name: given.serviceAccountName };
  const accounts = (entries.length > 0 ? entries : [stack]).map((entry) => inherit(entry, stack));
  const parsed = v.safeParse(stackSchema, { ...settings, serviceAccounts: Array.isArray(listed) ? accounts : listed });
  const issues = [...(parsed.issues ?? []), ...(v.safeParse(defaultsSchema, stack).issues ?? [])];
  const aws = v.safeParse(awsSchema, givenValues(raw));
  const problems = [
    ...issues.map((issue) => toProblem(issue, entries)),
    ...unknownKeys(given, STACK_KEYS),
    ...entries.flatMap((entry, index) => unknownKeys(entry, ENTRY_KEYS, "serviceAccounts", index)),
    ...(aws.issues ?? []).map((issue) => toProblem(issue)),
  ];
  if (!parsed.success || !aws.success || problems.length > 0) return { problems: inOrder(problems) };
  return { config: { ...parsed.output, aws: aws.output }, problems };
}

const TOKEN_KEYS = Object.keys(tokenSettings);
const ENTRY_KEYS = [...Object.keys(accountSettings), ...TOKEN_KEYS];
const STACK_KEYS = [...Object.keys(stackSettings), ...ENTRY_KEYS.map(stackKey)];

// What service accounts inherit may be incomplete: an entry can complete or replace it.
const defaultsSchema = v.object({ ...accountSettings, ...v.partial(v.object(tokenSettings)).entries });

function stackKey(key: string): string {
  return key === "name" ? "serviceAccountName" : key;
}

/** Returns the settings of one service account, with what it inherits from the stack. */
function inherit(own: unknown, stack: Values): unknown {
  if (!isObject(own)) return own;
  // A mix of own and inherited token settings would grant a token that no one configured.
  const token = ownsToken(own) ? own : stack;
  const values: Values = { ...stack, ...own, maxExpirationSeconds: stack.maxExpirationSeconds, token };
  const isInitial = INITIAL_NAMESPACES.includes(String(values.namespace ?? "default"));
  if (isInitial && !("createNamespace" in own)) delete values.createNamespace;
  if (String(own.createRole) === "false" && !("rolePolicyArns" in own)) delete values.rolePolicyArns;
  return values;
}

function ownsToken(entry: Values): boolean {
  return TOKEN_KEYS.some((key) => key in entry);
}

/** Returns the problem that an issue of a schema reports, at the setting to change; `entries` are the configured ones. */
export function toProblem(issue: v.BaseIssue<unknown>, entries: unknown[] = []): Problem {
  const steps = locate(issue, entries);
  const path = pathOf(...steps);
  const given = issue.path?.at(-1)?.value;
  if (given === null && steps.length === 1 && issue.type !== "never") return encrypted(path);
  // A value of the AWS provider can be a credential.
  const value = path.startsWith("aws:") ? undefined : given;
  if (issue.type === "max_length") return remove(`${path}[${issue.requirement}]`, undefined, issue.message);
  // No other value would be valid: something other than an object, a setting that must not be there, a repeated element.
  if (["custom", "never", "check_items"].includes(issue.type)) return remove(path, value, issue.message);
  // If two flags conflict, the other value of one fixes it.
  const isConflict = issue.kind === "validation" && typeof value === "boolean";
  return replace(path, value, issue.message, isConflict ? String(!value) : undefined);
}

/** Returns the path of the setting to change: in the entry or, if the entry inherits the value, in the stack. */
function locate({ path, type }: v.BaseIssue<unknown>, entries: unknown[]): Step[] {
  const steps = (path ?? []).map(({ key }) => key as Step).filter((step, depth) => depth !== 2 || step !== "token");
  const [list, index, key = ""] = steps;
  const entry = entries[Number(index)];
  // A conflict is fixed in the entry: the stack's value is right for the other entries.
  const isOwn = (own: Values) =>
    type === "raw_check" || (TOKEN_KEYS.includes(String(key)) ? ownsToken(own) : key in own);
  const isInherited = list === "serviceAccounts" && steps.length > 2 && !(isObject(entry) && isOwn(entry));
  const [first, ...rest] = isInherited ? steps.slice(2) : steps;
  return [stackKey(String(first)), ...rest];
}

/** Returns a problem for each key of an object at this path that is not known; nothing if it is not an object. */
export function unknownKeys(values: unknown, known: string[], ...path: Step[]): Problem[] {
  if (!isObject(values)) return [];
  const unknown = Object.keys(values).filter((key) => !known.includes(key));
  return unknown.map((key) => {
    const isForStack = path.length > 0 && Object.hasOwn(stackSettings, key);
    const similar = closest(key === "serviceAccountName" ? "name" : stackKey(key), known);
    const reason = isForStack ? "valid only for the whole stack" : `unknown setting; did you mean "${similar}"?`;
    return remove(pathOf(...path, key), values[key] ?? undefined, reason);
  });
}
