// What the simulation assumes: the cluster, service accounts, and runner pools that must exist; and notes on settings that it
// cannot check.

import { Region } from "@pulumi/aws/types/enums";
import { closest } from "fastest-levenshtein";
import { idOf } from "../test/environment/kubernetes";
import type { SimulationOptions } from "../test/environment/simulation";
import { isObject } from "./authPolicy";
import type { AccountSettings } from "./exchanges";
import type { StackFile } from "./stackFile";

/** The region of the simulation if the stack does not set one. */
export const DEFAULT_REGION = "us-west-2";

/** The organization of the simulation, which has no Pulumi Cloud to ask for the stack's. */
export const ORGANIZATION = "acme";

/**
 * Returns the cluster, the service accounts, and the runner pools that must exist for the settings, and the namespaces that must not.
 */
export function assumedToExist({
  project,
  config,
}: StackFile): Pick<
  SimulationOptions,
  "account" | "cluster" | "serviceAccounts" | "newNamespaces" | "runners"
> {
  const entries = listIn(config[`${project}:serviceAccounts`]).filter(isObject);
  const [account] = listIn(config["aws:allowedAccountIds"]).map(String);
  return {
    account,
    // What the program creates replaces the cluster or its provider.
    cluster: { name: config[`${project}:clusterName`] ?? "", hasOidcProvider: true },
    serviceAccounts: entries
      .filter(({ createServiceAccount }) => createServiceAccount === false)
      .map(({ namespace, name }) => idOf({ namespace: String(namespace), name: String(name) })),
    newNamespaces: listIn(config[`${project}:createNamespaces`]).map(String),
    runners: entries
      .filter(({ runnerId, runnerName }) => runnerId && runnerName)
      .map(({ runnerId, runnerName }) => ({ id: String(runnerId), name: String(runnerName) })),
  };
}

/**
 * Returns whether only a real cluster knows the value of a claim. The emulated one knows the name of a Job's pod.
 *
 * @param claims of an ID token. Without a pod, it is for pods of which no one knows the names.
 */
export function isOnlyKnownToCluster(path: string, claims: Record<string, unknown>): boolean {
  const claim = path.replaceAll('"', "");
  if (claim === "kubernetes.io.pod.name") return !Object.hasOwn(Object(claims["kubernetes.io"]), "pod");
  return /^(iss|kubernetes\.io\.(serviceaccount\.uid|pod\..*|node\..*))$/.test(claim);
}

/** Returns the list in a setting. Invalid settings are for the program to report. */
function listIn(setting = ""): unknown[] {
  try {
    const list: unknown = JSON.parse(setting);
    return Array.isArray(list) ? list : [];
  } catch {
    return [];
  }
}

/** Returns what a reader should know about the settings of a stack before anything else. */
export function settingNotes({ project, config, environments }: StackFile): string[] {
  return [
    ...environmentNotes(environments),
    ...organizationNotes(config[`${project}:organization`] ?? ""),
    ...runnerNotes(listIn(config[`${project}:serviceAccounts`]).filter(isObject)),
  ];
}

/** Returns what the program cannot check of runner pools: Pulumi Cloud denies it later. */
function runnerNotes(entries: Record<string, unknown>[]): string[] {
  const runners = entries.filter(({ tokenType }) => tokenType === "runner");
  const withOneName = runners.filter(({ runnerId, runnerName }) => runnerId && runnerId === runnerName);
  return withOneName.map(({ runnerId }) => {
    return `runnerId and runnerName are both "${runnerId}": make sure that it is the pool's ID, not its name.`;
  });
}

const CHECK_PREVIEW = "To check with them: pulumi preview --policy-pack policy";

function environmentNotes(environments: string[]): string[] {
  if (environments.length === 0) return [];
  return [
    `environment is ignored: the simulation does not open ${environments.join(", ")}. Settings there are missing here. ${CHECK_PREVIEW}`,
  ];
}

/** @throws Error if a stack file lacks what every stack has, and imports environments, which can have it. */
export function requireSettings({ project, config, environments }: StackFile): void {
  const required = ["clusterName", "serviceAccounts"];
  const missing = required.filter((key) => !config[`${project}:${key}`]).join(" and ");
  if (environments.length === 0 || !missing) return;
  throw new Error(
    `Nothing was checked: ${missing} must come from the environment, and the simulation does not open ${environments.join(", ")}. ${CHECK_PREVIEW}`,
  );
}

function organizationNotes(organization: string): string[] {
  if (organization) return [];
  return [
    `organization is not set: the simulation uses "${ORGANIZATION}", and a preview uses the organization of the stack.`,
  ];
}

/** Returns what a reader should know about the region, in which the simulated cluster and its issuer are. */
export function regionNotes({ config: { "aws:region": region } }: StackFile): string[] {
  if (!region) {
    return [
      `aws:region is not set: the simulation uses ${DEFAULT_REGION}. \`pulumi preview\` uses the region of the environment or of the AWS profile, and fails if there is none.`,
    ];
  }
  const known: string[] = Object.values(Region);
  if (known.includes(region)) return [];
  return [`aws:region is ${region}, which is not a known region. Did you mean ${closest(region, known)}?`];
}

/** Says what the emulators assume of a service account: that it exists, and which rules they cannot compare. */
export function assumptionNotes(account: AccountSettings): string[] {
  const isRead = !account.createServiceAccount && account.runJob;
  // Whether its ID token is that of a pod.
  const claims = { "kubernetes.io": account.runJob ? { pod: {} } : {} };
  const rules = Object.entries(account.policyRules).filter(([path]) => isOnlyKnownToCluster(path, claims));
  return [
    ...(isRead ? ["assumed to exist: createServiceAccount is false"] : []),
    ...rules.map(([path, pattern]) => `assumed to match its pods: ${path} = ${pattern}`),
  ];
}
