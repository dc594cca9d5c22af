// The pod in which the Pulumi Kubernetes Operator runs a Stack.

import type { ApiServer, KubernetesObject } from "./apiServer";

const FIELDS = { POD_NAMESPACE: "metadata.namespace", POD_SA_NAME: "spec.serviceAccountName" };

/** What each of its containers has. */
const CONTAINER = {
  image: "pulumi/pulumi-kubernetes-operator:v2.9.0",
  volumeMounts: [{ name: "share", mountPath: "/share" }],
  securityContext: {
    allowPrivilegeEscalation: false,
    capabilities: { drop: ["ALL"], add: ["NET_BIND_SERVICE"] },
  },
};

/**
 * Returns the pod template of a Stack's workspace, as the operator builds it with its profile `restricted`: its own pod, into
 * which it merges the Stack's `podTemplate`. pulumi/pulumi-kubernetes-operator,
 * operator/internal/controller/auto/workspace_controller.go (newStatefulSet).
 */
export async function workspacePod(server: ApiServer, stack: KubernetesObject): Promise<KubernetesObject> {
  const { serviceAccountName, workspaceTemplate } = stack.spec;
  const { image, env: ownEnv = [], podTemplate } = workspaceTemplate.spec;
  const env = Object.entries(FIELDS).map(([name, fieldPath]) => ({
    name,
    valueFrom: { fieldRef: { fieldPath } },
  }));
  const labels = {
    "auto.pulumi.com/component": "workspace",
    "auto.pulumi.com/workspace-name": stack.metadata?.name,
  };
  const pulumi = {
    ...CONTAINER,
    name: "pulumi",
    image,
    command: ["/share/tini", "/share/agent", "--", "serve", "--workspace", "/share/workspace"],
    workingDir: "/share/workspace",
    env: [...env, ...ownEnv],
    ports: [{ name: "grpc", containerPort: 50051 }],
  };
  const user = { runAsNonRoot: true, runAsUser: 1000, runAsGroup: 1000 };
  const spec = {
    serviceAccountName,
    securityContext: { ...user, seccompProfile: { type: "RuntimeDefault" } },
    terminationGracePeriodSeconds: 600,
    initContainers: [
      { ...CONTAINER, name: "bootstrap", args: ["cp", "/agent", "/tini", "/share/"] },
      { ...CONTAINER, name: "fetch", args: ["sh", "-c", "/share/agent init"] },
    ],
    containers: [pulumi],
    volumes: [{ name: "share", emptyDir: {} }],
  };
  // The operator merges with the same library as kubectl.
  const statefulSet = {
    apiVersion: "apps/v1",
    kind: "StatefulSet",
    metadata: { name: "workspace" },
    spec: { template: { metadata: { labels }, spec } },
  };
  const patch = JSON.stringify({ spec: { template: podTemplate } });
  const options = ["--local", "--type=strategic", `--patch=${patch}`, "--output=json", "--filename=-"];
  return JSON.parse(await server.kubectl(["patch", ...options], statefulSet)).spec.template;
}
