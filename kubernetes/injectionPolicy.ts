// The admission policy of `injectToken`, as the API server gets it. Its expressions are in the Common Expression Language:
// https://kubernetes.io/docs/reference/access-authn-authz/mutating-admission-policy/
//
// They repeat names of tokenVolume.ts, so that they can be read as they are. A test compares them.

/** A service account whose pods are changed. */
export interface InjectedAccount {
  namespace: string;
  /** `NAMESPACE/NAME` */
  id: string;
}

/**
 * Returns the spec of the policy, which does not depend on the order of the accounts.
 *
 * @typeParam Text a string, or an output.
 * @param audiences the expression that `audiencesById` returns for the same accounts.
 */
export function policySpec<Text>(accounts: InjectedAccount[], audiences: Text) {
  const namespaces = [...new Set(accounts.map(({ namespace }) => namespace))].sort();
  const ids = accounts.map(({ id }) => celString(id)).sort();
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
      { name: "service-account", expression: isOneOf(ids) },
      { name: "operating-system", expression: NOT_WINDOWS },
      { name: "limits", expression: LIMITS },
    ],
    // Each can use those before it.
    variables: [
      { name: "audiences", expression: audiences },
      { name: "targets", expression: TARGETS },
      { name: "configMap", expression: CONFIG_MAP },
      { name: "audience", expression: AUDIENCE },
      { name: "volume", expression: VOLUME },
      { name: "volumeMount", expression: MOUNT },
      { name: "variable", expression: VARIABLE },
    ],
    mutations: [{ patchType: "JSONPatch", jsonPatch: { expression: PATCH } }],
  };
}

/** The API server rejects a policy with an expression of more code points: the default of cel-go (NewParser in parser/parser.go). */
export const EXPRESSION_LIMIT = 100_000;

/** Returns the number of code points of the longest expression in the policy of these accounts. */
export function longestExpression(accounts: (InjectedAccount & { tokenAudience: string })[]): number {
  const { matchConditions, variables, mutations } = policySpec(accounts, audiencesById(accounts));
  const expressions = [...matchConditions, ...variables, ...mutations.map(({ jsonPatch }) => jsonPatch)];
  return Math.max(...expressions.map(({ expression }) => [...expression].length));
}

/** Returns the spec of the binding, which lets the policy take effect. */
export function bindingSpec<Text>(policyName: Text) {
  return { policyName };
}

/** Returns a map from the ID of each account to the audience of the ID token that its pods mount, in the order of the IDs. */
export function audiencesById(accounts: { id: string; tokenAudience: string }[]): string {
  const entries = accounts.map(({ id, tokenAudience }) => `${celString(id)}: ${celString(tokenAudience)}`);
  return `{
${entries.sort().join(",\n")}
}`;
}

// A mirror pod, which represents a static pod of a node, has no service account.
function isOneOf(ids: string[]): string {
  return `request.namespace + '/' + object.spec.?serviceAccountName.orValue('') in [
${ids.join(",\n")}
]`;
}

// A pod for Windows need not set `os`: a label of the nodes is enough.
const NOT_WINDOWS = `object.spec.?os.?name.orValue('') != 'windows'
&& object.spec.?nodeSelector[?'kubernetes.io/os'].orValue('') != 'windows'`;

// Anyone who can create a pod chooses what the policy compares, and the API server pays for it. A pod that exceeds these limits
// is created as it is.
const LIMITS = `object.spec.containers.size() <= 100
&& object.spec.?volumes.orValue([]).size()
  + object.spec.containers
    .map(container, container.?env.orValue([]).size() + container.?volumeMounts.orValue([]).size())
    .sum()
  <= 2000`;

// The containers to change, with their paths. Init containers stay as they are.
//
// What a pod or a container has already takes precedence, and nothing is added beside it: the Pulumi CLI fails if the variable
// is there, and the script is not. A mount can be at the directory, with or without a slash at the end, or in it.
//
// The mount's directory cannot be created inside a read-only volume, such as a Secret at /var/run/secrets, and the container
// would not start: https://github.com/kubernetes/kubernetes/issues/65835
const TARGETS = `object.spec.?volumes.orValue([]).exists(volume, volume.name == 'pulumi-token-exchange')
? []
: object.spec.containers.transformList(index, container,
    {'path': dyn('/spec/containers/' + string(index)), 'object': dyn(container)})
  .filter(target, !target.object.?env.orValue([])
    .exists(variable, variable.name == 'PULUMI_CREDENTIAL_HELPER'))
  .filter(target, !target.object.?volumeMounts.orValue([])
    .exists(mount, (mount.mountPath + '/').startsWith('/var/run/secrets/pulumi.com/')))
  .filter(target, !target.object.?volumeMounts.orValue([])
    .exists(mount, mount.mountPath in ['/run/secrets', '/run/secrets/', '/var/run/secrets', '/var/run/secrets/']))`;

const CONFIG_MAP = "object.spec.serviceAccountName + '-pulumi-token-exchange'";

const AUDIENCE = "variables.audiences[request.namespace + '/' + object.spec.serviceAccountName]";

// What is added is written as JSON, with `dyn` where the values of a map or of a list have different types.

const VOLUME = `{
  "name": dyn("pulumi-token-exchange"),
  "projected": dyn({
    "defaultMode": dyn(365),
    "sources": dyn([
      dyn({"configMap": {"name": variables.configMap}}),
      dyn({"serviceAccountToken": {
        "audience": dyn(variables.audience),
        "expirationSeconds": dyn(600),
        "path": dyn("token")
      }})
    ])
  })
}`;

const MOUNT = `{
  "name": dyn("pulumi-token-exchange"),
  "mountPath": dyn("/var/run/secrets/pulumi.com"),
  "readOnly": dyn(true)
}`;

const VARIABLE = `{
  "name": "PULUMI_CREDENTIAL_HELPER",
  "value": "/var/run/secrets/pulumi.com/exchange-token.sh"
}`;

// A pod or a container may not have the list yet. "-" is the end of a list.
const PATCH = `(variables.targets == []
  ? []
  : has(object.spec.volumes)
  ? [JSONPatch{op: 'add', path: '/spec/volumes/-', value: variables.volume}]
  : [JSONPatch{op: 'add', path: '/spec/volumes', value: [variables.volume]}])
+ variables.targets.map(target, has(target.object.volumeMounts)
  ? JSONPatch{op: 'add', path: target.path + '/volumeMounts/-', value: variables.volumeMount}
  : JSONPatch{op: 'add', path: target.path + '/volumeMounts', value: [variables.volumeMount]})
+ variables.targets.map(target, has(target.object.env)
  ? JSONPatch{op: 'add', path: target.path + '/env/-', value: variables.variable}
  : JSONPatch{op: 'add', path: target.path + '/env', value: [variables.variable]})`;

/**
 * Returns a string literal of the Common Expression Language, which knows every escape sequence of JSON:
 * https://github.com/cel-expr/cel-spec/blob/master/doc/langdef.md#string-and-bytes-values
 */
function celString(value: string): string {
  return JSON.stringify(value);
}
