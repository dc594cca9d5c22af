// The manifests in examples/ and the stack's own Jobs on a real API server, as the pods that they would create.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { Simulation } from "../../simulator/emulators/simulation";
import {
  type ApiServer,
  type KubernetesObject,
  missingApiServer,
  startApiServer,
} from "../support/apiServer";
import {
  EXAMPLES,
  exampleOf,
  manifestsWithoutExchange,
  podTemplateIn,
  settingsOfExamples,
} from "../support/examples";
import { policyTakesEffect } from "../support/pods";
import { realKubernetes } from "../support/realKubernetes";
import { all, run, type Stack, startCluster } from "../support/stack";

describe("pods of this project on a real API server", { skip: missingApiServer }, () => {
  let server: ApiServer;
  let simulation: Simulation;
  let stack: Stack;

  before(async () => {
    const { settings, runners } = settingsOfExamples();
    server = await startApiServer();
    simulation = await startCluster({ runners });
    const { serviceAccounts, createNamespaces } = settings;
    const namespaces = new Set(serviceAccounts.map(({ namespace }) => namespace));
    for (const namespace of namespaces) {
      if (!createNamespaces.includes(namespace)) await server.createNamespace(namespace);
    }
    // No controller runs the Jobs, which count as succeeded.
    const resources = { ...simulation.resources, ...realKubernetes(server) };
    stack = await run({ ...simulation, resources }, settings);
    // A controller does so in a cluster.
    for (const namespace of createNamespaces) await server.createServiceAccount(namespace, "default");
    const { namespace, name } = exampleOf("deployment.yaml").entry;
    await policyTakesEffect(server, namespace, name);
  });
  after(() => Promise.all([server?.close(), simulation?.close()]));

  const create = (object: KubernetesObject) => {
    // The pods of the example require its service accounts.
    const dryRun = object.kind === "ServiceAccount" ? "none" : "server";
    const options = [`--dry-run=${dryRun}`, "--validate=strict", "--output=json", "--filename=-"];
    return server.kubectl(["create", ...options], object);
  };

  /** Returns the pod as the API server would store it. @throws Error with the message of a denial. */
  const createPod = ({ metadata, spec }: KubernetesObject, namespace: string) =>
    create({ apiVersion: "v1", kind: "Pod", metadata: { ...metadata, name: "pod", namespace }, spec });

  /** Admits the pods of an example, with an ID token. Returns their number. */
  async function admitPods(manifests: KubernetesObject[]): Promise<number> {
    let count = 0;
    for (const manifest of manifests) {
      const template = podTemplateOf(manifest);
      if (!template) continue;
      const pod = await createPod(template, manifest.metadata?.namespace ?? assert.fail());
      assert.match(pod, /"path": "token"/);
      count += 1;
    }
    return count;
  }

  for (const file of EXAMPLES) {
    test(`admits what ${file} contains, and its pods`, async () => {
      const { manifests } = exampleOf(file);
      for (const manifest of manifests) {
        // The API server does not know custom resources.
        if (!/^(pulumi\.com|external-secrets\.io)\//.test(manifest.apiVersion ?? "")) await create(manifest);
      }
      const count = await admitPods(manifests);
      // The policy of the stack adds what these lines do.
      if (file !== "workflow-runner.yaml")
        assert.equal(await admitPods(manifestsWithoutExchange(file)), count);
    });
  }

  test("admits the pod of each Job of the stack", async () => {
    const jobs = all<KubernetesObject>(stack, "Job");
    assert.equal(jobs.length, EXAMPLES.length);
    for (const { inputs } of jobs) {
      await createPod(inputs.spec.template, inputs.metadata?.namespace ?? assert.fail());
    }
  });
});

/**
 * Returns the template of the pods that an object creates: that of a Stack with what Pod Security requires, which the operator
 * adds with its profile `restricted`. pulumi/pulumi-kubernetes-operator,
 * operator/internal/controller/auto/workspace_controller.go (newStatefulSet).
 */
function podTemplateOf({ kind, spec }: KubernetesObject): KubernetesObject | undefined {
  const template = podTemplateIn(spec);
  if (kind !== "Stack" || !template) return template;
  const { image, env } = spec.workspaceTemplate.spec;
  const [container] = template.spec.containers;
  const securityContext = { allowPrivilegeEscalation: false, capabilities: { drop: ["ALL"] } };
  return {
    spec: {
      serviceAccountName: spec.serviceAccountName,
      securityContext: { runAsNonRoot: true, runAsUser: 1000, seccompProfile: { type: "RuntimeDefault" } },
      ...template.spec,
      containers: [{ ...container, image, env, securityContext }],
    },
  };
}
