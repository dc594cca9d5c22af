// What the update of a plan changes: for a reviewer, in words or by path and value. A change is not a finding.

import { createHash } from "node:crypto";
import type { Account, Injection, PlannedComponent, Resource, View } from "./components";
import { EXCHANGE_SCRIPT, NAME_CLAIM, NAMESPACE_CLAIM, SCRIPT_FILE, tokenOf } from "./expected";
import { otherSettings } from "./findings";
import { contrast } from "./terminal";
import {
  differencesBetween,
  type Fields,
  fieldsAt,
  isEqual,
  isFields,
  isOpaque,
  jsonOf,
  SECRET,
  textOf,
  UNKNOWN,
  type Value,
  valueAt,
  without,
} from "./values";

/** What the update changes about a service account, the issuer, or anything else of the component. */
export interface Change {
  /** Such as `NAMESPACE/NAME`. */
  subject: string;
  kind: "new" | "changed" | "removed" | "kept";
  /** Such as `token: team:a → team:b`. */
  details: string[];
}

/** Values by their names. Undefined is none. */
type Facts = Map<string, Value | undefined>;

/** The name of the inputs of a subject itself, which are shown by their paths only. */
const INPUTS = "";

interface Subject {
  /** What is listed if it is new or removed. Without it, it comes and goes with the component. */
  listed?: Facts;
  /** What is compared if it stays. */
  compared: Facts;
}

/** Returns what an update changes: the issuer first, then the service accounts in the order of the program. */
export function changesIn({ before, after, isDeployed, isDeleted, retained }: PlannedComponent): Change[] {
  const old = subjectsOf(before, isDeployed);
  const now = subjectsOf(after, !isDeleted);
  const otherVersion = isDeployed ? otherSettings(before) : [];
  const unread = otherVersion.map((name) => `${name}: a setting of another version of this project`);
  return [
    ...(unread.length > 0
      ? [{ subject: "what is not read", kind: "removed" as const, details: unread }]
      : []),
    ...[...new Set([...now.keys(), ...old.keys()])].flatMap((it) => changeOf(it, old.get(it), now.get(it))),
    ...retained.map(({ title }) => ({
      subject: title,
      kind: "kept" as const,
      details: ["leaves the program, and is not deleted"],
    })),
  ];
}

function changeOf(subject: string, old: Subject | undefined, now: Subject | undefined): Change[] {
  if (!old || !now) {
    const { listed } = old ?? now ?? {};
    if (!listed) return [];
    return [{ subject, kind: old ? "removed" : "new", details: [...listed].flatMap(factText) }];
  }
  const names = new Set([...now.compared.keys(), ...old.compared.keys()]);
  const details = [...names].flatMap((name) => [...differences(name, old, now)]);
  return details.length > 0 ? [{ subject, kind: "changed", details }] : [];
}

function factText([name, value]: [string, Value | undefined]): string[] {
  if (isEmpty(value) || value === "") return [];
  // Each policy of an issuer, so that none of them is cut off.
  if (Array.isArray(value)) return value.flatMap((element, index) => factText([`${name} ${index}`, element]));
  return [`${name}: ${contrast(textOf(value), "")[0]}`];
}

/** It changes with the ConfigMap, whose files are shown. */
const CHECKSUM = /\.pulumi\.com\/token-exchange-checksum$/;

function* differences(name: string, old: Subject, now: Subject): Generator<string> {
  for (const { path, one, other } of differencesBetween(old.compared.get(name), now.compared.get(name))) {
    const isSecret = one === SECRET && other === SECRET;
    if (isSecret || (isEmpty(one) && isEmpty(other)) || CHECKSUM.test(path)) continue;
    if (path) {
      const place = path.replace(/^spec\.template\.spec\./, "");
      const [from, to] = contrast(jsonOf(one), jsonOf(other));
      yield `${name} ${place}: ${from} → ${to}`.trimStart();
    } else if (!isImplied(name, old, now)) {
      const [from, to] = contrast(wordsOf(one, old.listed?.get(name)), wordsOf(other, now.listed?.get(name)));
      yield `${name}: ${from} → ${to}`;
    }
  }
}

/** What a role has. */
const OF_ROLE = ["trust policy", "association", "role's inputs"];

/** Returns whether a value is none before or after, and another one says so: what a role has. */
function isImplied(name: string, old: Subject, now: Subject): boolean {
  const [before, after] = [old, now].map(({ compared }) => isEmpty(compared.get("role")));
  return OF_ROLE.includes(name) && before !== after;
}

/** Returns whether a value says as much as none: a provider reads it back, or leaves it out. */
function isEmpty(value: Value | undefined): boolean {
  return [undefined, null, [], {}].some((empty) => isEqual(value, empty));
}

/** Returns a value, or for an object what would be listed of it, for people. */
function wordsOf(value: Value | undefined, listed?: Value): string {
  if (isFields(value) && listed !== undefined) return textOf(listed);
  return value === "" ? "none" : textOf(value);
}

/** Returns what is known about each subject: of the component, if it exists, and of the rest of the program. */
function subjectsOf(view: View, exists: boolean) {
  const { accounts, injection, otherIssuers, otherPolicies, foreign } = view;
  const { otherObjects, otherAssociations } = view;
  const subjects = new Map<string, Subject>();
  const add = (name: string, subject: Subject) => subjects.set(unusedName(name, subjects), subject);
  if (exists) add("OIDC issuer", issuerSubject(view));
  for (const account of accounts) if (account.configMap) add(account.id, accountSubject(account));
  if (injection.resources.length > 0) add("injection", injectionSubject(injection));
  for (const policy of otherPolicies)
    add(`policy ${jsonOf(policy)}`, { listed: new Map(), compared: new Map() });
  const issuers = otherIssuers.filter(({ isOfComponent }) => !isOfComponent);
  const others = [...issuers, ...otherObjects, ...otherAssociations, ...foreign];
  for (const { title, inputs } of others) add(title, wholeSubject(inputs));
  if (exists) {
    const facts = [...providerFacts(view), ...factsOf(view.supporting)];
    add("other resources", { compared: new Map(facts) });
  }
  return subjects;
}

function wholeSubject(inputs: Fields): Subject {
  return { listed: new Map(Object.entries(inputs)), compared: new Map([[INPUTS, inputs]]) };
}

function factsOf(resources: Resource[]): [string, Value][] {
  const facts = new Map<string, Value>();
  for (const { title, inputs } of resources) facts.set(unusedName(title, facts), inputs);
  return [...facts];
}

/** Resources of several types, or below several parents, can have the same title. */
function unusedName(name: string, taken: Map<string, unknown>): string {
  let number = 1;
  const numbered = () => (number === 1 ? name : `${name} (${number})`);
  while (taken.has(numbered())) number += 1;
  return numbered();
}

function issuerSubject({ issuer, providers }: View): Subject {
  const { inputs = {} } = issuer ?? {};
  const [provider] = providers.get("pulumiservice") ?? [];
  // With a URL that is not known, a new issuer's are not known either.
  const thumbprints = valueAt(inputs, "url") === UNKNOWN ? undefined : valueAt(inputs, "thumbprints");
  const listed: Facts = new Map<string, Value | undefined>([
    ["URL", valueAt(inputs, "url")],
    ["organization", valueAt(inputs, "organization")],
    ["Pulumi Cloud", valueAt(provider?.inputs, "apiUrl")],
    ["maximum lifetime", inSeconds(valueAt(inputs, "maxExpirationSeconds"))],
    ["thumbprints", thumbprints],
  ]);
  const others = without(inputs, "url", "organization", "maxExpirationSeconds", "thumbprints");
  return { listed, compared: new Map([...listed, [INPUTS, others]]) };
}

function inSeconds(seconds: Value | undefined): string | undefined {
  return seconds === undefined ? undefined : `${textOf(seconds)} s`;
}

function accountSubject(account: Account): Subject {
  const { settings, policy, configMap, role, association, serviceAccount, job } = account;
  const request = fieldsAt(configMap?.request);
  const rules = fieldsAt(policy, "rules");
  const further = Object.entries(without(rules, NAMESPACE_CLAIM, NAME_CLAIM, "aud"));
  const grant = without(fieldsAt(policy), "rules");
  const script = scriptText(configMap?.script);
  const facts: Facts = new Map<string, Value | undefined>([
    ["token", tokenOf(request)],
    ["lifetime", inSeconds(valueAt(request, "tokenExpirationSeconds"))],
    ["required audience", valueAt(rules, "aud")],
    ["further rules", further.map(([path, pattern]) => `${path} = ${textOf(pattern)}`).join(", ")],
    ["injection", valueAt(settings, "injectToken") === true ? "into its pods" : ""],
    ["role", role && valueAt(settings, "awsRole")],
    ["role policies", rolePolicies(account)],
    ["permissions boundary", valueAt(role?.inputs, "permissionsBoundary")],
    ...factsOf(role?.uses.filter((it) => !isAttachment(it)) ?? []),
    ["Job", job && jobText(job)],
    ["script", script === OWN_SCRIPT ? "" : script],
  ]);
  const compared: Facts = new Map<string, Value | undefined>([
    ...facts,
    ["audience of its ID token", valueAt(settings, "tokenAudience")],
    ["allow policy grants", isGrantOf(request, grant) ? "this token" : grant],
    ["runner pool", valueAt(grant, "runnerID")],
    ["request", without(request, "tokenType", "tokenScope", "tokenExpirationSeconds")],
    ["script", script],
    ["ConfigMap", configMap?.inputs],
    ["Job", job],
    ["service account", serviceAccount],
    ["trust policy", role?.trustPolicy],
    ["association", association],
    ["role's inputs", role && without(role.inputs, "permissionsBoundary")],
  ]);
  return { listed: new Map([...facts, ...(job ? podFacts(job) : [])]), compared };
}

/** Returns whether an allow policy grants the access token that is requested. */
function isGrantOf(request: Fields, grant: Fields): boolean {
  const [type, scope] = ["tokenType", "tokenScope"].map((name) => textOf(valueAt(request, name)));
  const owner: Record<string, Fields> = {
    personal: { userLogin: scope?.replace(/^user:/, "") ?? null },
    team: { teamName: scope?.replace(/^team:/, "") ?? null },
    runner: { runnerID: valueAt(grant, "runnerID") ?? null },
    organization: scope === "admin" ? { authorizedPermissions: ["admin"] } : {},
  };
  return isEqual(grant, { decision: "allow", tokenType: type ?? null, ...owner[type ?? ""] });
}

function isAttachment({ title }: Resource): boolean {
  return title.startsWith("RolePolicyAttachment ");
}

/** Returns the ARNs of the managed policies that the program attaches to the role. */
function rolePolicies({ attachments, role }: Account): string {
  const elsewhere = role?.uses.filter(isAttachment).map(({ inputs }) => inputs) ?? [];
  const texts = [...attachments, ...elsewhere].map((inputs) => {
    const [policyArn, attachedTo] = [valueAt(inputs, "policyArn"), valueAt(inputs, "role") ?? null];
    const isOwn = isOpaque(attachedTo) || attachedTo === role?.name;
    return `${textOf(policyArn)}${isOwn ? "" : ` of ${textOf(attachedTo)}`}`;
  });
  return texts.sort().join(", ");
}

/** Returns what each container of a Job runs, without the exchange script in front of it. */
function jobText(job: Fields): string {
  const spec = valueAt(job, "spec", "template", "spec");
  const containers = elementsOf([valueAt(spec, "containers"), valueAt(spec, "initContainers")]);
  const texts = containers.map((container) => {
    const [command, args] = [valueAt(container, "command"), valueAt(container, "args")];
    const words = [...elementsOf([command]).filter((it) => it !== SCRIPT_PATH), ...elementsOf([args])];
    return `${words.map(textOf).join(" ")}, in ${textOf(valueAt(container, "image"))}`;
  });
  return texts.join("; ");
}

const SCRIPT_PATH = `/var/run/secrets/pulumi.com/${SCRIPT_FILE}`;

/** What the pod of a Job has by default, beside its containers and volumes. */
const POD: Fields = {
  automountServiceAccountToken: false,
  restartPolicy: "Never",
  nodeSelector: { "kubernetes.io/os": "linux" },
  securityContext: {
    runAsNonRoot: true,
    runAsUser: 1000,
    runAsGroup: 1000,
    seccompProfile: { type: "RuntimeDefault" },
  },
};

const TMP: Fields = { name: "tmp", emptyDir: { medium: "Memory", sizeLimit: "128Mi" } };

/** What its own container has by default, beside what `jobText` says. */
const CONTAINER: Fields = {
  env: [
    { name: "HOME", value: "/tmp" },
    { name: "PULUMI_HOME", value: "/tmp/.pulumi" },
    { name: "PULUMI_SKIP_UPDATE_CHECK", value: "true" },
    { name: "PULUMI_CREDENTIAL_HELPER", value: SCRIPT_PATH },
  ],
  securityContext: {
    allowPrivilegeEscalation: false,
    readOnlyRootFilesystem: true,
    capabilities: { drop: ["ALL"] },
  },
  resources: { requests: { cpu: "100m", memory: "256Mi" }, limits: { cpu: "1", memory: "512Mi" } },
  terminationMessagePolicy: "FallbackToLogsOnError",
  volumeMounts: [
    { name: "tmp", mountPath: "/tmp" },
    { name: "pulumi-token-exchange", mountPath: "/var/run/secrets/pulumi.com", readOnly: true },
  ],
};

/** Returns what the pod of a Job has, as far as it is not the default, and `jobText` does not say it. */
function podFacts(job: Fields): [string, Value][] {
  const spec = fieldsAt(job, "spec", "template", "spec");
  const others = without(spec, "containers", "initContainers", "serviceAccountName", "volumes");
  const volumes = valueAt(spec, "volumes") ?? [];
  const isOwn = (it: Value) => isEqual(it, TMP) || valueAt(it, "name") === "pulumi-token-exchange";
  const added = Array.isArray(volumes) ? volumes.filter((it) => !isOwn(it)) : volumes;
  const containers = elementsOf([valueAt(spec, "containers"), valueAt(spec, "initContainers")]).flatMap(
    (it) => {
      const further = isFields(it) ? without(it, "name", "image", "command", "args") : {};
      const isOwn = valueAt(it, "name") === "token-exchange";
      return differingFrom(isOwn ? CONTAINER : {}, further, `Job's container ${textOf(valueAt(it, "name"))}`);
    },
  );
  return [...differingFrom(POD, { ...others, volumes: added }, "Job's"), ...containers];
}

function differingFrom(defaults: Fields, fields: Fields, what: string): [string, Value][] {
  const keys = Object.keys({ ...defaults, ...fields });
  const others = keys.filter((key) => !isEqual(fields[key], defaults[key]));
  return others.map((key) => [`${what} ${key}`, fields[key] ?? "none"]);
}

const OWN_SCRIPT = "that of this clone";

/** Returns which exchange script a ConfigMap has. */
function scriptText(script: Value | undefined): string {
  if (typeof script !== "string") return textOf(script);
  return script === EXCHANGE_SCRIPT ? OWN_SCRIPT : digestOf(script);
}

function digestOf(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, 12);
}

/** The digest of what the admission policy of this clone adds to pods. A test says if it is another one. */
const OWN_INJECTION = "853f1563e38d";

/** Returns what an admission policy adds to pods, as far as it is not compared, and all of the policy and its binding. */
function injectionSubject({ resources, rest }: Injection): Subject {
  const digest = digestOf(jsonOf(sorted(rest)));
  const binding = resources.find(({ title }) => title.startsWith("MutatingAdmissionPolicyBinding "));
  return {
    listed: new Map([
      ["what it adds", digest === OWN_INJECTION ? "" : digest],
      ["binding", valueAt(binding?.inputs, "spec")],
    ]),
    compared: new Map(factsOf(resources)),
  };
}

/** Returns a value whose keys are in order: those of a plan are, but not those of a simulation. */
function sorted(value: Value): Value {
  if (Array.isArray(value)) return value.map(sorted);
  if (!isFields(value)) return value;
  const entries = Object.entries(value).map(([key, element]) => [key, sorted(element)] as const);
  return Object.fromEntries(entries.sort(([one], [other]) => (one < other ? -1 : 1)));
}

/** Returns the elements of those values that are lists. */
function elementsOf(lists: (Value | undefined)[]): Value[] {
  return lists.flatMap((it) => (Array.isArray(it) ? it : []));
}

/** Returns the inputs of the providers, without the URL of Pulumi Cloud, and with a digest of the kubeconfig. */
function providerFacts({ providers }: View): [string, Value][] {
  return [...providers].map(([name, [provider]]) => {
    const inputs = provider?.inputs ?? {};
    const kubeconfig = valueAt(inputs, "kubeconfig");
    const digest = typeof kubeconfig === "string" ? digestOf(kubeconfig) : (kubeconfig ?? null);
    return [`provider of ${name}`, { ...without(inputs, "apiUrl"), kubeconfig: digest }];
  });
}
