// Compares a component with what its settings mean. What equals it grants each access token and each role to its own service
// account, and to no one else: nothing has to be asked.

import { SCRIPT_FILE } from "../kubernetes/tokenVolume";
import {
  type Account,
  type AllowPolicy,
  IDENTITY_ANNOTATION,
  type Member,
  memberOf,
  OIDC_ISSUER,
  PROVIDER,
  pluginOf,
  type RemainingComponent,
  ROLE,
  type View,
} from "./components";
import { EXCHANGE_SCRIPT, type Expected, expectedOf } from "./expected";
import { allowPolicy } from "./grants";
import { normalizedUrl, otherIssuerFindings } from "./otherIssuers";
import { type PlannedResource, typeAndName } from "./plan";
import { withoutTokens } from "./terminal";
import {
  type Difference,
  differencesBetween,
  type Fields,
  isEmpty,
  jsonOf,
  OutputOf,
  outputsIn,
  SECRET,
  secretsIn,
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
  /** The resource; undefined if it is missing. */
  member: Member | undefined;
  /** Of an allow policy. */
  policy?: AllowPolicy;
  account: string | undefined;
  /** Such as `Its trust policy`. */
  what: string;
  /** Where in it: empty for all of it. */
  place: string;
  /**
   * `listed`: a row of the list, and no finding, such as a tag. `unknown`: its setting is known after the update only, which is a finding
   * where something that grants is deployed. `output`: an output of the component's own resource, which the update creates.
   */
  kind: "finding" | "listed" | "unknown" | "output";
  /** Whether it decides who is granted something. */
  isGrant: boolean;
}

const SETTINGS = wordsOf(`
  organization issuerName issuerUrl oidcProviderArn clusterArn serviceAccounts createNamespaces image jobPodSpec
  maxExpirationSeconds audienceRule permissionsBoundaryArn rolePath pulumiApiUrl sources`);

const ENTRY_SETTINGS = wordsOf(`
  namespace name tokenType userLogin teamName runnerId runnerName organizationRoleId organizationAdmin tokenExpirationSeconds tokenAudience
  policyRules createServiceAccount awsRole rolePolicyArns injectToken runJob command`);

/** What a component is, compared with its settings. */
export interface Comparison {
  findings: Finding[];
  /** The service accounts, `NAMESPACE/NAME`, of which something is compared only once a setting is known. */
  unknown: string[];
  /** The service accounts whose pods get a role whose name or ARN is known after the update only. */
  unknownRoles: string[];
  deviations: Deviation[];
  /** The resources that a service account must have, each with its service account. */
  required: Map<PlannedResource, Account>;
}

/**
 * Compares a component, as the program says it, with its settings.
 *
 * @param thumbprints those that a new issuer may have: a preview registers none, and a simulation the one that it emulates.
 */
export function comparisonOf(component: RemainingComponent, thumbprints: string[] = []): Comparison {
  const { after } = component;
  const required: Comparison["required"] = new Map();
  const deviations = [...deviationsIn(after, thumbprints, required)];
  const isFinding = (it: Deviation) => {
    return it.kind === "finding" || (it.kind === "unknown" && it.isGrant && isDeployed(it, component));
  };
  const accounts = after.accounts.map(({ id }) => id);
  const accountsOf = (some: Deviation[]) => {
    const isOfAll = some.some(({ account }) => account === undefined);
    return accounts.filter((id) => isOfAll || some.some(({ account }) => account === id));
  };
  return {
    findings: [
      ...settingFindings(after),
      ...providerFindings(after),
      ...deviations.filter(isFinding).map((it) => ({ account: it.account, text: sentenceOf(it) })),
      ...otherIssuerFindings(component).map((text) => ({ text })),
    ],
    unknown: accountsOf(
      deviations.filter((it) => it.kind === "unknown" || (it.kind === "output" && !isOfRole(it))),
    ),
    unknownRoles: accountsOf(deviations.filter((it) => it.kind === "output" && isOfRole(it))),
    deviations,
    required,
  };
}

/** Returns whether something exists, also elsewhere. An allow policy can be new in an issuer that exists. */
function isDeployed({ member, policy }: Deviation, { before }: RemainingComponent): boolean {
  if (policy) return before?.policies.some(({ account }) => account === policy.account) === true;
  return (
    member !== undefined && (member.resource.oldState !== undefined || memberOf(before, member) !== undefined)
  );
}

function isOfRole({ other }: Deviation): boolean {
  return outputsIn(other).every(({ urn }) => typeAndName(urn).type === ROLE);
}

/**
 * Compares the resources of a component with those that it must have.
 *
 * @param thumbprints as in comparisonOf.
 * @param required receives the resources that a service account must have.
 */
function* deviationsIn(
  view: View,
  thumbprints: string[],
  required: Comparison["required"],
): Generator<Deviation> {
  const left = new Set(view.members);
  for (const expected of expectedOf(view, thumbprints)) {
    const member = memberOf(view, expected);
    if (member) left.delete(member);
    if (member && expected.account) required.set(member.resource, expected.account);
    yield* member ? differencesIn(member, expected) : [missing(expected)];
  }
  yield* policyDeviations(view);
  const provider = memberOf(view, PROVIDER);
  // What decides where it sends the access token is compared below. The rest is what the provider itself adds.
  if (provider) left.delete(provider);
  for (const member of left) {
    const account = accountOf(member, view.accounts)?.id;
    yield { ...notRequired(member.title, member.inputs), member, account };
  }
}

function missing({ account, what, isGrant, inputs }: Expected): Deviation {
  const whole = { path: [], place: "", one: undefined, other: inputs };
  return { ...whole, member: undefined, account: account?.id, what, kind: "finding", isGrant };
}

/** Returns what no setting requires. */
function notRequired(what: string, inputs: Value) {
  const whole = { path: [], place: "", one: inputs, other: undefined };
  return { ...whole, what, kind: "finding" as const, isGrant: true };
}

/** Returns the service account whose name a resource has. */
function accountOf({ name }: Member, accounts: Account[]): Account | undefined {
  const isOf = (account: Account) => {
    const idInProgram = `${account.namespace}.${account.name}`;
    return name === idInProgram || name.startsWith(`${idInProgram}.`);
  };
  // The name of one service account can begin with that of another one.
  const [account] = accounts.filter(isOf).sort((one, other) => other.name.length - one.name.length);
  return account;
}

/** Compares the allow policies: one for each service account, and no other one. */
function* policyDeviations({ settings, accounts, policies, members }: View): Generator<Deviation> {
  const left = new Set(policies);
  const member = members.find(({ type }) => type === OIDC_ISSUER);
  for (const account of accounts) {
    const expected = allowPolicy(settings, account);
    const of = { member, account: account.id, what: "Its allow policy", isGrant: true };
    const policy = policies.find((it) => it.account === account.id);
    if (!policy) {
      yield { ...of, path: [], place: "", one: undefined, other: expected, kind: "finding" };
      continue;
    }
    left.delete(policy);
    // Without exceptions for what is empty: a rule that is empty is a rule.
    for (const difference of differencesBetween(policy.inputs, expected)) {
      if (difference.other === SECRET) continue;
      const kind = isUnknown(difference) ? "unknown" : "finding";
      yield { ...of, ...difference, policy, place: difference.path.join("."), kind };
    }
  }
  for (const policy of left) {
    const { account, inputs } = policy;
    const what = `Allow policy of ${account ?? "no service account"}`;
    yield {
      ...notRequired(what, inputs),
      member,
      policy,
      account: accounts.find(({ id }) => id === account)?.id,
    };
  }
}

function isUnknown({ one, other }: Difference): boolean {
  return one === UNKNOWN && other === UNKNOWN;
}

function* differencesIn(member: Member, expected: Expected): Generator<Deviation> {
  for (const difference of differencesBetween(member.inputs, expected.inputs)) {
    const { path, one, other } = difference;
    const [first = "", ...rest] = path;
    const isAsEmpty = isEmpty(one) && isEmpty(other) && !isEmptyCompared(path);
    const isKnownOutput =
      other instanceof OutputOf && one !== undefined && one !== UNKNOWN && one === other.value;
    // A setting that is secret is a finding itself.
    if (isKnownOutput || isAsEmpty || other === SECRET) continue;
    const part = expected.parts?.get(first);
    yield {
      ...difference,
      member,
      account: expected.account?.id,
      what: part ?? expected.what,
      place: (part ? rest : path).join("."),
      kind: kindOf(member, difference, expected),
      isGrant: expected.isGrant,
    };
  }
}

function kindOf(member: Member, difference: Difference, expected: Expected): Deviation["kind"] {
  if (isUnknown(difference)) return "unknown";
  if (isOwnOutput(member, difference, expected)) return "output";
  return isListed(member, difference.path) ? "listed" : "finding";
}

/** Returns whether an input, or all that contains it, is known after the update only, and comes from the component's own resource. */
function isOwnOutput(
  { state }: Member,
  { path: [input = ""], one, other }: Difference,
  { isGrant }: Expected,
): boolean {
  const expectedSources = outputsIn(other).map(({ urn }) => urn);
  if (one !== UNKNOWN || expectedSources.length === 0) return false;
  const sources = [state.propertyDependencies[input] ?? []].flat();
  const isOwn = (urn: unknown) => expectedSources.some((it) => it === urn);
  // What grants something comes from no other resource. The spec of a Job also contains what its settings come from.
  return isGrant ? sources.length > 0 && sources.every(isOwn) : sources.some(isOwn);
}

/**
 * Returns whether what is empty differs from what is left out: an empty selector selects everything, an empty element of a list, such as
 * a rule, allows everything, and an empty list detaches all policies.
 */
export function isEmptyCompared(path: string[]): boolean {
  const [first = "", last = ""] = [path[0], path.at(-1)];
  const isElement = /^\d+$/.test(last);
  const isOfPolicies = ["managedPolicyArns", "inlinePolicies"].includes(first);
  return isElement || isOfPolicies || path.some((key) => /selector/i.test(key));
}

/**
 * Returns whether a difference is only listed: tags, labels, and annotations, which many programs add to everything; options by which
 * a resource stays in its service; and no thumbprints, or those of an imported issuer, which someone else has chosen.
 */
function isListed({ type, inputs, resource }: Member, path: string[]): boolean {
  const [first = ""] = path;
  if (["retainOnDelete", "deletedWith"].includes(first)) return true;
  if (type === OIDC_ISSUER) {
    const isWithout = isEmpty(valueAt(inputs, "thumbprints"));
    return first === "thumbprints" && (isWithout || resource.operation === "imports");
  }
  if (type.startsWith("aws:")) return ["tags", "tagsAll"].includes(first);
  if (!type.startsWith("kubernetes:") || !path.includes("metadata")) return false;
  const [map, key] = path.slice(path.indexOf("metadata") + 1);
  return map === "labels" || (map === "annotations" && key !== undefined && !IDENTITY_ANNOTATION.test(key));
}

const FIRST =
  "What is deployed cannot be compared with it. Deploy first what it comes from, and preview again.";

function sentenceOf({ what, place, path, one, other, kind, policy }: Deviation): string {
  const subject = place ? `${what}: ${place}` : what;
  if (kind === "unknown") return `${subject} is known after the update only. ${FIRST}`;
  if (path.length > 0) return `${subject} is ${valueText(one, path)} instead of ${valueText(other, path)}.`;
  if (one === undefined) return `${subject} is missing.`;
  // Its name does not say whom it grants a token.
  const content = policy ? `: ${valueText(one, path)}` : ".";
  return `${subject} is in the component, and no setting requires it${content}`;
}

/** Returns a value for people: all of it, except for an exchange script and what can be a token. */
export function valueText(value: Value | undefined, path: string[]): string {
  if (value === EXCHANGE_SCRIPT) return "that of this clone";
  if (typeof value === "string" && path.at(-1) === SCRIPT_FILE) return "another script";
  return withoutTokens(jsonOf(value));
}

/** Returns the settings that cannot be compared, that no version accepts, and that do not fit together. */
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
  for (const { id, namespace, name, settings: entry } of accounts) {
    yield* secretFindings(entry, id);
    const audience = valueAt(entry, "tokenAudience");
    const invalid = [namespace, name].filter((it) => !NAME.test(it));
    if (typeof audience === "string" && /[*?]/.test(audience)) invalid.push(audience);
    for (const it of invalid) {
      yield { account: id, text: `${jsonOf(it)} is not valid: an allow policy could take it for a pattern.` };
    }
  }

  const [url, arn] = [valueAt(settings, "issuerUrl"), valueAt(settings, "oidcProviderArn")];
  const isUsed = accounts.some((it) => valueAt(it.settings, "awsRole") === "irsa");
  if (!isUsed || typeof url !== "string" || typeof arn !== "string") return;
  // arn:PARTITION:iam::ACCOUNT:oidc-provider/HOST/PATH
  const [, provider = ""] = /:oidc-provider\/(.*)$/.exec(arn) ?? [];
  if (normalizedUrl(`https://${provider}`) === normalizedUrl(url)) return;
  yield { text: `oidcProviderArn is ${jsonOf(arn)}, which is not the provider of issuerUrl ${jsonOf(url)}.` };
}

/** Without dots, which Kubernetes accepts in the name of a service account, and an allow policy takes for any character. */
const NAME = /^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/;

function secretFindings(settings: Fields, account?: string): Finding[] {
  return secretsIn(settings).map((path) => {
    return { account, text: `${path.join(".")} is secret, so what depends on it cannot be compared.` };
  });
}

/** The provider of Pulumi Cloud receives the access token of the login. */
function* providerFindings({ providers, pulumiCloud, settings }: View): Generator<Finding> {
  for (const [name, urns] of providers) {
    if (urns.length === 1) continue;
    yield { text: `The resources of the component have several providers of ${name}: ${urns.join(", ")}.` };
  }
  const what = "The provider of Pulumi Cloud";
  const [apiUrl, expected] = [valueAt(pulumiCloud, "apiUrl"), valueAt(settings, "pulumiApiUrl")];
  // Spelled as in the settings, except for a slash: Go and Node.js can read another host in the same URL.
  if (typeof apiUrl !== "string" || apiUrl.replace(/\/$/, "") !== expected) {
    const advice = `Set apiUrl of the provider to ${jsonOf(expected)}: without it, the environment of each update decides.`;
    yield { text: `${what}: apiUrl is ${jsonOf(apiUrl)} instead of ${jsonOf(expected)}. ${advice}` };
  }
  // Another plugin runs in place of the provider, or it reads other variables of the environment than its own.
  for (const [name, value] of pluginOf(pulumiCloud)) {
    yield { text: `${what}: ${name} is ${jsonOf(value)} instead of none.` };
  }
}
