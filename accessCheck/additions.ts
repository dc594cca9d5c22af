// What someone has added to a resource of the component, and a preview does not call a difference: it is in what a refresh has read.

import { IDENTITY_ANNOTATION, ROLE, SERVICE_ACCOUNT } from "./components";
import type { PlannedResource } from "./plan";
import { fieldsAt, fieldsIn, isEqual, isOpaque, readFields, textOf, type Value, valueAt } from "./values";

/** What exists beyond the program. A sentence for each. */
export interface Additions {
  /** What the program does not say. */
  found: string[];
  /** What it does not have to say, but a reader should know. */
  notes: string[];
}

/**
 * Returns what was added to the resources of a component. Each key of a ConfigMap becomes a file in pods, and an annotation of a
 * service account can give its pods a role.
 *
 * @param resources as `pulumi preview --refresh` has them.
 */
export function additionsTo(resources: PlannedResource[]): Additions {
  const accounts = resources.filter(({ type }) => type === SERVICE_ACCOUNT);
  // An existing one is its owner's, who annotates it.
  const [existing, own] = [accounts.filter(isRead), accounts.filter((it) => !isRead(it))];
  return {
    found: [
      ...resources.filter(({ type }) => type === CONFIG_MAP).flatMap(addedKeys),
      ...own.flatMap(addedAnnotations),
    ],
    notes: [
      ...resources.filter(({ type }) => type === ROLE).flatMap((it) => addedPolicies(it, resources)),
      ...existing.flatMap(addedAnnotations),
    ],
  };
}

const CONFIG_MAP = "kubernetes:core/v1:ConfigMap";
const ATTACHMENT = "aws:iam/rolePolicyAttachment:RolePolicyAttachment";

function isRead({ op }: PlannedResource): boolean {
  return op.startsWith("read");
}

function addedKeys(resource: PlannedResource): string[] {
  const keys = [...addedTo(resource, "data"), ...addedTo(resource, "binaryData")];
  return keys.map(([key]) => `${titleOf(resource)}: it has the key ${key}, which becomes a file in pods.`);
}

/** Returns the annotations that give the pods of a service account a role. */
function addedAnnotations(resource: PlannedResource): string[] {
  const added = addedTo(resource, "metadata", "annotations").filter(([key]) => IDENTITY_ANNOTATION.test(key));
  return added.map(([key, value]) => `${titleOf(resource)}: it has the annotation ${key}: ${textOf(value)}.`);
}

/** Returns what exists at a path of an object, and the component does not say. What it only reads, it does not say. */
function addedTo(resource: PlannedResource, ...path: string[]): [string, Value][] {
  const { deployed, planned } = resource;
  const existing = valueAt(readFields(deployed?.outputs), ...path);
  if (isOpaque(existing)) throw new Error(`${titleOf(resource)}: ${path.join(".")} is secret.`);
  const said = isRead(resource) ? {} : fieldsAt(readFields(planned?.inputs), ...path);
  return Object.entries(fieldsAt(existing)).filter(([key]) => !Object.hasOwn(said, key));
}

/** Returns the policies of a role that the component does not attach, such as those that the rest of the program attaches. */
function addedPolicies({ deployed }: PlannedResource, resources: PlannedResource[]): string[] {
  const outputs = readFields(deployed?.outputs);
  const role = valueAt(outputs, "name");
  const attachments = resources
    .filter(({ type }) => type === ATTACHMENT)
    .map(({ planned }) => readFields(planned?.inputs))
    .filter((attachment) => isEqual(valueAt(attachment, "role"), role));
  const attached = attachments.map((attachment) => valueAt(attachment, "policyArn"));
  const managed = valueAt(outputs, "managedPolicyArns");
  const others = Array.isArray(managed) ? managed.filter((arn) => !attached.includes(arn)) : [];
  const inline = fieldsIn(valueAt(outputs, "inlinePolicies")).map((policy) => valueAt(policy, "name"));
  return [...others, ...inline].map((policy) => {
    return `Role ${textOf(role)}: it has the policy ${textOf(policy)}, which is not in rolePolicyArns.`;
  });
}

/** Returns the kind of an object of Kubernetes, and its `NAMESPACE/NAME`. */
function titleOf({ type, deployed }: PlannedResource): string {
  return `${type.split(":").at(-1)} ${deployed?.id}`;
}
