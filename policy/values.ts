// The values that the engine sends, and how a guardrail reads them.

export type Value = null | boolean | number | string | Value[] | Fields;

export interface Fields {
  [name: string]: Value | undefined;
}

/**
 * What the engine sends in place of a string that is not known yet, and in place of values of other types:
 * https://github.com/pulumi/pulumi-policy/blob/main/sdk/nodejs/policy/proxy.ts
 */
export const UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9";
const UNKNOWNS =
  /"(04da6b54-80e4-46f7-96ec-b56ff0331ba9|1c4a061d-8072-4f0a-a4cb-0ff528b18fe7|3eeb2bf0-c639-47a8-9e75-3b44932eb421|6a19a0b0-7e62-4c92-b797-7f8e31da9cc2|030794c1-ac77-496b-92df-f27374a8bd58|e48ece36-62e2-4504-bad9-02848725956a|dd056dcd-154b-4c76-9bd3-c8f88648b5ff)"/g;

/** Returns whether a value, or one inside it, is not known yet. The guardrails judge it in the update, before it is used. */
export function isUnknown(value: Value | undefined): boolean {
  return value !== undefined && JSON.stringify(value).search(UNKNOWNS) >= 0;
}

/** Returns the value at a path, such as `at(inputs, "metadata", "name")`; undefined if there is none. */
export function at(value: Value | undefined, ...path: string[]): Value | undefined {
  return path.reduce<Value | undefined>((inside, key) => fieldsOf(inside)[key], value);
}

/** Returns the elements of a list, or the only one; none of nothing. */
export function listOf(value: Value | undefined): Value[] {
  return [value ?? []].flat();
}

/** Returns the strings of a list, or the only one. */
export function stringsOf(value: Value | undefined): string[] {
  return listOf(value).filter((it) => typeof it === "string");
}

/** Returns the properties of an object, without inherited ones; none if it is something else. */
export function fieldsOf(value: Value | undefined): Fields {
  const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
  return Object.assign(Object.create(null), isObject ? value : {});
}

/** Returns the form of a URL that all of its spellings have, without `https://`, as IAM names it. */
export function normalizedUrl(value: Value | undefined): string {
  const text = `${value}`;
  const withScheme = /^[a-z]+:\/\//i.test(text) ? text : `https://${text}`;
  if (!URL.canParse(withScheme)) return text;
  const { host, pathname } = new URL(withScheme);
  const path = pathname.replaceAll(/%[2-7][0-9a-f]/gi, decodeURIComponent).replaceAll(/\/{2,}/g, "/");
  return `${host.replace(/\.(?=$|:)/, "")}${path.replace(/\/$/, "")}`.toLowerCase();
}

/** Returns a value as a message shows it: one line of printable ASCII, without a token. A program can contain anything. */
export function textOf(value: Value | undefined): string {
  if (value === undefined || value === null) return "missing";
  const json = JSON.stringify(value)
    .replaceAll(UNKNOWNS, '"known after the update"')
    .replaceAll(/pul-[0-9a-f]{40}/g, "pul-…")
    .replaceAll(/[^ -~…]/g, (it) => `\\u${it.charCodeAt(0).toString(16).padStart(4, "0")}`);
  return json.length <= 300 ? json : `${json.slice(0, 300)}…`;
}
