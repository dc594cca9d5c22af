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
  jsonOf,
  OutputOf,
  SECRET,
  UNKNOWN,
  type Value,
  valueAt,
  without,
  wordsOf,
} from "./values";

/** What is not as the settings of a component mean it, or cannot be compared with them. */
export interface Finding {
  /** `NAMESPACE/NAME` of the service account that it is about; undefined for all of them. */
  account?: string | undefined;
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

/** What a component is, compared with its settings. */
export interface Comparison {
  findings: Finding[];
  /** The service accounts, `NAMESPACE/NAME`, of which something is compared only once a setting is known. */
  open: string[];
}

/**
 * Compares a component, as the program says it, with its settings.
 *
 * @param thumbprints those that a new issuer may have: a preview registers none, and a simulation the one that it emulates.
 * @returns nothing if the update deletes the component.
 */
export function comparisonOf(component: PlannedComponent, thumbprints: string[] = []): Comparison {
  const { before, after, isDeleted } = component;
  if (isDeleted) return { findings: [], open: [] };
  const isFound = ({ kind, isGrant, key }: Deviation) => {
    // It can exist elsewhere. An allow policy can be new in an issuer that exists.
    const exists = !key.startsWith(ALLOW_POLICY) && after.resources.get(key)?.resource.deployed !== undefined;
    return kind === "finding" || (kind === "open" && isGrant && (exists || before.resources.has(key)));
  };
  const deviations = [...deviationsOf(after, thumbprints)];
  return {
    findings: [
      ...settingFindings(after),
      ...providerFindings(after),
      ...deviations.filter(isFound).map((it) => ({ account: it.account, text: sentenceOf(it) })),
      ...otherIssuerFindings(component).map((text) => ({ text })),
    ],
    open: openIn(after, deviations),
  };
}

function openIn({ accounts }: View, deviations: Deviation[]): string[] {
  const open = deviations.filter(({ kind }) => kind === "open");
  const isOfAll = open.some(({ account }) => account === undefined);
  return accounts.map(({ id }) => id).filter((id) => isOfAll || open.some((it) => it.account === id));
}

/** Compares the resources of a component with those that it must have. @param thumbprints as in comparisonOf. */
export function* deviationsOf(view: View, thumbprints: string[] = []): Generator<Deviation> {
  const left = new Map(view.resources);
  for (const expected of expectedOf(view, thumbprints)) {
    const found = left.get(keyOf(expected));
    left.delete(keyOf(expected));
    if (found) yield* differencesIn(found, expected);
    else yield { ...ofExpected(expected), path: [], place: "", one: undefined, other: expected.inputs };
  }
  for (const [key, found] of left) {
    yield { ...ofFound(found, view.accounts), key };
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
  // The name of one service account can begin with that of another one.
  const [account] = accounts.filter(isOf).sort((one, other) => other.name.length - one.name.length);
  const whole = { path: [], place: "", one: inputs, other: undefined };
  return { ...whole, account: account?.id, what: title, kind: "finding", isGrant: true };
}

function* differencesIn(found: Found, expected: Expected): Generator<Deviation> {
  for (const difference of differencesBetween(found.inputs, expected.inputs)) {
    const { path, one, other } = difference;
    const [first = "", ...rest] = path;
    const isOwnOutput = other instanceof OutputOf && isFrom(found, first, one, other, expected);
    const isAsEmpty = isEmpty(one) && isEmpty(other) && !isEmptyCompared(found, path);
    // A setting that is secret is a finding itself.
    if (isOwnOutput || isAsEmpty || other === SECRET) continue;
    const part = expected.parts?.get(first);
    yield {
      ...difference,
      ...ofExpected(expected),
      what: part ?? expected.what,
      place: (part ? rest : path).join("."),
      kind: kindOf(found, difference),
    };
  }
}

function kindOf(found: Found, { path, one, other }: Difference): Deviation["kind"] {
  if (one === UNKNOWN && other === UNKNOWN) return "open";
  return isListed(found, path) ? "listed" : "finding";
}

/** Returns whether an input is this output: its value, or one that is known after the update and comes from its resource. */
function isFrom(
  { state }: Found,
  input: string,
  value: Value | undefined,
  output: OutputOf,
  { isGrant }: Expected,
): boolean {
  if (value === undefined) return false;
  if (value !== UNKNOWN) return value === output.value;
  const urns = [state.propertyDependencies[input] ?? []].flat();
  // What grants something comes from this resource alone.
  if (isGrant) return urns.length > 0 && urns.every((urn) => urn === output.urn);
  // The spec of a Job also contains what its settings come from.
  return urns.includes(output.urn);
}

/** An empty selector selects everything, and an allow policy is compared as it is. */
function isEmptyCompared({ type }: Found, path: string[]): boolean {
  return type === ALLOW_POLICY || path.some((key) => /selector/i.test(key));
}

/**
 * Returns whether a difference is only listed: tags, labels, and annotations, which many programs add to everything; options by which
 * a resource stays in its service; and no thumbprints, or those of an imported issuer, which someone else has chosen.
 */
function isListed({ type, inputs, resource }: Found, path: string[]): boolean {
  const [first = ""] = path;
  if (["retainOnDelete", "deletedWith"].includes(first)) return true;
  if (type === OIDC_ISSUER) {
    const isWithout = isEmpty(valueAt(inputs, "thumbprints"));
    return first === "thumbprints" && (isWithout || resource.op.startsWith("import"));
  }
  if (type.startsWith("aws:")) return ["tags", "tagsAll"].includes(first);
  if (!type.startsWith("kubernetes:") || !path.includes("metadata")) return false;
  const [map, key] = path.slice(path.indexOf("metadata") + 1);
  return map === "labels" || (map === "annotations" && key !== undefined && !IDENTITY_ANNOTATION.test(key));
}

const FIRST =
  "What is deployed cannot be compared with it. Deploy first what it comes from, and preview again.";

function sentenceOf({ what, place, path, one, other, kind, key }: Deviation): string {
  const subject = place ? `${what}: ${place}` : what;
  if (kind === "open") return `${subject} is known after the update only. ${FIRST}`;
  if (path.length > 0) return `${subject} is ${valueText(one, path)} instead of ${valueText(other, path)}.`;
  if (one === undefined) return `${subject} is missing.`;
  // Its name does not say whom it grants a token.
  const content = key.startsWith(ALLOW_POLICY) ? `: ${valueText(one, path)}` : ".";
  return `${subject} is in the component, and no setting requires it${content}`;
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

  yield* secretFindings(without(settings, "serviceAccounts"));
  for (const account of accounts) {
    yield* secretFindings(account.settings, account.id);
  }

  const [url, arn] = [valueAt(settings, "issuerUrl"), valueAt(settings, "oidcProviderArn")];
  const isUsed = accounts.some((it) => valueAt(it.settings, "awsRole") === "irsa");
  if (!isUsed || typeof url !== "string" || typeof arn !== "string") return;
  // arn:PARTITION:iam::ACCOUNT:oidc-provider/HOST/PATH
  const [, provider = ""] = /:oidc-provider\/(.*)$/.exec(arn) ?? [];
  if (normalizedUrl(`https://${provider}`) === normalizedUrl(url)) return;
  yield { text: `oidcProviderArn is ${jsonOf(arn)}, which is not the provider of issuerUrl ${jsonOf(url)}.` };
}

function* secretFindings(settings: Fields, account?: string): Generator<Finding> {
  // What is not known differs from itself.
  for (const { path, one } of differencesBetween(settings, settings)) {
    const name = path.join(".");
    const text = `${name} is secret, so what depends on it cannot be compared.`;
    if (one === SECRET) yield { account, text };
  }
}

/** The provider of Pulumi Cloud receives the access token of the login. */
function* providerFindings({ providers, apiUrl, settings }: View): Generator<Finding> {
  for (const [name, urns] of providers) {
    if (urns.length === 1) continue;
    yield { text: `The resources of the component have several providers of ${name}: ${urns.join(", ")}.` };
  }
  const expected = valueAt(settings, "pulumiApiUrl");
  // Spelled as in the settings, except for a slash: Go and Node.js can read another host in the same URL.
  if (typeof apiUrl === "string" && apiUrl.replace(/\/$/, "") === expected) return;
  const advice = `The environment of each update decides. Set apiUrl of the provider to ${jsonOf(expected)}.`;
  const text = `The provider of Pulumi Cloud: apiUrl is ${jsonOf(apiUrl)} instead of ${jsonOf(expected)}.`;
  yield { text: apiUrl === undefined ? `${text} ${advice}` : text };
}
