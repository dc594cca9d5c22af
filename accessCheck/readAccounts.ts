// Reads the issuer of a component, and each of its service accounts with what is created for it.

import { type Account, accountId, type ConfigMap, type Issuer, type Role } from "./components";
import { NAME_CLAIM, NAMESPACE_CLAIM, SCRIPT_FILE } from "./expected";
import { ASSOCIATION, type Found, resourceOf } from "./foundResources";
import {
  documentOf,
  type Fields,
  isEqual,
  isFields,
  opaqueIn,
  readFields,
  UNKNOWN,
  type Value,
  valueAt,
  without,
} from "./values";

/** Takes the resource with a type, and with a name behind that of the component. */
export type Take = (type: string, suffix: string) => Found | undefined;

/** Returns the allow policies. An empty list of permissions reads back as none. */
function policiesIn(inputs: Fields = {}): Value | undefined {
  const policies = valueAt(inputs, "policies");
  const isEmpty = (policy: Value) => isEqual(valueAt(policy, "authorizedPermissions"), []);
  if (!Array.isArray(policies)) return policies;
  return policies.map((it) => (isFields(it) && isEmpty(it) ? without(it, "authorizedPermissions") : it));
}

export function readIssuer({ inputs, state, resource }: Found): Issuer {
  const { recorded, op } = resource;
  const { inputs: said, outputs } = recorded ?? {};
  const existing = [said, outputs].flatMap((it) => valueAt(readFields(it), "thumbprints") ?? []);
  return {
    inputs: without(inputs, "policies"),
    policies: policiesIn(inputs),
    id: state.id,
    existingThumbprints: existing,
    isImported: op.startsWith("import"),
  };
}

/**
 * Reads a service account.
 *
 * @param settings its entry.
 * @param attachments those whose names begin with its own.
 * @param outside the resources that are in no component.
 */
export function readAccount(
  settings: Fields,
  policies: Value | undefined,
  take: Take,
  attachments: Found[],
  outside: Found[],
): Account {
  const [namespace, name] = [String(valueAt(settings, "namespace")), String(valueAt(settings, "name"))];
  const own = `${namespace}.${name}`;
  const association = take(ASSOCIATION, own);
  const configMap = take("kubernetes:core/v1:ConfigMap", `${own}.pulumi-token-exchange`);
  const role = take("aws:iam/role:Role", own);
  const serviceAccount = take("kubernetes:core/v1:ServiceAccount", own);
  const isOfAccount = (policy: Value) =>
    valueAt(policy, "rules", NAMESPACE_CLAIM) === namespace && valueAt(policy, "rules", NAME_CLAIM) === name;
  return {
    id: accountId({ namespace, name }),
    namespace,
    name,
    settings,
    policy: Array.isArray(policies) ? policies.find(isOfAccount) : policies,
    configMap: configMap && readConfigMap(configMap),
    role: role && readRole(role, outside),
    attachments: attachments.map(({ inputs }) => inputs),
    ofOtherRole: [
      ...(isOfOtherRole(serviceAccount, "metadata", role) ? ["service account"] : []),
      ...(isOfOtherRole(association, "roleArn", role) ? ["association"] : []),
      ...attachments.filter((it) => isOfOtherRole(it, "role", role)).map((it) => `attachment ${it.name}`),
    ],
    association: association?.inputs,
    // One that exists already is only read.
    serviceAccount: serviceAccount?.resource.op === "read" ? undefined : serviceAccount?.inputs,
    job: take("kubernetes:batch/v1:Job", own)?.inputs,
  };
}

/** Returns whether an input is not known, and does not come from this role only. */
function isOfOtherRole(found: Found | undefined, input: string, role: Found | undefined): boolean {
  if (!found || opaqueIn(valueAt(found.inputs, input)).next().done) return false;
  const urns = [found.state.propertyDependencies?.[input] ?? []].flat().map(String);
  return urns.length === 0 || urns.some((urn) => urn !== role?.state.urn);
}

function readConfigMap({ inputs, resource }: Found): ConfigMap {
  const data = valueAt(inputs, "data");
  return {
    isDeployed: resource.deployed !== undefined,
    inputs: without(inputs, "data"),
    request: isFields(data) ? without(data, SCRIPT_FILE) : data,
    script: valueAt(data, SCRIPT_FILE),
  };
}

function readRole({ inputs, state, resource }: Found, outside: Found[]): Role {
  const outputs = resource.isReplaced ? {} : readFields(state.outputs);
  const name = valueAt(outputs, "name") ?? UNKNOWN;
  const arn = valueAt(outputs, "arn") ?? UNKNOWN;
  const isUse = ({ state: { propertyDependencies = {}, inputs: said } }: Found) =>
    Object.values(propertyDependencies).flat().includes(state.urn) || mentions(said, name, arn);
  return {
    urn: state.urn,
    isDeployed: resource.deployed !== undefined,
    name,
    arn,
    trustPolicy: documentOf(valueAt(inputs, "assumeRolePolicy")),
    inputs: without(inputs, "assumeRolePolicy"),
    uses: outside.filter(isUse).map((it) => resourceOf(it)),
  };
}

/** Returns whether a value contains the name of a role, or a string with its ARN. */
function mentions(value: unknown, name: Value, arn: Value): boolean {
  if (typeof value === "string") return value === name || (typeof arn === "string" && value.includes(arn));
  return (
    typeof value === "object" && value !== null && Object.values(value).some((it) => mentions(it, name, arn))
  );
}
