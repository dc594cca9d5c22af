// How what exists differs from the program, by Pulumi's own comparison.

import { isDeepStrictEqual } from "node:util";
import type { PlannedComponent } from "./component";
import { isRecord, type Plan, type PlannedResource, readable } from "./plan";
import { shown } from "./terminal";

/** A resource that an update would change. */
export interface Difference {
  /** Such as `kubernetes:core/v1:ConfigMap NAME`. */
  resource: string;
  /** What the update would do, such as `update`. */
  op: string;
  /** The properties that differ, such as `data.organization: "other" → "acme"`. */
  properties: string[];
}

/** What is neither a change nor one that Pulumi would undo. */
const UNCHANGED = ["same", "refresh", "read"];

/** A longer value would hide the others. */
const SHOWN_CHARACTERS = 60;

/**
 * Compares what exists with the program.
 *
 * @returns the resources of the components, with their providers and what they take inputs from; and how many others differ.
 */
export function differencesIn(
  { resources }: Plan,
  components: PlannedComponent[],
): { own: Difference[]; elsewhere: number } {
  const ofComponents = new Set(components.flatMap((component) => component.resources));
  const isChanged = ({ op }: PlannedResource) => !UNCHANGED.includes(op);
  const own = [...ofComponents].filter(isChanged).map((resource) => {
    const { type, name, op } = resource;
    return { resource: `${type} ${name}`, op, properties: propertiesOf(resource) };
  });
  const others = resources.filter((resource) => !ofComponents.has(resource) && isChanged(resource));
  return { own, elsewhere: others.length };
}

function propertiesOf({ deployed, planned, differing }: PlannedResource): string[] {
  if (!deployed || !planned) return [];
  const found = [...differencesOf(deployed.inputs, planned.inputs)];
  // What the provider computes is in no input.
  if (found.length === 0) return differing;
  return found.map(({ path, old, now }) => `${path}: ${valueText(old)} → ${valueText(now)}`);
}

interface Differing {
  path: string;
  old: unknown;
  now: unknown;
}

function* differencesOf(old: unknown, now: unknown, path = ""): Generator<Differing> {
  const [before, after] = [inJson(old), inJson(now)];
  if (isDeepStrictEqual(before, after)) return;
  if (!isContainer(before) || !isContainer(after)) {
    yield { path, old, now };
    return;
  }
  for (const key of new Set([...Object.keys(before), ...Object.keys(after)])) {
    // Of the provider itself.
    if (key.startsWith("__") && !Object.hasOwn(after, key)) continue;
    const [one, other] = [propertyOf(before, key), propertyOf(after, key)];
    yield* differencesOf(one, other, path ? `${path}.${key}` : key);
  }
}

function isContainer(value: unknown): value is object {
  return isRecord(value) || Array.isArray(value);
}

function propertyOf(object: object, key: string): unknown {
  return Object.hasOwn(object, key) ? (object as Record<string, unknown>)[key] : undefined;
}

/** Returns what a string of JSON contains, such as a trust policy, and any other value as it is. */
function inJson(value: unknown): unknown {
  if (typeof value !== "string" || !/^[[{]/.test(value)) return value;
  try {
    return JSON.parse(value);
  } catch {
    return value;
  }
}

function valueText(value: unknown): string {
  if (value === undefined) return "none";
  const text = readable(shown(JSON.stringify(value)));
  return text.length > SHOWN_CHARACTERS ? `${text.slice(0, SHOWN_CHARACTERS - 1)}…` : text;
}
