// The manifests in examples/: they refer to what the program creates for their settings, their pods have what the exchange
// requires, and their marks say which lines `injectToken` replaces.

import assert from "node:assert/strict";
import { before, test } from "node:test";
import type { Run } from "../core/program";
import type { KubernetesObject } from "../environment/apiServer";
import {
  createdBy,
  EXAMPLES,
  exampleOf,
  manifestsWithoutExchange,
  podOf,
  runExamples,
  withExchange,
} from "../environment/examples";

const ESO = "external-secrets.yaml";
const OPERATOR = "pulumi-operator.yaml";

/** Those that mark what `injectToken` replaces. */
const WITH_MARKS = EXAMPLES.filter((file) => exampleOf(file).source.includes("# (3)"));

let stack: Run;
before(async () => {
  stack = await runExamples();
});

for (const file of EXAMPLES) {
  test(`${file} refers only to objects and keys that its settings create`, () => {
    const { manifests } = exampleOf(file);
    const declared = manifests.map(
      ({ kind, metadata }) => `${kind} ${metadata?.namespace}/${metadata?.name}`,
    );
    const references = manifests.flatMap(referencesOf);
    assert.ok(references.length > 0);
    for (const { kind, namespace, name, key } of references) {
      if (declared.includes(`${kind} ${namespace}/${name}`)) continue;
      const { data = {} } = createdBy(stack, kind, namespace, name);
      if (key) assert.ok(Object.hasOwn(data, key), `${name} has no key ${key}`);
    }
  });
}

for (const file of EXAMPLES.filter((it) => it !== ESO)) {
  test(`${file} runs on Linux nodes only, with a writable home`, () => {
    const { spec, container } = podOf(file);
    assert.deepEqual(spec.nodeSelector, { "kubernetes.io/os": "linux" });
    // The operator completes its pods.
    if (file === OPERATOR) return;

    const { settings, entry } = exampleOf(file);
    assert.deepEqual(settings.createNamespaces, [entry.namespace], "it enforces Pod Security");
    const variables = Object.fromEntries(container.env.map(({ name, value }) => [name, value]));
    const home = container.volumeMounts.find(({ mountPath }) => mountPath === variables.HOME);
    assert.ok(spec.volumes.find(({ name }) => name === home?.name)?.emptyDir);
    assert.ok(variables.PULUMI_HOME?.startsWith(`${variables.HOME}/`));
  });
}

test("every manifest names its stack in full: with an exchanged token, the CLI finds none by its name only", () => {
  const names = EXAMPLES.flatMap((file) => {
    const variables = file === ESO ? [] : (podOf(file).container.env ?? []);
    const ofVariables = variables.flatMap(({ name, value }) => (name === "STACK" ? [value] : []));
    const ofStacks = exampleOf(file).manifests.flatMap(({ spec }) => spec?.stack ?? []);
    return [...ofVariables, ...ofStacks];
  });
  assert.ok(names.length >= 3);
  for (const name of names) assert.match(name, /^[\w-]+\/[\w.-]+\/[\w.-]+$/);
});

assert.ok(WITH_MARKS.length > 5);
for (const file of WITH_MARKS) {
  test(`${file} has in the lines marked (3) exactly what tokenExchangePod adds`, () => {
    const { spec, container } = podOf(file);
    const { entry } = exampleOf(file);
    const shorter = manifestsWithoutExchange(file);
    // The schema of a Stack accepts no null, and requires the list of containers.
    assert.doesNotMatch(JSON.stringify(shorter), /:null/);
    const bare = podOf(file, shorter);
    assert.doesNotMatch(JSON.stringify(bare), /pulumi-token|exchange-token\.sh/);
    assert.equal(bare.spec.serviceAccountName, entry.name);
    const completed = withExchange(file, { ...bare.spec, containers: [bare.container] });
    assert.deepEqual(completed, { ...spec, containers: [container] });
  });
}

test("token-check.yaml denies its second check for no other reason than its service account", () => {
  const manifests = exampleOf("token-check.yaml").manifests.slice(1);
  const { spec, container } = podOf("token-check.yaml", manifests);
  assert.equal(spec.serviceAccountName, "token-check-denied");
  const pod = { ...spec, containers: [container] };
  assert.deepEqual(withExchange("token-check.yaml", pod), { ...pod, serviceAccountName: "shop" });
});

test(`${OPERATOR} mounts the API token and may review tokens, as the operator's agent requires`, () => {
  const { spec, container } = podOf(OPERATOR);
  assert.equal(spec.automountServiceAccountToken, true);
  assert.equal(manifest(OPERATOR, "ClusterRoleBinding").roleRef.name, "system:auth-delegator");
  assert.equal(container.name, "pulumi", "any other container is added to the operator's");
});

test(`${ESO} names the organization, lifetime, and audience of its settings, which are for its token type`, () => {
  const settings = settingsOf(ESO);
  const { spec } = manifest(ESO, "SecretStore");
  const { organization, auth } = spec.provider.pulumi;
  const { serviceAccountRef, expirationSeconds, ...oidc } = auth.oidcConfig;
  assert.deepEqual([organization, oidc.organization], [settings.organization, settings.organization]);
  assert.equal(String(expirationSeconds), settings.tokenExpirationSeconds);

  // It requests no other: providers/v1/pulumi/auth_oidc.go in external-secrets/external-secrets.
  assert.deepEqual([settings.tokenType, settings.tokenScope], ["organization", ""]);
  assert.deepEqual(serviceAccountRef.audiences, [exampleOf(ESO).entry.tokenAudience]);
});

type Reference = { kind: string; namespace: string; name: string; key?: string };

/** Returns what a manifest refers to by name, with the key of a ConfigMap if it names one. */
function referencesOf({ metadata, ...manifest }: KubernetesObject): Reference[] {
  const found: Reference[] = [];
  const add = (kind: string, target: Omit<Reference, "kind" | "namespace">) =>
    found.push({ namespace: metadata?.namespace ?? "", ...target, kind });
  JSON.stringify(manifest, (property, value) => {
    const isOwn = property === "secretStoreRef" || (property === "roleRef" && value.kind === "Role");
    if (isOwn) add(value.kind, value);
    if (property === "serviceAccountName") add("ServiceAccount", { name: value });
    if (property === "serviceAccountRef") add("ServiceAccount", value);
    if (property === "subjects") for (const subject of value) add(subject.kind, subject);
    if (["configMap", "configMapKeyRef"].includes(property)) add("ConfigMap", value);
    return value;
  });
  return found;
}

function manifest(file: string, kind: string): KubernetesObject {
  const found = exampleOf(file).manifests.find((candidate) => candidate.kind === kind);
  return found ?? assert.fail(`${file} has no ${kind}`);
}

/** Returns the settings that the program has created for a service account. */
function settingsOf(file: string): Record<string, string> {
  const { namespace, name } = exampleOf(file).entry;
  return createdBy(stack, "ConfigMap", namespace, `${name}-pulumi-token-exchange`).data;
}
