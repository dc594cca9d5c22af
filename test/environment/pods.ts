// Pods that a test creates, mostly by dry run.

import { type ApiServer, eventually, type KubernetesObject } from "./apiServer";

/** A pod as a test writes it, without what Pod Security `restricted` requires. */
export interface Pod {
  annotations?: Record<string, string>;
  serviceAccountName?: string | undefined;
  containers?: object[];
  initContainers?: object[];
  volumes?: object[];
  [field: string]: unknown;
}

/** Returns a pod that Pod Security `restricted` admits. */
export function podObject({ annotations, ...spec }: Pod, name = "app"): KubernetesObject {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, ...(annotations && { annotations }) },
    spec: {
      automountServiceAccountToken: false,
      securityContext: { runAsNonRoot: true, runAsUser: 1000, seccompProfile: { type: "RuntimeDefault" } },
      ...spec,
      containers: (spec.containers ?? [{ name: "app" }]).map(restrictedContainer),
      ...(spec.initContainers && { initContainers: spec.initContainers.map(restrictedContainer) }),
    },
  };
}

/** Returns a container with what Pod Security `restricted` requires, unless it says otherwise. */
function restrictedContainer(container: object): object {
  const securityContext = { allowPrivilegeEscalation: false, capabilities: { drop: ["ALL"] } };
  return { image: "example.com/image:1", securityContext, ...container };
}

/** Waits until the policy of `injectToken` changes the pods of a service account. */
export async function policyTakesEffect(server: ApiServer, namespace: string, serviceAccountName: string) {
  await eventually("the policy takes effect", async () => {
    const path = `/api/v1/namespaces/${namespace}/pods?dryRun=All`;
    const { body } = await server.request("POST", path, podObject({ serviceAccountName }));
    return Boolean(body.spec?.containers[0].volumeMounts);
  });
}
