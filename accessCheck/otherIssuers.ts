// The two rules about the rest of a program, since no name shows what they find: another issuer of the same cluster, with policies
// that the component does not know, and a resource that can replace the policies of the component's issuer.

import {
  ISSUER,
  isSameName,
  type Member,
  memberOf,
  type PlannedComponent,
  type RemainingComponent,
} from "./components";
import { type Fields, isOpaque, jsonOf, SECRET, UNKNOWN, type Value, valueAt } from "./values";

const USE_ISSUER =
  "If it is for another issuer, write them as policies of a pulumiservice.OidcIssuer instead.";

/** Returns a sentence for each of them. Both interfaces of the provider count, `pulumiservice` and `pulumiservice.api.auth`. */
export function otherIssuerFindings({ after: { settings }, others, all }: RemainingComponent): string[] {
  return others.flatMap((other) => {
    const { type, title, inputs, resource } = other;
    // What is only read is not created by this program.
    if (resource.operation === "reads" || !isOfOrganization(inputs, valueAt(settings, "organization")))
      return [];
    // What it replaces is decided by its policyId, which does not say the issuer: UpdateAuthPolicies of the API.
    if (/^pulumiservice:.*:(Auth)?Policy$/.test(type)) {
      return [`${title} can replace the allow policies of any issuer. ${USE_ISSUER}`];
    }
    if (!/^pulumiservice:.*:OidcIssuer$/.test(type)) return [];
    const [url, ownUrl] = [valueAt(inputs, "url"), valueAt(settings, "issuerUrl")];
    if (
      typeof url === "string" &&
      typeof ownUrl === "string" &&
      normalizedUrl(url) === normalizedUrl(ownUrl)
    ) {
      return [`${title} registers the cluster's issuer a second time, as ${jsonOf(url)}.`];
    }
    if (!isOpaque(url) || all.some((it) => isOfNewCluster(it, other))) return [];
    const what = url === SECRET ? "is secret" : "is known after the update only";
    return [`${title} registers an issuer whose URL ${what}, so it cannot be compared.`];
  });
}

/** Returns whether an issuer is that of a component whose cluster does not exist yet. */
function isOfNewCluster({ after }: PlannedComponent, issuer: Member): boolean {
  const member = memberOf(after, ISSUER);
  return member?.resource === issuer.resource && valueAt(after?.settings, "issuerUrl") === UNKNOWN;
}

/** Returns whether it can be in the organization, which the resources of Pulumi Cloud call by three names. */
function isOfOrganization(inputs: Fields, organization: Value | undefined): boolean {
  const names = ["organization", "organizationName", "orgName"].flatMap((key) => valueAt(inputs, key) ?? []);
  // In a path of the API, another text, such as `x/../NAME`, can lead to any organization.
  const isName = (name: Value) => typeof name === "string" && /^[\w-]+$/.test(name);
  return names.length === 0 || names.some((name) => !isName(name) || isSameName(name, organization));
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
