// The emulated Kubernetes cluster: its objects, the EKS webhook, admission, and the pods of its Jobs.

import { randomUUID } from "node:crypto";
import type { types } from "@pulumi/kubernetes";
import { type Emulator, type Resource, randomSuffix, storedKind, Unready } from "./emulator";
import type { ClusterIssuer, PodIdentity } from "./issuer";
import { type PodOptions, type PodSpec, runPod } from "./pod";
import { violations } from "./podSecurity";

type Job = types.output.batch.v1.Job;
type ServiceAccount = types.output.core.v1.ServiceAccount;
type ConfigMap = types.output.core.v1.ConfigMap;

interface KubernetesObject {
  metadata?: {
    name?: string;
    generateName?: string;
    namespace?: string;
    annotations?: Record<string, string>;
  };
}

export interface KubernetesOptions
  extends Pick<PodOptions, "pulumiCloudUrl" | "certificateAuthorityFile" | "directory"> {
  /** Signs the ID tokens of the pods. */
  issuer: ClusterIssuer;
  region: string;
  /** The namespaces that exist already, and `NAMESPACE/NAME` of the service accounts. */
  namespaces: string[];
  serviceAccounts: string[];
  /** Runs instead of the command of every container, which belongs to its image. */
  command?: string[] | undefined;
  /** Is called with each line of a pod's log, and `NAMESPACE/NAME` of its service account. */
  onLog(line: string, account: string): void;
}

export interface Kubernetes extends Emulator {
  /** Returns the last pod of a service account, or one that could run as it. */
  podOf(namespace: string, serviceAccount: string): PodIdentity;
  /** Returns the data of a ConfigMap. */
  configMap(namespace: string, name: string): Record<string, string>;
}

/** Returns a cluster with the given objects. Each namespace has the service account `default`. */
export function startKubernetes(options: KubernetesOptions): Kubernetes {
  const namespaces = new Map<string, KubernetesObject>(options.namespaces.map((name) => [name, {}]));
  const serviceAccounts = new Map<string, KubernetesObject>();
  const configMaps = new Map<string, KubernetesObject>();
  const jobs = new Map<string, KubernetesObject>();
  const failedJobs = new Set<string>();
  const pods = new Map<string, PodIdentity>();
  for (const id of [...options.serviceAccounts, ...options.namespaces.map((name) => `${name}/default`)]) {
    const [namespace = "", name = ""] = id.split("/");
    serviceAccounts.set(id, { metadata: { namespace, name } });
  }
  const stores = [namespaces, serviceAccounts, configMaps, jobs];
  const existedBefore = new Set(stores.flatMap((store) => [...store.keys()]));

  const objects = (kind: string, store: Map<string, KubernetesObject>, replaceOn: string[] = []) =>
    storedKind(
      store,
      ["metadata.name", "metadata.namespace", ...replaceOn],
      ({ metadata = {} }) => {
        const { namespace = "default", generateName, name } = metadata;
        const id = `${namespace}/${name ?? `${generateName}${randomSuffix().slice(0, 5)}`}`;
        if (!namespaces.has(namespace)) throw new Error(`namespaces "${namespace}" not found`);
        if (!store.has(id)) return id;
        throw new Error(`resource ${id} was not successfully created: it already exists`);
      },
      (id, inputs) => outputsOf(kind, id, inputs),
    );

  function configMap(namespace: string, name: string): Record<string, string> {
    const found = configMaps.get(`${namespace}/${name}`) as ConfigMap | undefined;
    if (!found) throw new Error(`configmap "${name}" not found`);
    return found.data;
  }

  function podOf(namespace: string, serviceAccount: string): PodIdentity {
    const node = `ip-10-0-1-23.${options.region}.compute.internal`;
    const pod = `${serviceAccount}-${randomSuffix().slice(0, 5)}`;
    return pods.get(`${namespace}/${serviceAccount}`) ?? { namespace, serviceAccount, pod, node };
  }

  // The Kubernetes provider waits for a Job, and reports the termination message of a failed pod:
  // pulumi/pulumi-kubernetes, provider/pkg/await/checker/pod/check.go.
  async function runJob({ spec: { template, activeDeadlineSeconds = 3600 } }: Job, resource: Resource) {
    failedJobs.delete(resource.id);
    const [namespace = "", jobName] = resource.id.split("/");
    const fail = (reason: string) => {
      failedJobs.add(resource.id);
      throw new Unready(resource, [
        `resource ${resource.id} was successfully created, but the Kubernetes API server reported that it failed to fully initialize or become live: ${reason}`,
      ]);
    };
    const { spec } = template;
    const name = `${jobName}-${randomSuffix().slice(0, 5)}`;
    const account = `${namespace}/${spec.serviceAccountName ?? "default"}`;
    const serviceAccount = serviceAccounts.get(account);
    if (!serviceAccount) return fail(`error looking up service account ${account}: not found`);
    const violated = violations(spec).join(", ");
    if (violated) return fail(`pods "${name}" is forbidden: violates PodSecurity "restricted:latest": ${violated}`);

    const mutated = mutate(spec, serviceAccount as ServiceAccount, options.region);
    if (options.command) for (const container of mutated.containers) container.args = options.command;
    const pod = { ...podOf(namespace, spec.serviceAccountName), pod: name };
    pods.set(account, pod);
    const { exitCode, log } = await runPod({
      ...options,
      spec: mutated,
      deadlineSeconds: activeDeadlineSeconds,
      idToken: (audience) => options.issuer.token(pod, { audience: [audience] }),
      configMap: (configMapName) => configMap(namespace, configMapName),
      onLog: (line) => options.onLog(line, account),
    });
    if (exitCode === 0) return;
    const container = spec.containers[0];
    const message = log.slice(-80).join("\n").slice(-2048);
    const isReported = container?.terminationMessagePolicy === "FallbackToLogsOnError" && message;
    return fail(
      isReported
        ? `[Pod ${name}]: [Error] ${message}`
        : `container "${container?.name}" completed with exit code ${exitCode}`,
    );
  }

  const jobKind = objects("Job", jobs, ["spec.template"]);
  return {
    podOf,
    configMap,
    calls: {},
    existing: () => stores.flatMap((store) => [...store.keys()]).filter((id) => !existedBefore.has(id)),
    resources: {
      "kubernetes:core/v1:Namespace": storedKind(
        namespaces,
        ["metadata.name"],
        ({ metadata: { name = "" } = {} }) => {
          if (namespaces.has(name)) throw new Error(`namespaces "${name}" already exists`);
          return name;
        },
        (id, inputs) => outputsOf("Namespace", id, inputs),
      ),
      "kubernetes:core/v1:ServiceAccount": objects("ServiceAccount", serviceAccounts),
      "kubernetes:core/v1:ConfigMap": objects("ConfigMap", configMaps),
      "kubernetes:batch/v1:Job": {
        ...jobKind,
        async create(name, inputs) {
          const resource = await jobKind.create(name, inputs);
          await runJob(inputs as Job, resource);
          return resource;
        },
        async update(id, inputs) {
          const outputs = await jobKind.update(id, inputs);
          // A Job that has failed stays failed, and its reason is not reported again.
          if (!failedJobs.has(id)) return outputs;
          throw new Unready({ id, outputs }, [
            `the Kubernetes API server reported that "${id}" failed to fully initialize or become live: Job has failed`,
          ]);
        },
        // pulumi/pulumi-kubernetes, provider/pkg/provider/provider.go.
        isUnready: (id) =>
          failedJobs.has(id) && jobs.get(id)?.metadata?.annotations?.["pulumi.com/replaceUnready"] === "true",
      },
    },
  };
}

// The webhook changes a pod once, when it is created: aws/amazon-eks-pod-identity-webhook, pkg/handler/handler.go.
function mutate(spec: PodSpec, { metadata }: ServiceAccount, region: string): PodSpec {
  const roleArn = metadata?.annotations?.["eks.amazonaws.com/role-arn"];
  if (!roleArn) return structuredClone(spec);
  const directory = "/var/run/secrets/eks.amazonaws.com/serviceaccount";
  const env = [
    { name: "AWS_REGION", value: region },
    { name: "AWS_ROLE_ARN", value: roleArn },
    { name: "AWS_WEB_IDENTITY_TOKEN_FILE", value: `${directory}/token` },
  ];
  const serviceAccountToken = { audience: "sts.amazonaws.com", expirationSeconds: 86400, path: "token" };
  const volume = { name: "aws-iam-token", projected: { sources: [{ serviceAccountToken }] } };
  const mount = { name: volume.name, mountPath: directory, readOnly: true };
  const containers = spec.containers.map((container) => ({
    ...container,
    env: [...(container.env ?? []), ...env],
    volumeMounts: [...(container.volumeMounts ?? []), mount],
  }));
  return structuredClone({ ...spec, containers, volumes: [...(spec.volumes ?? []), volume] }) as PodSpec;
}

function outputsOf(kind: string, id: string, inputs: KubernetesObject): object {
  const [name, namespace] = id.split("/").reverse();
  return {
    kind,
    ...inputs,
    metadata: { ...inputs.metadata, name, ...(namespace && { namespace }), uid: randomUUID() },
  };
}
