// What no preview sees: what someone added to the OIDC issuer in Pulumi Cloud, or to the ConfigMaps in the cluster.

import { isDeepStrictEqual } from "node:util";
import { essenceOf, policyText } from "./allowPolicies";
import { mapEightAtOnce } from "./concurrency";
import type { DeployedComponent, IssuerSettings, Kubectl } from "./deployedComponent";
import { idOf, type ServiceAccount } from "./serviceAccounts";
import { redact, shellQuoted, shown } from "./terminal";
import { type Run, ToolError } from "./tools";

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
 * @returns a sentence for each difference. Nothing in it can be a token.
 * @throws Error that names the required permission if the registration could not be read.
 */
export async function findIssuerAdditions(
  { issuer, apiUrl }: Pick<DeployedComponent, "issuer" | "apiUrl">,
  run: Run,
): Promise<string[]> {
  const { organization, id, url } = issuer;
  const get = (permission: string, ...path: string[]) =>
    callApi(`/api/orgs/${[organization, ...path].join("/")}`, permission, { organization, apiUrl }, run);

  const { oidcIssuers = [] } = await get("oidc_issuers:read", "oidc", "issuers");
  const registrations: Registration[] = oidcIssuers;
  const isSame = (other: string | undefined) => other !== undefined && normalized(other) === normalized(url);
  const findings = registrations
    .filter((it) => it.id !== id && (isSame(it.url) || isSame(it.issuer)))
    .map((it) => `The issuer URL is registered a second time, with the ID ${shown(it.id)}.`);
  const registration = registrations.find((it) => it.id === id);
  if (!registration) return [...findings, `The issuer with the ID ${id} is not registered.`];

  const { policies = [] } = await get("auth_policies:read", "auth", "policies", "oidcissuers", id);
  return [...findings, ...registrationFindings(registration, issuer), ...policyFindings(policies, issuer)];
}

/** Returns the form of a URL that all of its spellings have: without the default port and needless slashes, in lower case. */
function normalized(url: string): string {
  const { host, pathname } = URL.canParse(url) ? new URL(url) : { host: url, pathname: "" };
  return (host + pathname.replaceAll(/\/+/g, "/").replace(/\/$/, "")).toLowerCase();
}

function registrationFindings(
  { jwks, maxExpiration, issuer, url, thumbprints }: Registration,
  program: IssuerSettings,
): string[] {
  const compared = [
    ["maxExpiration", maxExpiration, program.maxExpirationSeconds],
    ["issuer", issuer ?? url, program.url],
    ["url", url, program.url],
  ] as const;
  const differing = compared.filter(([, found, expected]) => found !== expected);
  return [
    // The program registers none, so that Pulumi Cloud reads the keys from the cluster.
    ...(jwks?.keys?.length
      ? ["The issuer has its own keys in jwks. Their owner can act as every service account."]
      : []),
    ...thumbprintFindings(thumbprints ?? [], program.thumbprints),
    ...differing.map(([name, found, expected]) => {
      return `The issuer's ${name} is ${shown(String(found))}. The program says ${expected}.`;
    }),
  ];
}

/**
 * Pulumi Cloud trusts a certificate of which it has the thumbprint, even if no authority has issued it. There is one, which the
 * program registers or, where it could not read the certificate, Pulumi Cloud. A preview ignores others, so that a rotated
 * certificate changes nothing.
 */
function thumbprintFindings(found: string[], recorded: unknown): string[] {
  const isRecorded = (thumbprint: string) => Array.isArray(recorded) && recorded.includes(thumbprint);
  if (found.length <= 1 && found.every(isRecorded)) return [];
  return [
    `The issuer has thumbprints that it did not have after the last update: ${shown(found.join(", "))}`,
  ];
}

/** Returns a sentence for each policy that the program does not have as it is. A provider may not read all of it. */
function policyFindings(policies: object[], program: IssuerSettings): string[] {
  const expected = program.policies.map(essenceOf);
  return policies
    .map(essenceOf)
    .filter((policy) => !expected.some((other) => isDeepStrictEqual(policy, other)))
    .map((policy) => `A policy is not the program's: ${redact(policyText(policy))}`);
}

/** Returns what an endpoint of Pulumi Cloud answers. @param permission that the request requires. */
async function callApi(
  endpoint: string,
  permission: string,
  { organization, apiUrl }: { organization: string; apiUrl: string },
  run: Run,
) {
  // The CLI otherwise asks the backend of its current login, which can be another Pulumi Cloud.
  const environment = { PULUMI_BACKEND_URL: apiUrl };
  try {
    return JSON.parse(await run("pulumi", ["api", endpoint, "--non-interactive"], { environment }));
  } catch (error) {
    if (!(error instanceof ToolError)) throw error;
    // It prints an error as JSON: pkg/cmd/pulumi/cloud/envelope.go in pulumi/pulumi.
    const [, reported] = /"message": *"([^"]*)"/.exec(error.stderr) ?? [];
    const needs = `This needs the permission ${permission} in organization ${organization}, which the role Admin contains, and a login.`;
    const login = `pulumi login ${shellQuoted(apiUrl)}`;
    throw new Error(
      `Failed to run pulumi api ${endpoint}: ${reported ?? error.message}\nNo token was sent. ${needs}\nTo sign in: ${login}`,
    );
  }
}

/**
 * Finds the keys of ConfigMaps that the program does not name. Each becomes a file in pods, and `pulumi up --refresh` keeps it.
 *
 * @returns a sentence for each key.
 */
export async function findAddedKeys(accounts: ServiceAccount[], kubectl: Kubectl): Promise<string[]> {
  const findings = await mapEightAtOnce(accounts, async (account) => {
    const options = [`--namespace=${account.namespace}`, "--output=json", "--ignore-not-found"];
    const printed = await kubectl(["get", "configmap"], options, [`${account.name}-pulumi-token-exchange`]);
    const { data = {}, binaryData = {} }: { data?: object; binaryData?: object } = JSON.parse(
      printed || "{}",
    );
    return Object.keys({ ...data, ...binaryData })
      .filter((key) => !Object.hasOwn(account.settings, key))
      .map((key) => `The ConfigMap of ${idOf(account)} has the key ${shown(key)}, which becomes a file.`);
  });
  return findings.flat();
}
