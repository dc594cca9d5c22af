// The pod in which the Pulumi Kubernetes Operator runs a Stack.

import type { ApiServer, KubernetesObject } from "./apiServer";

const IMAGE = "pulumi/pulumi-kubernetes-operator:v2.9.0";
const SHARE = [{ name: "share", mountPath: "/share" }];
const FIELDS = { POD_NAMESPACE: "metadata.namespace", POD_SA_NAME: "spec.serviceAccountName" };

/**
 * Returns the pod template of a Stack's workspace, as the operator builds it with its profile `restricted`: its own pod, into
 * which it merges the Stack's `podTemplate`. pulumi/pulumi-kubernetes-operator,
 * operator/internal/controller/auto/workspace_controller.go (newStatefulSet).
 */
export async function workspacePod(server: ApiServer, stack: KubernetesObject): Promise<KubernetesObject> {
  const { serviceAccountName, workspaceTemplate } = stack.spec;
  const { image, env: ownEnv = [], podTemplate } = workspaceTemplate.spec;
  const securityContext = {
    allowPrivilegeEscalation: false,
    capabilities: { drop: ["ALL"], add: ["NET_BIND_SERVICE"] },
  };
  const env = Object.entries(FIELDS).map(([name, fieldPath]) => ({
    name,
    valueFrom: { fieldRef: { fieldPath } },
  }));
  const labels = {
    "auto.pulumi.com/component": "workspace",
    "auto.pulumi.com/workspace-name": stack.metadata?.name,
  };
  const template = {
    metadata: { labels },
    spec: {
      serviceAccountName,
      securityContext: {
        seccompProfile: { type: "RuntimeDefault" },
        runAsNonRoot: true,
        runAsUser: 1000,
        runAsGroup: 1000,
      },
      terminationGracePeriodSeconds: 600,
      initContainers: [
        {
          name: "bootstrap",
          image: IMAGE,
          args: ["cp", "/agent", "/tini", "/share/"],
          volumeMounts: SHARE,
          securityContext,
        },
        {
          name: "fetch",
          image: IMAGE,
          args: ["sh", "-c", "/share/agent init"],
          volumeMounts: SHARE,
          securityContext,
        },
      ],
      containers: [
        {
          name: "pulumi",
          image,
          command: ["/share/tini", "/share/agent", "--", "serve", "--workspace", "/share/workspace"],
          workingDir: "/share/workspace",
          env: [...env, ...ownEnv],
          ports: [{ name: "grpc", containerPort: 50051 }],
          volumeMounts: SHARE,
          securityContext,
        },
      ],
      volumes: [{ name: "share", emptyDir: {} }],
    },
  };
  // The operator merges with the same library as kubectl.
  const statefulSet = {
    apiVersion: "apps/v1",
    kind: "StatefulSet",
    metadata: { name: "workspace" },
    spec: { template },
  };
  const patch = JSON.stringify({ spec: { template: podTemplate } });
  const options = ["--local", "--type=strategic", `--patch=${patch}`, "--output=json", "--filename=-"];
  return JSON.parse(await server.kubectl(["patch", ...options], statefulSet)).spec.template;
}
