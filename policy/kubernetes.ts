// The rules about Kubernetes: whose objects they are, what the pods of a service account run and request, and who else can be them.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { sha256 } from "../kubernetes/checksum";
import { bindingSpec, policySpec } from "../kubernetes/injectionPolicy";
import { jobPod, type PodSpec } from "../kubernetes/jobPod";
import { CONFIG_MAP_SUFFIX, SCRIPT_FILE, VOLUME_NAME } from "../kubernetes/tokenVolume";
import { type Account, type Component, idOf, type Resource, type Settings } from "./program";
import { compare, type ResourceRule, type StackRule } from "./rule";
import {
  at,
  type Fields,
  fieldsOf,
  isUnknown,
  listOf,
  stringsOf,
  textOf,
  UNKNOWN,
  type Value,
} from "./values";

export const NAMESPACE = "kubernetes:core/v1:Namespace";
export const SERVICE_ACCOUNT = "kubernetes:core/v1:ServiceAccount";
export const CONFIG_MAP = "kubernetes:core/v1:ConfigMap";
export const JOB = "kubernetes:batch/v1:Job";
export const ADMISSION_POLICY = "kubernetes:admissionregistration.k8s.io/v1:MutatingAdmissionPolicy";
export const ADMISSION_BINDING = `${ADMISSION_POLICY}Binding`;

/** The annotation by which the EKS webhook gives pods a role. */
export const ROLE_ANNOTATION = "eks.amazonaws.com/role-arn";

/** Annotations by which AWS, Google Cloud, and Azure give pods an identity. */
export const IDENTITY_ANNOTATION = /^(eks\.amazonaws\.com|iam\.gke\.io|azure\.workload\.identity)\//;

const HIDING = { hidesAdded: true };

const SCRIPT = readFileSync(join(__dirname, "..", "scripts", SCRIPT_FILE), "utf8");

export const ownObjects: ResourceRule = {
  name: "own-objects",
  description:
    "What a component creates for a service account is used by no other, and gives its pods no identity but its role.",
  level: "mandatory",
  checkResource({ type, inputs, settings, account, ownName }, report) {
    if (!settings || !type.startsWith("kubernetes:")) return;
    if (type === NAMESPACE) compare(report, "Its name", at(inputs, "metadata", "name"), ownName);
    if (!account) return;

    const names: Record<string, string> = {
      [SERVICE_ACCOUNT]: account.name,
      [CONFIG_MAP]: `${account.name}${CONFIG_MAP_SUFFIX}`,
    };
    const expected = names[type];
    compare(report, "Its namespace", at(inputs, "metadata", "namespace"), account.namespace);
    if (expected) compare(report, "Its name", at(inputs, "metadata", "name"), expected);
    if (type === SERVICE_ACCOUNT) {
      compare(report, "automountServiceAccountToken", inputs.automountServiceAccountToken, false);
    }

    const allowed = type === SERVICE_ACCOUNT && account.awsRole === "irsa" ? [ROLE_ANNOTATION] : [];
    const annotations = at(inputs, "metadata", "annotations");
    if (isUnknown(annotations)) report("Its annotations are known after the update, and can be an identity.");
    for (const name of Object.keys(fieldsOf(annotations))) {
      if (!IDENTITY_ANNOTATION.test(name) || allowed.includes(name)) continue;
      report(`The annotation ${name} gives the pods of ${idOf(account)} another identity.`);
    }
  },
};

export const request: ResourceRule = {
  name: "exchange-request",
  description: "Workloads run this version's exchange script, and request what their settings say.",
  level: "mandatory",
  checkResource({ type, inputs, settings, account }, report) {
    if (type !== CONFIG_MAP || !settings || !account) return;
    const { [SCRIPT_FILE]: script, ...files } = fieldsOf(inputs.data);
    if (script !== SCRIPT) {
      const found = typeof script === "string" && !isUnknown(script) ? sha256(script) : textOf(script);
      report(`${idOf(account)} runs another ${SCRIPT_FILE}: SHA-256 ${found} instead of ${sha256(SCRIPT)}.`);
    }
    compare(report, `The request of ${idOf(account)}`, files, requestOf(settings, account), HIDING);
    compare(report, `The request of ${idOf(account)}: binaryData`, inputs.binaryData, undefined, HIDING);
  },
};

/** What a workload requests, as the files of its ConfigMap: https://www.pulumi.com/docs/reference/cloud-rest-api/oauth-token-exchange/ */
function requestOf({ organization, pulumiApiUrl }: Settings, account: Account): Fields {
  return {
    organization,
    tokenType: account.tokenType,
    tokenScope: scopeOf(account),
    tokenExpirationSeconds: `${account.tokenExpirationSeconds}`,
    apiUrl: pulumiApiUrl,
  };
}

function scopeOf(account: Account): string {
  switch (account.tokenType) {
    case "personal":
      return `user:${account.userLogin}`;
    case "team":
      return `team:${account.teamName}`;
    case "runner":
      return `runner:${account.runnerName}`;
    case "organization":
      return account.organizationAdmin ? "admin" : "";
  }
}

/** https://www.pulumi.com/registry/packages/kubernetes/installation-configuration/#pulumi-kubernetes-annotations */
const SKIP_AWAIT = "pulumi.com/skipAwait";

export const job: ResourceRule = {
  name: "job",
  description: "A Job runs the exchange script and its entry's command, in this version's pod.",
  level: "mandatory",
  checkResource({ type, inputs, settings, account }, report) {
    if (type !== JOB || !settings || !account) return;
    const found = at(inputs, "spec", "template", "spec");
    const configMap = `${account.name}${CONFIG_MAP_SUFFIX}`;
    const pod = jobPod({
      serviceAccountName: account.name,
      configMap: isUnknown(configMapIn(found)) ? UNKNOWN : configMap,
      tokenAudience: account.tokenAudience,
      image: settings.image,
      command: account.command,
      podSpec: settings.jobPodSpec,
    });
    compare(report, `The pod of the Job of ${idOf(account)}`, found, plain(pod), HIDING);
    const what = `The Job of ${idOf(account)}`;
    // With these, the update does not wait for the exchange.
    compare(report, `${what}: suspend`, at(inputs, "spec", "suspend"), undefined);
    compare(report, `${what}: ${SKIP_AWAIT}`, at(inputs, "metadata", "annotations", SKIP_AWAIT), undefined);
  },
};

/** Returns the name of the ConfigMap that a pod mounts. It is an output, and known when the Job is created. */
function configMapIn(pod: Value | undefined): Value | undefined {
  const volume = listOf(at(pod, "volumes")).find((it) => at(it, "name") === VOLUME_NAME);
  return at(listOf(at(volume, "projected", "sources"))[0], "configMap", "name");
}

/** Returns an object whose arguments were plain values, which is plain too. */
function plain(spec: PodSpec | object): Fields {
  return JSON.parse(JSON.stringify(spec));
}

export const injection: ResourceRule = {
  name: "injection",
  description:
    "The admission policy adds what this version does, and only to pods of service accounts with injectToken.",
  level: "mandatory",
  checkResource({ type, inputs, settings }, report) {
    if (!settings) return;
    if (type === ADMISSION_POLICY) {
      compare(report, "The admission policy", inputs.spec, admissionPolicy(settings), HIDING);
    }
    if (type === ADMISSION_BINDING) {
      // The name is an output of the policy.
      const name = at(inputs, "spec", "policyName") ?? "";
      compare(report, "The binding", inputs.spec, plain(bindingSpec(name)), HIDING);
      const { name: own } = fieldsOf(inputs.metadata);
      if (!isUnknown(name)) compare(report, "The binding: policyName", name, own);
    }
  },
};

/** What an admission policy compares with a list of `NAMESPACE/NAME`. */
const POD_ACCOUNT = "request.namespace + '/' + object.spec.?serviceAccountName.orValue('')";

/**
 * The spec of the admission policy: which pods it changes, and the audience of the ID token that it adds to them. The rest of it is
 * that of this version: https://kubernetes.io/docs/reference/access-authn-authz/mutating-admission-policy/
 */
function admissionPolicy({ serviceAccounts }: Settings): Fields {
  const injected = serviceAccounts.filter(({ injectToken }) => injectToken);
  const namespaces = [...new Set(injected.map(({ namespace }) => namespace))].sort();
  const ids = injected.map((it) => JSON.stringify(idOf(it))).sort();
  const audiences = injected.map((it) => `${JSON.stringify(idOf(it))}: ${JSON.stringify(it.tokenAudience)}`);
  const isInjected = `${POD_ACCOUNT} in [\n${ids.join(",\n")}\n]`;
  const spec = plain(policySpec([], ""));
  return {
    ...spec,
    matchConstraints: {
      namespaceSelector: {
        matchExpressions: [{ key: "kubernetes.io/metadata.name", operator: "In", values: namespaces }],
      },
      resourceRules: [{ apiGroups: [""], apiVersions: ["v1"], operations: ["CREATE"], resources: ["pods"] }],
    },
    matchConditions: withExpression(spec.matchConditions, "service-account", isInjected),
    variables: withExpression(spec.variables, "audiences", `{\n${audiences.sort().join(",\n")}\n}`),
  };
}

/** Returns a list of named expressions, of which one is this. */
function withExpression(list: Value | undefined, name: string, expression: string): Value[] {
  return listOf(list).map((it) => (at(it, "name") === name ? { name, expression } : it));
}

/** What lets someone act as the pods of a service account: create or change them, run commands in them, or get their identity. */
const REACHING: { verbs: string[]; resources: string[] }[] = [
  {
    verbs: ["create", "update", "patch", "*"],
    resources: [
      ...[
        "pods",
        "replicationcontrollers",
        "deployments",
        "daemonsets",
        "statefulsets",
        "replicasets",
        "jobs",
        "cronjobs",
      ],
      // Pods run the exchange script from one.
      "configmaps",
      "*",
    ],
  },
  {
    verbs: ["create", "get", "update", "patch", "*"],
    resources: ["pods/exec", "pods/attach", "pods/ephemeralcontainers", "pods/*", "*/*"],
  },
  { verbs: ["create", "*"], resources: ["serviceaccounts/token", "serviceaccounts/*"] },
  { verbs: ["impersonate", "*"], resources: ["serviceaccounts", "users", "groups"] },
];

/** Roles of every cluster that contain one of them: https://kubernetes.io/docs/reference/access-authn-authz/rbac/#user-facing-roles */
const REACHING_ROLES = ["cluster-admin", "admin", "edit"];

export const rbac: StackRule = {
  name: "rbac",
  description: "The program's RBAC lets no one create, enter, or impersonate a service account's pods.",
  level: "advisory",
  // Where the service accounts are is known once all components are.
  checkStack({ resources, components }, report) {
    for (const resource of resources) {
      const [, kind] = /^kubernetes:rbac\.authorization\.k8s\.io\/\w+:(\w+)$/.exec(resource.type) ?? [];
      if (kind === undefined || !reaches(resource, components)) continue;
      for (const rule of listOf(resource.inputs.rules)) {
        const [verbs, names] = [stringsOf(at(rule, "verbs")), stringsOf(at(rule, "resources"))];
        const found = REACHING.flatMap((it) => {
          return verbs.some((verb) => it.verbs.includes(verb))
            ? names.filter((name) => it.resources.includes(name))
            : [];
        });
        if (found.length > 0)
          report(`It allows ${verbs.join(", ")} of ${[...new Set(found)].join(", ")}.`, resource);
      }
      const role = at(resource.inputs, "roleRef", "name");
      if (REACHING_ROLES.some((it) => it === role)) {
        const subjects = listOf(resource.inputs.subjects).map(subjectOf);
        report(`It binds the ClusterRole ${textOf(role)} to ${subjects.join(", ")}.`, resource);
      }
    }
  },
};

function subjectOf(subject: Value): string {
  const { kind, namespace, name } = fieldsOf(subject);
  return [kind, namespace, name]
    .filter((it) => it !== undefined)
    .map(textOf)
    .join(" ");
}

/** Returns whether a role or a binding is for the namespace of a service account. */
function reaches({ type, inputs }: Resource, components: Component[]): boolean {
  const namespaces = components
    .flatMap(({ settings }) => settings?.serviceAccounts ?? [])
    .map((it) => it.namespace);
  if (/:ClusterRole(Binding)?$/.test(type)) return namespaces.length > 0;
  const namespace = at(inputs, "metadata", "namespace") ?? "default";
  return isUnknown(namespace) || namespaces.some((it) => it === namespace);
}
