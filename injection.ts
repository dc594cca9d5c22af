// The admission policy that adds to the pods of some service accounts what they need to exchange their ID tokens.
//
// The API server evaluates it, without a webhook: https://kubernetes.io/docs/reference/access-authn-authz/mutating-admission-policy/

import { createHash } from "node:crypto";
import {
  MutatingAdmissionPolicy,
  MutatingAdmissionPolicyBinding,
} from "@pulumi/kubernetes/admissionregistration/v1";
import * as pulumi from "@pulumi/pulumi";
import { idOf } from "./settings/account";
import {
  CONFIG_MAP_SUFFIX,
  CREDENTIAL_HELPER,
  DIRECTORY,
  tokenVolume,
  VOLUME_MOUNT,
  VOLUME_NAME,
} from "./tokenVolume";

export interface InjectionArgs {
  /** The service accounts whose pods are changed, and the audience of the ID token that each of them mounts. */
  accounts: { namespace: string; name: string; tokenAudience: pulumi.Input<string> }[];
}

/** This annotation names the containers that are changed, such as `app, init`; by default, all but the init containers. */
const CONTAINERS_ANNOTATION = "eks-pulumi-oidc/containers";

// Anyone who can create a pod chooses what the policy compares, and the API server pays for it: 60 KB of annotation took it 34
// seconds. A pod that exceeds these limits is created as it is.
const MAX_CONTAINERS = 100;
const MAX_ELEMENTS = 2000;
const MAX_ANNOTATION_CHARACTERS = 1024;

/**
 * Creates a policy that adds the volume, its mount, and the variable to the pods of the service accounts when they are created.
 * Requires Kubernetes 1.36 and permission to manage admission policies in the whole cluster. The API server applies a change
 * after about a second.
 *
 * The accounts are part of the policy. With a ConfigMap as the policy's parameter, anyone who can create ConfigMaps could
 * add accounts, and the API server would not see new ones after the last binding was deleted:
 * https://github.com/kubernetes/kubernetes/issues/133827
 *
 * @param name of both resources. It begins with the name of the component, so that an alias of the component is one of
 *   theirs.
 * @param options `dependsOn` what must succeed before a pod is changed: the exchange takes precedence over a token that the
 *   pod has already.
 */
export function createInjection(
  name: string,
  { accounts }: InjectionArgs,
  options?: pulumi.CustomResourceOptions,
): void {
  const metadata = { name: objectName(name) };
  // A renamed component keeps its objects.
  const keepingName = { ...options, ignoreChanges: ["metadata.name"] };

  const policy = new MutatingAdmissionPolicy(name, { metadata, spec: policySpec(accounts) }, keepingName);
  new MutatingAdmissionPolicyBinding(
    name,
    { metadata, spec: { policyName: policy.metadata.name } },
    keepingName,
  );
}

function policySpec(accounts: InjectionArgs["accounts"]) {
  const namespaces = [...new Set(accounts.map(({ namespace }) => namespace))].sort();
  return {
    // What fails here must not stop a pod, which may have nothing to do with the exchange: it is created as it is.
    failurePolicy: "Ignore",
    // Policies run before webhooks, which can add sidecars: those are not changed.
    reinvocationPolicy: "Never",
    matchConstraints: {
      // Nothing is compared in other namespaces.
      namespaceSelector: {
        matchExpressions: [{ key: "kubernetes.io/metadata.name", operator: "In", values: namespaces }],
      },
      resourceRules: [{ apiGroups: [""], apiVersions: ["v1"], operations: ["CREATE"], resources: ["pods"] }],
    },
    matchConditions: [
      { name: "service-account", expression: isOneOf(accounts) },
      { name: "operating-system", expression: "object.spec.?os.?name.orValue('') != 'windows'" },
      { name: "limits", expression: LIMITS },
    ],
    variables: [
      { name: "audiences", expression: audiencesByAccount(accounts) },
      { name: "containerNames", expression: `${ALL_CONTAINERS}.map(container, container.name)` },
      { name: "named", expression: NAMED_CONTAINERS },
      { name: "targets", expression: TARGETS },
    ],
    mutations: [{ patchType: "JSONPatch", jsonPatch: { expression: PATCH } }],
  };
}

// A mirror pod, which represents a static pod of a node, has no service account.
const ACCOUNT = "request.namespace + '/' + object.spec.?serviceAccountName.orValue('')";

function isOneOf(accounts: InjectionArgs["accounts"]): string {
  return `${ACCOUNT} in [\n${accounts
    .map((account) => celString(idOf(account)))
    .sort()
    .join(",\n")}\n]`;
}

/** Returns a map from `NAMESPACE/NAME` to the audience of the ID token, in an order that does not depend on the list's. */
function audiencesByAccount(accounts: InjectionArgs["accounts"]): pulumi.Output<string> {
  const expressions = accounts.map((account) => {
    return pulumi.output(account.tokenAudience).apply((audience) => {
      return `${celString(idOf(account))}: ${celString(audience)}`;
    });
  });
  return pulumi.all(expressions).apply((entries) => `{\n${entries.sort().join(",\n")}\n}`);
}

const ANNOTATION = `object.metadata.?annotations[${celString(CONTAINERS_ANNOTATION)}].orValue('')`;

const VOLUMES = "object.spec.?volumes.orValue([])";
const INIT_CONTAINERS = "object.spec.?initContainers.orValue([])";
const ALL_CONTAINERS = `(object.spec.containers + ${INIT_CONTAINERS})`;

const LIMITS = `${ANNOTATION}.size() <= ${MAX_ANNOTATION_CHARACTERS}
&& ${ALL_CONTAINERS}.size() <= ${MAX_CONTAINERS}
&& ${VOLUMES}.size() + ${ALL_CONTAINERS}
  .map(container, container.?env.orValue([]).size() + container.?volumeMounts.orValue([]).size())
  .sum() <= ${MAX_ELEMENTS}`;

const NAMED_CONTAINERS = `${ANNOTATION}.split(',').map(name, name.trim()).filter(name, name != '')`;

// What a pod or a container has already takes precedence, and nothing is added beside it: the Pulumi CLI fails if the variable
// is there, and the script is not.

const HAS_VOLUME = `${VOLUMES}.exists(volume, volume.name == ${celString(VOLUME_NAME)})`;

const HAS_VARIABLE = `target.object.?env.orValue([])
  .exists(variable, variable.name == ${celString(CREDENTIAL_HELPER.name)})`;

// At the directory, whether or not the path ends with a slash, or in it.
const HAS_MOUNT = `target.object.?volumeMounts.orValue([])
  .exists(mount, (mount.mountPath + '/').startsWith(${celString(`${DIRECTORY}/`)}))`;

// The containers to change, with their paths: none if the annotation names one that the pod does not have.
const TARGETS = `${HAS_VOLUME} || !variables.named.all(name, name in variables.containerNames)
? []
: (object.spec.containers.transformList(index, container,
    variables.named == [] || container.name in variables.named,
    {'path': dyn('/spec/containers/' + string(index)), 'object': dyn(container)})
  + ${INIT_CONTAINERS}.transformList(index, container,
    container.name in variables.named,
    {'path': dyn('/spec/initContainers/' + string(index)), 'object': dyn(container)}))
  .filter(target, !${HAS_VARIABLE})
  .filter(target, !${HAS_MOUNT})`;

/** An expression of the Common Expression Language, in an object whose other strings are literals. */
class Expression {
  constructor(readonly text: string) {}
}

const VOLUME = tokenVolume(
  new Expression(`object.spec.serviceAccountName + ${celString(CONFIG_MAP_SUFFIX)}`),
  new Expression(`variables.audiences[${ACCOUNT}]`),
);

const PATCH = `(variables.targets == [] ? [] : [{'path': dyn('/spec'), 'object': dyn(object.spec)}])
  .map(target, ${addition("volumes", VOLUME)})
+ variables.targets.map(target, ${addition("volumeMounts", VOLUME_MOUNT)})
+ variables.targets.map(target, ${addition("env", CREDENTIAL_HELPER)})`;

/** Returns the operation that adds an element to a list of `target`, which it may not have yet. "-" is the end of a list. */
function addition(list: string, element: object): string {
  return `has(target.object.${list})
  ? JSONPatch{op: 'add', path: target.path + '/${list}/-', value: ${cel(element)}}
  : JSONPatch{op: 'add', path: target.path + '/${list}', value: [${cel(element)}]}`;
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
