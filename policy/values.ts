// The values that the engine sends, and how a rule compares them.

export type Value = null | boolean | number | string | Value[] | Fields;

export interface Fields {
  [name: string]: Value | undefined;
}

/**
 * What the engine sends in place of a value that is not known yet:
 * https://github.com/pulumi/pulumi-policy/blob/main/sdk/nodejs/policy/proxy.ts
 */
export const UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9";

/** Returns whether a value is not known yet, or a string was made from one that is not. */
export function isUnknown(value: Value | undefined): boolean {
  return typeof value === "string" && value.includes(UNKNOWN);
}

export function isFields(value: Value | undefined): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Returns the value at a path, such as `at(inputs, "metadata", "name")`; undefined if there is none. */
export function at(value: Value | undefined, ...path: string[]): Value | undefined {
  return path.reduce<Value | undefined>((inside, key) => {
    return isFields(inside) && Object.hasOwn(inside, key) ? inside[key] : undefined;
  }, value);
}

/** Returns the elements of a list; none if it is something else. */
export function listOf(value: Value | undefined): Value[] {
  return Array.isArray(value) ? value : [];
}

/** Returns the strings of a list, or the only one. */
export function stringsOf(value: Value | undefined): string[] {
  return [value].flat().filter((it) => typeof it === "string");
}

/** Returns the properties of an object; none if it is something else. */
export function fieldsOf(value: Value | undefined): Fields {
  return isFields(value) ? value : {};
}

/** One value that is not as it should be. */
interface Difference {
  /** Keys and indexes with dots between them; empty for the whole. */
  path: string;
  /** Undefined if it is missing. */
  found: Value | undefined;
  /** Undefined if nothing should be there. */
  expected: Value | undefined;
}

/**
 * Compares all values. What is not known yet equals only what depends on a setting that is not known either.
 *
 * @param expected a string that contains an unknown value is unknown as a whole.
 */
export function differencesBetween(
  found: Value | undefined,
  expected: Value | undefined,
  path: string[] = [],
): Difference[] {
  const isSameKind = Array.isArray(found) === Array.isArray(expected);
  if (isContainer(found) && isContainer(expected) && isSameKind) {
    const [one, other] = [Object.entries(found), Object.entries(expected)].map((it) => new Map(it));
    const keys = [...new Set([...(one?.keys() ?? []), ...(other?.keys() ?? [])])];
    return keys.flatMap((key) => differencesBetween(one?.get(key), other?.get(key), [...path, key]));
  }
  const due = isUnknown(expected) ? UNKNOWN : (expected ?? undefined);
  return (found ?? undefined) === due ? [] : [{ path: path.join("."), found, expected }];
}

function isContainer(value: Value | undefined): value is Value[] | Fields {
  return typeof value === "object" && value !== null;
}

const LONGEST = 300;

/** Returns a value as a message shows it: one line of printable ASCII, without a token. A program can contain anything. */
export function textOf(value: Value | undefined): string {
  if (value === undefined || value === null) return "missing";
  if (isUnknown(value)) return "known after the update";
  const json = JSON.stringify(value)
    .replaceAll(UNKNOWN, "known after the update")
    .replaceAll(/pul-[0-9a-f]{40}/g, "pul-…")
    .replaceAll(/[^ -~…]/g, (it) => `\\u${it.charCodeAt(0).toString(16).padStart(4, "0")}`);
  return json.length <= LONGEST ? json : `${json.slice(0, LONGEST)}…`;
}
