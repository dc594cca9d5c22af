// What the settings of a stack take for granted: it exists in the simulation before the stack does.

import { isRecord } from "./emulators/authPolicy";
import type { SimulationOptions } from "./emulators/simulation";
import type { StackFile } from "./stackFile";

/** Returns the cluster, the service accounts, and the runner pools that exist already. */
export function assumedToExist({
  project,
  config,
}: StackFile): Pick<SimulationOptions, "cluster" | "serviceAccounts" | "runners"> {
  const stack = (key: string) => config[`${project}:${key}`] ?? "";
  const cluster = { name: stack("clusterName"), hasOidcProvider: stack("createOidcProvider") !== "true" };
  const entries = entriesOf(stack("serviceAccounts"));
  const accounts = (entries.length > 0 ? entries : [{}]).map(
    (entry: Record<string, unknown>) => (key: string) => String(entry[key] ?? "") || stack(key),
  );
  return {
    cluster: stack("createCluster") === "true" ? undefined : cluster,
    serviceAccounts: accounts
      .filter((account) => account("createServiceAccount") === "false")
      .map((account) => `${account("namespace")}/${account("name") || account("serviceAccountName")}`),
    runners: accounts.map((account) => ({ id: account("runnerId"), name: account("runnerName") })),
  };
}

// Invalid settings are for the program to report.
function entriesOf(serviceAccounts: string): Record<string, unknown>[] {
  try {
    return [JSON.parse(serviceAccounts)].flat().filter(isRecord);
  } catch {
    return [];
  }
}
