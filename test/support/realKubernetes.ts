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
  ...admission("MutatingAdmissionPolicy", "mutatingadmissionpolicies"),
  ...admission("MutatingAdmissionPolicyBinding", "mutatingadmissionpolicybindings"),
  ...admission("ValidatingAdmissionPolicy", "validatingadmissionpolicies"),
  ...admission("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings"),
};

function admission(kind: string, plural: string): Record<string, string> {
  const group = "admissionregistration.k8s.io/v1";
  return { [`kubernetes:${group}:${kind}`]: `/apis/${group}/${plural}` };
}

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

  function pathOf(id: string): string {
    const [name, namespace = ""] = id.split("/").reverse();
    return `${collection.replace("NAMESPACE", namespace)}/${name}`;
  }

  // Server-side apply, as pulumi/pulumi-kubernetes (provider/pkg/await/await.go), but with strict validation.
  async function apply(id: string, object: KubernetesObject): Promise<KubernetesObject> {
    const force = object.metadata?.annotations?.["pulumi.com/patchForce"] === "true";
    const query = `fieldManager=pulumi&force=${force}&fieldValidation=Strict`;
    const body = { ...object, apiVersion: apiVersion?.replace(/^core\//, ""), kind };
    const contentType = "application/apply-patch+yaml";
    const { status, body: applied } = await server.request(
      "PATCH",
      `${pathOf(id)}?${query}`,
      body,
      contentType,
    );
    assert.ok(status < 300, `${kind} ${id}: ${applied.message}`);
    return applied;
  }

  return {
    async create(name: string, inputs: KubernetesObject) {
      // The provider names an object that has no name.
      const metadata = { ...inputs.metadata, name: inputs.metadata?.name ?? `${name}-${randomSuffix()}` };
      const id = [metadata.namespace, metadata.name].filter(Boolean).join("/");
      return { id, outputs: await apply(id, { ...inputs, metadata }) };
    },
    update: apply,
    async read(id: string) {
      const { status, body } = await server.request("GET", pathOf(id));
      return status === 404 ? undefined : body;
    },
    async delete(id: string) {
      await server.request("DELETE", pathOf(id));
    },
  };
}
