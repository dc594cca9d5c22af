// The program on a simulation, with the SDK's mocks.

import { configOf } from "../support/rawSettings";
import { type Registration, runProgram } from "./runProgram";
import { type Simulation, type SimulationOptions, startSimulation } from "./simulation";

export type Settings = Record<string, unknown>;

/** The cluster of a stack in these tests. */
export const CLUSTER = { name: "my-cluster", hasOidcProvider: true };

/** Starts a simulation with a cluster, on which every Job succeeds at once. */
export function startCluster(options: Partial<SimulationOptions> = {}): Promise<Simulation> {
  return startSimulation({
    region: "us-west-2",
    cluster: CLUSTER,
    registrationMilliseconds: 0,
    runPod: async () => ({ exitCode: 0, log: [] }),
    ...options,
  });
}

/** Runs the program with these settings on top of the required ones. @returns what it registers. */
export function run(simulation: Simulation, settings: Settings = {}): Promise<Registration[]> {
  const serviceAccounts = [entry({ awsRole: "irsa" })];
  const required = { clusterName: CLUSTER.name, serviceAccounts, "aws:region": "us-west-2" };
  const project = "eks-pulumi-oidc";
  const config = configOf(project, { ...required, ...settings });
  return runProgram(simulation, { project, stack: "dev", organization: "acme", config });
}

/** Returns an entry of `serviceAccounts` with a personal token, or with the token that the settings describe. */
export function entry(settings: Settings = {}): Settings {
  const personal = { tokenType: "personal", userLogin: "my-login" };
  const token = "tokenType" in settings ? {} : personal;
  return { namespace: "default", name: "pulumi-service-account", ...token, ...settings };
}
