// the simulation: one AWS account, its EKS cluster and issuer, another cluster's issuer, and Pulumi Cloud.

import { join } from "node:path";
import type { Runner } from "./authPolicy";
import { type Aws, startAws } from "./aws";
import { openCertificateAuthority } from "./certificates";
import type { Emulator } from "./emulator";
import { type ClusterIssuer, startIssuer } from "./issuer";
import { type Kubernetes, startKubernetes } from "./kubernetes";
import { type PulumiCloud, startPulumiCloud } from "./pulumiCloud";

export interface SimulationOptions {
  /** The folder that `saveCertificateAuthority` has filled. */
  folder: string | undefined;
  region: string;
  /** The cluster that exists already; undefined where the stack makes it. */
  cluster: { name: string; hasOidcProvider: boolean } | undefined;
  /** Those that exist beside `default`. */
  namespaces?: string[];
  /** `NAMESPACE/NAME` of the service accounts that exist already, beside each namespace's `default`. */
  serviceAccounts?: string[];
  runners?: Runner[];
  /** How long the registration of an issuer takes; a second when left out. */
  registrationMilliseconds?: number;
  /** Runs in the pods in place of the command of the stack. */
  command?: string[];
  /** Is called with each line of a pod's log, and `NAMESPACE/NAME` of its service account. */
  onLog?(line: string, account: string): void;
}

export interface Simulation {
  aws: Aws;
  kubernetes: Kubernetes;
  pulumiCloud: PulumiCloud;
  issuer: ClusterIssuer;
  /** The issuer of a cluster that nobody registered. */
  otherIssuer: ClusterIssuer;
  /** What all emulators together keep and answer. */
  resources: Emulator["resources"];
  calls: Emulator["calls"];
  /** What exists, for each emulator. */
  existing(): { aws: string[]; kubernetes: string[]; pulumiCloud: string[] };
  close(): Promise<void>;
}

/** Starts a simulation with nothing of the stack in it. Its servers listen on the loopback address alone. */
export async function startSimulation(options: SimulationOptions): Promise<Simulation> {
  const authority = await openCertificateAuthority(options.folder);
  const [issuer, otherIssuer, pulumiCloud] = await Promise.all([
    startIssuer(authority),
    startIssuer(authority),
    startPulumiCloud(authority, {
      runners: options.runners ?? [],
      registrationMilliseconds: options.registrationMilliseconds ?? 1000,
    }),
  ]);
  const aws = startAws({ region: options.region, issuerUrl: issuer.url, cluster: options.cluster });
  const kubernetes = startKubernetes({
    issuer,
    region: options.region,
    namespaces: [...new Set(["default", ...(options.namespaces ?? [])])],
    serviceAccounts: options.serviceAccounts ?? [],
    pulumiCloudUrl: pulumiCloud.url,
    command: options.command,
    certificateAuthorityFile: join(options.folder ?? "", "ca.pem"),
    directory: options.folder ?? "",
    onLog: options.onLog ?? (() => {}),
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

// What the pulumiservice provider adds to the API: pulumi/pulumi-pulumiservice, provider/pkg/resources/oidc_issuer.go.
function oidcIssuerResource(pulumiCloud: PulumiCloud): Emulator["resources"] {
  type Registration = Parameters<PulumiCloud["register"]>[0];
  return {
    "pulumiservice:index:OidcIssuer": {
      replaceOn: ["organization", "url"],
      async create(name, inputs: Registration) {
        const { id, registration } = await pulumiCloud.register(inputs).catch((error: Error) => {
          throw new Error(
            `error creating oidc issuer "${name}": failed to register oidc issuer '${inputs.name}': ${error.message}`,
          );
        });
        return { id, outputs: registration };
      },
      async update(id, inputs: Registration) {
        return pulumiCloud.update(id, inputs);
      },
      read: (id) => pulumiCloud.read(id),
      delete: (id) => pulumiCloud.remove(id),
    },
  };
}
