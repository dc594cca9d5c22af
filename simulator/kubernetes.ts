// Kubernetes of the simulation: its objects, the EKS pod identity webhook, admission, and the Job's one pod.

import { randomUUID } from "node:crypto";
import type { types } from "@pulumi/kubernetes";
import { type Emulator, type Resource, randomSuffix, Unready } from "./emulator";
import type { ClusterIssuer } from "./issuer";
import { type PodSpec, runPod } from "./pod";
import { violations } from "./podSecurity";

type Job = types.output.batch.v1.Job;
type ServiceAccount = types.output.core.v1.ServiceAccount;
type ConfigMap = types.output.core.v1.ConfigMap;
type Namespace = types.output.core.v1.Namespace;

interface KubernetesObject {
  metadata?: {
    name?: string;
    generateName?: string;
    namespace?: string;
    annotations?: Record<string, string>;
  };
}

export interface KubernetesOptions {
  /** Signs the tokens of the pods. */
  issuer: ClusterIssuer;
  region: string;
  namespaces: string[];
  pulumiCloudUrl: string;
  certificateAuthorityFile: string;
  /** Runs in place of every container's own arguments, which belong to an image that is not here. */
  command?: string[] | undefined;
  /** Hears each line of a pod's log as it comes. */
  onLog(line: string): void;
}

export interface Kubernetes extends Emulator {
  /** The last pod that ran, as the webhook left it. */
  lastPod(): Pod | undefined;
}

export interface Pod {
  name: string;
  namespace: string;
  serviceAccount: string;
  node: string;
  spec: PodSpec;
}

/** What the provider waits for once an object is there. */
interface Waits<Kind> {
  created?(object: Kind, resource: Resource): Promise<void>;
  updated?(object: Kind, resource: Resource): Promise<void>;
}

const WEBHOOK_FOLDER = "/var/run/secrets/eks.amazonaws.com/serviceaccount";

/** Starts a cluster with the given namespaces and nothing in them. */
export function startKubernetes(options: KubernetesOptions): Kubernetes {
  const namespaces = new Set(options.namespaces);
  const serviceAccounts = new Map<string, ServiceAccount>();
  const configMaps = new Map<string, ConfigMap>();
  const jobs = new Map<string, Job>();
  const failedJobs = new Set<string>();
  let lastPod: Pod | undefined;

  const node = `ip-10-0-1-23.${options.region}.compute.internal`;

  /** What all objects of a namespace have in common. */
  function objects<Kind extends KubernetesObject>(
    kind: string,
    store: Map<string, Kind>,
    replaceOn: string[],
    { created, updated }: Waits<Kind> = {},
  ) {
    return {
      replaceOn: ["metadata.name", "metadata.namespace", ...replaceOn],
      check: named,
      async create(name: string, program: Kind) {
        const inputs = named(name, program);
        const { generateName, namespace = "default" } = inputs.metadata ?? {};
        const objectName = inputs.metadata?.name ?? `${generateName}${randomSuffix().slice(0, 5)}`;
        const id = `${namespace}/${objectName}`;
        if (!namespaces.has(namespace)) throw new Error(`namespaces "${namespace}" not found`);
        if (store.has(id)) throw new Error(`resource ${id} was not successfully created: it already exists`);

        store.set(id, inputs);
        const resource = { id, outputs: outputsOf(kind, id, inputs) };
        await created?.(inputs, resource);
        return resource;
      },
      async update(id: string, inputs: Kind) {
        store.set(id, inputs);
        const resource = { id, outputs: outputsOf(kind, id, inputs) };
        await updated?.(inputs, resource);
        return resource.outputs;
      },
      read: (id: string) => store.get(id),
      delete: (id: string) => void store.delete(id),
    };
  }

  // The webhook mutates a pod once, when it is created: aws/amazon-eks-pod-identity-webhook, pkg/handler/handler.go.
  function mutate(spec: PodSpec, serviceAccount: ServiceAccount): PodSpec {
    const annotations = serviceAccount.metadata?.annotations ?? {};
    const roleArn = annotations["eks.amazonaws.com/role-arn"];
    if (!roleArn) return structuredClone(spec);

    const audience = annotations["eks.amazonaws.com/audience"] ?? "sts.amazonaws.com";
    const serviceAccountToken = { audience, expirationSeconds: 86400, path: "token" };
    const variables = [
      { name: "AWS_REGION", value: options.region },
      { name: "AWS_ROLE_ARN", value: roleArn },
      { name: "AWS_WEB_IDENTITY_TOKEN_FILE", value: `${WEBHOOK_FOLDER}/token` },
    ];
    const mutated = structuredClone(spec);
    mutated.volumes = [
      ...(mutated.volumes ?? []),
      {
        name: "aws-iam-token",
        projected: { sources: [{ serviceAccountToken }] },
      } as PodSpec["volumes"][number],
    ];
    for (const container of mutated.containers) {
      container.env = [...(container.env ?? []), ...variables] as typeof container.env;
      container.volumeMounts = [
        ...(container.volumeMounts ?? []),
        {
          name: "aws-iam-token",
          mountPath: WEBHOOK_FOLDER,
          readOnly: true,
        } as (typeof container.volumeMounts)[number],
      ];
    }
    return mutated;
  }

  // The Kubernetes provider waits for a Job, and says of a pod that failed what its termination message says:
  // pulumi/pulumi-kubernetes, provider/pkg/await/checker/pod/check.go.
  async function runJob(job: Job, resource: Resource): Promise<void> {
    const [namespace = "", jobName] = resource.id.split("/");
    const name = `${jobName}-${randomSuffix().slice(0, 5)}`;
    const spec = job.spec.template.spec;
    const fail = (reason: string) => {
      failedJobs.add(resource.id);
      throw new Unready(resource, [
        `resource ${resource.id} was successfully created, but the Kubernetes API server reported that it failed to fully initialize or become live: ${reason}`,
      ]);
    };

    const accountName = spec.serviceAccountName ?? "default";
    const serviceAccount = serviceAccounts.get(`${namespace}/${accountName}`);
    if (!serviceAccount)
      return fail(`error looking up service account ${namespace}/${accountName}: not found`);
    const forbidden = violations(spec);
    if (forbidden.length > 0) {
      return fail(
        `pods "${name}" is forbidden: violates PodSecurity "restricted:latest": ${forbidden.join(", ")}`,
      );
    }

    const mutated = mutate(spec, serviceAccount);
    if (options.command) for (const container of mutated.containers) container.args = options.command;
    lastPod = { name, namespace, serviceAccount: accountName, node, spec: mutated };
    const { exitCode, log } = await runPod({
      ...options,
      spec: mutated,
      deadlineSeconds: job.spec.activeDeadlineSeconds ?? 3600,
      idToken: (audience) =>
        options.issuer.token(
          { namespace, serviceAccount: accountName, pod: name, node },
          { audience: [audience] },
        ),
      configMap(configMap) {
        const data = configMaps.get(`${namespace}/${configMap}`)?.data;
        if (!data) throw new Error(`configmap "${configMap}" not found`);
        return data;
      },
    });
    if (exitCode === 0) return;

    const container = spec.containers[0];
    const fallsBack = container?.terminationMessagePolicy === "FallbackToLogsOnError";
    const message = log.slice(-80).join("\n").slice(-2048);
    return fail(
      fallsBack && message
        ? `[Pod ${name}]: [Error] ${message}`
        : `container "${container?.name}" completed with exit code ${exitCode}`,
    );
  }

  // A Job that has failed stays failed, and who waits for it later is not told why.
  async function waitForJob(_job: Job, resource: Resource): Promise<void> {
    if (!failedJobs.has(resource.id)) return;
    throw new Unready(resource, [
      `the Kubernetes API server reported that "${resource.id}" failed to fully initialize or become live: Job has failed`,
    ]);
  }

  return {
    resources: {
      "kubernetes:core/v1:Namespace": {
        replaceOn: ["metadata.name"],
        async create(name, inputs: Namespace) {
          const id = inputs.metadata?.name ?? `${name}-${randomSuffix()}`;
          if (namespaces.has(id)) throw new Error(`namespaces "${id}" already exists`);
          namespaces.add(id);
          return { id, outputs: outputsOf("Namespace", id, inputs) };
        },
        update: async (id, inputs: Namespace) => outputsOf("Namespace", id, inputs),
        read: (id) => (namespaces.has(id) ? { metadata: { name: id } } : undefined),
        delete: (id) => void namespaces.delete(id),
      },
      "kubernetes:core/v1:ServiceAccount": objects("ServiceAccount", serviceAccounts, []),
      "kubernetes:core/v1:ConfigMap": objects("ConfigMap", configMaps, []),
      "kubernetes:batch/v1:Job": {
        ...objects("Job", jobs, ["spec.template"], { created: runJob, updated: waitForJob }),
        // pulumi/pulumi-kubernetes, provider/pkg/provider/provider.go, for the annotation pulumi.com/replaceUnready.
        isUnready: (id) =>
          failedJobs.has(id) && jobs.get(id)?.metadata?.annotations?.["pulumi.com/replaceUnready"] === "true",
      },
    },
    calls: {},
    existing: () => [
      ...[...namespaces].filter((name) => !options.namespaces.includes(name)),
      ...serviceAccounts.keys(),
      ...configMaps.keys(),
      ...jobs.keys(),
    ],
    lastPod: () => lastPod,
  };
}

// A generated name stays as long as the object does: pulumi/pulumi-kubernetes, provider/pkg/metadata/naming.go.
function named<Kind extends KubernetesObject>(
  name: string,
  inputs: Kind,
  before: KubernetesObject = {},
): Kind {
  const { metadata } = inputs;
  if (metadata?.name !== undefined || metadata?.generateName !== undefined) return inputs;
  const generated = before.metadata?.annotations?.[AUTONAMED] && before.metadata.name;
  return {
    ...inputs,
    metadata: {
      ...metadata,
      name: generated ?? `${name}-${randomSuffix()}`,
      annotations: { ...metadata?.annotations, [AUTONAMED]: "true" },
    },
  };
}

const AUTONAMED = "pulumi.com/autonamed";

function outputsOf(kind: string, id: string, inputs: KubernetesObject): object {
  const [name, namespace] = id.split("/").reverse();
  const metadata = { ...inputs.metadata, name, ...(namespace && { namespace }), uid: randomUUID() };
  return { kind, ...inputs, metadata };
}
