// The admission policies that add to labeled pods what they need to exchange their ID tokens.
//
// The API server evaluates them, without a webhook: https://kubernetes.io/docs/reference/access-authn-authz/mutating-admission-policy/

import { createHash } from "node:crypto";
import {
  MutatingAdmissionPolicy,
  MutatingAdmissionPolicyBinding,
  ValidatingAdmissionPolicy,
  ValidatingAdmissionPolicyBinding,
} from "@pulumi/kubernetes/admissionregistration/v1";
import * as pulumi from "@pulumi/pulumi";
import { CONFIG_MAP_SUFFIX, CREDENTIAL_HELPER, tokenVolume, VOLUME_MOUNT } from "./tokenVolume";

export interface InjectionArgs {
  /** The service accounts whose pods are changed, and the audience of the ID token that each of them mounts. */
  accounts: { namespace: string; name: string; tokenAudience: pulumi.Input<string> }[];
}

/** A pod with this label and the value "true" is changed when it is created. */
const INJECTION_LABEL = "eks-pulumi-oidc/inject-token";

/** This annotation names the containers that are changed, such as `app, init`; by default, all but the init containers. */
const CONTAINERS_ANNOTATION = "eks-pulumi-oidc/containers";

// Anyone who can create a pod chooses what the policies compare, and the API server pays for it: 60 KB of annotation took it 34
// seconds. What exceeds these limits is denied, and not compared.
const MAX_CONTAINERS = 100;
const MAX_ELEMENTS = 2000;
const MAX_ANNOTATION_CHARACTERS = 1024;

/**
 * Creates a policy that adds the volume, its mount, and the variable to labeled pods of the service accounts, and a policy
 * that denies labeled pods that lack them afterwards. Requires Kubernetes 1.36 and permission to manage admission policies in
 * the whole cluster. The API server applies a change after about a second.
 *
 * The accounts are part of the policy. With a ConfigMap as the policy's parameter, anyone who can create ConfigMaps could
 * add accounts, and the API server would not see new ones after the last binding was deleted:
 * https://github.com/kubernetes/kubernetes/issues/133827
 *
 * @param name of the four resources. It begins with the name of the component, so that an alias of the component is one of
 *   theirs.
 */
export function createInjection(
  name: string,
  { accounts }: InjectionArgs,
  options?: pulumi.CustomResourceOptions,
): void {
  const metadata = { name: objectName(name) };
  // A renamed component keeps its objects.
  const keepingName = { ...options, ignoreChanges: ["metadata.name"] };

  const mutating = new MutatingAdmissionPolicy(name, { metadata, spec: mutation(accounts) }, keepingName);
  const mutatingBinding = new MutatingAdmissionPolicyBinding(
    name,
    { metadata, spec: { policyName: mutating.metadata.name } },
    keepingName,
  );

  const validating = new ValidatingAdmissionPolicy(
    name,
    { metadata, spec: validation() },
    // Without the other policy, it would deny every labeled pod.
    { ...keepingName, dependsOn: mutatingBinding },
  );
  new ValidatingAdmissionPolicyBinding(
    name,
    { metadata, spec: { policyName: validating.metadata.name, validationActions: ["Deny"] } },
    keepingName,
  );
}

const CREATED_PODS = [{ apiGroups: [""], apiVersions: ["v1"], operations: ["CREATE"], resources: ["pods"] }];

const ANNOTATION = `object.metadata.?annotations[${celString(CONTAINERS_ANNOTATION)}].orValue('')`;

const INIT_CONTAINERS = "object.spec.?initContainers.orValue([])";
const ALL_CONTAINERS = `object.spec.containers + ${INIT_CONTAINERS}`;

const IS_SMALL = `(${ALL_CONTAINERS}).size() <= ${MAX_CONTAINERS}
&& object.spec.?volumes.orValue([]).size() + (${ALL_CONTAINERS})
  .map(container, container.?env.orValue([]).size() + container.?volumeMounts.orValue([]).size())
  .sum() <= ${MAX_ELEMENTS}`;

const HAS_SHORT_ANNOTATION = `${ANNOTATION}.size() <= ${MAX_ANNOTATION_CHARACTERS}`;

// The names that the annotation contains.
const NAMED_CONTAINERS = `${HAS_SHORT_ANNOTATION}
? ${ANNOTATION}.split(',').map(name, name.trim()).filter(name, name != '')
: []`;

const PATHS = [VOLUME_MOUNT.mountPath, `${VOLUME_MOUNT.mountPath}/`];
const isAtPath = `mount.mountPath in [${PATHS.map(celString).join(", ")}]`;

const hasMount = (container: string) => `${container}.?volumeMounts.orValue([]).exists(mount, ${isAtPath})`;

const hasOtherMount = (container: string) =>
  `${container}.?volumeMounts.orValue([]).exists(mount, ${isAtPath} && mount.name != ${celString(VOLUME_MOUNT.name)})`;

const hasVariable = (container: string) =>
  `${container}.?env.orValue([]).exists(variable, variable.name == ${celString(CREDENTIAL_HELPER.name)})`;

function mutation(accounts: InjectionArgs["accounts"]) {
  return {
    failurePolicy: "Fail",
    // Policies run before webhooks, which can add sidecars: those are not changed.
    reinvocationPolicy: "Never",
    matchConstraints: {
      objectSelector: { matchLabels: { [INJECTION_LABEL]: "true" } },
      resourceRules: CREATED_PODS,
    },
    // The other policy denies the pods that exceed them.
    matchConditions: [{ name: "limits", expression: `${IS_SMALL} && ${HAS_SHORT_ANNOTATION}` }],
    variables: [
      { name: "audiences", expression: audiencesByAccount(accounts) },
      { name: "account", expression: "request.namespace + '/' + object.spec.serviceAccountName" },
      { name: "named", expression: NAMED_CONTAINERS },
      { name: "targets", expression: TARGETS },
      { name: "lacksVolume", expression: LACKS_VOLUME },
    ],
    mutations: [{ patchType: "JSONPatch", jsonPatch: { expression: PATCH } }],
  };
}

/** Returns a map from `NAMESPACE/NAME` to the audience of the ID token, in an order that does not depend on the list's. */
function audiencesByAccount(accounts: InjectionArgs["accounts"]): pulumi.Output<string> {
  const expressions = accounts.map(({ namespace, name, tokenAudience }) => {
    return pulumi.output(tokenAudience).apply((audience) => {
      return `${celString(`${namespace}/${name}`)}: ${celString(audience)}`;
    });
  });
  return pulumi.all(expressions).apply((entries) => `{\n${entries.sort().join(",\n")}\n}`);
}

// The containers to change, with their paths: none for a service account of another stack.
const TARGETS = `variables.account in variables.audiences
? object.spec.containers.transformList(index, container,
    variables.named == [] || container.name in variables.named,
    {'path': dyn('/spec/containers/' + string(index)), 'container': dyn(container)})
  + ${INIT_CONTAINERS}.transformList(index, container,
    container.name in variables.named,
    {'path': dyn('/spec/initContainers/' + string(index)), 'container': dyn(container)})
: []`;

// What the pod has already takes precedence.
const LACKS_VOLUME = `variables.targets.exists(target, !${hasMount("target.container")})
&& !object.spec.?volumes.orValue([]).exists(volume, volume.name == ${celString(VOLUME_MOUNT.name)})`;

/** An expression of the Common Expression Language, in an object whose other strings are literals. */
class Expression {
  constructor(readonly text: string) {}
}

const VOLUME = cel(
  tokenVolume(
    new Expression(`object.spec.serviceAccountName + ${celString(CONFIG_MAP_SUFFIX)}`),
    new Expression("variables.audiences[variables.account]"),
  ),
);

// JSON Patch adds to the end of a list with "-".
const PATCH = `
(variables.lacksVolume && !has(object.spec.volumes)
  ? [JSONPatch{op: 'add', path: '/spec/volumes', value: []}] : [])
+ (variables.lacksVolume
  ? [JSONPatch{op: 'add', path: '/spec/volumes/-', value: ${VOLUME}}] : [])
+ variables.targets.filter(target, !has(target.container.volumeMounts))
  .map(target, JSONPatch{op: 'add', path: target.path + '/volumeMounts', value: []})
+ variables.targets.filter(target, !${hasMount("target.container")})
  .map(target, JSONPatch{op: 'add', path: target.path + '/volumeMounts/-', value: ${cel(VOLUME_MOUNT)}})
+ variables.targets.filter(target, !has(target.container.env))
  .map(target, JSONPatch{op: 'add', path: target.path + '/env', value: []})
+ variables.targets.filter(target, !${hasVariable("target.container")})
  .map(target, JSONPatch{op: 'add', path: target.path + '/env/-', value: ${cel(CREDENTIAL_HELPER)}})`.trim();

// It sees the pod after all changes, of which those of this or another stack's policy are recognized by the mount.
// Kubernetes shows the first message that applies.
function validation() {
  return {
    failurePolicy: "Fail",
    matchConstraints: {
      objectSelector: { matchExpressions: [{ key: INJECTION_LABEL, operator: "Exists" }] },
      resourceRules: CREATED_PODS,
    },
    variables: [
      { name: "value", expression: `object.metadata.labels[${celString(INJECTION_LABEL)}]` },
      { name: "containers", expression: `${IS_SMALL} ? ${ALL_CONTAINERS} : []` },
      { name: "names", expression: "variables.containers.map(container, container.name)" },
      { name: "named", expression: NAMED_CONTAINERS },
      {
        name: "unknown",
        expression: "variables.named.filter(name, !(name in variables.names))",
      },
      {
        name: "others",
        expression: `variables.containers.filter(container, ${hasOtherMount("container")})`,
      },
    ],
    validations: [
      {
        expression: "variables.value in ['true', 'false']",
        messageExpression: `'The label ${INJECTION_LABEL} is "' + variables.value + '". Set it to "true" or "false".'`,
      },
      {
        expression: IS_SMALL,
        message: `The pod has more than ${MAX_CONTAINERS} containers, or more than ${MAX_ELEMENTS} volumes, mounts, and variables. Remove the label ${INJECTION_LABEL}.`,
      },
      {
        expression: HAS_SHORT_ANNOTATION,
        message: `The annotation ${CONTAINERS_ANNOTATION} has more than ${MAX_ANNOTATION_CHARACTERS} characters. Shorten it, or remove it to change all containers.`,
      },
      {
        expression: "variables.unknown == []",
        // A message must not contain line breaks, which a quoted name does not.
        messageExpression: `'The annotation ${CONTAINERS_ANNOTATION} names containers that the pod does not have: '
+ variables.unknown.map(name, strings.quote(name)).join(', ')
+ '. The pod has '
+ variables.names.map(name, strings.quote(name)).join(', ')
+ '. Correct the annotation, or remove it to change all containers.'`,
      },
      {
        expression: "variables.value != 'true' || variables.others == []",
        messageExpression: `'These containers mount another volume than ${VOLUME_MOUNT.name} at ${VOLUME_MOUNT.mountPath}: '
+ variables.others.map(container, strings.quote(container.name)).join(', ')
+ '. Mount it elsewhere, or remove the label ${INJECTION_LABEL}.'`,
      },
      {
        expression: `variables.value != 'true' || variables.containers.exists(container, ${hasMount("container")})`,
        messageExpression: `'No stack of eks-pulumi-oidc provides service account "' + object.spec.serviceAccountName
+ '" in namespace "' + request.namespace
+ '" with a Pulumi token. Correct serviceAccountName, or remove the label ${INJECTION_LABEL}'
+ ', or add {namespace: ' + request.namespace + ', name: ' + object.spec.serviceAccountName
+ '} to serviceAccounts in the configuration of the stack and run pulumi up.'`,
      },
    ],
  };
}

/** Returns an object as an expression. Its lists and maps have values of any type, which `dyn` says. */
function cel(value: unknown): string {
  if (value instanceof Expression) return value.text;
  if (Array.isArray(value)) return `[${value.map((element) => `dyn(${cel(element)})`).join(", ")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const entries = Object.entries(value).map(([key, element]) => `${celString(key)}: dyn(${cel(element)})`);
  return `{${entries.join(", ")}}`;
}

/**
 * Returns a string literal of the Common Expression Language, which knows every escape sequence of JSON:
 * https://github.com/cel-expr/cel-spec/blob/master/doc/langdef.md#string-and-bytes-values
 */
function celString(value: string): string {
  return JSON.stringify(value);
}

/**
 * Returns the name of the objects of a resource. Policies are in no namespace, so the name differs for each stack and
 * component that uses the cluster. Pulumi's own names, with random characters, would contain what Kubernetes rejects in a
 * name, such as uppercase letters.
 */
function objectName(resourceName: string): string {
  const owner = [pulumi.getOrganization(), pulumi.getProject(), pulumi.getStack(), resourceName];
  const readable = resourceName
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "-")
    .replace(/^-/, "");
  const distinct = createHash("sha256").update(owner.join("/")).digest("hex").slice(0, 8);
  return `${readable}-${distinct}`;
}
