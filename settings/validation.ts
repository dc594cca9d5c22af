// How settings are checked with Valibot: all problems at once, each with the path of the setting, its value, and the reason.

import { type Input, isSecret, Output, output } from "@pulumi/pulumi";
import { closest, distance } from "fastest-levenshtein";
import * as v from "valibot";
import { isObject } from "../kubernetes/plainObject";
import type { Path, Problem } from "./problems";

/** Requires a schema for each setting of an interface. */
type Schemas<Settings> = {
  [Key in keyof Settings]-?: v.GenericSchema<Settings[Key], unknown>;
};

/** Requires that each schema accepts every value that its setting can have, and that there is no other schema. */
type Accepting<Settings, Entries extends v.ObjectEntries> = {
  [Key in keyof Entries]: Key extends keyof Settings
    ? Settings[Key] extends v.InferInput<Entries[Key]>
      ? Entries[Key]
      : never
    : never;
};

/**
 * Returns the schemas of an interface. They compile only if they accept the values of the interface, and no others: a
 * setting that can be an output needs a schema that accepts one. Otherwise, the compiler says that the schema is not assignable to
 * type `never`.
 */
export function schemasOf<Settings>() {
  return <Entries extends Schemas<Settings> & v.ObjectEntries>(
    entries: Entries & Accepting<Settings, Entries>,
  ): Entries => entries;
}

/** Settings, of which those that are invalid by themselves can be missing. */
export type Incomplete<Settings> = {
  [Key in keyof Settings]?: Settings[Key] extends (infer Element)[]
    ? ((Element extends object ? Incomplete<Element> : Element) | undefined)[]
    : Settings[Key];
};

/** A schema for strings. */
export const textSchema = v.string(({ input }) => {
  if (input === undefined) return "required";
  // YAML has changed the value already: 0777 arrives as 511.
  const isChanged = typeof input === "number" || typeof input === "boolean";
  if (!isChanged) return "must be a string";
  return `must be a string, but YAML reads it as a ${typeof input}; quote it, or set it with --type string`;
});

/** Returns whether a schema begins with `textSchema`. */
export function expectsString(schema: v.GenericSchema): boolean {
  return v.safeParse(schema, 0).issues?.[0].expected === "string";
}

/** What the pages and the template have where a reader writes a name. */
const PLACEHOLDER = /CLUSTER_NAME|(?<![^:/])(ORGANIZATION|OWNER|ACCOUNT|LOGIN|POOL)(?![^:/])/;

/** Returns a schema for strings that match a pattern, and contain no placeholder of the pages. */
export function stringSchema(pattern: RegExp, expected: string | ((issue: v.RegexIssue<string>) => string)) {
  const isReplaced = v.check(
    (value: string) => !PLACEHOLDER.test(value),
    ({ input }) => `replace ${PLACEHOLDER.exec(input)?.[0]}, which is a placeholder`,
  );
  return v.pipe(textSchema, isReplaced, v.regex(pattern, expected));
}

/** Returns a schema for lists whose elements match a schema. */
export function listSchema<Element extends v.GenericSchema>(element: Element) {
  return v.array(element, ({ input }) => {
    if (typeof input === "string") return "must be a list: put it in brackets, [ ]";
    // That of a setting in Pulumi.yaml.
    const isDeclaration = isObject(input) && Array.isArray(input.default);
    return isDeclaration
      ? "must be a list, not a declaration: paste what is below `default:`"
      : "must be a list";
  });
}

/** A schema for true and false. */
export const booleanSchema = v.boolean("must be true or false");

/** A schema for objects: those of Valibot accept lists too. */
export const objectSchema = v.custom<Record<string, unknown>>(isObject, "must be an object");

/** Returns whether a value is an output or a promise, which is known later. */
export function isLater(value: unknown): value is Output<unknown> | Promise<unknown> {
  return Output.isInstance(value) || value instanceof Promise;
}

/** Changes a plain string immediately, so that a preview shows it, and an output once it is known. */
export function mapInput(value: Input<string>, change: (value: string) => string): Input<string> {
  return typeof value === "string" ? change(value) : output(value).apply(change);
}

/** Returns a schema that also accepts an output or a promise, whose value `withCheckedOutputs` checks once it is known. */
export function inputSchema<Value>(schema: v.GenericSchema<Value>) {
  const later = v.custom<Input<Value>>(isLater);
  return v.lazy((value) => (isLater(value) ? later : schema));
}

const NOT_PLAIN = "must be a plain value, not an output or a secret";

/** Returns a schema for plain values that says what to write instead of an output. */
export function plainSchema<Schema extends v.GenericSchema>(schema: Schema, instead: string) {
  const notPlain = v.never(`${NOT_PLAIN}. ${instead}`);
  return v.lazy((value): Schema | typeof notPlain => (isPlain(value) ? schema : notPlain));
}

/** Returns whether a value is a scalar, a list, or a plain object, as opposed to an output or a resource. */
function isPlain(value: unknown): boolean {
  return typeof value !== "object" || value === null || Array.isArray(value) || isObject(value);
}

/** Returns whether a setting counts as not given. */
export function isEmpty(value: unknown): boolean {
  return value === undefined || value === null || value === "";
}

/** What to say of a setting where "required" or "unknown setting" does not say enough. */
export interface Reasons {
  /** Why settings are required, by their names. */
  required?: Record<string, string>;
  /** Returns the reason for a key that is not a setting; undefined if it is only unknown. */
  unknown?(key: string): string | undefined;
  /** Whether a key without a value is a problem. By default, it counts as not given. */
  rejectsEmpty?: boolean;
}

/** Returns a schema for objects with these settings, and no others. `null` and `""` are no values. */
export function settingsSchema<Entries extends v.ObjectEntries>(
  entries: Entries,
  { required = {}, unknown, rejectsEmpty = false }: Reasons = {},
) {
  const names = Object.keys(entries);
  type Settings = v.InferInput<v.ObjectSchema<Entries, undefined>>;
  // Valibot's schema accepts lists too.
  const isSettings = v.custom<Settings>(isObject, "must be an object");
  const given = v.transform((values: Settings) => {
    const entriesGiven = Object.entries(values).filter(([key, value]) => {
      return !names.includes(key) || !isEmpty(value) || (rejectsEmpty && value !== undefined);
    });
    return Object.fromEntries(entriesGiven) as Settings;
  });
  const schema = v.lazy((values: unknown) => {
    // Valibot's own strict schema reports only the first unknown key.
    const rejected: v.ObjectEntries = {};
    for (const [key, value] of Object.entries(Object(values))) {
      const reason =
        entries[key]?.type === "optional" ? "has no value. Set one, or remove the key" : "required";
      if (!names.includes(key)) rejected[key] = v.never(unknown?.(key) ?? unknownSetting(key, names));
      else if (isEmpty(value)) rejected[key] = v.never(reason);
    }
    const all: Entries = { ...rejected, ...entries, ...rejected };
    return v.object(all, ({ path }) => required[String(path?.[0]?.key)] ?? "required");
  });
  return v.pipe(isSettings, given, schema);
}

/** What `check` returns. */
interface Result<Settings> {
  /** The settings with the defaults of the schema filled in; missing if they have a problem. */
  settings?: Settings;
  problems: Problem[];
}

/**
 * Checks settings against a schema.
 *
 * @param schema of the settings by themselves. Only an `inputSchema` accepts an output.
 * @param values of the settings, which can be anything.
 * @param rules returns the problems between settings. Those that are invalid by themselves are missing, and not reported
 *   twice.
 * @returns the settings, or their problems: of each path the first. A list is not checked as a whole while an element has a
 *   wrong type. Does not throw.
 */
export function check<Schema extends v.GenericSchema>(
  schema: Schema,
  values: unknown,
  rules: (knownSettings: Incomplete<v.InferOutput<Schema>>) => Problem[] = () => [],
): Result<v.InferOutput<Schema>> {
  const result = v.safeParse(schema, values);
  const found = (result.issues ?? []).map(problemOf);
  const invalid = found.filter(({ path }, index) => found.findIndex((it) => isSame(it.path, path)) === index);

  const invalidPaths = invalid.map(({ path }) => path);
  const knownSettings = without(result.output, invalidPaths) as Incomplete<v.InferOutput<Schema>>;
  const isReported = ({ path }: Problem) => invalidPaths.some((invalidPath) => startsWith(invalidPath, path));
  const conflicts = rules(knownSettings).filter((problem) => !isReported(problem));

  const problems = [...invalid, ...conflicts];
  return result.success && problems.length === 0 ? { settings: result.output, problems } : { problems };
}

const SECRET =
  "must not be a secret, because Pulumi Cloud and the cluster store it in plaintext. If it is not confidential, " +
  "remove the mark with pulumi.unsecret";

const WITHOUT_VALUE = "is an output without a value. Leave the setting out, or set a value";

/**
 * Returns settings whose outputs fail if they are invalid, once they are known: each is then checked in its place, as a plain value is.
 *
 * @param settings that are valid otherwise.
 * @param problemsOf returns the problems of settings in which one output has its value.
 * @param errorOf returns the error to fail with.
 */
export function withCheckedOutputs<Settings>(
  settings: Settings,
  problemsOf: (settings: unknown) => Problem[],
  errorOf: (problem: Problem) => Error,
): Settings {
  const checkOutput = (value: unknown, path: Path) => {
    if (!isLater(value)) return value;
    const reject = (problem: Problem) => {
      throw errorOf({ ...problem, path });
    };
    // A preview knows whether a value is secret, even if it does not know the value.
    const notSecret = output(isSecret(output(value))).apply((secret) => {
      return secret ? reject({ path, reason: SECRET }) : value;
    });
    return notSecret.apply((known) => {
      if (isEmpty(known)) return reject({ path, reason: WITHOUT_VALUE });
      const inPlace = path.map((step) => (typeof step === "number" ? 0 : step));
      const problems = problemsOf(withKnown(settings, path, known));
      const problem = problems.find((it) => startsWith(it.path, inPlace));
      return problem ? reject(problem) : known;
    });
  };
  return mapSettings(settings, checkOutput) as Settings;
}

/** Returns settings with a value at a path. Of each list on the way, only the element is left, so that many outputs take no longer. */
function withKnown(settings: unknown, [step, ...others]: Path, known: unknown): unknown {
  if (step === undefined) return known;
  const value = withKnown(Object(settings)[step], others, known);
  return Array.isArray(settings) ? [value] : { ...Object(settings), [step]: value };
}

/**
 * Returns a problem for each string of a list that is listed before.
 *
 * @param values undefined or empty where they are invalid.
 * @param pathOf returns the path of a value, by its index.
 */
export function duplicates(values: (string | undefined)[], pathOf: (index: number) => Path): Problem[] {
  return values.flatMap((value, index): Problem[] => {
    if (!value || values.indexOf(value) === index) return [];
    return [{ path: pathOf(index), value, reason: "must not be listed twice" }];
  });
}

/** Returns the reason for an unknown setting, with the known one that was probably meant. */
function unknownSetting(key: string, known: string[]): string {
  const similar = closest(key, known);
  const isTypo = distance(key, similar) <= Math.max(2, key.length / 3);
  return isTypo ? `unknown setting; did you mean "${similar}"?` : "unknown setting";
}

function problemOf({ type, path: items, message, input, received }: v.BaseIssue<unknown>): Problem {
  const path = (items ?? []).map(({ key }) => key as string | number);
  if (type !== "never" && !isPlain(input)) return { path, reason: NOT_PLAIN };
  // Of an unknown setting, the value is not shown.
  const isShown = type !== "never" && received !== "undefined";
  // The value as it was given: `input` can be changed already.
  return { path, reason: message, value: isShown ? items?.at(-1)?.value : undefined };
}

/** Returns a copy of settings without those at these paths. An element of a list becomes undefined, and stays. */
function without(settings: unknown, paths: Path[]): unknown {
  return mapSettings(settings, (value, path) => (paths.some((it) => isSame(it, path)) ? undefined : value));
}

/** Returns a copy of settings in which what `change` returns replaces the values, and the values in them. */
function mapSettings(
  settings: unknown,
  change: (value: unknown, path: Path) => unknown,
  path: Path = [],
): unknown {
  const value = change(settings, path);
  const mapped = (element: unknown, step: string | number) => mapSettings(element, change, [...path, step]);
  if (Array.isArray(value)) return value.map(mapped);
  if (!isObject(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, element]) => [key, mapped(element, key)]));
}

function isSame(path: Path, other: Path): boolean {
  return path.length === other.length && startsWith(path, other);
}

function startsWith(path: Path, start: Path): boolean {
  return start.every((step, depth) => path[depth] === step);
}
