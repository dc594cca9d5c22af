// Whom a program grants access tokens of Pulumi Cloud: https://www.pulumi.com/docs/administration/concepts/oidc-issuers/

import type { Resource } from "./rule";
import { canBeginWith, type Fields, fieldsOf, isUnknown, listOf, normalizedUrl, stringsOf } from "./values";

/** The issuers of every module of the package. */
export const ISSUER = /^pulumiservice:.*:OidcIssuer$/;

/** What replaces the allow policies of an issuer that exists. */
export const AUTH_POLICY = "pulumiservice:api/auth:Policy";

/** The URLs of the issuers of EKS, GKE, and AKS, as `normalizedUrl` returns them. */
const CLUSTERS =
  /^oidc[.-]eks\.|^container\.googleapis\.com\/v1\/projects\/|^[a-z0-9-]+\.oic\.prod-aks\.azure\.com\//;

/** Issuers that never issue ID tokens of Kubernetes. */
const OTHERS = /^(token\.actions\.githubusercontent\.com|gitlab\.com)(\/|$)/;

/** The claims of an ID token of Kubernetes that name its service account. The quotes keep the dot from separating two names. */
export const NAMESPACE = '"kubernetes.io".namespace';
export const NAME = '"kubernetes.io".serviceaccount.name';

/** How the `sub` of an ID token of Kubernetes begins. */
export const SUBJECT = "system:serviceaccount:";

/** An allow policy. */
export interface Grant {
  policy: Fields;
  rules: Fields;
  /** The URL of its issuer, as `normalizedUrl` returns it; undefined if it is not known. */
  issuer: string | undefined;
  /** Whether an ID token of Kubernetes can satisfy it, or another allow policy of its issuer. */
  isOfKubernetes: boolean;
  /** The only service account that it names, as `NAMESPACE/NAME`. */
  account: string | undefined;
}

/** Returns the allow policies of an issuer, or of what replaces them; none if they are not known yet. */
export function grantsOf({ type, inputs }: Resource): Grant[] {
  if (!ISSUER.test(type) && type !== AUTH_POLICY) return [];
  const issuer = inputs.url === undefined || isUnknown(inputs.url) ? undefined : normalizedUrl(inputs.url);
  const policies = listOf(inputs.policies)
    .filter((it) => typeof it === "object")
    .map(fieldsOf);
  const allowed = policies.filter(({ decision }) => decision !== "deny");
  const allRules = allowed.map((policy) => fieldsOf(policy.rules));
  const canBe = !OTHERS.test(issuer ?? "") && allRules.some(canBeOfKubernetes);
  const isOfKubernetes = CLUSTERS.test(issuer ?? "") || canBe;
  return allowed.map((policy) => {
    const rules = fieldsOf(policy.rules);
    return { policy, rules, issuer, isOfKubernetes, account: accountIn(rules) };
  });
}

/** Returns whether an ID token of some cluster can satisfy rules. */
function canBeOfKubernetes(rules: Fields): boolean {
  // In a syntax that is not documented, the word is enough.
  if (Object.keys(rules).some((it) => it.includes("kubernetes.io"))) return true;
  if (/serviceaccount/i.test(`${rules.sub}`)) return true;
  // Only ID tokens of other kinds have further claims.
  const claims = Object.keys(rules).filter((it) => !/^(aud|exp|iat|iss|jti|nbf|sub)$/.test(it));
  if (claims.some((it) => !/^[*?.]*\*[*?.]*$/.test(`${rules[it]}`))) return false;
  return rules.sub === undefined || canBeginWith(`${rules.sub}`, SUBJECT);
}

/** Returns the service account that rules name without a character of a pattern. */
function accountIn(rules: Fields): string | undefined {
  const isLiteral = (name: string) => /^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/.test(name) && !isUnknown(name);
  const ofClaims = [rules[NAMESPACE], rules[NAME]].flatMap(stringsOf);
  const subjects = stringsOf(rules.sub).filter((it) => it.startsWith(SUBJECT));
  const ofSubject = subjects.flatMap((it) => it.slice(SUBJECT.length).split(":"));
  return [ofClaims, ofSubject].find((it) => it.length === 2 && it.every(isLiteral))?.join("/");
}

/** Returns the service accounts that a program grants tokens, each as `NAMESPACE/NAME`. @param url of their issuer. */
export function accountsOf(program: Resource[], url?: string): string[] {
  const grants = program
    .flatMap(grantsOf)
    .filter(({ issuer = url }) => !url || issuer === normalizedUrl(url));
  return grants.flatMap(({ account }) => account ?? []);
}

/** Returns whether the ID tokens of an issuer are those of a cluster. @param program in which it can be registered. */
export function isOfCluster(url: string, program: Resource[]): boolean {
  const normalized = normalizedUrl(url);
  if (CLUSTERS.test(normalized)) return true;
  return program.flatMap(grantsOf).some((it) => it.isOfKubernetes && it.issuer === normalized);
}
