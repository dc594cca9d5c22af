// Reads what the rest of a program has for the issuer, or under the names, of a component.

import type { Account, OtherAssociation, OtherIssuer, OtherObject } from "./components";
import { association } from "./expected";
import { ASSOCIATION, type Found, organizationOf, resourceOf } from "./foundResources";
import type { PlannedResource } from "./plan";
import { type Fields, isOpaque, UNKNOWN, valueAt } from "./values";

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

/** Reads an object that has, or can have, the name of a service account or of its ConfigMap. @param isHere as in OtherObject. */
export function readOtherObject(found: Found, accounts: Account[], isHere: boolean): OtherObject[] {
  const { type, inputs, state } = found;
  const [, kind, patch] = OBJECT.exec(type) ?? [];
  if (kind !== "ConfigMap" && kind !== "ServiceAccount") return [];
  const [name, namespace] = ["name", "namespace"].map((key) => valueAt(inputs, "metadata", key));
  const isOf = ({ name: account, namespace: ofAccount }: Account) => {
    const ownName = kind === "ConfigMap" ? `${account}-pulumi-token-exchange` : account;
    // Pulumi names what has no name. A patch always has that of what exists.
    const isName = name === ownName || (patch !== undefined && isOpaque(name));
    return isName && (namespace === ofAccount || namespace === undefined || isOpaque(namespace));
  };
  const ids = accounts.filter(isOf).map(({ id }) => id);
  const annotations = valueAt(inputs, "metadata", "annotations");
  const object = {
    ...resourceOf(found),
    accounts: ids,
    kind,
    isHere,
    annotations,
    sources: [state.propertyDependencies?.metadata ?? []].flat().map(String),
  } as const;
  return ids.length > 0 ? [object] : [];
}

/** Reads an association for EKS Pod Identity, of the service accounts and the cluster whose names it has or can have. */
export function readOtherAssociation(
  found: Found,
  settings: Fields,
  accounts: Account[],
): OtherAssociation[] {
  const { type, inputs } = found;
  const isOf = (account: Account) =>
    Object.entries(association(settings, account, UNKNOWN)).every(([name, own]) => {
      const value = valueAt(inputs, name);
      return value === undefined || own === null || isOpaque(own) || isOpaque(value) || value === own;
    });
  const ids = accounts.filter(isOf).map(({ id }) => id);
  return type === ASSOCIATION && ids.length > 0 ? [{ ...resourceOf(found), accounts: ids }] : [];
}
