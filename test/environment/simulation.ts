// The simulation: the emulated AWS account, its EKS cluster and issuer, and Pulumi Cloud.

import { randomBytes } from "node:crypto";
import { type ClusterIssuer, createIssuer } from "../../simulator/pulumiCloud";
import { type AwsOptions, startAws } from "./aws";
import type { Emulator } from "./emulator";
import { type KubernetesOptions, startKubernetes } from "./kubernetes";
import { type PulumiCloud, type PulumiCloudOptions, startPulumiCloud } from "./pulumiCloud";

export interface SimulationOptions
  extends Omit<AwsOptions, "issuerUrl">,
    Omit<PulumiCloudOptions, "keysOf">,
    Pick<KubernetesOptions, "runPod">,
    Partial<Pick<KubernetesOptions, "serviceAccounts" | "newNamespaces">> {
  /** The cluster's issuer, by default in the form of EKS. */
  issuerUrl?: string;
}

export interface Simulation {
  aws: Emulator;
  kubernetes: Emulator;
  pulumiCloud: PulumiCloud;
  issuer: ClusterIssuer;
  /** Those of all emulators. */
  resources: Emulator["resources"];
  calls: Emulator["calls"];
  /** Returns what the stack has created in each emulator. */
  existing(): { aws: string[]; kubernetes: string[]; pulumiCloud: string[] };
  close(): Promise<void>;
}

/** Returns the URL of an issuer in the form of EKS, with a new ID. */
export function eksIssuerUrl(region: string): string {
  return `https://oidc.eks.${region}.amazonaws.com/id/${randomBytes(16).toString("hex").toUpperCase()}`;
}

/** Starts a simulation in which nothing of the stack exists. Its server listens only on the loopback address. */
export async function startSimulation(options: SimulationOptions): Promise<Simulation> {
  const issuer = await createIssuer(options.issuerUrl ?? eksIssuerUrl(options.region));
  const pulumiCloud = await startPulumiCloud({ ...options, keysOf: async () => issuer.keys });
  const aws = startAws({ ...options, issuerUrl: issuer.url });
  const kubernetes = startKubernetes({
    serviceAccounts: [],
    ...options,
    issuer,
    apiUrl: pulumiCloud.apiUrl,
  });
  return {
    aws,
    kubernetes,
    pulumiCloud,
    issuer,
    resources: { ...aws.resources, ...kubernetes.resources, ...pulumiCloud.resources },
    calls: aws.calls,
    existing: () => ({
      aws: aws.existing(),
      kubernetes: kubernetes.existing(),
      pulumiCloud: pulumiCloud.existing(),
    }),
    close: pulumiCloud.close,
  };
}
