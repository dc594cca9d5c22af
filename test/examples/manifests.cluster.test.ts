// The manifests in examples/ and the stack's own Jobs on a real API server, as the pods that they would create.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type ApiServer, type KubernetesObject, missingApiServer } from "../support/apiServer";
import {
  EXAMPLES,
  exampleOf,
  LABEL,
  podTemplateIn,
  readManifests,
  saysWhatToDelete,
  settingsOfExamples,
  withoutExchange,
} from "../support/examples";
import { policiesTakeEffect } from "../support/pods";
import { realKubernetes } from "../support/realKubernetes";
import { type RealStack, startRealStack } from "../support/realStack";
import { workspacePod } from "../support/workspacePod";

/** The API groups of custom resources, which the API server does not know. */
const CUSTOM = ["pulumi.com", "external-secrets.io"];

/** Those that contain more than custom resources, or a Stack of the operator, whose pod is known. */
const KNOWN = EXAMPLES.filter((file) => {
  return exampleOf(file).manifests.some((manifest) => !isCustom(manifest) || manifest.kind === "Stack");
});

const WITH_LABEL = EXAMPLES.filter(saysWhatToDelete);

describe("pods of this project on a real API server", { skip: missingApiServer }, () => {
  let stack: RealStack;

  before(async () => {
    const { settings, runners } = settingsOfExamples();
    const { serviceAccounts, createNamespaces } = settings;
    const namespaces = new Set(serviceAccounts.map(({ namespace }) => namespace));
    stack = await startRealStack({
      namespaces: [...namespaces].filter((namespace) => !createNamespaces.includes(namespace)),
      runners,
      settings,
    });
    for (const { namespace, name } of serviceAccounts)
      await policiesTakeEffect(stack.server, namespace, name);
  });
  after(() => stack?.close());

  const kubectl = (object: object, command: string) =>
    stack.server.kubectl([...command.split(" "), "--output=json", "--filename=-"], object);

  const create = (object: object) => kubectl(object, "create --dry-run=server --validate=strict");

  /** Returns the pod as the API server would store it. @throws Error with the message of a denial. */
  async function admitted(template: KubernetesObject, namespace: string): Promise<KubernetesObject> {
    const { labels = {}, annotations = {} } = template.metadata ?? {};
    const metadata = { name: "pod", namespace, labels, annotations };
    return JSON.parse(await create({ apiVersion: "v1", kind: "Pod", metadata, spec: template.spec }));
  }

  test("the update restores a ConfigMap whose script another field manager has changed", async () => {
    const type = "kubernetes:core/v1:ConfigMap";
    const created = stack.registered.find((it) => it.type === type) ?? assert.fail();
    const { metadata, data } = created.inputs as { metadata: object; data: Record<string, string> };
    const changed = { apiVersion: "v1", kind: "ConfigMap", metadata, data: { "exchange-token.sh": "exit" } };
    await kubectl(changed, "apply --server-side --field-manager=other --force-conflicts");

    const kind = realKubernetes(stack.server)[type];
    await kind?.update?.(created.id, created.inputs);
    const found = (await kind?.read?.(created.id)) as KubernetesObject;
    assert.deepEqual(found.data, data);
  });

  assert.ok(KNOWN.length > 5);
  for (const file of KNOWN) {
    test(`admits what ${file} contains, and its pods`, async () => {
      const { manifests, settings } = exampleOf(file);
      for (const manifest of manifests) {
        if (!isCustom(manifest)) await create(manifest);

        const template = await podTemplateOf(stack.server, manifest);
        if (!template) continue;
        const namespace = manifest.metadata?.namespace ?? assert.fail();
        await admitted(template, namespace);
        // Otherwise, Pod Security would admit anything.
        const isRestricted = settings.createNamespaces?.includes(namespace);
        if (isRestricted)
          await assert.rejects(admitted(unrestricted(template), namespace), /violates PodSecurity/);
      }
    });
  }

  assert.ok(WITH_LABEL.length > 3);
  for (const file of WITH_LABEL) {
    test(`adds to the pod of ${file} with the label what its header says to delete`, async () => {
      const { source, manifests } = exampleOf(file);
      const shorter = readManifests(withoutExchange(source));
      for (const [index, manifest] of manifests.entries()) {
        const template = await podTemplateOf(stack.server, manifest);
        const labeled = await podTemplateOf(stack.server, withLabel(shorter[index] ?? {}));
        if (!template || !labeled) continue;
        const namespace = manifest.metadata?.namespace ?? assert.fail();
        assert.doesNotMatch(JSON.stringify(labeled), /pulumi-token/);
        const { spec } = await admitted(template, namespace);
        const { spec: injected } = await admitted(labeled, namespace);
        assert.deepEqual(sorted(injected), sorted(spec));
      }
    });
  }

  test("admits the pod of each Job of the stack", async () => {
    const jobs = stack.registered.filter(({ type }) => type.endsWith(":Job"));
    assert.equal(jobs.length, EXAMPLES.length);
    for (const { inputs } of jobs) {
      const job = inputs as KubernetesObject;
      await admitted(job.spec.template, job.metadata?.namespace ?? assert.fail());
    }
  });
});

function isCustom({ apiVersion = "" }: KubernetesObject): boolean {
  return CUSTOM.includes(apiVersion.split("/")[0] ?? "");
}

/** Returns the template of the pods that an object creates; undefined if it creates none. */
async function podTemplateOf(
  server: ApiServer,
  manifest: KubernetesObject,
): Promise<KubernetesObject | undefined> {
  return manifest.kind === "Stack" ? workspacePod(server, manifest) : podTemplateIn(manifest.spec);
}

/** Adds the label to the pods of a manifest. */
function withLabel(manifest: KubernetesObject): KubernetesObject {
  const labeled = structuredClone(manifest);
  const pod = podTemplateIn(labeled.spec);
  if (pod) pod.metadata = { ...pod.metadata, labels: { ...pod.metadata?.labels, [LABEL]: "true" } };
  return labeled;
}

/** Returns a pod template without any security context. */
function unrestricted(template: KubernetesObject): KubernetesObject {
  return JSON.parse(
    JSON.stringify(template, (key, value) => (key === "securityContext" ? undefined : value)),
  );
}

/** Returns a pod spec whose volumes and mounts are sorted by name, since their order means nothing. */
function sorted(spec: KubernetesObject): KubernetesObject {
  // The API server names the volume of the Kubernetes API's own token at random.
  const copy = JSON.parse(JSON.stringify(spec).replaceAll(/kube-api-access-\w+/g, "kube-api-access"));
  const byName = (a: { name: string }, b: { name: string }) => a.name.localeCompare(b.name);
  copy.volumes?.sort(byName);
  for (const container of [...copy.containers, ...(copy.initContainers ?? [])])
    container.volumeMounts?.sort(byName);
  return copy;
}
