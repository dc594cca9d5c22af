// The emulated Kubernetes cluster: its objects, and the pods of its Jobs.

import { randomUUID } from "node:crypto";
import type { types } from "@pulumi/kubernetes";
import type { ClusterIssuer } from "../../simulator/pulumiCloud";
import type { PodOptions, PodRun } from "../support/podSpec";
import { type Emulator, type Resource, type ResourceKind, storedKind, Unready } from "./emulator";

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
  /** `NAMESPACE/NAME` of the service accounts that exist already. */
  serviceAccounts: string[];
  /** The namespaces that do not exist yet. Any other one does. */
  newNamespaces?: string[];
  /** Runs the pod of a Job. */
  runPod: (options: PodOptions) => Promise<PodRun>;
}

const NAMESPACE = "core/v1:Namespace";
const SERVICE_ACCOUNT = "core/v1:ServiceAccount";
const CONFIG_MAP = "core/v1:ConfigMap";
const JOB = "batch/v1:Job";
/** The objects that the program creates, as in Pulumi's types. */
export const KINDS = [
  NAMESPACE,
  SERVICE_ACCOUNT,
  CONFIG_MAP,
  JOB,
  // Only stored: they change no pod of the simulation.
  "admissionregistration.k8s.io/v1:MutatingAdmissionPolicy",
  "admissionregistration.k8s.io/v1:MutatingAdmissionPolicyBinding",
];

const SUFFIX = [..."bcdfghjklmnpqrstvwxz2456789"];

/**
 * Returns the name of a pod of a Job, which Kubernetes generates:
 * https://github.com/kubernetes/kubernetes/blob/v1.36.3/staging/src/k8s.io/apiserver/pkg/storage/names/generate.go
 */
function podName(jobName: string): string {
  const suffix = Array.from({ length: 5 }, () => SUFFIX[Math.floor(Math.random() * SUFFIX.length)]);
  return `${jobName}-`.slice(0, 63 - suffix.length) + suffix.join("");
}

/** Returns the ID of an object: `NAMESPACE/NAME`, or `NAME` of one without a namespace. */
export function idOf({ namespace, name }: { namespace?: string | undefined; name: string }): string {
  return namespace ? `${namespace}/${name}` : name;
}

/** Returns a cluster with the given service accounts. */
export function startKubernetes(options: KubernetesOptions): Emulator {
  const { issuer, newNamespaces = [], runPod } = options;
  const stores = new Map(KINDS.map((kind) => [kind, new Map<string, KubernetesObject>()]));
  for (const id of options.serviceAccounts) {
    const [namespace = "", name = ""] = id.split("/");
    stores.get(SERVICE_ACCOUNT)?.set(id, { metadata: { namespace, name } });
  }

  // kubernetes/kubernetes, staging/src/k8s.io/apiserver/pkg/admission/plugin/namespace/lifecycle/admission.go at
  // 04791b4906602ffda5ccf9bc4c84d3329f1d7080; pulumi/pulumi-kubernetes, provider/pkg/provider/provider.go at
  // 94977969d64112b04e19945818a7d5d5f38f631d (Create).
  function requireNamespace(id: string, namespace = ""): void {
    if (!newNamespaces.includes(namespace) || stores.get(NAMESPACE)?.has(namespace)) return;
    const reason = `namespaces "${namespace}" not found`;
    throw new Error(`resource ${id} was not successfully created by the Kubernetes API server: ${reason}`);
  }

  /** Returns the data of a ConfigMap, in which the emulated Pulumi Cloud replaces that of the program. */
  function configMap(namespace: string, name: string): Record<string, string> {
    const found = stores.get(CONFIG_MAP)?.get(idOf({ namespace, name })) as ConfigMap | undefined;
    if (!found) throw new Error(`configmap "${name}" not found`);
    return found.data.apiUrl ? { ...found.data, apiUrl: options.apiUrl } : found.data;
  }

  // The Kubernetes provider waits for a Job, and reports the termination message of a failed pod:
  // pulumi/pulumi-kubernetes, provider/pkg/await/checker/pod/check.go.
  async function runJob({ spec: { template } }: Job, resource: Resource): Promise<void> {
    const fail = (reason: string, pod = "") => {
      const created = `resource ${resource.id} was successfully created`;
      const failed = "the Kubernetes API server reported that it failed to fully initialize or become live";
      throw new Unready(`${created}, but ${failed}: ${pod}${reason}`, resource, reason);
    };
    const { spec } = template;
    const [namespace = "", jobName = ""] = resource.id.split("/");
    const account = idOf({ namespace, name: spec.serviceAccountName });
    // The cluster itself creates the service account default in every namespace.
    const exists = spec.serviceAccountName === "default" || stores.get(SERVICE_ACCOUNT)?.has(account);
    if (!exists) return fail(`error looking up service account ${account}: not found`);

    const pod = podName(jobName);
    const identity = { namespace, serviceAccount: spec.serviceAccountName };
    const { exitCode, log } = await runPod({
      spec,
      idToken: (audience, expiresIn) => issuer.token(identity, audience, expiresIn),
      configMap: (name) => configMap(namespace, name),
    });
    if (exitCode !== 0) fail(log.join("\n"), `[Pod ${pod}]: [Error] `);
  }

  function kindOf(kind: string, store: Map<string, KubernetesObject>): ResourceKind {
    const uids = new Map([...store.keys()].map((id) => [id, randomUUID()]));
    const withUid = (id: string, object: KubernetesObject) => {
      return { ...object, metadata: { ...object.metadata, uid: uids.get(id) } };
    };
    const kept = storedKind(
      store,
      ({ metadata: { namespace, name = "" } = {} }) => {
        const id = idOf({ namespace, name });
        requireNamespace(id, namespace);
        if (!store.has(id)) {
          uids.set(id, randomUUID());
          return id;
        }
        throw new Error(`resource ${id} was not successfully created: it already exists`);
      },
      withUid,
    );
    const stored = {
      ...kept,
      read(id: string) {
        const object = store.get(id);
        return object && withUid(id, object);
      },
    };
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
    calls: {},
    existing: () => [...stores.values()].flatMap((store) => [...store.keys()]),
    resources: Object.fromEntries(
      [...stores].map(([kind, store]) => [`kubernetes:${kind}`, kindOf(kind, store)]),
    ),
  };
}
