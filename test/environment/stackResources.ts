// Stacks of the Pulumi Kubernetes Operator on an API server, and the operator, which runs no program.

import { setTimeout as sleep } from "node:timers/promises";
import { type ApiServer, eventually, type KubernetesObject } from "./apiServer";
import { podObject } from "./pods";

/** A schema that accepts every field. */
const SCHEMA = { openAPIV3Schema: { type: "object", "x-kubernetes-preserve-unknown-fields": true } };
const STACKS = "/apis/pulumi.com/v1";
const WORKSPACES = "/apis/auto.pulumi.com/v1alpha1";

/** Defines Stacks, Workspaces, and ExternalSecrets, and waits until the API server has them. */
export async function defineStacks(server: ApiServer): Promise<void> {
  for (const [group, name, kind, plural] of [
    ["pulumi.com", "v1", "Stack", "stacks"],
    ["auto.pulumi.com", "v1alpha1", "Workspace", "workspaces"],
    ["external-secrets.io", "v1", "ExternalSecret", "externalsecrets"],
  ] as const) {
    const version = { name, served: true, storage: true, subresources: { status: {} }, schema: SCHEMA };
    await server.kubectl(["create", "--filename=-"], {
      apiVersion: "apiextensions.k8s.io/v1",
      kind: "CustomResourceDefinition",
      metadata: { name: `${plural}.${group}` },
      spec: { group, names: { kind, plural }, scope: "Namespaced", versions: [version] },
    });
    await eventually(`${plural} exist`, async () => {
      return (await server.request("GET", `/apis/${group}/${name}/${plural}`)).status === 200;
    });
  }
}

/** What happens to Stacks, by `NAMESPACE/NAME`. */
export interface Events {
  /** Their updates do not end yet. */
  updating: Set<string>;
  /** They are denied the exchange. */
  denied: Set<string>;
  /** What has replaced a pod while the Stack was updating. */
  interrupted: Set<string>;
}

/**
 * Does with Stacks what the operator does, as far as it decides when a pod is replaced and what a status says: `Reconcile` in
 * operator/internal/controller/pulumi/stack_controller.go and operator/internal/controller/auto/workspace_controller.go of
 * pulumi/pulumi-kubernetes-operator.
 *
 * @returns what ends it.
 */
export function startOperator(server: ApiServer, events: Events): () => Promise<void> {
  let isRunning = true;
  const running = (async () => {
    while (isRunning) {
      const { body } = await server.request("GET", `${STACKS}/stacks`);
      await Promise.all(body.items.map((stack: KubernetesObject) => reconcile(server, stack, events)));
      await sleep(100);
    }
  })();
  return () => {
    isRunning = false;
    return running;
  };
}

async function reconcile(server: ApiServer, stack: KubernetesObject, events: Events): Promise<void> {
  const { name = "", namespace = "", generation, annotations } = stack.metadata ?? {};
  const id = `${namespace}/${name}`;
  const reconcileRequest = annotations?.["pulumi.com/reconciliation-request"] ?? "";
  const podsPath = `/api/v1/namespaces/${namespace}/pods`;
  const podPath = `${podsPath}/${name}-workspace-0`;
  const workspacesPath = `${WORKSPACES}/namespaces/${namespace}/workspaces`;
  const merge = (path: string, change: object) =>
    server.request("PATCH", path, change, "application/merge-patch+json");
  const report = (status: object) =>
    merge(`${STACKS}/namespaces/${namespace}/stacks/${name}/status`, { status });
  const reportWorkspace = (status: object) => merge(`${workspacesPath}/${name}/status`, { status });

  const { lastUpdate, currentUpdate } = stack.status ?? {};
  const { status, body: pod } = await server.request("GET", podPath);
  if (currentUpdate) {
    if (status !== 200 || pod.metadata?.annotations?.update !== currentUpdate.name)
      events.interrupted.add(id);
    if (events.updating.has(id)) return;
    await report({ currentUpdate: null, lastUpdate: { ...currentUpdate, state: "succeeded" } });
    return;
  }

  const isSynced = lastUpdate?.generation === generation && lastUpdate?.reconcileRequest === reconcileRequest;
  const wanted = workspacePod(stack);
  if (status !== 200) {
    await server.create(podsPath, wanted);
    const ownerReferences = [{ apiVersion: "pulumi.com/v1", kind: "Stack", name, uid: id }];
    const workspace = { apiVersion: "auto.pulumi.com/v1alpha1", kind: "Workspace" };
    await server.request("POST", workspacesPath, {
      ...workspace,
      metadata: { name, ownerReferences },
      spec: wanted.spec,
    });
  } else if (!isSynced && pod.metadata?.annotations?.revision !== wanted.metadata?.annotations?.revision) {
    await server.request("DELETE", podPath);
  } else if (!pod.metadata?.annotations?.initialized) {
    // It tries this once.
    const hasExchange = pod.spec.containers[0].env?.some(
      ({ name, value }: { name: string; value?: string }) =>
        name === "PULUMI_CREDENTIAL_HELPER" && value !== "none",
    );
    const isDenied = hasExchange && events.denied.has(id);
    const stalled = { type: "Stalled", status: "True", message: "denied", lastTransitionTime: now() };
    await reportWorkspace({ pulumiVersion: "v3.276.0", conditions: isDenied ? [stalled] : [] });
    const initialized = { initialized: "tried", ...(!isDenied && { "auto.pulumi.com/initialized": "true" }) };
    await merge(podPath, { metadata: { annotations: initialized } });
  } else if (!isSynced && pod.metadata?.annotations?.["auto.pulumi.com/initialized"]) {
    const update = `${name}-${Date.now()}`;
    await merge(podPath, { metadata: { annotations: { update } } });
    await report({ currentUpdate: { name: update, generation, reconcileRequest } });
  }
}

/** Returns the pod of a Stack's Workspace, whose `revision` changes with the Stack. */
function workspacePod({ metadata, spec }: KubernetesObject): KubernetesObject {
  const { containers = [], volumes = [] } = spec.workspaceTemplate?.spec?.podTemplate?.spec ?? {};
  const { volumeMounts = [] } = containers.find(({ name }: { name: string }) => name === "pulumi") ?? {};
  const env = Object.entries<KubernetesObject>(spec.envRefs ?? {}).map(([name, { literal, secret }]) => {
    return literal ? { name, value: literal.value } : { name, valueFrom: { secretKeyRef: secret } };
  });
  const pod = podObject({
    serviceAccountName: spec.serviceAccountName,
    containers: [{ name: "pulumi", env, volumeMounts }],
    volumes,
  });
  const labels = {
    "auto.pulumi.com/component": "workspace",
    "auto.pulumi.com/workspace-name": metadata?.name ?? "",
  };
  const annotations = { revision: JSON.stringify(spec) };
  return { ...pod, metadata: { name: `${metadata?.name}-workspace-0`, labels, annotations } };
}

/** Returns the time as the API server writes it. */
function now(): string {
  return `${new Date().toISOString().slice(0, 19)}Z`;
}
