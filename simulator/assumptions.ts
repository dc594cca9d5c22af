// What the settings of a stack take for granted: it exists in the simulation before the stack does.

import { isRecord } from "./emulators/authPolicy";
import type { SimulationOptions } from "./emulators/simulation";
import type { StackFile } from "./stackFile";

type Assumptions = Pick<SimulationOptions, "cluster" | "serviceAccounts" | "runners">;

/** Returns the cluster, the service accounts, and the runner pools that exist already. */
export function assumedToExist({ project, config }: StackFile): Assumptions {
  const setting = (key: string) => config[`${project}:${key}`] ?? "";
  const cluster = { name: setting("clusterName"), hasOidcProvider: setting("createOidcProvider") !== "true" };
  const entries = entriesOf(setting("serviceAccounts"));
  return {
    cluster: setting("createCluster") === "true" ? undefined : cluster,
    serviceAccounts: entries
      .filter(({ createServiceAccount }) => createServiceAccount === false)
      .map(({ namespace, name }) => `${namespace}/${name}`),
    runners: entries
      .filter(({ runnerId, runnerName }) => runnerId && runnerName)
      .map(({ runnerId, runnerName }) => ({ id: String(runnerId), name: String(runnerName) })),
  };
}

/** Returns the entries of `serviceAccounts`. Invalid settings are for the program to report. */
function entriesOf(serviceAccounts: string): Record<string, unknown>[] {
  try {
    const entries: unknown = JSON.parse(serviceAccounts);
    return Array.isArray(entries) ? entries.filter(isRecord) : [];
  } catch {
    return [];
  }
}
