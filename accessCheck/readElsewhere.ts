// Reads what the rest of a program has for the issuer, or under the names, of a component.

import type { Account, OtherIssuer, OtherObject } from "./components";
import { ASSOCIATION, type Found, organizationOf, resourceOf } from "./foundResources";
import type { PlannedResource } from "./plan";
import { isOpaque, valueAt } from "./values";

/** Reads an issuer of the rest of the program, including by the second interface of the provider: `pulumiservice.api.auth`. */
export function readOtherIssuer(found: Found, component: PlannedResource): OtherIssuer[] {
  const { type, inputs, owner, resource } = found;
  const isPolicy = /^pulumiservice:.*:(Auth)?Policy$/.test(type);
  // What is only read is not created by this program.
  if (
    owner === component ||
    resource.op === "read" ||
    !(isPolicy || /^pulumiservice:.*:OidcIssuer$/.test(type))
  )
    return [];
  return [
    {
      ...resourceOf(found),
      organization: organizationOf(inputs),
      url: valueAt(inputs, "url"),
      isPolicy,
      isOfComponent: owner !== undefined,
    },
  ];
}

/** A ServiceAccount or a ConfigMap, including as a CustomResource, and a patch of one. */
const OBJECT = /^kubernetes:(?:core\/)?v1:(ConfigMap|ServiceAccount)(Patch)?$/;

export function readOtherObject(found: Found, accounts: Account[]): OtherObject[] {
  const { type, inputs, resource } = found;
  const [, kind, patch] = OBJECT.exec(type) ?? [];
  if (kind !== "ConfigMap" && kind !== "ServiceAccount") return [];
  const [name, namespace] = ["name", "namespace"].map((key) => valueAt(inputs, "metadata", key));
  const isOf = ({ name: account, namespace: ofAccount }: Account) => {
    const ownName = kind === "ConfigMap" ? `${account}-pulumi-token-exchange` : account;
    // What is created under a name that exists fails. A patch changes what exists.
    const isName = name === ownName || (patch !== undefined && isOpaque(name));
    return isName && (namespace === ofAccount || namespace === undefined || isOpaque(namespace));
  };
  const ids = accounts.filter(isOf).map(({ id }) => id);
  const annotations = valueAt(inputs, "metadata", "annotations");
  const object = {
    ...resourceOf(found),
    accounts: ids,
    kind,
    provider: resource.provider,
    annotations,
  } as const;
  return ids.length > 0 ? [object] : [];
}

/** Returns whether a resource is an association for EKS Pod Identity of one of the service accounts, by their names. */
export function isAssociation({ type, inputs }: Found, accounts: Account[]): boolean {
  const [namespace, serviceAccount] = ["namespace", "serviceAccount"].map((key) => valueAt(inputs, key));
  const isOf = (account: Account) =>
    (isOpaque(namespace) || namespace === account.namespace) &&
    (isOpaque(serviceAccount) || serviceAccount === account.name);
  return type === ASSOCIATION && accounts.some(isOf);
}
