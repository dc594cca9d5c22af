// Stacks of the Pulumi Kubernetes Operator on an API server, without the operator.

import { join } from "node:path";
import { ROOT } from "../support/project";
import { type ApiServer, eventually, type KubernetesObject } from "./apiServer";

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

/** Applies a patch of examples/operator to the Stack team-a/app, without the waits of the script. @returns the spec of the Stack. */
export async function patchStack(server: ApiServer, patch: string): Promise<KubernetesObject> {
  const file = join(ROOT, "examples", "operator", patch);
  const options = ["--namespace=team-a", "--type=merge", `--patch-file=${file}`, "--output=json"];
  return JSON.parse(await server.kubectl(["patch", "stacks.pulumi.com", "app", ...options])).spec;
}
