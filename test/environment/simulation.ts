// The simulation: the emulated AWS account, its EKS cluster and issuer, and Pulumi Cloud.

import { type ClusterIssuer, createIssuer, eksIssuerUrl } from "../../simulator/issuer";
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

/** Starts a simulation in which nothing of the stack exists. Its server listens only on the loopback address. */
export async function startSimulation(options: SimulationOptions): Promise<Simulation> {
  const issuer = createIssuer(options.issuerUrl ?? eksIssuerUrl(options.region));
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
