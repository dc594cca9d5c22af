// What a component must have by its settings: all of its resources, as data. A value that depends on a setting that is not known is
// not known either.
//
// What grants something is in grants.ts. What grants nothing by itself is that of this clone: the exchange script, the pod of the
// Job, and what the admission policy adds to pods.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { bindingSpec, policySpec } from "../kubernetes/injectionPolicy";
import { jobPod } from "../kubernetes/jobPod";
import { CONFIG_MAP_SUFFIX, SCRIPT_FILE } from "../kubernetes/tokenVolume";
import {
  type Account,
  ALLOW_POLICY,
  accountId,
  keyOf,
  OIDC_ISSUER,
  outputsOf,
  ROLE,
  SERVICE_ACCOUNT,
  type View,
} from "./components";
import { allowPolicy, association, injection, ROLE_ANNOTATION, request, trustPolicy } from "./grants";
import {
  type Fields,
  fieldsAt,
  fieldsIn,
  isOpaque,
  jsonOf,
  OutputOf,
  textOf,
  type Value,
  valueAt,
} from "./values";

/** The exchange script of this clone. */
export const EXCHANGE_SCRIPT = readFileSync(join(__dirname, "..", "scripts", SCRIPT_FILE), "utf8");

/** A resource that a component must have. */
export interface Expected {
  type: string;
  /** Without the name of the component. */
  name: string;
  /** The service account that it is for; undefined for all of them. */
  account?: Account;
  /** How a sentence about it begins, such as `Its role`. */
  what: string;
  /** How a sentence about one of its inputs begins, if it has words of its own. */
  parts?: Record<string, string>;
  /** All of its inputs. What is empty can be left out. */
  inputs: Fields;
  /** The inputs that its provider can add. */
  added?: Fields;
  /** Whether it decides who is granted something. */
  isGrant: boolean;
}

/** Returns all resources that a component must have by its settings. */
export function* expectedOf(view: View): Generator<Expected> {
  yield* ofComponent(view);
  for (const account of view.accounts) yield* ofAccount(view, account);
  yield* ofInjection(view);
}

function* ofComponent({ settings, resources }: View): Generator<Expected> {
  const setting = (name: string) => valueAt(settings, name) ?? null;
  const stash = { type: "pulumi:index:Stash", what: "The place where the component stays", isGrant: false };
  const place = { organization: setting("organization"), issuerUrl: setting("issuerUrl") };
  yield { ...stash, name: "oidc-issuer.url", inputs: { input: setting("pulumiApiUrl") } };
  yield { ...stash, name: "oidc-issuer.place", inputs: { input: place } };

  // The program can pass its own.
  const provider = { type: "pulumi:providers:pulumiservice", name: "oidc-issuer" };
  const found = resources.get(keyOf(provider));
  if (found) {
    yield {
      ...provider,
      what: "The provider of Pulumi Cloud",
      inputs: { apiUrl: setting("pulumiApiUrl") },
      // That of the SDK.
      added: { version: valueAt(found.inputs, "version") ?? null },
      isGrant: true,
    };
  }

  const namespaces = setting("createNamespaces");
  for (const name of Array.isArray(namespaces) ? namespaces.map(textOf) : []) {
    yield {
      type: "kubernetes:core/v1:Namespace",
      name,
      what: `Namespace ${name}`,
      inputs: {
        apiVersion: "v1",
        kind: "Namespace",
        metadata: { name, labels: { "pod-security.kubernetes.io/enforce": "restricted" } },
      },
      isGrant: false,
    };
  }

  yield {
    type: OIDC_ISSUER,
    name: "oidc-issuer",
    what: "The OIDC issuer",
    inputs: {
      organization: setting("organization"),
      name: setting("issuerName"),
      url: setting("issuerUrl"),
      maxExpirationSeconds: setting("maxExpirationSeconds"),
    },
    isGrant: true,
  };
}

function* ofAccount(view: View, account: Account): Generator<Expected> {
  const { settings: component, resources } = view;
  const { namespace, name, settings } = account;
  const own = `${namespace}.${name}`;
  const role = resources.get(keyOf({ type: ROLE, name: own }));
  const ofRole = (output: string) => {
    return valueAt(outputsOf(role), output) ?? new OutputOf(role?.state.urn ?? "");
  };
  yield {
    type: "eks-pulumi-oidc:index:WorkloadIdentity",
    name: own,
    account,
    what: "Its component",
    inputs: {},
    isGrant: false,
  };
  yield {
    type: ALLOW_POLICY,
    name: accountId(account),
    account,
    what: "Its allow policy",
    inputs: allowPolicy(account),
    // An empty list reads back as none.
    added: { authorizedPermissions: [] },
    isGrant: true,
  };

  const policy = trustPolicy(component, account);
  if (policy !== undefined) yield* roleOf(component, account, policy, ofRole("name"));
  if (valueAt(settings, "awsRole") === "pod-identity") {
    yield {
      type: "aws:eks/podIdentityAssociation:PodIdentityAssociation",
      name: own,
      account,
      what: "Its association with the role",
      inputs: association(component, account, ofRole("arn")),
      added: { disableSessionTags: false },
      isGrant: true,
    };
  }
  if (valueAt(settings, "createServiceAccount") !== false) {
    const isAnnotated = valueAt(settings, "awsRole") === "irsa";
    yield {
      type: SERVICE_ACCOUNT,
      name: own,
      account,
      what: "Its service account",
      inputs: {
        apiVersion: "v1",
        kind: "ServiceAccount",
        metadata: { namespace, name, annotations: isAnnotated ? { [ROLE_ANNOTATION]: ofRole("arn") } : {} },
        automountServiceAccountToken: false,
      },
      isGrant: true,
    };
  }
  yield* exchangeOf(view, account);
}

/** The role, with its policies. The AWS provider fills in the default for how long a session lasts. */
function* roleOf(component: Fields, account: Account, policy: Value, roleName: Value): Generator<Expected> {
  const { id, namespace, name, settings } = account;
  const own = `${namespace}.${name}`;
  yield {
    type: ROLE,
    name: own,
    account,
    what: "Its role",
    parts: { assumeRolePolicy: "Its trust policy", permissionsBoundary: "Its permissions boundary" },
    inputs: {
      // The provider adds 26 characters to it, and a name has at most 64.
      namePrefix: `${`pulumi-oidc-${namespace}-${name}`.slice(0, 37)}-`,
      path: valueAt(component, "rolePath") ?? null,
      description: `Role of the Kubernetes service account ${id}`,
      assumeRolePolicy: policy,
      permissionsBoundary: valueAt(component, "permissionsBoundaryArn") ?? null,
      forceDetachPolicies: true,
    },
    added: { maxSessionDuration: 3600 },
    isGrant: true,
  };
  const listed = valueAt(settings, "rolePolicyArns");
  for (const policyArn of Array.isArray(listed) ? listed : []) {
    yield {
      type: "aws:iam/rolePolicyAttachment:RolePolicyAttachment",
      name: `${own}.${textOf(policyArn)}`,
      account,
      what: `Its policy ${jsonOf(policyArn)}`,
      inputs: { role: roleName, policyArn },
      isGrant: true,
    };
  }
}

/** What the pods of a service account mount, and the Job that tests it. */
function* exchangeOf({ settings: component, resources }: View, account: Account): Generator<Expected> {
  const { namespace, name, settings } = account;
  const own = `${namespace}.${name}`;
  const data = { ...request(component, account), [SCRIPT_FILE]: EXCHANGE_SCRIPT };
  const configMap = {
    type: "kubernetes:core/v1:ConfigMap",
    name: `${own}${CONFIG_MAP_SUFFIX.replace("-", ".")}`,
  };
  const configMapName = `${name}${CONFIG_MAP_SUFFIX}`;
  yield {
    ...configMap,
    account,
    what: "Its ConfigMap",
    parts: { data: "Its request" },
    inputs: {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { namespace, name: configMapName, annotations: { "pulumi.com/patchForce": "true" } },
      data,
    },
    isGrant: true,
  };

  if (valueAt(settings, "runJob") === false) return;
  const mounted = new OutputOf(resources.get(keyOf(configMap))?.state.urn ?? "", configMapName);
  const command = valueAt(settings, "command");
  const jobName = `${name}-token-exchange`;
  yield {
    type: "kubernetes:batch/v1:Job",
    name: own,
    account,
    what: "Its Job",
    inputs: {
      apiVersion: "batch/v1",
      kind: "Job",
      metadata: {
        namespace,
        // It is a label of its pods, too.
        name: jobName.length <= 63 ? jobName : `${sha256(name).slice(0, 16)}-token-exchange`,
        annotations: { "pulumi.com/replaceUnready": "true" },
      },
      spec: {
        backoffLimit: 0,
        activeDeadlineSeconds: 300,
        template: {
          metadata: { annotations: { "pulumi.com/token-exchange-checksum": checksumOf(data) } },
          spec: ownPod({
            serviceAccountName: name,
            configMap: mounted,
            tokenAudience: valueAt(settings, "tokenAudience") ?? null,
            image: valueAt(component, "image") ?? null,
            command: Array.isArray(command) ? command.map(textOf) : [],
            podSpec: fieldsAt(component, "jobPodSpec"),
          }),
        },
      },
    },
    isGrant: false,
  };
}

/** Returns the pod of this clone. What is not known stays in it as it is. */
function ownPod(args: { [name in keyof Parameters<typeof jobPod>[0]]: unknown }): Fields {
  return jobPod(args as Parameters<typeof jobPod>[0]) as unknown as Fields;
}

function checksumOf(data: Fields): Value {
  return Object.values(data).find(isOpaque) ?? sha256(JSON.stringify(data));
}

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

/** The admission policy. Which pods it changes, and for which audience, is built here; the rest of it is that of this clone. */
function* ofInjection({ accounts, resources }: View): Generator<Expected> {
  const injected = accounts.filter(({ settings }) => valueAt(settings, "injectToken") === true);
  if (injected.length === 0) return;
  const type = "kubernetes:admissionregistration.k8s.io/v1:MutatingAdmissionPolicy";
  const policy = resources.get(keyOf({ type, name: "inject-token" }));
  // It contains the name of the stack, and decides nothing.
  const chosen = valueAt(policy?.inputs, "metadata", "name");
  const name = typeof chosen === "string" ? chosen : null;
  const selection = injection(injected);
  const ofClone = policySpec([], "") as unknown as Fields;
  const common = { name: "inject-token", what: "The admission policy", isGrant: true };
  const apiVersion = "admissionregistration.k8s.io/v1";
  yield {
    ...common,
    type,
    inputs: {
      apiVersion,
      kind: "MutatingAdmissionPolicy",
      metadata: { name },
      spec: {
        ...ofClone,
        matchConstraints: selection.matchConstraints,
        matchConditions: withExpression("service-account", selection.serviceAccount, ofClone.matchConditions),
        variables: withExpression("audiences", selection.audiences, ofClone.variables),
      },
    },
  };
  yield {
    ...common,
    type: `${type}Binding`,
    what: "The binding of the admission policy",
    inputs: {
      apiVersion,
      kind: "MutatingAdmissionPolicyBinding",
      metadata: { name },
      spec: bindingSpec<Value>(new OutputOf(policy?.state.urn ?? "", name ?? undefined)),
    },
  };
}

/** Returns a list of expressions that begins with this one in place of that with the same name. */
function withExpression(name: string, expression: Value, list: Value | undefined): Value {
  return [{ name, expression }, ...fieldsIn(list).filter((it) => valueAt(it, "name") !== name)];
}
