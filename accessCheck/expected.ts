// What a component must have by its settings: all of its resources, as data. A value that depends on a setting that is not known is
// not known either.
//
// What grants something is in grants.ts. What grants nothing by itself is that of this clone: the exchange script, the pod of the
// Job, and what the admission policy adds to pods.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { sha256 } from "../kubernetes/checksum";
import { bindingSpec, policySpec } from "../kubernetes/injectionPolicy";
import { type JobPodArgs, jobPod } from "../kubernetes/jobPod";
import { CONFIG_MAP_SUFFIX, SCRIPT_FILE, VOLUME_NAME } from "../kubernetes/tokenVolume";
import { type Account, ISSUER, type Member, memberOf, outputsOf, ROLE, type View } from "./components";
import { allowPolicy, association, injection, ROLE_ANNOTATION, request, trustPolicy } from "./grants";
import {
  type Fields,
  fieldsAt,
  fieldsIn,
  isOpaque,
  jsonOf,
  listAt,
  OutputOf,
  readFields,
  textOf,
  UNKNOWN,
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
  /** How a sentence about one of its inputs begins, if it has separate words. */
  parts?: Map<string, string>;
  /** All of its inputs, with those that its provider adds. What is empty can be left out. */
  inputs: Fields;
  /** Whether it decides who is granted something: then nothing that is deployed may become unknown. */
  isGrant: boolean;
}

/**
 * Returns all resources that a component must have by its settings.
 *
 * @param thumbprints those that a new issuer may have.
 */
export function expectedOf(view: View, thumbprints: string[]): Expected[] {
  const { accounts } = view;
  const ofAccounts = accounts.flatMap((account) => {
    const all = [...identityOf(view, account), ...exchangeOf(view, account)];
    return all.map((expected) => ({ ...expected, account }));
  });
  return [...commonOf(view, thumbprints), ...ofAccounts, ...injectionOf(view)];
}

/** Returns what there is once for all service accounts. */
function commonOf(view: View, thumbprints: string[]): Expected[] {
  const { settings, accounts } = view;
  const setting = (name: string) => valueAt(settings, name) ?? null;
  const stash = { type: "pulumi:index:Stash", what: "The place where the component stays", isGrant: false };
  const place = { organization: setting("organization"), issuerUrl: setting("issuerUrl") };
  const names = listAt(settings, "createNamespaces").map(textOf);
  const labels = { "pod-security.kubernetes.io/enforce": "restricted" };
  const issuer = memberOf(view, ISSUER);
  const isUnread = valueAt(issuer?.inputs, "policies") !== undefined;
  return [
    { ...stash, name: "oidc-issuer.url", inputs: { input: setting("pulumiApiUrl") } },
    { ...stash, name: "oidc-issuer.place", inputs: { input: place } },
    ...names.map((name) => ({
      ...kubernetesObject("v1", "Namespace", { name, labels }, { retainOnDelete: true }),
      name,
      what: `Namespace ${name}`,
      isGrant: false,
    })),
    {
      ...ISSUER,
      what: "The OIDC issuer",
      inputs: {
        organization: setting("organization"),
        name: setting("issuerName"),
        url: setting("issuerUrl"),
        maxExpirationSeconds: setting("maxExpirationSeconds"),
        thumbprints: thumbprintsOf(view, issuer, thumbprints),
        // Where it is not a list, its elements cannot be compared one by one.
        ...(isUnread && { policies: accounts.map((it) => allowPolicy(settings, it)) }),
      },
      isGrant: true,
    },
  ];
}

/** Returns the thumbprints that an issuer must have: registered ones, since the program reads others in no preview. */
function thumbprintsOf({ settings }: View, issuer: Member | undefined, chosen: string[]): Value {
  const { inputs, outputs } = issuer?.resource.recorded ?? {};
  const recorded = [inputs, outputs].flatMap((it) => valueAt(readFields(it), "thumbprints") ?? []);
  const known = [...new Set([...recorded, ...chosen])].filter((it) => typeof it === "string");
  const isKnown = (it: Value) => known.some((other) => other.toLowerCase() === textOf(it).toLowerCase());
  const registered = valueAt(issuer?.inputs, "thumbprints");
  const isOwn = Array.isArray(registered) && registered.length > 0 && registered.every(isKnown);
  if (isOwn) return registered;
  return valueAt(settings, "issuerUrl") === UNKNOWN ? UNKNOWN : known;
}

const NO_NOTES = { annotations: {}, labels: {} };

/** Returns the type and the inputs of an object. Its annotations and labels are compared one by one. */
function kubernetesObject(apiVersion: string, kind: string, metadata: Fields, others: Fields = {}) {
  const group = apiVersion.includes("/") ? apiVersion : `core/${apiVersion}`;
  return {
    type: `kubernetes:${group}:${kind}`,
    inputs: { apiVersion, kind, metadata: { ...NO_NOTES, ...metadata }, ...others },
  };
}

/** Returns what a service account is, and what grants it its token and its role. */
function identityOf(view: View, account: Account): Expected[] {
  const { settings: component } = view;
  const { namespace, name, settings } = account;
  const common = { name: `${namespace}.${name}`, isGrant: true };
  const role = memberOf(view, { ...common, type: ROLE });
  const ofRole = (output: string) => outputOf(role, [output]);
  const kind = valueAt(settings, "awsRole");
  const annotations: Fields = kind === "irsa" ? { [ROLE_ANNOTATION]: ofRole("arn") } : {};
  const serviceAccount = {
    ...common,
    ...kubernetesObject("v1", "ServiceAccount", { namespace, name, annotations }, NO_API_TOKEN),
    what: "Its service account",
  };
  const ofPodIdentity = {
    ...common,
    type: "aws:eks/podIdentityAssociation:PodIdentityAssociation",
    what: "Its association with the role",
    inputs: association(component, account, ofRole("arn")),
  };
  return [
    { ...common, type: "eks-pulumi-oidc:index:WorkloadIdentity", what: "Its component", inputs: {} },
    ...roleOf(component, account, ofRole("name")),
    ...(kind === "pod-identity" ? [ofPodIdentity] : []),
    ...(valueAt(settings, "createServiceAccount") === false ? [] : [serviceAccount]),
  ];
}

/** Pods mount the ID token for the exchange by themselves. */
const NO_API_TOKEN = { automountServiceAccountToken: false };

/** Returns the role, with its policies; none if it has no role. */
function roleOf(component: Fields, account: Account, roleName: Value): Expected[] {
  const { id, namespace, name, settings } = account;
  const policy = trustPolicy(component, account);
  if (policy === undefined) return [];
  const common = { name: `${namespace}.${name}`, isGrant: true };
  return [
    {
      ...common,
      type: ROLE,
      what: "Its role",
      parts: new Map([
        ["assumeRolePolicy", "Its trust policy"],
        ["permissionsBoundary", "Its permissions boundary"],
      ]),
      inputs: {
        // The provider adds 26 characters to it, and a name has at most 64.
        namePrefix: `${`pulumi-oidc-${namespace}-${name}`.slice(0, 37)}-`,
        path: valueAt(component, "rolePath") ?? null,
        description: `Role of the Kubernetes service account ${id}`,
        assumeRolePolicy: policy,
        permissionsBoundary: valueAt(component, "permissionsBoundaryArn") ?? null,
        forceDetachPolicies: true,
        // A default of the provider.
        maxSessionDuration: 3600,
      },
    },
    ...listAt(settings, "rolePolicyArns").map((policyArn) => ({
      ...common,
      type: "aws:iam/rolePolicyAttachment:RolePolicyAttachment",
      name: `${common.name}.${textOf(policyArn)}`,
      what: `Its policy ${jsonOf(policyArn)}`,
      inputs: { role: roleName, policyArn },
    })),
  ];
}

/** Returns what the pods of a service account mount, and the Job that tests it. */
function exchangeOf(view: View, account: Account): Expected[] {
  const { settings: component } = view;
  const { namespace, name, settings } = account;
  const data = { ...request(component, account), [SCRIPT_FILE]: EXCHANGE_SCRIPT };
  const configMapName = `${name}${CONFIG_MAP_SUFFIX}`;
  const metadata = { namespace, name: configMapName, annotations: { "pulumi.com/patchForce": "true" } };
  const configMap = {
    ...kubernetesObject("v1", "ConfigMap", metadata, { data }),
    name: `${namespace}.${name}.${VOLUME_NAME}`,
    what: "Its ConfigMap",
    parts: new Map([["data", "Its request"]]),
    isGrant: true,
  };
  if (valueAt(settings, "runJob") === false) return [configMap];

  const pod = ownPod({
    serviceAccountName: name,
    configMap: nameOf(memberOf(view, configMap), configMapName),
    tokenAudience: valueAt(settings, "tokenAudience") ?? null,
    image: valueAt(component, "image") ?? null,
    command: listAt(settings, "command").map(textOf),
    podSpec: fieldsAt(component, "jobPodSpec"),
  });
  const annotations = { "pulumi.com/token-exchange-checksum": checksumOf(data) };
  const spec = {
    backoffLimit: 0,
    activeDeadlineSeconds: 300,
    template: { metadata: { ...NO_NOTES, annotations }, spec: pod },
  };
  const jobName = `${name}-token-exchange`;
  const ofJob = {
    namespace,
    // It is a label of its pods, too.
    name: jobName.length <= 63 ? jobName : `${sha256(name).slice(0, 16)}-token-exchange`,
    annotations: { "pulumi.com/replaceUnready": "true" },
  };
  const job = kubernetesObject("batch/v1", "Job", ofJob, { spec });
  return [configMap, { ...job, name: `${namespace}.${name}`, what: "Its Job", isGrant: false }];
}

/** Returns the name of an object, which is known if it is deployed. */
function nameOf(object: Member | undefined, name?: string): Value {
  return outputOf(object, ["metadata", "name"], name);
}

/** Returns an output of the component's own resource, which has this value if it is known. A program can make each output secret. */
function outputOf(member: Member | undefined, path: string[], value?: string): Value {
  const output = valueAt(outputsOf(member), ...path);
  return typeof output === "string" && output !== "" ? output : new OutputOf(member?.state.urn ?? "", value);
}

/** Returns the pod of this clone. What is not known stays in it as it is. */
function ownPod(args: { [name in keyof JobPodArgs]: unknown }): Fields {
  return jobPod(args as JobPodArgs) as unknown as Fields;
}

function checksumOf(data: Fields): Value {
  return Object.values(data).find(isOpaque) ?? sha256(JSON.stringify(data));
}

const ADMISSION = "admissionregistration.k8s.io/v1";

/**
 * Returns the admission policy, and its binding; none if no pod is injected. Which pods it changes, and for which audience, is built a
 * second time; the rest of it is that of this clone.
 */
function injectionOf(view: View): Expected[] {
  const { accounts } = view;
  const injected = accounts.filter(({ settings }) => valueAt(settings, "injectToken") === true);
  if (injected.length === 0) return [];
  const common = { name: "inject-token", isGrant: true };
  const policy = memberOf(view, { ...common, type: `kubernetes:${ADMISSION}:MutatingAdmissionPolicy` });
  // It contains the name of the stack, and decides nothing.
  const chosen = valueAt(policy?.inputs, "metadata", "name");
  const name = typeof chosen === "string" ? chosen : null;
  const selection = injection(injected);
  const ofClone = policySpec([], "") as unknown as Fields;
  const spec = {
    ...ofClone,
    matchConstraints: selection.matchConstraints,
    matchConditions: withExpression("service-account", selection.serviceAccount, ofClone.matchConditions),
    variables: withExpression("audiences", selection.audiences, ofClone.variables),
  };
  const binding = bindingSpec<Value>(nameOf(policy, name ?? undefined));
  return [
    {
      ...common,
      ...kubernetesObject(ADMISSION, "MutatingAdmissionPolicy", { name }, { spec }),
      what: "The admission policy",
    },
    {
      ...common,
      ...kubernetesObject(ADMISSION, "MutatingAdmissionPolicyBinding", { name }, { spec: binding }),
      what: "The binding of the admission policy",
    },
  ];
}

/** Returns a list of expressions that begins with this one in place of that with the same name. */
function withExpression(name: string, expression: Value, list: Value | undefined): Value {
  return [{ name, expression }, ...fieldsIn(list).filter((it) => valueAt(it, "name") !== name)];
}
