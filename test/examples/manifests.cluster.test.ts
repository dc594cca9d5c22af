// The manifests in examples/ and the stack's own Jobs on a real API server, as the pods that they would create.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { startAws } from "../../simulator/emulators/aws";
import { type PulumiCloud, startPulumiCloud } from "../../simulator/emulators/pulumiCloud";
import { type Registration, runProgram } from "../../simulator/runProgram";
import {
  type ApiServer,
  type KubernetesObject,
  missingApiServer,
  startApiServer,
} from "../support/apiServer";
import { EXAMPLES, exampleOf, podTemplateIn, settingsOfExamples } from "../support/examples";
import { policiesTakeEffect } from "../support/pods";
import { realKubernetes } from "../support/realKubernetes";
import { CLUSTER, stackOf } from "../support/stack";

/** The API groups of custom resources, which the API server does not know. */
const CUSTOM = ["pulumi.com", "external-secrets.io"];

describe("pods of this project on a real API server", { skip: missingApiServer }, () => {
  let server: ApiServer;
  let pulumiCloud: PulumiCloud;
  let registered: Registration[];

  before(async () => {
    const { settings, runners } = settingsOfExamples();
    server = await startApiServer();
    pulumiCloud = await startPulumiCloud({ registrationMilliseconds: 0, runners });
    const { serviceAccounts, createNamespaces } = settings;
    const namespaces = new Set(serviceAccounts.map(({ namespace }) => namespace));
    for (const namespace of namespaces) {
      if (!createNamespaces.includes(namespace)) await server.createNamespace(namespace);
    }
    const aws = startAws({ region: "us-west-2", cluster: CLUSTER, issuerUrl: server.url });
    // No controller runs the Jobs, which count as succeeded.
    const resources = { ...aws.resources, ...pulumiCloud.resources, ...realKubernetes(server) };
    const stack = stackOf({ pulumiApiUrl: pulumiCloud.url, ...settings });
    ({ registered } = await runProgram({ resources, calls: aws.calls }, stack));
    // A controller does so in a cluster.
    for (const namespace of createNamespaces) await server.createServiceAccount(namespace, "default");
    await policiesTakeEffect(server, "reports", "reporter");
  });
  after(() => Promise.all([server?.close(), pulumiCloud?.close()]));

  const create = (object: object) => {
    const options = ["--dry-run=server", "--validate=strict", "--output=json", "--filename=-"];
    return server.kubectl(["create", ...options], object);
  };

  /** Returns the pod as the API server would store it. @throws Error with the message of a denial. */
  const createPod = ({ metadata, spec }: KubernetesObject, namespace: string) =>
    create({ apiVersion: "v1", kind: "Pod", metadata: { ...metadata, name: "pod", namespace }, spec });

  for (const file of EXAMPLES) {
    test(`admits what ${file} contains, and its pods`, async () => {
      for (const manifest of exampleOf(file).manifests) {
        if (!CUSTOM.includes(manifest.apiVersion?.split("/")[0] ?? "")) await create(manifest);

        const template = podTemplateOf(manifest);
        if (!template) continue;
        const namespace = manifest.metadata?.namespace ?? assert.fail();
        // Of deployment-with-label.yaml, the policies add it.
        assert.match(await createPod(template, namespace), /"path": "token"/);
      }
    });
  }

  test("admits the pod of each Job of the stack", async () => {
    const jobs = registered.filter(({ type }) => type.endsWith(":Job"));
    assert.equal(jobs.length, EXAMPLES.length);
    for (const { inputs } of jobs) {
      const { spec, metadata } = inputs as KubernetesObject;
      await createPod(spec.template, metadata?.namespace ?? assert.fail());
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
