// The resources of a plan at one time, with their inputs as plain values.

import type { Resource } from "./components";
import type { PlannedResource, State } from "./plan";
import { documentOf, type Fields, isFields, isOpaque, readFields, type Value, valueAt } from "./values";

/** How pods receive a role from EKS Pod Identity. */
export const ASSOCIATION = "aws:eks/podIdentityAssociation:PodIdentityAssociation";

type When = "deployed" | "planned";

/** A resource of the plan at one time. */
export interface Found {
  type: string;
  name: string;
  resource: PlannedResource;
  state: State;
  inputs: Fields;
  /** The component that it is in. */
  owner: PlannedResource | undefined;
}

/** What providers add to inputs: pkg/reservedkeys in pulumi-terraform-bridge, provider/pkg/provider/provider.go in pulumi-kubernetes. */
const ADDED_KEYS = ["__defaults", "__meta", "__fieldManager", "__initialApiVersion", "__inputs"];

/** Returns the resources that there are at that time. */
export function allAt(when: When, owners: Map<PlannedResource, PlannedResource | undefined>): Found[] {
  return [...owners].flatMap(([resource, owner]) => {
    const state = resource[when];
    if (!state) return [];
    const inputs = when === "deployed" ? deployedInputs(resource) : inputsOf(state);
    return { type: state.type, name: state.name, resource, state, inputs, owner };
  });
}

/**
 * A refresh adds what the program does not say. For a resource that stays the same, that is not a change. In Pulumi Cloud it is one:
 * a key of an allow policy counts.
 */
function deployedInputs({ type, op, deployed, planned }: PlannedResource): Fields {
  const inputs = deployed ? inputsOf(deployed) : {};
  const isAdding = op === "same" && /^(aws|kubernetes):/.test(type);
  return isAdding && planned ? (pruned(inputs, inputsOf(planned)) as Fields) : inputs;
}

/** Returns a value with only the keys that `other` has. */
function pruned(value: Value, other: Value): Value {
  if (!isFields(value) || !isFields(other)) return value;
  const kept = Object.entries(value).filter(([key]) => Object.hasOwn(other, key));
  return Object.fromEntries(kept.map(([key, element]) => [key, pruned(element, other[key] ?? null)]));
}

export function inputsOf({ type, inputs }: State): Fields {
  // A key of an allow policy must not be overlooked.
  const isOfPulumiCloud = type.startsWith("pulumiservice:");
  return readFields(inputs, isOfPulumiCloud ? [] : ADDED_KEYS);
}

/** Returns a resource of which all is shown. @param prefix of its name that is left out. */
export function resourceOf({ type, name, inputs }: Found, prefix = ""): Resource {
  const entries = Object.entries(inputs).map(([key, value]) => [key, documentOf(value) ?? null] as const);
  const title = `${type.split(":").at(-1)} ${name.startsWith(prefix) ? name.slice(prefix.length) : name}`;
  return { title, inputs: Object.fromEntries(entries) };
}

/** Returns the organization, which the resources of Pulumi Cloud call by three names. */
export function organizationOf(inputs: Fields): Value | undefined {
  return ["organization", "organizationName", "orgName"].map((key) => valueAt(inputs, key)).find(Boolean);
}

/** Returns whether two names of Pulumi Cloud can be those of the same thing. */
export function isSameName(one: Value | undefined, other: Value | undefined): boolean {
  if (isOpaque(one) || isOpaque(other)) return true;
  return typeof one === "string" && typeof other === "string" && one.toLowerCase() === other.toLowerCase();
}
