// Pods that a test creates, mostly by dry run.

import { type ApiServer, eventually, type KubernetesObject } from "./apiServer";

/** A pod as a test writes it, without what Pod Security `restricted` requires. */
export interface Pod {
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  serviceAccountName?: string | undefined;
  containers?: object[];
  initContainers?: object[];
  volumes?: object[];
}

/** Returns a pod that Pod Security `restricted` admits. */
export function podObject({ labels, annotations, ...spec }: Pod, name = "app"): KubernetesObject {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, ...(labels && { labels }), ...(annotations && { annotations }) },
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
export function restrictedContainer(container: object): object {
  const securityContext = { allowPrivilegeEscalation: false, capabilities: { drop: ["ALL"] } };
  return { image: "example.com/image:1", securityContext, ...container };
}

/** Waits until the policies of `injectToken` change the pods of a service account, and deny those of an unknown one. */
export async function policiesTakeEffect(server: ApiServer, namespace: string, serviceAccountName: string) {
  const submit = async (account: string) => {
    const pod = podObject({
      labels: { "eks-pulumi-oidc/inject-token": "true" },
      serviceAccountName: account,
    });
    return (await server.request("POST", `/api/v1/namespaces/${namespace}/pods?dryRun=All`, pod)).body;
  };
  await eventually("the policies take effect", async () => {
    const [changed, denied] = [await submit(serviceAccountName), await submit("default")];
    return Boolean(changed.spec?.containers[0].volumeMounts && denied.message?.includes("No stack of"));
  });
}
