// What is a cluster's. Nothing else is guessed: https://www.pulumi.com/docs/administration/concepts/oidc-issuers/

import { canBothMatch } from "./patterns";
import type { Resource } from "./rule";
import { type Fields, fieldsOf, isUnknown, listOf, normalizedUrl, stringsOf, type Value } from "./values";

/** The issuers of every module of the package. */
export const ISSUER = /^pulumiservice:.*:OidcIssuer$/;

/** What replaces the allow policies of an issuer that exists. It has no URL. */
const AUTH_POLICY = "pulumiservice:api/auth:Policy";

/** The URLs of the issuers of EKS, GKE, and AKS in all of their clouds, as `normalizedUrl` returns them. */
const CLUSTERS =
  /^(oidc[.-]eks\.|container\.googleapis\.com\/v1\/projects\/|([a-z0-9-]+\.oic|oidc)\.prod-aks\.azure\.(com|us|cn)\/)/;

/** How the `sub` of an ID token of Kubernetes begins. */
export const SUBJECT = "system:serviceaccount:";

/** The audiences of the ID tokens that pods exchange for AWS credentials. */
export const AWS_AUDIENCES = ["sts.amazonaws.com", "sts.amazonaws.com.cn"];

/** Returns whether a URL is one of a list, or below one. */
export function isListed(url: Value | undefined, urls: string[]): boolean {
  return urls.some((it) => `${normalizedUrl(url)}/`.startsWith(`${normalizedUrl(it)}/`));
}

/** Returns whether a URL is that of a cluster's issuer. @param listed by the configuration. */
export function isClusterUrl(url: Value | undefined, listed: string[]): boolean {
  if (url === undefined || isUnknown(url)) return false;
  return CLUSTERS.test(normalizedUrl(url)) || isListed(url, listed);
}

/** Returns the allow policies of an issuer, or of what replaces them; none if they are not known yet. */
export function allowPoliciesOf({ type, inputs }: Resource): Fields[] {
  if (!ISSUER.test(type) && type !== AUTH_POLICY) return [];
  return listOf(inputs.policies)
    .filter((it) => typeof it === "object")
    .map(fieldsOf)
    .filter(({ decision }) => decision !== "deny");
}

/** Returns whether a resource grants tokens to a cluster's service accounts: by its URL, or by what an allow policy names. */
export function isOfCluster(resource: Resource, listed: string[]): boolean {
  const isByUrl = ISSUER.test(resource.type) && isClusterUrl(resource.inputs.url, listed);
  return isByUrl || allowPoliciesOf(resource).some(({ rules }) => namesKubernetes(fieldsOf(rules)));
}

function namesKubernetes(rules: Fields): boolean {
  if (Object.keys(rules).some((it) => /kubernetes\W{0,5}io\b/i.test(it))) return true;
  return stringsOf(rules.sub).some((sub) => {
    const subject = sub.toLowerCase();
    const [beginning = ""] = subject.split("*");
    // A pattern that begins so, in at least a letter: anything can match others.
    const canBegin = /[a-z]/.test(beginning) && canBothMatch(`${beginning}*`, `${SUBJECT}*`, "*");
    return subject.includes(SUBJECT) || canBegin;
  });
}
