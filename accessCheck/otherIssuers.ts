// The two rules about the rest of a program, since no name shows what they find: another issuer of the same cluster, with policies
// that the component does not know, and a resource that can replace the policies of the component's issuer.

import { type Found, ISSUER, isSameName, keyOf, type PlannedComponent } from "./components";
import { type Fields, isOpaque, jsonOf, SECRET, UNKNOWN, type Value, valueAt } from "./values";

const USE_ISSUER =
  "If it is for another issuer, write them as policies of a pulumiservice.OidcIssuer instead.";

/** Returns a sentence for each of them. Both interfaces of the provider count, `pulumiservice` and `pulumiservice.api.auth`. */
export function otherIssuerFindings({ after: { settings }, others, all }: PlannedComponent): string[] {
  return others.flatMap((other) => {
    const { type, title, inputs, resource } = other;
    // What is only read is not created by this program.
    if (resource.op === "read" || !isOfOrganization(inputs, valueAt(settings, "organization"))) return [];
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
function isOfNewCluster({ after: { settings, resources } }: PlannedComponent, issuer: Found): boolean {
  const own = resources.get(keyOf(ISSUER));
  return own?.resource === issuer.resource && valueAt(settings, "issuerUrl") === UNKNOWN;
}

/** Returns whether it can be in the organization, which the resources of Pulumi Cloud call by three names. */
function isOfOrganization(inputs: Fields, own: Value | undefined): boolean {
  const names = ["organization", "organizationName", "orgName"].map((key) => valueAt(inputs, key));
  const organization = names.find(Boolean);
  // In a path of the API, another text, such as `x/../NAME`, can lead to any organization.
  const isName = typeof organization === "string" && /^[\w-]+$/.test(organization);
  return !isName || isSameName(organization, own);
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
