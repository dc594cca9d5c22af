// Stacks of the Pulumi Kubernetes Operator on an API server, without the operator.

import { type ApiServer, eventually } from "./apiServer";

/** The definition of Stacks, with a schema that accepts every field. */
const SCHEMA = { openAPIV3Schema: { type: "object", "x-kubernetes-preserve-unknown-fields": true } };
const VERSION = { name: "v1", served: true, storage: true, subresources: { status: {} }, schema: SCHEMA };
const DEFINITION = {
  apiVersion: "apiextensions.k8s.io/v1",
  kind: "CustomResourceDefinition",
  metadata: { name: "stacks.pulumi.com" },
  spec: {
    group: "pulumi.com",
    names: { kind: "Stack", plural: "stacks" },
    scope: "Namespaced",
    versions: [VERSION],
  },
};

/** Defines Stacks, and waits until the API server has them. */
export async function defineStacks(server: ApiServer): Promise<void> {
  await server.kubectl(["create", "--filename=-"], DEFINITION);
  await eventually("Stacks exist", async () => {
    return (await server.request("GET", "/apis/pulumi.com/v1/stacks")).status === 200;
  });
}
