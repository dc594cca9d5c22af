// What no preview sees: what someone added to the OIDC issuer in Pulumi Cloud, or to the ConfigMaps in the cluster.

import type { Kubectl } from "./cluster";
import type { View } from "./components";
import { mapEightAtOnce } from "./concurrency";
import { type DeployedComponent, policiesOf, requestOf } from "./deployedComponent";
import { comparable, readThumbprint } from "./issuerCertificate";
import { normalizedUrl } from "./otherIssuers";
import { redact, shellQuoted, shown } from "./terminal";
import { type Run, ToolError } from "./tools";
import { isEqual, isFields, jsonOf, readValue, textOf, type Value, valueAt } from "./values";

export interface Additions {
  /** A sentence or more for each. Nothing in them can be a token. */
  found: string[];
  /** What could not be looked at. */
  notes: string[];
}

/** A registered OIDC issuer: `OidcIssuerRegistrationResponse` of the API. */
interface Registration {
  id: string;
  url: string;
  issuer?: string;
  maxExpiration?: number | null;
  jwks?: { keys?: unknown[] } | null;
  /** SHA-256 of TLS certificates of the issuer. */
  thumbprints?: string[] | null;
}

/**
 * Compares what Pulumi Cloud has registered for the cluster's issuer with the program.
 *
 * https://www.pulumi.com/docs/reference/cloud-rest-api/oidc-issuers/
 *
 * @param stop ends the connection to the issuer.
 * @throws Error that names the required permission if the registration could not be read.
 */
export async function findIssuerAdditions(
  deployed: DeployedComponent,
  run: Run,
  stop: AbortSignal,
): Promise<Additions> {
  const { issuerId, issuerUrl, component } = deployed;
  const get = (permission: string, ...path: string[]) => callApi(deployed, path, permission, run);
  const { oidcIssuers = [] } = await get("oidc_issuers:read", "oidc", "issuers");
  const registrations: Registration[] = oidcIssuers;
  const own = normalizedUrl(issuerUrl);
  const others = registrations
    .filter(({ id, url, issuer = url }) => id !== issuerId && [url, issuer].map(normalizedUrl).includes(own))
    .map(({ id }) => `The issuer URL is registered a second time, with the ID ${shown(id)}.`);
  const registration = registrations.find(({ id }) => id === issuerId);
  if (!registration) {
    return { found: [...others, `The issuer with the ID ${issuerId} is not registered.`], notes: [] };
  }

  const { policies = [] } = await get("auth_policies:read", "auth", "policies", "oidcissuers", issuerId);
  const thumbprints = await compareThumbprints(registration.thumbprints ?? [], deployed, stop);
  const found = [
    ...others,
    ...registrationFindings(registration, deployed),
    ...thumbprints.found,
    ...policyFindings(policies, policiesOf(component.after)),
  ];
  return { found, notes: thumbprints.notes };
}

function registrationFindings(
  { jwks, maxExpiration, issuer, url }: Registration,
  { issuerUrl, component }: DeployedComponent,
): string[] {
  const compared = [
    ["maxExpiration", maxExpiration, valueAt(component.after.settings, "maxExpirationSeconds")],
    ["issuer", issuer ?? url, issuerUrl],
    ["url", url, issuerUrl],
  ] as const;
  const differing = compared.filter(([, found, expected]) => found !== expected);
  return [
    // The program registers none, so that Pulumi Cloud reads the keys from the cluster.
    ...(jwks?.keys?.length
      ? ["The issuer has its own keys in jwks. Their owner can act as every service account."]
      : []),
    ...differing.map(([name, found, expected]) => {
      return `The issuer's ${name} is ${shown(String(found))}. The program says ${textOf(expected)}.`;
    }),
  ];
}

/**
 * Compares the thumbprints with the issuer's certificate. Pulumi Cloud trusts a certificate of which it has the thumbprint, even if
 * no authority has issued it. A plan shows one that was replaced since the last update, but not one that is in the state already.
 */
async function compareThumbprints(
  registered: string[],
  { organization, issuerId, issuerUrl }: DeployedComponent,
  stop: AbortSignal,
): Promise<Additions> {
  if (registered.length === 0) return { found: [], notes: [] };
  let own: string;
  try {
    own = await readThumbprint(issuerUrl, stop);
  } catch (error) {
    stop.throwIfAborted();
    const reason = shown((error as Error).message);
    return {
      found: [],
      notes: [`The issuer's TLS certificate could not be read, to compare its thumbprint: ${reason}`],
    };
  }
  const endpoint = `/api/orgs/${organization}/oidc/issuers/${issuerId}/regenerate-thumbprints`;
  const advice = `If the certificate was renewed, register the new one, and then run pulumi refresh: pulumi api ${shellQuoted(endpoint)} --method POST`;
  const others = registered.filter((thumbprint) => comparable(thumbprint) !== own);
  const found = others.map((thumbprint) => {
    return `The issuer has the thumbprint ${shown(thumbprint)}, but its TLS certificate has ${own}. ${advice}`;
  });
  return { found, notes: [] };
}

/** Returns a sentence for each policy that the program does not have as it is. A provider may not read all of it. */
function policyFindings(registered: unknown[], program: Value | undefined): string[] {
  const expected = Array.isArray(program) ? program.map(essenceOf) : [];
  return registered
    .map((policy) => essenceOf(readValue(policy)))
    .filter((policy) => !expected.some((other) => isEqual(policy, other)))
    .map((policy) => `A policy is not the program's: ${redact(jsonOf(policy))}`);
}

/** Returns what a policy decides: without its ID, and without what is empty. */
function essenceOf(policy: Value): Value {
  if (!isFields(policy)) return policy;
  const isEmpty = (value: Value | undefined) =>
    value === undefined || value === null || value === "" || isEqual(value, []);
  return Object.fromEntries(Object.entries(policy).filter(([key, value]) => key !== "id" && !isEmpty(value)));
}

/** Returns what an endpoint of the organization answers. @param permission that the request requires. */
async function callApi(
  { organization, apiUrl }: DeployedComponent,
  path: string[],
  permission: string,
  run: Run,
) {
  const endpoint = `/api/orgs/${[organization, ...path].join("/")}`;
  // The CLI otherwise asks the backend of its current login, which can be another Pulumi Cloud.
  const environment = { PULUMI_BACKEND_URL: apiUrl };
  try {
    return JSON.parse(await run("pulumi", ["api", endpoint, "--non-interactive"], { environment }));
  } catch (error) {
    if (!(error instanceof ToolError)) throw error;
    // It prints an error as JSON: pkg/cmd/pulumi/cloud/envelope.go in pulumi/pulumi.
    const [, reported] = /"message": *"([^"]*)"/.exec(error.stderr) ?? [];
    const needs = `This needs the permission ${permission} in organization ${organization}, which the role Admin contains, and a login.`;
    throw new Error(
      `Failed to run pulumi api ${endpoint}: ${reported ?? error.message}\nNo token was sent. ${needs}\nTo sign in: pulumi login ${shellQuoted(apiUrl)}`,
    );
  }
}

/**
 * Finds the keys of ConfigMaps that the program does not name. Each becomes a file in pods, and `pulumi up --refresh` keeps it.
 *
 * @returns a sentence for each key.
 */
export async function findAddedKeys(view: View, kubectl: Kubectl): Promise<string[]> {
  const findings = await mapEightAtOnce(view.accounts, async (account) => {
    const options = [`--namespace=${account.namespace}`, "--output=json", "--ignore-not-found"];
    const name = `${account.name}-pulumi-token-exchange`;
    const printed = await kubectl(["get", "configmap"], options, [name]);
    const { data = {}, binaryData = {} }: Record<string, object> = JSON.parse(printed || "{}");
    const known = [...Object.keys(requestOf(account, view)), "exchange-token.sh"];
    return Object.keys({ ...data, ...binaryData })
      .filter((key) => !known.includes(key))
      .map((key) => `The ConfigMap of ${account.id} has the key ${shown(key)}, which becomes a file.`);
  });
  return findings.flat();
}
