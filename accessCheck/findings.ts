// Compares a component with what its settings mean. What equals it grants each access token and each role to its own service
// account, and to no one else: nothing has to be asked.

import type { Account, OtherIssuer, PlannedComponent, View } from "./components";
import {
  allowPolicy,
  association,
  EXCHANGE_SCRIPT,
  injection,
  ROLE_ANNOTATION,
  request,
  trustPolicy,
  WEBHOOK_PREFIX,
  webhookAnnotations,
} from "./expected";
import { contrast } from "./terminal";
import {
  differencesBetween,
  type Fields,
  isEqual,
  isFields,
  isOpaque,
  jsonOf,
  opaqueIn,
  SECRET,
  textOf,
  UNKNOWN,
  type Value,
  valueAt,
  without,
} from "./values";

/** What is not as the settings of a component mean it, or cannot be compared with them. */
export interface Finding {
  /** `NAMESPACE/NAME` of the service account that it is about; undefined for all of them. */
  account?: string;
  /** What is then not granted as intended. Undefined for what grants nothing by itself. */
  about?: "token" | "role";
  /** Whole sentences. */
  text: string;
}

/** The settings of a component. */
const SETTINGS = [
  "organization",
  "issuerName",
  "issuerUrl",
  "oidcProviderArn",
  "clusterArn",
  "serviceAccounts",
  "createNamespaces",
  "image",
  "jobPodSpec",
  "maxExpirationSeconds",
  "permissionsBoundaryArn",
  "rolePath",
  "pulumiApiUrl",
];

/** The settings of an entry. */
const ENTRY_SETTINGS = [
  "namespace",
  "name",
  "tokenType",
  "userLogin",
  "teamName",
  "runnerId",
  "runnerName",
  "organizationAdmin",
  "tokenExpirationSeconds",
  "tokenAudience",
  "audienceRule",
  "policyRules",
  "createServiceAccount",
  "awsRole",
  "rolePolicyArns",
  "injectToken",
  "runJob",
  "command",
];

/** The settings that decide nothing of what is compared. */
const NOT_COMPARED = ["image", "jobPodSpec", "createNamespaces"];

/**
 * Compares a component, as the program says it, with its settings.
 *
 * @param thumbprints those that a new issuer may have: a preview registers none, and a simulation the one that it emulates.
 * @returns nothing if the update deletes the component.
 */
export function findingsIn(component: PlannedComponent, thumbprints: string[] = []): Finding[] {
  const { after: view, isDeleted, isDeployed } = component;
  if (isDeleted) return [];
  return [
    ...settingFindings(view, isDeployed),
    ...providerFindings(view),
    ...issuerFindings(view, thumbprints),
    ...policyFindings(view),
    ...injectionFindings(view),
    ...view.accounts.flatMap((account) => accountFindings(view, account)),
    ...view.foreign.map(({ title }) => ({ text: `${title} is inside the component, and no part of it.` })),
    ...view.otherIssuers.flatMap((issuer) => [...otherIssuerFindings(view, issuer)]),
    ...otherObjectFindings(view),
  ];
}

/** Returns a sentence for each place at which a value is another one than expected. */
function unequal(what: string, actual: Value | undefined, expected: Value | undefined): string[] {
  return [...differencesBetween(actual, expected)].flatMap(({ path, one, other }) => {
    // What a setting leaves open is a finding of the setting, or not known yet.
    if (other === SECRET || (one === UNKNOWN && other === UNKNOWN)) return [];
    const subject = path ? `${what}: ${path}` : what;
    const [found, wanted] = contrast(jsonOf(one), jsonOf(other));
    if (one === SECRET) return `${subject} is secret, so it cannot be compared with ${wanted}.`;
    if (one === UNKNOWN) return `${subject} is known after the update only, and must be ${wanted}.`;
    if (other === UNKNOWN)
      return `${subject} is ${found}, and what it must be is known after the update only.`;
    return `${subject} is ${found} instead of ${wanted}.`;
  });
}

/** Returns the names of the settings that only another version of this project has. */
export function otherSettings({ settings, accounts }: View): string[] {
  const others = Object.keys(settings).filter((name) => !SETTINGS.includes(name));
  const ofEntries = accounts.flatMap((account) => Object.keys(account.settings));
  return [...new Set([...others, ...ofEntries.filter((name) => !ENTRY_SETTINGS.includes(name))])];
}

/** Returns the settings that cannot be compared, and those that do not fit together. */
function* settingFindings(view: View, isDeployed: boolean): Generator<Finding> {
  const { settings, accounts } = view;
  const list = valueAt(settings, "serviceAccounts");
  const entries = Array.isArray(list) ? list : [];
  for (const name of otherSettings(view)) {
    yield { text: `${name} is a setting of another version of this project, so it is not compared.` };
  }

  for (const { path, value } of opaqueIn(settings)) {
    const [name = "", index = "", ofEntry = ""] = path.split(".");
    if (value === SECRET) {
      yield { text: `${path} is secret, so what depends on it cannot be compared.` };
      continue;
    }
    const entry = name === "serviceAccounts" ? entries[Number(index)] : undefined;
    const account = accounts.find((it) => it.settings === entry);
    const isCompared = account ? isEntryCompared(account, ofEntry) : !NOT_COMPARED.includes(name);
    const exists = account ? account.configMap?.isDeployed : isSettingDeployed(name, isDeployed, accounts);
    if (!isCompared || exists === false) continue;
    yield {
      ...(account && { account: account.id }),
      text: `${path} is known after the update only. ${adviceFor(name)}`,
    };
  }

  const [url, arn] = [valueAt(settings, "issuerUrl"), valueAt(settings, "oidcProviderArn")];
  const isUsed = accounts.some((it) => valueAt(it.settings, "awsRole") === "irsa");
  if (!isUsed || typeof url !== "string" || typeof arn !== "string") return;
  // arn:PARTITION:iam::ACCOUNT:oidc-provider/HOST/PATH
  const [, provider = ""] = /:oidc-provider\/(.*)$/.exec(arn) ?? [];
  if (normalizedUrl(`https://${provider}`) === normalizedUrl(url)) return;
  yield {
    about: "role",
    text: `oidcProviderArn is ${jsonOf(arn)}, which is not the provider of issuerUrl ${jsonOf(url)}.`,
  };
}

/** The audience is only in the allow policy, and there only with its rule, and in the admission policy. */
function isEntryCompared({ settings }: Account, name: string): boolean {
  const isAudienceCompared = ["audienceRule", "injectToken"].some((key) => valueAt(settings, key) === true);
  return name !== "command" && (name !== "tokenAudience" || isAudienceCompared);
}

/** Returns whether something exists already that depends on a setting of the component. */
function isSettingDeployed(name: string, isDeployed: boolean, accounts: Account[]): boolean {
  const kinds: Record<string, string[]> = {
    oidcProviderArn: ["irsa"],
    clusterArn: ["pod-identity"],
    permissionsBoundaryArn: ["irsa", "pod-identity"],
    rolePath: ["irsa", "pod-identity"],
  };
  const ofRoles = kinds[name];
  if (!ofRoles) return isDeployed;
  return accounts.some(
    ({ role, settings }) => role?.isDeployed && ofRoles.includes(String(valueAt(settings, "awsRole"))),
  );
}

function adviceFor(setting: string): string {
  return setting === "issuerUrl"
    ? "If the cluster's issuer becomes another one, the update stops, since a component stays where it was deployed."
    : "What is deployed cannot be compared with it. Deploy first what it comes from, and preview again.";
}

/** The provider of Pulumi Cloud receives the access token of the login. */
function* providerFindings({ providers, settings }: View): Generator<Finding> {
  for (const [name, all] of providers) {
    if (all.length === 1) continue;
    const urns = all.map(({ urn }) => urn).join(", ");
    yield { text: `The resources of the component have several providers of ${name}: ${urns}.` };
  }
  const expected = valueAt(settings, "pulumiApiUrl");
  for (const { inputs } of providers.get("pulumiservice") ?? [{ inputs: undefined }]) {
    const apiUrl = valueAt(inputs, "apiUrl");
    // Spelled as in the settings, except for a slash: Go and Node.js can read another host in the same URL.
    if (typeof apiUrl === "string" && apiUrl.replace(/\/$/, "") === expected) continue;
    const [text] = unequal("The provider of Pulumi Cloud: apiUrl", apiUrl, expected);
    const advice = `The environment of each update decides. Set apiUrl of the provider to ${jsonOf(expected)}.`;
    yield { about: "token", text: `${text}${apiUrl === undefined ? ` ${advice}` : ""}` };
  }
}

function* issuerFindings({ issuer, settings }: View, chosen: string[]): Generator<Finding> {
  const setting = (name: string) => valueAt(settings, name) ?? null;
  const expected = {
    organization: setting("organization"),
    name: setting("issuerName"),
    url: setting("issuerUrl"),
    maxExpirationSeconds: setting("maxExpirationSeconds"),
  };
  const { inputs = {}, existingThumbprints = [], isImported = false } = issuer ?? {};
  for (const text of unequal("The registered issuer", without(inputs, "thumbprints"), expected)) {
    yield { about: "token", text };
  }

  // The program reads them when it updates. In a preview, what is registered stays.
  const thumbprints = valueAt(inputs, "thumbprints") ?? [];
  const isOpen = thumbprints === UNKNOWN && expected.url === UNKNOWN;
  // Someone else has chosen those of an imported issuer: they are shown as a change, for a reviewer.
  if (isOpen || isImported) return;
  const known = [...existingThumbprints, ...chosen].map((it) => textOf(it).toLowerCase());
  const all = Array.isArray(thumbprints) ? thumbprints : [thumbprints];
  const isForeign = (it: Value) => isOpaque(it) || !known.includes(textOf(it).toLowerCase());
  for (const thumbprint of all.filter(isForeign)) {
    yield {
      about: "token",
      text: `The registered issuer has the thumbprint ${jsonOf(thumbprint)}, which the component does not choose: the owner of this certificate could act as every service account.`,
    };
  }
}

function* policyFindings({ issuer, accounts, otherPolicies }: View): Generator<Finding> {
  const policies = issuer?.policies;
  if (!Array.isArray(policies)) {
    const text = `The allow policies are ${jsonOf(policies)} instead of a list, so they cannot be compared.`;
    yield { about: "token", text };
    return;
  }
  const others = [...otherPolicies];
  for (const account of accounts) {
    // If no policy names the service account, one that names none is compared: the sentence then says which name is wrong.
    const policy = account.policy ?? others.shift();
    for (const text of unequal("Its allow policy", policy, allowPolicy(account))) {
      yield { account: account.id, about: "token", text };
    }
  }
  for (const policy of others) {
    yield {
      about: "token",
      text: `An allow policy is of no service account, or is the second one of a service account: ${jsonOf(policy)}`,
    };
  }
}

/** Compares which pods the admission policy changes. What it adds to them is only shown. */
function injectionFindings({ injection: { selection }, accounts }: View): Finding[] {
  const injected = accounts.filter(({ settings }) => valueAt(settings, "injectToken") === true);
  const expected = injected.length > 0 ? injection(injected) : undefined;
  return unequal("The admission policy of injection", selection, expected).map((text) => ({ text }));
}

function accountFindings(view: View, account: Account): Finding[] {
  const ofToken = [...tokenFindings(view, account)];
  const ofRole = [...serviceAccountFindings(account), ...roleFindings(view, account)];
  return [
    ...ofToken.map((text) => ({ account: account.id, about: "token" as const, text })),
    ...ofRole.map((text) => ({ account: account.id, about: "role" as const, text })),
  ];
}

function namesOf(object: Value | undefined): Fields {
  const [namespace = null, name = null] = ["namespace", "name"].map((key) =>
    valueAt(object, "metadata", key),
  );
  return { namespace, name };
}

/** Compares what the workloads of a service account request, and for whom. */
function* tokenFindings({ settings: component }: View, account: Account): Generator<string> {
  const { namespace, name, settings, configMap, job } = account;
  const expectedNames = { namespace, name: `${name}-pulumi-token-exchange` };
  yield* unequal("Its ConfigMap", namesOf(configMap?.inputs), expectedNames);
  yield* unequal("Its request", configMap?.request, request(component, account));
  if (configMap?.script !== EXCHANGE_SCRIPT) {
    yield "Its exchange script differs from that of this clone. Check with a clone of the component's version.";
  }
  const binary = valueAt(configMap?.inputs, "binaryData") ?? {};
  if (!isEqual(binary, {})) yield `Its ConfigMap has binaryData, which becomes files: ${jsonOf(binary)}`;

  if (job && valueAt(settings, "runJob") === false) yield "It has a Job, although runJob is false.";
  const jobAccount = valueAt(job, "spec", "template", "spec", "serviceAccountName");
  if (job) yield* unequal("Its Job: serviceAccountName", jobAccount, name);
}

/** Compares the ServiceAccount, by which the EKS webhook gives a role to the pods. */
function* serviceAccountFindings(account: Account): Generator<string> {
  const { namespace, name, serviceAccount, role, settings } = account;
  const isCreated = valueAt(settings, "createServiceAccount") !== false;
  if (!serviceAccount) {
    if (isCreated) yield "The component does not create its service account.";
    return;
  }
  if (!isCreated) yield "The component creates its service account, although createServiceAccount is false.";
  const annotations = valueAt(serviceAccount, "metadata", "annotations") ?? {};
  const ofWebhook = isFields(annotations) ? startingWith(WEBHOOK_PREFIX, annotations) : annotations;
  yield* unequal("Its service account", namesOf(serviceAccount), { namespace, name });
  yield* unequal("Its service account", ofWebhook, webhookAnnotations(account, role?.arn ?? UNKNOWN));
}

function startingWith(prefix: string, fields: Fields): Fields {
  return Object.fromEntries(Object.entries(fields).filter(([key]) => key.startsWith(prefix)));
}

function* roleFindings({ settings: component }: View, account: Account): Generator<string> {
  const { role, settings, attachments, association: associated, ofOtherRole } = account;
  const kind = valueAt(settings, "awsRole");
  if (kind === "none" && role) yield "It has a role, although awsRole is none.";
  if (kind !== "none" && !role) yield `It has no role, although awsRole is ${jsonOf(kind)}.`;
  const roleName = role?.name ?? "none";
  const roleArn = role?.arn ?? "none";

  const expected = kind === "pod-identity" ? association(component, account, roleArn) : undefined;
  yield* unequal("Its association with the role", associated && essentials(associated), expected);
  yield* attachmentFindings(attachments, valueAt(settings, "rolePolicyArns"), roleName);
  if (!role) return;

  for (const what of ofOtherRole)
    yield `Its ${what} has a role that is known after the update only, and that does not come from its own role.`;
  yield* unequal("Its trust policy", role.trustPolicy, trustPolicy(component, account));
  for (const [what, name, setting] of [
    ["permissions boundary", "permissionsBoundary", "permissionsBoundaryArn"],
    ["role's path", "path", "rolePath"],
  ] as const) {
    yield* unequal(`Its ${what}`, valueAt(role.inputs, name), valueAt(component, setting));
  }
  for (const name of ["inlinePolicies", "managedPolicyArns"]) {
    const policies = valueAt(role.inputs, name) ?? [];
    if (!isEqual(policies, [])) yield `Its role has ${name}, which no setting names: ${jsonOf(policies)}`;
  }
}

/** Returns an association without tags, and without a default that grants nothing. */
function essentials(associated: Fields): Fields {
  const others = without(associated, "tags", "tagsAll");
  return valueAt(others, "disableSessionTags") === false ? without(others, "disableSessionTags") : others;
}

function* attachmentFindings(
  attachments: Fields[],
  listed: Value | undefined,
  role: Value,
): Generator<string> {
  const missing = Array.isArray(listed) ? [...listed] : [];
  for (const attachment of attachments) {
    const policyArn = valueAt(attachment, "policyArn") ?? null;
    const index = missing.indexOf(policyArn);
    if (index >= 0) missing.splice(index, 1);
    else yield `The component attaches the policy ${jsonOf(policyArn)}, which rolePolicyArns does not list.`;
    yield* unequal(`Its policy ${jsonOf(policyArn)}: role`, valueAt(attachment, "role"), role);
  }
  for (const policyArn of missing) yield `Its role does not have the policy ${jsonOf(policyArn)}.`;
}

const USE_ISSUER =
  "If it is for another issuer, write them as policies of a pulumiservice.OidcIssuer instead.";

/** Finds another issuer of the same cluster in the same organization, whose policies this component does not know. */
function* otherIssuerFindings({ settings }: View, other: OtherIssuer): Generator<Finding> {
  const { title, organization, url, isPolicy } = other;
  if (isAnotherOrganization(organization, valueAt(settings, "organization"))) return;

  const about = "token";
  // What it replaces is decided by its policyId, which does not say the issuer: UpdateAuthPolicies of the API.
  if (isPolicy) yield { about, text: `${title} can replace the allow policies of any issuer. ${USE_ISSUER}` };
  const ownUrl = valueAt(settings, "issuerUrl");
  const isSame =
    typeof url === "string" && typeof ownUrl === "string" && normalizedUrl(url) === normalizedUrl(ownUrl);
  if (isSame)
    yield { about, text: `${title} registers the cluster's issuer a second time, as ${jsonOf(url)}.` };
  if (url === SECRET)
    yield { about, text: `${title} registers an issuer whose URL is secret, so it cannot be compared.` };
}

function isAnotherOrganization(one: Value | undefined, other: Value | undefined): boolean {
  return isName(one) && isName(other) && one.toLowerCase() !== other.toLowerCase();
}

/** In a path of the API, another text, such as `x/../NAME`, can lead to any organization. */
function isName(organization: Value | undefined): organization is string {
  return typeof organization === "string" && /^[\w-]+$/.test(organization);
}

/** Returns the form of a URL that all of its spellings have. */
export function normalizedUrl(url: string): string {
  const { host, pathname } = URL.canParse(url) ? new URL(url) : { host: url, pathname: "" };
  let path = pathname;
  try {
    path = decodeURIComponent(pathname);
  } catch {
    // It stays as it is.
  }
  return (host.replace(/\.+(?=:|$)/, "") + path.replaceAll(/\/+/g, "/").replace(/\/$/, "")).toLowerCase();
}

/** Finds what the rest of the program writes into the ConfigMap of a service account, and the roles that it gives to its pods. */
function* otherObjectFindings(view: View): Generator<Finding> {
  for (const account of view.accounts) {
    const { id, settings } = account;
    for (const { title, accounts, kind, isHere } of view.otherObjects) {
      if (kind !== "ConfigMap" || !isHere || !accounts.includes(id)) continue;
      const text = `${title} has the name of its ConfigMap, and can change its request.`;
      yield { account: id, about: "token", text };
    }
    // Without a role of the component, the report says which one it has.
    if (valueAt(settings, "awsRole") === "none") continue;
    for (const text of otherRoles(view, account)) yield { account: id, about: "role", text };
  }
}

/** Returns a sentence for each role that the rest of the program can give to the pods of a service account. */
export function otherRoles(view: View, { id, role, settings }: Account): string[] {
  const ofId = ({ accounts }: { accounts: string[] }) => accounts.includes(id);
  // Without clusterArn, it can be that of another cluster. Then it is only a change.
  const isOfCluster = valueAt(view.settings, "clusterArn") !== undefined;
  const associated = view.otherAssociations
    .filter((it) => isOfCluster && ofId(it))
    .map(({ title, inputs }) => {
      return { title, arn: valueAt(inputs, "roleArn") };
    });
  // An annotation with the component's own role is what a service account needs that exists already.
  const own = valueAt(settings, "awsRole") === "irsa" ? role : undefined;
  const isOwn = ({ arn, sources }: { arn: Value | undefined; sources: string[] }) => {
    // An output of the whole component contains the role, too.
    const isOfOwn = sources.some((urn) => urn === own?.urn || /:PulumiCloudAccess::/.test(urn));
    return isEqual(arn, own?.arn) || (arn === UNKNOWN && own?.arn === UNKNOWN && isOfOwn);
  };
  const annotated = view.otherObjects
    .filter((it) => it.kind === "ServiceAccount" && it.isHere && ofId(it))
    .map(({ annotations, ...it }) => ({ ...it, arn: valueAt(annotations, ROLE_ANNOTATION) }))
    .filter((it) => it.arn !== undefined && !isOwn(it));
  return [...associated, ...annotated].map(({ title, arn }) => {
    return `${title} can give its pods the role ${jsonOf(arn)}.`;
  });
}
