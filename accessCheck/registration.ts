// What Pulumi Cloud has registered for a component, beyond what a preview compares.

import type { Additions } from "./additions";
import { normalizedUrl } from "./otherIssuers";
import type { PlannedResource } from "./plan";
import type { ReadApi } from "./pulumi";
import { type Fields, fieldsIn, isEqual, jsonOf, readFields, textOf, type Value, valueAt } from "./values";

/** The OIDC issuer of a component that is deployed. */
export interface DeployedIssuer {
  organization: string;
  /** Its ID in the organization. */
  id: string;
  /** What the program says. */
  inputs: Fields;
}

/**
 * Reads the ID of an issuer, and its organization.
 *
 * @throws Error if the state or the program does not have them.
 */
export function deployedIssuer({ deployed, planned }: PlannedResource): DeployedIssuer {
  // ORGANIZATION/ID: provider/pkg/resources/oidc_issuer.go of pulumi/pulumi-pulumiservice.
  const [, organization, id] = /^(\w[\w.-]{0,99})\/([\w-]+)$/.exec(deployed?.id ?? "") ?? [];
  if (organization === undefined || id === undefined) {
    throw new Error(`The ID of the OIDC issuer in the state is invalid: ${deployed?.id}.`);
  }
  return { organization, id, inputs: readFields(planned?.inputs) };
}

/**
 * Compares the registration of an issuer, and its allow policies, with the program. A provider does not read all of it.
 *
 * @throws Error that names the required permission if it could not be read.
 */
export async function registrationAdditions(issuer: DeployedIssuer, read: ReadApi): Promise<Additions> {
  const { id, inputs } = issuer;
  const listed = readFields(await read("oidc_issuers:read", "oidc", "issuers"));
  const registrations = fieldsIn(valueAt(listed, "oidcIssuers"));
  const registration = registrations.find((it) => valueAt(it, "id") === id);
  const own = normalizedUrl(textOf(valueAt(inputs, "url")));
  const others = registrations
    .filter((it) => it !== registration)
    .filter((it) => ["url", "issuer"].some((key) => normalizedUrl(textOf(valueAt(it, key))) === own))
    .map((it) => `The issuer URL is registered a second time, with the ID ${textOf(valueAt(it, "id"))}.`);
  if (!registration) {
    return { found: [...others, `The issuer with the ID ${id} is not registered.`], notes: [] };
  }

  const document = await read("auth_policies:read", "auth", "policies", "oidcissuers", id);
  const policies = fieldsIn(valueAt(readFields(document), "policies"));
  const found = [
    ...others,
    ...registrationDifferences(registration, inputs),
    ...policyDifferences(policies, valueAt(inputs, "policies")),
  ];
  return { found, notes: thumbprintNotes(registration) };
}

function registrationDifferences(registration: Fields, inputs: Fields): string[] {
  const url = valueAt(inputs, "url");
  const compared = [
    ["maxExpiration", valueAt(inputs, "maxExpirationSeconds")],
    ["issuer", url],
    ["url", url],
  ] as const;
  const differing = compared.filter(([name, expected]) => !isEqual(valueAt(registration, name), expected));
  const keys = valueAt(registration, "jwks", "keys");
  return [
    // The program registers none, so that Pulumi Cloud reads the keys from the cluster.
    ...(Array.isArray(keys) && keys.length > 0
      ? ["The issuer has its own keys in jwks. Their owner can act as every service account."]
      : []),
    ...differing.map(([name, expected]) => {
      return `The issuer's ${name} is ${textOf(valueAt(registration, name))}. The program says ${textOf(expected)}.`;
    }),
  ];
}

/** Returns a sentence for each policy that is not the program's, and for each of the program's that is not registered. */
function policyDifferences(registered: Fields[], program: Value | undefined): string[] {
  const expected = fieldsIn(program).map(essenceOf);
  const found = registered.map(essenceOf);
  const isIn = (policies: Fields[]) => (policy: Fields) => policies.some((other) => isEqual(policy, other));
  const added = found.filter((policy) => !isIn(expected)(policy));
  const missing = expected.filter((policy) => !isIn(found)(policy));
  return [
    ...added.map((policy) => `A policy is not the program's: ${jsonOf(policy)}`),
    ...missing.map((policy) => `A policy of the program is not registered: ${jsonOf(policy)}`),
  ];
}

/** Returns what a policy decides: without its ID, and without what is empty. */
function essenceOf(policy: Fields): Fields {
  const isEmpty = (value: Value) => value === null || value === "" || isEqual(value, []);
  return Object.fromEntries(Object.entries(policy).filter(([key, value]) => key !== "id" && !isEmpty(value)));
}

/** Pulumi Cloud trusts a certificate of which it has the thumbprint, even if no authority has issued it. */
function thumbprintNotes(registration: Fields): string[] {
  const thumbprints = valueAt(registration, "thumbprints");
  if (!Array.isArray(thumbprints) || thumbprints.length < 2) return [];
  return [
    `The issuer has ${thumbprints.length} thumbprints: ${thumbprints.map(textOf).join(", ")}. Each lets a TLS certificate stand for the cluster's issuer.`,
  ];
}

/** The permissions of a team on a stack: StackPermission in provider/pkg/cloud/spec.json of pulumi/pulumi-pulumiservice. */
const STACK_PERMISSIONS: Record<string, string> = { 101: "read", 102: "edit", 103: "admin", 104: "admin" };

/**
 * Returns what Pulumi Cloud says that teams may do: a sentence for each.
 *
 * @param names of the teams.
 */
export async function teamNotes(names: string[], read: ReadApi): Promise<string[]> {
  const notes = names.map(async (name) => {
    const team = await read("team:read", "teams", name);
    return team === undefined
      ? `Team ${name} does not exist.`
      : `Team ${name} has ${permissionsOf(readFields(team))}.`;
  });
  return Promise.all(notes);
}

function permissionsOf(team: Fields): string {
  const stacks = fieldsIn(valueAt(team, "stacks")).map((it) => {
    const permission = textOf(valueAt(it, "permission"));
    const name = ["projectName", "stackName"].map((key) => textOf(valueAt(it, key))).join("/");
    return `${STACK_PERMISSIONS[permission] ?? permission} on stack ${name}`;
  });
  const environments = fieldsIn(valueAt(team, "environments")).map((it) => {
    const name = ["projectName", "envName"].map((key) => textOf(valueAt(it, key))).join("/");
    return `${textOf(valueAt(it, "permission"))} on environment ${name}`;
  });
  const roles = valueAt(team, "roleIds");
  const ofRoles =
    Array.isArray(roles) && roles.length > 0
      ? [`what its role says (ID ${roles.map(textOf).join(", ")})`]
      : [];
  return [...stacks, ...environments, ...ofRoles].join(", ") || "no permissions of its own";
}
