// Compares a component with what its settings mean. What equals it grants each access token and each role to its own service
// account, and to no one else: nothing has to be asked.

import {
  type Account,
  ALLOW_POLICY,
  type Found,
  IDENTITY_ANNOTATION,
  keyOf,
  OIDC_ISSUER,
  type PlannedComponent,
  type View,
} from "./components";
import { EXCHANGE_SCRIPT, type Expected, expectedOf } from "./expected";
import { normalizedUrl, otherIssuerFindings } from "./otherIssuers";
import { withoutTokens } from "./terminal";
import {
  type Difference,
  differencesBetween,
  type Fields,
  isEmpty,
  isEqual,
  isFields,
  isOpaque,
  jsonOf,
  OutputOf,
  opaqueIn,
  readFields,
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
  /** Whole sentences. */
  text: string;
}

/** A place at which a component is not as its settings mean it. */
export interface Deviation extends Difference {
  /** The key of the resource. */
  key: string;
  account: string | undefined;
  /** Such as `Its trust policy`. */
  what: string;
  /** Where in it: empty for all of it. */
  place: string;
  /**
   * Whether it is a finding; or only listed, such as a tag; or open, since its setting is known after the update only. The last one
   * is a finding where something that grants is deployed.
   */
  kind: "finding" | "listed" | "open";
  /** Whether the resource decides who is granted something. */
  isGrant: boolean;
}

const SETTINGS = wordsOf(`
  organization issuerName issuerUrl oidcProviderArn clusterArn serviceAccounts createNamespaces image jobPodSpec
  maxExpirationSeconds permissionsBoundaryArn rolePath pulumiApiUrl`);

const ENTRY_SETTINGS = wordsOf(`
  namespace name tokenType userLogin teamName runnerId runnerName organizationAdmin tokenExpirationSeconds tokenAudience
  audienceRule policyRules createServiceAccount awsRole rolePolicyArns injectToken runJob command`);

function wordsOf(text: string): string[] {
  return text.trim().split(/\s+/);
}

/**
 * Compares a component, as the program says it, with its settings.
 *
 * @param thumbprints those that a new issuer may have: a preview registers none, and a simulation the one that it emulates.
 * @returns nothing if the update deletes the component.
 */
export function findingsIn(component: PlannedComponent, thumbprints: string[] = []): Finding[] {
  const { name, before, after, isDeleted, otherType } = component;
  if (isDeleted) return [];
  if (otherType !== undefined) {
    return [{ text: `PulumiCloudAccess "${name}" becomes ${otherType}, so nothing of it is compared.` }];
  }
  const deviations = [...deviationsOf(after, thumbprints)];
  const isFound = ({ kind, isGrant, key }: Deviation) =>
    kind === "finding" || (kind === "open" && isGrant && before.resources.has(key));
  return [
    ...settingFindings(after),
    ...providerFindings(after),
    ...deviations.filter(isFound).map((it) => findingOf(it.account, sentenceOf(it))),
    ...otherIssuerFindings(component).map((text) => ({ text })),
  ];
}

/** Returns the service accounts, `NAMESPACE/NAME`, of which something is compared only once a setting is known. */
export function openIn({ after }: PlannedComponent): string[] {
  const open = [...deviationsOf(after)].filter(({ kind }) => kind === "open");
  const isOfAll = open.some(({ account }) => account === undefined);
  return after.accounts.map(({ id }) => id).filter((id) => isOfAll || open.some((it) => it.account === id));
}

function findingOf(account: string | undefined, text: string): Finding {
  return { ...(account !== undefined && { account }), text };
}

/** Compares the resources of a component with those that it must have. @param thumbprints as in findingsIn. */
export function* deviationsOf(view: View, thumbprints: string[] = []): Generator<Deviation> {
  const left = new Map(view.resources);
  for (const expected of expectedOf(view)) {
    // They are a finding as a whole.
    if (expected.type === ALLOW_POLICY && view.unreadPolicies !== undefined) continue;
    const key = keyOf(expected);
    const found = left.get(key);
    left.delete(key);
    if (found) yield* differencesIn(found, expected, thumbprints);
    else yield { ...ofExpected(expected), path: [], place: "", one: undefined, other: expected.inputs };
  }
  for (const [key, found] of left) yield { ...ofFound(found, view.accounts), key };
  if (view.unreadPolicies !== undefined) {
    const what = "The allow policies";
    const place = { key: ALLOW_POLICY, path: [], place: "", account: undefined, isGrant: true };
    yield { ...place, kind: "finding", what, one: view.unreadPolicies, other: [] };
  }
}

function ofExpected(expected: Expected) {
  const { account, what, isGrant } = expected;
  return { key: keyOf(expected), account: account?.id, what, kind: "finding" as const, isGrant };
}

/** Returns what no setting requires. */
function ofFound({ type, name, title, inputs }: Found, accounts: Account[]): Omit<Deviation, "key"> {
  const isOf = (account: Account) => {
    const own = `${account.namespace}.${account.name}`;
    return type === ALLOW_POLICY ? name === account.id : name === own || name.startsWith(`${own}.`);
  };
  const [account] = accounts.filter(isOf).sort((one, other) => other.name.length - one.name.length);
  const whole = { path: [], place: "", one: inputs, other: undefined };
  return { ...whole, account: account?.id, what: title, kind: "finding", isGrant: true };
}

function* differencesIn(found: Found, expected: Expected, chosen: string[]): Generator<Deviation> {
  const inputs = withMetadata(withoutAdded(found, expected));
  for (const difference of differencesBetween(inputs, withMetadata(expected.inputs))) {
    const { path, one, other } = difference;
    const [first = "", ...rest] = path;
    const part = expected.parts?.[first];
    const isOwnOutput = other instanceof OutputOf && isFrom(found, first, one, other);
    const isAsEmpty = isEmpty(one) && isEmpty(other) && !isEmptyCompared(found, path);
    // A setting that is secret is a finding itself.
    if (isOwnOutput || isAsEmpty || other === SECRET) continue;
    const isOpen = one === UNKNOWN && other === UNKNOWN;
    yield {
      ...difference,
      ...ofExpected(expected),
      what: part ?? expected.what,
      place: (part ? rest : path).join("."),
      kind: isOpen ? "open" : isListed(found, path) ? "listed" : "finding",
    };
  }
  for (const [name, one] of Object.entries(keptBy(found))) {
    const ofFlag = { path: [name], place: name, one, other: undefined, kind: "listed" as const };
    yield { ...ofExpected(expected), ...ofFlag };
  }
  yield* thumbprintsIn(found, expected, chosen);
}

/** Compares the thumbprints of an issuer. The program reads them when it updates: in a preview, what is registered stays. */
function* thumbprintsIn(found: Found, expected: Expected, chosen: string[]): Generator<Deviation> {
  const { type, inputs, resource } = found;
  const one = valueAt(inputs, "thumbprints");
  if (type !== OIDC_ISSUER || isEmpty(one) || (one === UNKNOWN && valueAt(inputs, "url") === UNKNOWN)) return;
  const { inputs: said, outputs } = resource.recorded ?? {};
  const recorded = [said, outputs].flatMap((it) => valueAt(readFields(it), "thumbprints") ?? []);
  const known = [...recorded, ...chosen].map((it) => textOf(it).toLowerCase());
  const isKnown = (it: Value) => !isOpaque(it) && known.includes(textOf(it).toLowerCase());
  // Someone else has chosen those of an imported issuer: a reviewer sees them.
  const isOwn = resource.op.startsWith("import") || (Array.isArray(one) && one.every(isKnown));
  yield {
    ...ofExpected(expected),
    ...{ path: ["thumbprints"], one, other: undefined, kind: isOwn ? "listed" : "finding" },
    what: "The OIDC issuer",
    place: "thumbprints",
  };
}

/** Returns the options by which a resource stays when it leaves the program, where the component does not say so itself. */
function keptBy({ type, state }: Found): Fields {
  if (type === ALLOW_POLICY) return {};
  return type.endsWith(":Namespace") ? without(state.kept, "retainOnDelete") : state.kept;
}

/** Returns the inputs without what a provider adds, and without those that are compared by themselves. */
function withoutAdded({ type, inputs }: Found, { added = {} }: Expected): Fields {
  const isAdded = (name: string, value: Value) => Object.hasOwn(added, name) && isEqual(value, added[name]);
  const own = Object.entries(inputs).filter(([name, value]) => !isAdded(name, value));
  return without(Object.fromEntries(own), ...(type === OIDC_ISSUER ? ["thumbprints"] : []));
}

/** Returns an object of Kubernetes with all of the maps in its metadata, so that they are compared key by key. */
function withMetadata(inputs: Fields): Fields {
  const [metadata, spec, template] = [["metadata"], ["spec"], ["spec", "template"]].map((it) =>
    valueAt(inputs, ...it),
  );
  const ofPod = valueAt(template, "metadata");
  const filled = (it: Value) => (isFields(it) ? { annotations: {}, labels: {}, ...it } : it);
  return {
    ...inputs,
    ...(metadata !== undefined && { metadata: filled(metadata) }),
    ...(isFields(spec) &&
      isFields(template) &&
      ofPod !== undefined && { spec: { ...spec, template: { ...template, metadata: filled(ofPod) } } }),
  };
}

/** Returns whether an input is this output: its value, or one that is known after the update and comes from its resource. */
function isFrom({ state }: Found, input: string, value: Value | undefined, output: OutputOf): boolean {
  if (value !== UNKNOWN) return value !== undefined && value === output.value;
  const urns = [state.propertyDependencies[input] ?? []].flat();
  // An output whose value is known is only a name.
  return urns.includes(output.urn) && (output.value !== undefined || urns.every((urn) => urn === output.urn));
}

/** An empty selector selects everything, and an allow policy is compared as it is. */
function isEmptyCompared({ type }: Found, path: string[]): boolean {
  return type === ALLOW_POLICY || path.some((key) => /selector/i.test(key));
}

/** Returns whether a difference is only listed: many programs add tags, labels, and annotations to everything. */
function isListed({ type }: Found, path: string[]): boolean {
  const [first = ""] = path;
  if (type.startsWith("aws:") && ["tags", "tagsAll"].includes(first)) return true;
  const inMetadata = path[path.indexOf("metadata") + 1];
  const isOfObject = first === "metadata" || path.slice(0, 3).join(".") === "spec.template.metadata";
  if (!isOfObject || !type.startsWith("kubernetes:")) return false;
  const key = path[path.indexOf("metadata") + 2];
  return (
    inMetadata === "labels" ||
    (inMetadata === "annotations" && key !== undefined && !IDENTITY_ANNOTATION.test(key))
  );
}

const FIRST =
  "What is deployed cannot be compared with it. Deploy first what it comes from, and preview again.";

function sentenceOf({ what, place, path, one, other, kind, key }: Deviation): string {
  const subject = place ? `${what}: ${place}` : what;
  if (kind === "open") return `${subject} is known after the update only. ${FIRST}`;
  if (key === ALLOW_POLICY)
    return `${subject} are ${jsonOf(one)} instead of a list, so they cannot be compared.`;
  if (path.length === 0 && one === undefined) return `${subject} is missing.`;
  if (path.length === 0) {
    const content = key.startsWith(ALLOW_POLICY) ? `: ${valueText(one, path)}` : ".";
    return `${subject} is in the component, and no setting requires it${content}`;
  }
  if (key.startsWith(OIDC_ISSUER) && path[0] === "thumbprints") {
    return `${subject} are ${jsonOf(one)}, which the component does not choose: the owner of such a certificate could act as every service account.`;
  }
  const wanted = valueText(other, path);
  if (one === SECRET) return `${subject} is secret, so it cannot be compared with ${wanted}.`;
  if (isOpaque(other) && one === UNKNOWN) {
    return `${subject} is known after the update only, and does not come from the component's own resource.`;
  }
  if (one === UNKNOWN) return `${subject} is known after the update only, and must be ${wanted}.`;
  if (isOpaque(other) && jsonOf(other) === jsonOf(UNKNOWN)) {
    return `${subject} is ${valueText(one, path)}, and what it must be is known after the update only.`;
  }
  return `${subject} is ${valueText(one, path)} instead of ${wanted}.`;
}

/** Returns a value for people: all of it, except for an exchange script and what can be a token. */
export function valueText(value: Value | undefined, path: string[]): string {
  if (value === EXCHANGE_SCRIPT) return "that of this clone";
  if (typeof value === "string" && path.at(-1) === "exchange-token.sh") return "another script";
  return withoutTokens(jsonOf(value));
}

/** Returns the settings that cannot be compared, and those that do not fit together. */
function* settingFindings({ settings, accounts }: View): Generator<Finding> {
  const ofEntries = accounts.flatMap((it) => Object.keys(it.settings));
  const others = [
    ...Object.keys(settings).filter((name) => !SETTINGS.includes(name)),
    ...ofEntries.filter((name) => !ENTRY_SETTINGS.includes(name)),
  ];
  for (const name of new Set(others)) {
    yield { text: `${name} is a setting of another version of this project, so it is not compared.` };
  }

  const list = valueAt(settings, "serviceAccounts");
  for (const { path, value } of opaqueIn(settings)) {
    if (value !== SECRET) continue;
    const [name, index] = path;
    const entry = name === "serviceAccounts" && Array.isArray(list) ? list[Number(index)] : undefined;
    const account = accounts.find((it) => it.settings === entry);
    yield findingOf(account?.id, `${path.join(".")} is secret, so what depends on it cannot be compared.`);
  }

  const [url, arn] = [valueAt(settings, "issuerUrl"), valueAt(settings, "oidcProviderArn")];
  const isUsed = accounts.some((it) => valueAt(it.settings, "awsRole") === "irsa");
  if (!isUsed || typeof url !== "string" || typeof arn !== "string") return;
  // arn:PARTITION:iam::ACCOUNT:oidc-provider/HOST/PATH
  const [, provider = ""] = /:oidc-provider\/(.*)$/.exec(arn) ?? [];
  if (normalizedUrl(`https://${provider}`) === normalizedUrl(url)) return;
  yield { text: `oidcProviderArn is ${jsonOf(arn)}, which is not the provider of issuerUrl ${jsonOf(url)}.` };
}

/** The provider of Pulumi Cloud receives the access token of the login. One inside the component is compared with the others. */
function* providerFindings({ providers, settings, resources }: View): Generator<Finding> {
  for (const [name, all] of providers) {
    if (all.length === 1) continue;
    const urns = all.map(({ urn }) => urn).join(", ");
    yield { text: `The resources of the component have several providers of ${name}: ${urns}.` };
  }
  const inside = [...resources.values()].map(({ state }) => state.urn);
  const expected = valueAt(settings, "pulumiApiUrl");
  for (const { urn, inputs } of providers.get("pulumiservice") ?? [{ urn: "", inputs: undefined }]) {
    const apiUrl = valueAt(inputs, "apiUrl");
    // Spelled as in the settings, except for a slash: Go and Node.js can read another host in the same URL.
    const isSame = typeof apiUrl === "string" && apiUrl.replace(/\/$/, "") === expected;
    if (isSame || inside.includes(urn)) continue;
    const advice = `The environment of each update decides. Set apiUrl of the provider to ${jsonOf(expected)}.`;
    const text = `The provider of Pulumi Cloud: apiUrl is ${jsonOf(apiUrl)} instead of ${jsonOf(expected)}.`;
    yield { text: `${text}${apiUrl === undefined ? ` ${advice}` : ""}` };
  }
}
