// The emulated Kubernetes cluster: its objects, and the pods of its Jobs.

import { randomUUID } from "node:crypto";
import type { types } from "@pulumi/kubernetes";
import {
  type Emulator,
  type Resource,
  type ResourceKind,
  randomSuffix,
  storedKind,
  Unready,
} from "./emulator";
import type { ClusterIssuer, PodIdentity } from "./issuer";
import { type PodOptions, type PodRun, type PodSpec, runExchange } from "./pod";

type Job = types.output.batch.v1.Job;
type ConfigMap = types.output.core.v1.ConfigMap;

interface KubernetesObject {
  metadata?: { name?: string; namespace?: string };
}

export interface KubernetesOptions {
  /** Replaces the `apiUrl` that pods mount. */
  apiUrl: string;
  /** Signs the ID tokens of the pods. */
  issuer: ClusterIssuer;
  region: string;
  /** `NAMESPACE/NAME` of the service accounts that exist already. */
  serviceAccounts: string[];
  /** What each Job runs after the token exchange, instead of its own command. */
  command?: string[];
  /** Runs the pod of a Job. By default, it runs the exchange script and `command`, and nothing else of its spec. */
  runPod?: (options: PodOptions) => Promise<PodRun>;
  /** Is called with each line of a pod's log, and `NAMESPACE/NAME` of its service account. */
  onLog(line: string, account: string): void;
}

export interface Kubernetes extends Emulator {
  /** Returns the last pod of a service account, or one that could run as it. */
  podOf(namespace: string, serviceAccount: string): PodIdentity;
}

const SERVICE_ACCOUNT = "core/v1:ServiceAccount";
const CONFIG_MAP = "core/v1:ConfigMap";
const JOB = "batch/v1:Job";
/** The objects that the program creates, as in Pulumi's types. */
export const KINDS = [
  "core/v1:Namespace",
  SERVICE_ACCOUNT,
  CONFIG_MAP,
  JOB,
  // Only stored: the pods of the simulation have everything already.
  "admissionregistration.k8s.io/v1:MutatingAdmissionPolicy",
  "admissionregistration.k8s.io/v1:MutatingAdmissionPolicyBinding",
];

const WHOAMI = ["bash", "-c", "echo '$ pulumi whoami' && pulumi whoami"];

/** Returns a cluster with the given service accounts. Namespaces that the stack does not create exist. */
export function startKubernetes(options: KubernetesOptions): Kubernetes {
  const stores = new Map(KINDS.map((kind) => [kind, new Map<string, KubernetesObject>()]));
  const pods = new Map<string, PodIdentity>();
  for (const id of options.serviceAccounts) {
    const [namespace = "", name = ""] = id.split("/");
    stores.get(SERVICE_ACCOUNT)?.set(id, { metadata: { namespace, name } });
  }

  function configMap(namespace: string, name: string): Record<string, string> {
    const found = stores.get(CONFIG_MAP)?.get(`${namespace}/${name}`) as ConfigMap | undefined;
    if (!found) throw new Error(`configmap "${name}" not found`);
    return found.data;
  }

  function podOf(namespace: string, serviceAccount: string): PodIdentity {
    const node = `ip-10-0-1-23.${options.region}.compute.internal`;
    const pod = `${serviceAccount}-${randomSuffix().slice(0, 5)}`;
    return pods.get(`${namespace}/${serviceAccount}`) ?? { namespace, serviceAccount, pod, node };
  }

  /** Runs a pod. Its name is that of the Job with a suffix. */
  async function runPodOf(namespace: string, jobName: string, spec: PodSpec) {
    const { command = WHOAMI, runPod = runExchange } = options;
    const account = `${namespace}/${spec.serviceAccountName}`;
    const name = `${jobName}-${randomSuffix().slice(0, 5)}`;
    const pod = { ...podOf(namespace, spec.serviceAccountName), pod: name };
    pods.set(account, pod);

    const run = await runPod({
      spec,
      command,
      idToken: (audience, expiresIn) => options.issuer.token(pod, { audience: [audience], expiresIn }),
      configMap(configMapName) {
        const data = configMap(namespace, configMapName);
        // The emulated Pulumi Cloud replaces the stack's.
        return data.apiUrl ? { ...data, apiUrl: options.apiUrl } : data;
      },
      onLog: (line) => options.onLog(line, account),
    });
    return { name, ...run };
  }

  // The Kubernetes provider waits for a Job, and reports the termination message of a failed pod:
  // pulumi/pulumi-kubernetes, provider/pkg/await/checker/pod/check.go.
  async function runJob({ spec: { template } }: Job, resource: Resource): Promise<void> {
    const fail = (reason: string) => {
      const created = `resource ${resource.id} was successfully created`;
      const failed = "the Kubernetes API server reported that it failed to fully initialize or become live";
      throw new Unready(`${created}, but ${failed}: ${reason}`, resource);
    };
    const { spec } = template;
    const [namespace = "", jobName = ""] = resource.id.split("/");
    const account = `${namespace}/${spec.serviceAccountName}`;
    // The cluster itself creates the service account default in every namespace.
    const exists = spec.serviceAccountName === "default" || stores.get(SERVICE_ACCOUNT)?.has(account);
    if (!exists) return fail(`error looking up service account ${account}: not found`);

    const { name, exitCode, log } = await runPodOf(namespace, jobName, spec);
    if (exitCode !== 0) fail(`[Pod ${name}]: [Error] ${log.join("\n")}`);
  }

  function kindOf(kind: string, store: Map<string, KubernetesObject>): ResourceKind {
    const stored = storedKind(
      store,
      ({ metadata: { namespace, name = "" } = {} }) => {
        const id = namespace ? `${namespace}/${name}` : name;
        if (!store.has(id)) return id;
        throw new Error(`resource ${id} was not successfully created: it already exists`);
      },
      (_id, inputs) => ({ ...inputs, metadata: { ...inputs.metadata, uid: randomUUID() } }),
    );
    if (kind !== JOB) return stored;
    return {
      ...stored,
      async create(name, inputs) {
        const resource = await stored.create(name, inputs);
        await runJob(inputs as Job, resource);
        return resource;
      },
    };
  }

  return {
    podOf,
    calls: {},
    existing: () => [...stores.values()].flatMap((store) => [...store.keys()]),
    resources: Object.fromEntries(
      [...stores].map(([kind, store]) => [`kubernetes:${kind}`, kindOf(kind, store)]),
    ),
  };
}
