// The values of a plan. One that is known after the update only, and a secret, are neither a string nor equal to anything: what
// is compared with them differs.

/** The place of a value that the plan does not have. */
export class Opaque {
  readonly #words: string;

  constructor(words: string) {
    this.#words = words;
  }

  toJSON(): string {
    return this.#words;
  }
}

/** A value that is known after the update only. */
export const UNKNOWN = new Opaque("known after the update");
export const SECRET = new Opaque("secret");

/** An output of a resource of the same plan: what is known after the update only has to come from it. */
export class OutputOf extends Opaque {
  /**
   * @param urn of the resource.
   * @param value that it has if it is known.
   */
  constructor(
    readonly urn: string,
    readonly value?: string,
  ) {
    super(value === undefined ? "an output of the component's own resource" : JSON.stringify(value));
  }
}

export type Value = string | number | boolean | null | Opaque | Value[] | Fields;

/** An object of a plan. `valueAt` reads it, since a key can be `__proto__` or the name of a method. */
export interface Fields {
  readonly [name: string]: Value;
}

/** What the engine writes in place of every value that is known after the update only. */
const UNKNOWN_TEXT = "04da6b54-80e4-46f7-96ec-b56ff0331ba9";

/** What a preview prints in place of a secret, and the key by which the SDK marks one: sdk/nodejs/runtime/rpc.ts in pulumi/pulumi. */
const SECRET_TEXT = "[secret]";
const SECRET_KEY = "4dabf18193072939515e22adb298388d";

/** Reads a value of JSON. */
export function readValue(json: unknown): Value {
  if (typeof json === "string") {
    if (json.includes(UNKNOWN_TEXT)) return UNKNOWN;
    return json === SECRET_TEXT ? SECRET : json;
  }
  if (typeof json === "number" || typeof json === "boolean") return json;
  if (Array.isArray(json)) return json.map(readValue);
  if (typeof json !== "object" || json === null) return null;

  const entries = Object.entries(json);
  if (entries.some(([key]) => key === SECRET_KEY)) return SECRET;
  // Equal placeholders can be different values, in a key too.
  if (entries.some(([key]) => key.includes(UNKNOWN_TEXT))) return UNKNOWN;
  const given = entries.filter(([, value]) => value !== undefined);
  return Object.fromEntries(given.map(([key, value]) => [key, readValue(value)]));
}

/** Reads an object of JSON; any other value is an empty one. */
export function readFields(json: unknown): Fields {
  const value = readValue(json);
  return isFields(value) ? value : {};
}

/**
 * Reads a document that a provider can have as a string of JSON. A string stays what it is if it is not JSON, or if it has a key
 * twice, since parsers differ in which one they use.
 */
export function documentOf(value: Value | undefined): Value | undefined {
  if (typeof value !== "string" || !/^\s*[[{]/.test(value)) return value;
  // A key that is dropped drops its quotes.
  const quotes = (text: string) => text.split('"').length;
  try {
    const parsed: unknown = JSON.parse(value);
    return quotes(JSON.stringify(parsed)) === quotes(value) ? readValue(parsed) : value;
  } catch {
    return value;
  }
}

/** Returns whether a value is an object: no list, and known. */
export function isFields(value: Value | undefined): value is Fields {
  return isContainer(value) && !Array.isArray(value);
}

function isContainer(value: Value | undefined): value is Value[] | Fields {
  return typeof value === "object" && value !== null && !isOpaque(value);
}

/** Returns whether a value, as a whole, is known after the update only, or secret. */
export function isOpaque(value: Value | undefined): value is Opaque {
  return value instanceof Opaque;
}

/** Returns the value at a path; undefined if there is none. Inside of what is not known, nothing is. */
export function valueAt(value: Value | undefined, ...path: string[]): Value | undefined {
  const [key, ...rest] = path;
  if (key === undefined || isOpaque(value)) return value;
  return isFields(value) && Object.hasOwn(value, key) ? valueAt(value[key], ...rest) : undefined;
}

/** Returns the object at a path; an empty one if there is none. */
export function fieldsAt(value: Value | undefined, ...path: string[]): Fields {
  const found = valueAt(value, ...path);
  return isFields(found) ? found : {};
}

/** Returns the list at a path; an empty one if there is none. */
export function listAt(value: Value | undefined, ...path: string[]): Value[] {
  const found = valueAt(value, ...path);
  return Array.isArray(found) ? found : [];
}

/** Returns the objects in a list; none if the value is not a list. */
export function fieldsIn(list: Value | undefined): Fields[] {
  return Array.isArray(list) ? list.filter(isFields) : [];
}

/** Returns the paths of the secrets in a value, such as `["image"]`. */
export function secretsIn(value: Value | undefined, path: string[] = []): string[][] {
  if (value === SECRET) return [path];
  if (!isContainer(value)) return [];
  return Object.entries(value).flatMap(([key, element]) => secretsIn(element, [...path, key]));
}

/** Returns the outputs in a value. */
export function outputsIn(value: Value | undefined): OutputOf[] {
  if (value instanceof OutputOf) return [value];
  return isContainer(value) ? Object.values(value).flatMap(outputsIn) : [];
}

/** Returns an object without some of its keys. */
export function without(fields: Fields, ...keys: string[]): Fields {
  return Object.fromEntries(Object.entries(fields).filter(([key]) => !keys.includes(key)));
}

/** How two values differ at one place in them. Undefined is none. */
export interface Difference {
  /** Such as `["Statement", "0", "Action"]`; empty for the whole value. */
  path: string[];
  one: Value | undefined;
  other: Value | undefined;
}

/** Compares two values: lists whose elements have names by these. What is not known differs from everything. */
export function* differencesBetween(
  one: Value | undefined,
  other: Value | undefined,
  path: string[] = [],
): Generator<Difference> {
  if (!isContainer(one) || !isContainer(other) || Array.isArray(one) !== Array.isArray(other)) {
    if (one !== other || isOpaque(one)) yield { path, one, other };
    return;
  }
  const isByName = hasNames(one) && hasNames(other);
  const [first, second] = [elementsOf(one, isByName), elementsOf(other, isByName)];
  for (const key of new Set([...first.keys(), ...second.keys()])) {
    yield* differencesBetween(first.get(key), second.get(key), [...path, key]);
  }
  const inBoth = [...first.keys()].filter((key) => second.has(key));
  const isInOrder = [...second.keys()].filter((key) => first.has(key)).join("\n") === inBoth.join("\n");
  if (isByName && !isInOrder) yield { path, one, other };
}

/** Returns the elements by their keys, indexes, or names. */
function elementsOf(value: Value[] | Fields, isByName: boolean): Map<string, Value> {
  const elements = Object.entries(value);
  return new Map(isByName ? elements.map(([, it]) => [textOf(valueAt(it, "name")), it]) : elements);
}

/** Returns whether each element of a list has its own name. */
function hasNames(list: Value[] | Fields): boolean {
  if (!Array.isArray(list)) return false;
  const names = list.map((it) => valueAt(it, "name")).filter((name) => typeof name === "string");
  return new Set(names).size === list.length;
}

/** Returns whether a value says as much as none: a provider reads it back, or leaves it out. */
export function isEmpty(value: Value | undefined): boolean {
  if (isOpaque(value) || typeof value !== "object") return value === undefined;
  return value === null || Object.keys(value).length === 0;
}

/** Returns whether two values are the same. What is not known equals nothing. */
export function isEqual(one: Value | undefined, other: Value | undefined): boolean {
  return differencesBetween(one, other).next().done === true;
}

/** Returns a value for people: a string without quotes, anything else as JSON with spaces, at which a line can break. */
export function textOf(value: Value | undefined): string {
  return typeof value === "string" && value !== "" ? value : jsonOf(value);
}

/** Returns a value as JSON with spaces, and with words for what is not known. */
export function jsonOf(value: Value | undefined): string {
  if (value === undefined || value === null) return "none";
  if (isOpaque(value)) return value.toJSON();
  return JSON.stringify(value, null, 1).replaceAll(/\n\s*/g, " ");
}

/** Returns the words of a text. */
export function wordsOf(text: string): string[] {
  return text.trim().split(/\s+/);
}
