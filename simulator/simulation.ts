// The simulation: the emulated AWS account, its EKS cluster and issuer, another cluster's issuer, and Pulumi Cloud.

import { join } from "node:path";
import type { Runner } from "./authPolicy";
import { type Aws, type AwsOptions, startAws } from "./aws";
import { openCertificateAuthority } from "./certificates";
import type { Emulator } from "./emulator";
import { type ClusterIssuer, startIssuer } from "./issuer";
import { type Kubernetes, startKubernetes } from "./kubernetes";
import { type IssuerRegistration, type PulumiCloud, startPulumiCloud } from "./pulumiCloud";

export interface SimulationOptions extends Omit<AwsOptions, "issuerUrl"> {
  /** The directory that `saveCertificateAuthority` has filled: by default SIMULATOR_DIRECTORY. */
  directory?: string | undefined;
  /** The namespaces that exist already, beside those of every cluster. */
  namespaces?: string[];
  /** `NAMESPACE/NAME`, beside each namespace's `default`. */
  serviceAccounts?: string[];
  runners?: Runner[];
  /** How long the registration of an issuer takes; by default a second. */
  registrationMilliseconds?: number;
  /** Runs in the pods instead of their own command. */
  command?: string[];
  /** Is called with each line of a pod's log, and `NAMESPACE/NAME` of its service account. */
  onLog?(line: string, account: string): void;
}

export interface Simulation {
  aws: Aws;
  kubernetes: Kubernetes;
  pulumiCloud: PulumiCloud;
  issuer: ClusterIssuer;
  /** The issuer of a cluster that is not registered. */
  otherIssuer: ClusterIssuer;
  /** Those of all emulators. */
  resources: Emulator["resources"];
  calls: Emulator["calls"];
  /** Returns what the stack has created in each emulator. */
  existing(): { aws: string[]; kubernetes: string[]; pulumiCloud: string[] };
  close(): Promise<void>;
}

const INITIAL_NAMESPACES = ["default", "kube-system", "kube-public", "kube-node-lease"];

/** Starts a simulation in which nothing of the stack exists. Its servers listen only on the loopback address. */
export async function startSimulation(options: SimulationOptions): Promise<Simulation> {
  const { directory = process.env.SIMULATOR_DIRECTORY ?? "", onLog = () => {} } = options;
  const authority = await openCertificateAuthority(directory);
  const [issuer, otherIssuer, pulumiCloud] = await Promise.all([
    startIssuer(authority),
    startIssuer(authority),
    startPulumiCloud(authority, options),
  ]);
  const aws = startAws({ ...options, issuerUrl: issuer.url });
  const kubernetes = startKubernetes({
    ...options,
    issuer,
    namespaces: [...new Set([...INITIAL_NAMESPACES, ...(options.namespaces ?? [])])],
    serviceAccounts: options.serviceAccounts ?? [],
    pulumiCloudUrl: pulumiCloud.url,
    certificateAuthorityFile: join(directory, "ca.pem"),
    directory,
    onLog,
  });
  return {
    aws,
    kubernetes,
    pulumiCloud,
    issuer,
    otherIssuer,
    resources: { ...aws.resources, ...kubernetes.resources, ...oidcIssuerResource(pulumiCloud) },
    calls: aws.calls,
    existing: () => ({
      aws: aws.existing(),
      kubernetes: kubernetes.existing(),
      pulumiCloud: pulumiCloud.list().map(({ id }) => id),
    }),
    async close() {
      await Promise.all([issuer.close(), otherIssuer.close(), pulumiCloud.close()]);
    },
  };
}

// What the provider adds to the API: pulumi/pulumi-pulumiservice, provider/pkg/resources/oidc_issuer.go.
function oidcIssuerResource(pulumiCloud: PulumiCloud): Emulator["resources"] {
  return {
    "pulumiservice:index:OidcIssuer": {
      replaceOn: ["organization", "url"],
      async create(name, inputs: IssuerRegistration) {
        const { id, registration } = await pulumiCloud.register(inputs).catch(({ message }: Error) => {
          const what = `error creating oidc issuer "${name}": failed to register oidc issuer '${inputs.name}'`;
          throw new Error(`${what}: ${message}`);
        });
        return { id, outputs: registration };
      },
      update: (id, inputs: IssuerRegistration) => pulumiCloud.update(id, inputs),
      read: (id) => pulumiCloud.read(id),
      delete: (id) => pulumiCloud.remove(id),
    },
  };
}
