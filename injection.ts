// The admission policies that add to labeled pods what they need to exchange their ID tokens.
//
// The API server evaluates them, without a webhook: https://kubernetes.io/docs/reference/access-authn-authz/mutating-admission-policy/

import {
  MutatingAdmissionPolicy,
  MutatingAdmissionPolicyBinding,
  ValidatingAdmissionPolicy,
  ValidatingAdmissionPolicyBinding,
} from "@pulumi/kubernetes/admissionregistration/v1";
import * as pulumi from "@pulumi/pulumi";
import {
  ENVIRONMENT_SUFFIX,
  SCRIPT_KEY,
  SCRIPT_MODE,
  SCRIPT_PATH,
  SCRIPT_SUFFIX,
  SCRIPT_VOLUME,
  TOKEN_DIRECTORY,
  TOKEN_FILE,
  TOKEN_SECONDS,
  TOKEN_VOLUME,
} from "./tokenExchange";

export interface InjectionArgs {
  /** The service accounts whose pods are changed, and the audience of the ID token that each of them mounts. */
  accounts: { namespace: string; name: string; tokenAudience: pulumi.Input<string> }[];
}

/** A pod with this label and the value "true" is changed when it is created. */
const INJECTION_LABEL = "eks-pulumi-oidc/inject-token";

/** This annotation names the containers that are changed, such as `app, init`; by default, all but the init containers. */
const CONTAINERS_ANNOTATION = "eks-pulumi-oidc/containers";

/**
 * Creates a policy that adds the environment, the script, and the ID token to labeled pods of the service accounts, and
 * a policy that denies labeled pods that lack them afterwards. Requires Kubernetes 1.36 and the right to manage
 * admission policies in the whole cluster. The API server applies a change after about a second.
 *
 * The accounts are part of the policy. With a ConfigMap as the policy's parameter, anyone who can create ConfigMaps could
 * add accounts, and the API server would not see new ones after the last binding was deleted:
 * https://github.com/kubernetes/kubernetes/issues/133827
 *
 * @param name of the four resources. Kubernetes has no namespaces for policies, so Pulumi appends random characters: two
 *   stacks can use the same cluster.
 */
export function createInjection(
  name: string,
  { accounts }: InjectionArgs,
  options?: pulumi.CustomResourceOptions,
): void {
  const policyName = dnsLabel(name);

  const mutating = new MutatingAdmissionPolicy(policyName, { spec: mutation(accounts) }, options);
  const mutatingBinding = new MutatingAdmissionPolicyBinding(
    policyName,
    { spec: { policyName: mutating.metadata.name } },
    options,
  );

  const validating = new ValidatingAdmissionPolicy(
    policyName,
    { spec: validation() },
    // Without the other policy, it would deny every labeled pod.
    { ...options, dependsOn: mutatingBinding },
  );
  new ValidatingAdmissionPolicyBinding(
    policyName,
    { spec: { policyName: validating.metadata.name, validationActions: ["Deny"] } },
    options,
  );
}

const CREATED_PODS = [{ apiGroups: [""], apiVersions: ["v1"], operations: ["CREATE"], resources: ["pods"] }];

// The names that the annotation contains.
const NAMED_CONTAINERS = `object.metadata.?annotations[${celString(CONTAINERS_ANNOTATION)}].orValue('')
.split(',').map(name, name.trim()).filter(name, name != '')`;

const ENVIRONMENT_CONFIG_MAP = `object.spec.serviceAccountName + ${celString(`-${ENVIRONMENT_SUFFIX}`)}`;

const hasEnvironment = (container: string) =>
  `${container}.?envFrom.orValue([]).exists(source, source.?configMapRef.name.orValue('') == variables.environment)`;

function mutation(accounts: InjectionArgs["accounts"]) {
  return {
    failurePolicy: "Fail",
    // Policies run before webhooks, which can add sidecars: those are not changed.
    reinvocationPolicy: "Never",
    matchConstraints: {
      objectSelector: { matchLabels: { [INJECTION_LABEL]: "true" } },
      resourceRules: CREATED_PODS,
    },
    variables: [
      { name: "audiences", expression: audiencesByAccount(accounts) },
      { name: "account", expression: "request.namespace + '/' + object.spec.serviceAccountName" },
      { name: "environment", expression: ENVIRONMENT_CONFIG_MAP },
      { name: "named", expression: NAMED_CONTAINERS },
      { name: "targets", expression: TARGETS },
      { name: "volumes", expression: VOLUMES },
      { name: "mounts", expression: MOUNTS },
      { name: "missingMounts", expression: MISSING_MOUNTS },
      { name: "missingVolumes", expression: MISSING_VOLUMES },
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
  + object.spec.?initContainers.orValue([]).transformList(index, container,
    container.name in variables.named,
    {'path': dyn('/spec/initContainers/' + string(index)), 'container': dyn(container)})
: []`;

const VOLUMES = `[
{'name': dyn(${celString(SCRIPT_VOLUME)}), 'configMap': dyn({
  'name': dyn(object.spec.serviceAccountName + ${celString(`-${SCRIPT_SUFFIX}`)}), 'defaultMode': dyn(${SCRIPT_MODE})})},
{'name': dyn(${celString(TOKEN_VOLUME)}), 'projected': dyn({'sources': [{'serviceAccountToken': {
  'audience': dyn(variables.audiences[variables.account]),
  'expirationSeconds': dyn(${TOKEN_SECONDS}),
  'path': dyn(${celString(TOKEN_FILE)})}}]})}
]`;

const MOUNTS = `[
{'name': dyn(${celString(SCRIPT_VOLUME)}), 'mountPath': dyn(${celString(SCRIPT_PATH)}),
  'subPath': dyn(${celString(SCRIPT_KEY)}), 'readOnly': dyn(true)},
{'name': dyn(${celString(TOKEN_VOLUME)}), 'mountPath': dyn(${celString(TOKEN_DIRECTORY)}), 'readOnly': dyn(true)}
]`;

// What the pod has already takes precedence, by name and by path.
const MISSING_MOUNTS = `variables.targets.map(target,
  variables.mounts.filter(mount, !target.container.?volumeMounts.orValue([])
    .exists(own, own.name == mount.name || own.mountPath == mount.mountPath))
  .map(mount, {'path': dyn(target.path), 'mount': dyn(mount)})
).flatten()`;

const MISSING_VOLUMES = `variables.missingMounts == [] ? [] : variables.volumes.filter(volume,
  variables.missingMounts.exists(missing, missing.mount.name == volume.name)
  && !object.spec.?volumes.orValue([]).exists(own, own.name == volume.name))`;

// JSON Patch adds to the end of a list with "-". The last source of a variable takes precedence, so the environment is the
// first one. Merging (ApplyConfiguration) cannot change envFrom, whose order matters.
const PATCH = `
(variables.missingVolumes == [] || has(object.spec.volumes) ? []
  : [JSONPatch{op: 'add', path: '/spec/volumes', value: []}])
+ variables.missingVolumes
  .map(volume, JSONPatch{op: 'add', path: '/spec/volumes/-', value: volume})
+ variables.targets.filter(target, !has(target.container.volumeMounts))
  .map(target, JSONPatch{op: 'add', path: target.path + '/volumeMounts', value: []})
+ variables.missingMounts
  .map(missing, JSONPatch{op: 'add', path: missing.path + '/volumeMounts/-', value: missing.mount})
+ variables.targets.filter(target, !has(target.container.envFrom))
  .map(target, JSONPatch{op: 'add', path: target.path + '/envFrom', value: []})
+ variables.targets.filter(target, !${hasEnvironment("target.container")})
  .map(target, JSONPatch{op: 'add', path: target.path + '/envFrom/0',
    value: {'configMapRef': {'name': variables.environment}}})`.trim();

// It sees the pod after all changes, of which those of this or another stack's policy are recognized by the environment.
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
      { name: "environment", expression: ENVIRONMENT_CONFIG_MAP },
      { name: "containers", expression: "object.spec.containers + object.spec.?initContainers.orValue([])" },
      { name: "named", expression: NAMED_CONTAINERS },
      {
        name: "unknown",
        expression:
          "variables.named.filter(name, !variables.containers.exists(container, container.name == name))",
      },
    ],
    validations: [
      {
        expression: "variables.value in ['true', 'false']",
        messageExpression: `'The label ${INJECTION_LABEL} is "' + variables.value + '". Set it to "true" or "false".'`,
      },
      {
        expression: "variables.unknown == []",
        // A message must not contain line breaks, which a quoted name does not.
        messageExpression: `'The annotation ${CONTAINERS_ANNOTATION} names containers that the pod does not have: '
+ variables.unknown.map(name, strings.quote(name)).join(', ')
+ '. The pod has '
+ variables.containers.map(container, strings.quote(container.name)).join(', ')
+ '. Correct the annotation, or remove it to change all containers.'`,
      },
      {
        expression: `variables.value != 'true' || variables.containers.exists(container, ${hasEnvironment("container")})`,
        messageExpression: `'No stack of eks-pulumi-oidc provides service account "' + object.spec.serviceAccountName
+ '" in namespace "' + request.namespace
+ '" with a Pulumi token. Correct serviceAccountName, or remove the label ${INJECTION_LABEL}'
+ ', or add {namespace: ' + request.namespace + ', name: ' + object.spec.serviceAccountName
+ '} to serviceAccounts in the configuration of the stack and run pulumi up.'`,
      },
    ],
  };
}

/**
 * Returns a string literal of the Common Expression Language, which knows every escape sequence of JSON:
 * https://github.com/cel-expr/cel-spec/blob/master/doc/langdef.md#string-and-bytes-values
 */
function celString(value: string): string {
  return JSON.stringify(value);
}

/** Returns the name as Kubernetes allows it, since Pulumi's random characters are appended to the resource's own name. */
function dnsLabel(name: string): string {
  return name
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "-")
    .replace(/^-/, "");
}
