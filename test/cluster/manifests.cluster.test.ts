// The manifests in examples/ and the stack's own Jobs on a real API server, as the pods that they would create.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type Registered, runStack } from "../core/program";
import {
  type ApiServer,
  type KubernetesObject,
  missingApiServer,
  startApiServer,
} from "../environment/apiServer";
import {
  EXAMPLES,
  exampleOf,
  manifestsWithoutExchange,
  podOf,
  podTemplateIn,
  settingsOfExamples,
} from "../environment/examples";
import { podObject, policyTakesEffect } from "../environment/pods";
import { createAll } from "../environment/realKubernetes";

describe("pods of this project on a real API server", { skip: missingApiServer }, () => {
  let server: ApiServer;
  let registered: Registered[];

  before(async () => {
    const settings = settingsOfExamples();
    server = await startApiServer();
    const { serviceAccounts, createNamespaces } = settings;
    const namespaces = new Set(serviceAccounts.map(({ namespace }) => namespace));
    for (const namespace of namespaces) {
      if (!createNamespaces.includes(namespace)) await server.createNamespace(namespace);
    }
    ({ registered } = await runStack(settings));
    // No controller runs the Jobs, which count as succeeded.
    await createAll(server, registered);
    // A controller does so in a cluster.
    for (const namespace of createNamespaces) await server.createServiceAccount(namespace, "default");
    const { namespace, name } = exampleOf("deployment.yaml").entry;
    await policyTakesEffect(server, namespace, name);
  });
  after(() => server?.close());

  const create = (object: KubernetesObject) => {
    // The pods of the example require its service accounts.
    const dryRun = object.kind === "ServiceAccount" ? "none" : "server";
    const options = [`--dry-run=${dryRun}`, "--validate=strict", "--output=json", "--filename=-"];
    return server.kubectl(["create", ...options], object);
  };

  /** @throws Error with the message of a denial. @returns the pod as the API server would store it. */
  const createPod = (spec: object, namespace = "") =>
    create({ apiVersion: "v1", kind: "Pod", metadata: { name: "pod", namespace }, spec });

  /** Admits the pods of an example, with an ID token. */
  async function admitPods(file: string, manifests: KubernetesObject[]): Promise<void> {
    for (const manifest of manifests.filter(({ spec }) => podTemplateIn(spec))) {
      const { spec, container } = podOf(file, [manifest]);
      const pod = { ...spec, containers: [container] };
      // The operator adds what Pod Security requires, with its profile `restricted`: pulumi/pulumi-kubernetes-operator,
      // operator/internal/controller/auto/workspace_controller.go (newStatefulSet).
      const completed = manifest.kind === "Stack" ? podObject(pod).spec : pod;
      assert.match(await createPod(completed, manifest.metadata?.namespace), /"path": "token"/);
    }
  }

  for (const file of EXAMPLES) {
    test(`admits what ${file} contains, and its pods`, async () => {
      const { manifests } = exampleOf(file);
      for (const manifest of manifests) {
        // The API server does not know custom resources.
        if (!/^(pulumi\.com|external-secrets\.io)\//.test(manifest.apiVersion ?? "")) await create(manifest);
      }
      await admitPods(file, manifests);
      // The policy of the stack adds what these lines do.
      await admitPods(file, manifestsWithoutExchange(file));
    });
  }

  test("admits the pod of each Job of the stack", async () => {
    const jobs = registered.filter(({ type }) => type === "kubernetes:batch/v1:Job");
    const tested = settingsOfExamples().serviceAccounts.filter(({ runJob }) => runJob !== false);
    assert.equal(jobs.length, tested.length);
    for (const { inputs } of jobs) {
      await createPod(inputs.spec.template.spec, inputs.metadata?.namespace);
    }
  });
});
