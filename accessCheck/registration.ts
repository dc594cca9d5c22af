// What Pulumi Cloud has registered for a component, beyond what a preview compares.

import type { Additions } from "./additions";
import { ISSUER, keyOf, type PlannedComponent } from "./components";
import { normalizedUrl } from "./otherIssuers";
import { apiReader, type Pulumi, type ReadApi } from "./pulumi";
import {
  type Fields,
  fieldsIn,
  isEmpty,
  isEqual,
  isFields,
  jsonOf,
  readFields,
  textOf,
  valueAt,
  without,
} from "./values";

/**
 * Compares the registration of a component's issuer, and its allow policies, with the program: a provider does not read all of it.
 * As notes, it says what the teams may do as which the service accounts act.
 *
 * @throws Error if something could not be read, with the permission that this requires.
 */
export async function registrationAdditions(component: PlannedComponent, pulumi: Pulumi): Promise<Additions> {
  const { before, after } = component;
  const issuer = before.resources.get(keyOf(ISSUER))?.resource;
  // A new component, and one that leaves the program, are differences already.
  if (!issuer?.planned) return { found: [], notes: [] };
  // ORGANIZATION/ID: provider/pkg/resources/oidc_issuer.go of pulumi/pulumi-pulumiservice.
  const [, organization, id] = /^(\w[\w.-]{0,99})\/([\w-]+)$/.exec(issuer.deployed?.id ?? "") ?? [];
  if (organization === undefined || id === undefined) {
    throw new Error(`The ID of the OIDC issuer in the state is invalid: ${issuer.deployed?.id}.`);
  }
  const apiUrl = valueAt(after.settings, "pulumiApiUrl");
  if (typeof apiUrl !== "string") throw new Error("The setting pulumiApiUrl is secret, or not known.");

  const read = apiReader(organization, new URL(apiUrl).origin, pulumi);
  const registered = await issuerAdditions(id, readFields(issuer.planned.inputs), read);
  const names = after.accounts.map(({ settings }) => valueAt(settings, "teamName"));
  const teams = new Set(names.filter((name) => typeof name === "string"));
  const teamNotes = await Promise.all([...teams].map((name) => teamNote(name, read)));
  return { ...registered, notes: [...registered.notes, ...teamNotes] };
}

/** @param inputs what the program says of the issuer. */
async function issuerAdditions(id: string, inputs: Fields, read: ReadApi): Promise<Additions> {
  const registrations = listIn(await read("oidc_issuers:read", "oidc", "issuers"), "oidcIssuers");
  const registration = registrations.find((it) => valueAt(it, "id") === id);
  const ownUrl = normalizedUrl(textOf(valueAt(inputs, "url")));
  const others = registrations
    .filter((it) => it !== registration)
    .filter((it) => ["url", "issuer"].some((key) => normalizedUrl(textOf(valueAt(it, key))) === ownUrl))
    .map((it) => `The issuer URL is registered a second time, with the ID ${textOf(valueAt(it, "id"))}.`);
  if (!registration) {
    return { found: [...others, `The issuer with the ID ${id} is not registered.`], notes: [] };
  }

  const document = await read("auth_policies:read", "auth", "policies", "oidcissuers", id);
  const policies = document === undefined ? [] : listIn(document, "policies");
  const thumbprints = valueAt(registration, "thumbprints");
  const hasSeveral = Array.isArray(thumbprints) && thumbprints.length > 1;
  return {
    found: [
      ...others,
      ...registrationDifferences(registration, inputs),
      ...policyDifferences(policies, fieldsIn(valueAt(inputs, "policies"))),
    ],
    notes: hasSeveral
      ? [
          `The issuer has several thumbprints: ${thumbprints.map(textOf).join(", ")}. Each certificate counts.`,
        ]
      : [],
  };
}

/** Returns a list of objects in an answer. @throws Error if it has none, since what is registered is not known then. */
function listIn(answer: unknown, name: string): Fields[] {
  const list = valueAt(readFields(answer), name);
  if (Array.isArray(list) && list.every(isFields)) return list;
  throw new Error(`Pulumi Cloud has answered without a list ${name}, so the OIDC issuer cannot be compared.`);
}

function registrationDifferences(registration: Fields, inputs: Fields): string[] {
  const url = valueAt(inputs, "url");
  const compared = [
    ["maxExpiration", valueAt(inputs, "maxExpirationSeconds")],
    ["issuer", url],
    ["url", url],
    // The program registers none, so that Pulumi Cloud reads the keys from the cluster.
    ["jwks", undefined],
  ] as const;
  return compared.flatMap(([name, expected]) => {
    const found = valueAt(registration, name);
    if (isEqual(found, expected) || (isEmpty(found) && isEmpty(expected))) return [];
    return [`The issuer's ${name} is ${textOf(found)} instead of ${textOf(expected)}.`];
  });
}

/** Returns a sentence for each policy that is not the program's, and for each of the program's that is not registered. */
function policyDifferences(registered: Fields[], program: Fields[]): string[] {
  const [found, expected] = [registered.map(essenceOf), program.map(essenceOf)];
  const isIn = (policies: Fields[], policy: Fields) => policies.some((other) => isEqual(policy, other));
  const added = found.filter((policy) => !isIn(expected, policy));
  const missing = expected.filter((policy) => !isIn(found, policy));
  return [
    ...added.map((policy) => `A policy is not the program's: ${jsonOf(policy)}`),
    ...missing.map((policy) => `A policy of the program is not registered: ${jsonOf(policy)}`),
  ];
}

/** Returns what a policy decides: without its ID, and without what is empty. */
function essenceOf(policy: Fields): Fields {
  const entries = Object.entries(without(policy, "id"));
  return Object.fromEntries(entries.filter(([, value]) => value !== "" && !isEmpty(value)));
}

/** The permissions of a team on a stack: StackPermission in provider/pkg/cloud/spec.json of pulumi/pulumi-pulumiservice. */
const STACK_PERMISSIONS: Record<string, string> = { 101: "read", 102: "edit", 103: "admin", 104: "admin" };

/** Returns what Pulumi Cloud says that a team may do. */
async function teamNote(name: string, read: ReadApi): Promise<string> {
  const answer = await read("team:read", "teams", name);
  if (answer === undefined) return `Team ${name} does not exist.`;
  const team = readFields(answer);
  const granted = (list: string, noun: string, nameKey: string) => {
    return fieldsIn(valueAt(team, list)).map((it) => {
      const permission = textOf(valueAt(it, "permission"));
      const path = [valueAt(it, "projectName"), valueAt(it, nameKey)].map(textOf).join("/");
      return `${STACK_PERMISSIONS[permission] ?? permission} on ${noun} ${path}`;
    });
  };
  const roles = valueAt(team, "roleIds");
  const permissions = [
    ...granted("stacks", "stack", "stackName"),
    ...granted("environments", "environment", "envName"),
    ...(isEmpty(roles) ? [] : [`what its role says (ID ${textOf(roles)})`]),
  ];
  return `Team ${name} has ${permissions.join(", ") || "no permissions except every member's"}.`;
}
