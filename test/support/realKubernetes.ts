// Presents a real API server to the program, as the Kubernetes provider does: each resource is an object that is applied.

import assert from "node:assert/strict";
import { type Emulator, randomSuffix } from "../../simulator/emulators/emulator";
import type { ApiServer, KubernetesObject } from "./apiServer";

/** The collections of the objects that the program creates, by Pulumi's type. */
const COLLECTIONS: Record<string, string> = {
  "kubernetes:core/v1:Namespace": "/api/v1/namespaces",
  "kubernetes:core/v1:ServiceAccount": "/api/v1/namespaces/NAMESPACE/serviceaccounts",
  "kubernetes:core/v1:ConfigMap": "/api/v1/namespaces/NAMESPACE/configmaps",
  "kubernetes:batch/v1:Job": "/apis/batch/v1/namespaces/NAMESPACE/jobs",
  ...Object.fromEntries(
    [
      ["MutatingAdmissionPolicy", "mutatingadmissionpolicies"],
      ["MutatingAdmissionPolicyBinding", "mutatingadmissionpolicybindings"],
      ["ValidatingAdmissionPolicy", "validatingadmissionpolicies"],
      ["ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings"],
    ].map(([kind, plural]) => [
      `kubernetes:admissionregistration.k8s.io/v1:${kind}`,
      `/apis/admissionregistration.k8s.io/v1/${plural}`,
    ]),
  ),
};

/** Returns the kinds of resources that exist on the API server. Nothing waits for a Job, which no controller runs. */
export function realKubernetes(server: ApiServer): Emulator["resources"] {
  const kinds = Object.entries(COLLECTIONS).map(([type, collection]) => [
    type,
    kindOf(server, type, collection),
  ]);
  return Object.fromEntries(kinds);
}

function kindOf(server: ApiServer, type: string, collection: string) {
  const [, apiVersion, kind] = type.split(":");

  // Server-side apply, as pulumi/pulumi-kubernetes (provider/pkg/await/await.go), but with strict validation.
  async function apply(object: KubernetesObject): Promise<KubernetesObject> {
    const { namespace = "", name } = object.metadata ?? {};
    const path = `${collection.replace("NAMESPACE", namespace)}/${name}`;
    const force = object.metadata?.annotations?.["pulumi.com/patchForce"] === "true";
    const query = `fieldManager=pulumi&force=${force}&fieldValidation=Strict`;
    const body = { ...object, apiVersion: apiVersion?.replace(/^core\//, ""), kind };
    const { status, body: applied } = await server.request("PATCH", `${path}?${query}`, body, APPLY);
    assert.ok(status < 300, `${kind} ${namespace}/${name}: ${applied.message}`);
    return applied;
  }

  return {
    async create(name: string, inputs: KubernetesObject) {
      // The provider names an object that has no name.
      const metadata = { ...inputs.metadata, name: inputs.metadata?.name ?? `${name}-${randomSuffix()}` };
      const outputs = await apply({ ...inputs, metadata });
      return { id: [metadata.namespace, metadata.name].filter(Boolean).join("/"), outputs };
    },
    update: (_id: string, inputs: KubernetesObject) => apply(inputs),
    async read(id: string) {
      const [name, namespace = ""] = id.split("/").reverse();
      const path = `${collection.replace("NAMESPACE", namespace)}/${name}`;
      const { status, body } = await server.request("GET", path);
      return status === 404 ? undefined : body;
    },
    async delete(id: string) {
      const [name, namespace = ""] = id.split("/").reverse();
      await server.request("DELETE", `${collection.replace("NAMESPACE", namespace)}/${name}`);
    },
  };
}

const APPLY = "application/apply-patch+yaml";
