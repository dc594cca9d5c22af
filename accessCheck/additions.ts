// What someone has added to a resource of the component, and a preview does not call a difference: it is in what a refresh has read.

import { IDENTITY_ANNOTATION, ROLE, SERVICE_ACCOUNT } from "./components";
import type { PlannedResource } from "./plan";
import { type Fields, fieldsAt, fieldsIn, isEqual, isOpaque, readFields, textOf, valueAt } from "./values";

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
  const found = resources.flatMap((it) => {
    if (it.type === CONFIG_MAP) return addedKeys(it);
    return it.type === SERVICE_ACCOUNT && it.op !== "read" ? addedAnnotations(it) : [];
  });
  const notes = resources.flatMap((it) => {
    if (it.type === ROLE) return addedPolicies(it, resources);
    return it.type === SERVICE_ACCOUNT && it.op === "read" ? addedAnnotations(it) : [];
  });
  return { found, notes };
}

const CONFIG_MAP = "kubernetes:core/v1:ConfigMap";
const ATTACHMENT = "aws:iam/rolePolicyAttachment:RolePolicyAttachment";

function addedKeys({ deployed, planned }: PlannedResource): string[] {
  const outputs = readFields(deployed?.outputs);
  const [data, binaryData] = [valueAt(outputs, "data"), valueAt(outputs, "binaryData")];
  if (isOpaque(data) || isOpaque(binaryData)) return [`${titleOf(outputs)}: its keys are secret.`];
  const keys = [...Object.keys(fieldsAt(data)), ...Object.keys(fieldsAt(binaryData))];
  const known = Object.keys(fieldsAt(readFields(planned?.inputs), "data"));
  const added = keys.filter((key) => !known.includes(key));
  return added.map((key) => `${titleOf(outputs)}: it has the key ${key}, which becomes a file in pods.`);
}

/** Returns the annotations that give the pods of a service account a role: of one that the component only reads, all of them. */
function addedAnnotations({ op, deployed, planned }: PlannedResource): string[] {
  const outputs = readFields(deployed?.outputs);
  const annotations = valueAt(outputs, "metadata", "annotations");
  if (isOpaque(annotations)) return [`${titleOf(outputs)}: its annotations are secret.`];
  const said = op === "read" ? {} : fieldsAt(readFields(planned?.inputs), "metadata", "annotations");
  const added = Object.entries(fieldsAt(annotations)).filter(([key]) => {
    return IDENTITY_ANNOTATION.test(key) && !Object.hasOwn(said, key);
  });
  return added.map(([key, value]) => `${titleOf(outputs)}: it has the annotation ${key}: ${textOf(value)}.`);
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
function titleOf(outputs: Fields): string {
  const [namespace, name] = ["namespace", "name"].map((key) => textOf(valueAt(outputs, "metadata", key)));
  return `${textOf(valueAt(outputs, "kind"))} ${namespace}/${name}`;
}
