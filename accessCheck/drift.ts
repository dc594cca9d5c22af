// What exists and no input of the program says, where it grants something or becomes a file: a refresh reads it into the outputs, and the
// preview calls the resource unchanged.

import { IDENTITY_ANNOTATION, inputsOf, ROLE, SERVICE_ACCOUNT } from "./components";
import type { Plan, PlannedResource, State } from "./plan";
import {
  differencesBetween,
  type Fields,
  fieldsAt,
  fieldsIn,
  isEmpty,
  isOpaque,
  jsonOf,
  listAt,
  readFields,
  textOf,
  type Value,
  valueAt,
} from "./values";

/** What a resource has beside the program. */
export interface Drift {
  resource: PlannedResource;
  /** Such as `policy arn:aws:iam::aws:policy/ReadOnlyAccess`. */
  text: string;
  /**
   * Whether others may add it: policies to a role, whose name is an output for that, and the identity of a service account that exists
   * already, which is its owner's.
   */
  isOfOthers: boolean;
}

const CONFIG_MAP = "kubernetes:core/v1:ConfigMap";
const ADMISSION_POLICY =
  /^kubernetes:admissionregistration\.k8s\.io\/[^:]+:MutatingAdmissionPolicy(Binding)?$/;

/** Returns what the resources of a program have beside it. */
export function driftIn({ resources }: Plan): Drift[] {
  return resources.flatMap((resource) => {
    const { type, oldState, newState } = resource;
    if (!oldState || !newState) return [];
    const drift = (text: string, isOfOthers = false): Drift => ({ resource, text, isOfOthers });
    if (type === ROLE) return policiesBeside(oldState, newState, resources).map((text) => drift(text, true));
    if (type === CONFIG_MAP) {
      const keys = ["data", "binaryData"].flatMap((path) => keysBeside(oldState, newState, path));
      return keys.map(([key]) => drift(`file ${key}`));
    }
    if (type === SERVICE_ACCOUNT) {
      const annotations = keysBeside(oldState, newState, "metadata", "annotations");
      const granting = annotations.filter(([key, value]) => IDENTITY_ANNOTATION.test(key) || isOpaque(value));
      return granting.map(([key, value]) =>
        drift(`annotation ${key}: ${textOf(value)}`, newState.isExternal),
      );
    }
    return ADMISSION_POLICY.test(type) ? specBeside(oldState, newState).map((text) => drift(text)) : [];
  });
}

/** Returns what exists at a path, and the program does not say. What it only reads, it does not say. */
function keysBeside(oldState: State, newState: State, ...path: string[]): [string, Value][] {
  const existing = valueAt(readFields(oldState.outputs), ...path);
  if (isOpaque(existing)) return [[path.join("."), existing]];
  const ofProgram = newState.isExternal ? {} : fieldsAt(inputsOf(newState), ...path);
  return Object.entries(fieldsAt(existing)).filter(([key]) => !Object.hasOwn(ofProgram, key));
}

/** Returns the policies of a role that nothing in the plan attaches. */
function policiesBeside(oldState: State, newState: State, resources: PlannedResource[]): string[] {
  const outputs = readFields(oldState.outputs);
  const name = valueAt(outputs, "name");
  const inputs = inputsOf(newState);
  const attached = inputsOfType(resources, "aws:iam/rolePolicyAttachment:RolePolicyAttachment")
    .filter((attachment) => valueAt(attachment, "role") === name)
    .map((attachment) => valueAt(attachment, "policyArn"));
  const attachedInline = inputsOfType(resources, "aws:iam/rolePolicy:RolePolicy")
    .filter((policy) => valueAt(policy, "role") === name)
    .map((policy) => valueAt(policy, "name"));
  const managed = listAt(outputs, "managedPolicyArns").filter((arn) => {
    return !attached.includes(arn) && !listAt(inputs, "managedPolicyArns").includes(arn);
  });
  const ofRole = fieldsIn(valueAt(inputs, "inlinePolicies")).map((policy) => valueAt(policy, "name"));
  const inline = fieldsIn(valueAt(outputs, "inlinePolicies")).map((policy) => valueAt(policy, "name"));
  const others = inline.filter((policy) => !attachedInline.includes(policy) && !ofRole.includes(policy));
  return [
    ...managed.map((arn) => `policy ${textOf(arn)}`),
    ...others.map((policy) => `inline policy ${textOf(policy)}`),
  ];
}

/** Returns the inputs of the resources of a type, with the name that the service has chosen where there is none. */
function inputsOfType(resources: PlannedResource[], type: string): Fields[] {
  return resources.flatMap(({ newState }) => {
    if (newState?.type !== type) return [];
    const { name = null } = readFields(newState.outputs);
    return [{ name, ...inputsOf(newState) }];
  });
}

/** What the API server adds to an admission policy: staging/src/k8s.io/api/admissionregistration/v1/types.go in kubernetes/kubernetes. */
const DEFAULTS: Record<string, Value> = { matchPolicy: "Equivalent", scope: "*" };

/** Returns what the spec of an admission policy, or of its binding, has beside the program. */
function specBeside(oldState: State, newState: State): string[] {
  const existing = valueAt(readFields(oldState.outputs), "spec");
  if (existing === undefined) return [];
  const differences = [...differencesBetween(existing, valueAt(inputsOf(newState), "spec"))];
  return differences.flatMap(({ path, one, other }) => {
    const isDefault = isEmpty(one) || one === DEFAULTS[path.at(-1) ?? ""];
    return other === undefined && !isDefault ? [`spec.${path.join(".")}: ${jsonOf(one)}`] : [];
  });
}
