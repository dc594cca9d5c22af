// The manifests in examples/: they refer to what the program creates for their settings, their pods exchange a token, and
// their comments say what to delete with the label.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { requestAccessToken } from "../../accessCheck/requestAccessToken";
import { CREDENTIAL_HELPER } from "../../tokenVolume";
import type { KubernetesObject } from "../support/apiServer";
import {
  EXAMPLES,
  type ExamplesStack,
  exampleOf,
  podOf,
  readManifests,
  saysWhatToDelete,
  startExamplesStack,
  withExchange,
  withoutExchange,
} from "../support/examples";
import { codeIn, read } from "../support/project";

/** Those whose pods other programs create or complete. */
const OTHERS = ["external-secrets.yaml", "pulumi-operator.yaml", "workflow-runner.yaml"];

/** Those whose pods run the Pulumi CLI in a namespace of the stack. */
const RESTRICTED = EXAMPLES.filter((file) => !OTHERS.includes(file));

let stack: ExamplesStack;
before(async () => {
  stack = await startExamplesStack();
});
after(() => stack.simulation.close());

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
      const { data = {} } = stack.created(kind, namespace, name);
      if (key) assert.ok(Object.hasOwn(data, key), `${name} has no key ${key}`);
    }
  });
}

for (const file of EXAMPLES.filter((it) => it !== "external-secrets.yaml")) {
  test(`${file} runs on Linux nodes only`, () => {
    assert.deepEqual(podOf(file).spec.nodeSelector, { "kubernetes.io/os": "linux" });
  });
}

for (const file of RESTRICTED) {
  // `npm run test:cluster` tests that such a namespace admits the pod.
  test(`${file} has a namespace that enforces Pod Security restricted, a writable home, and the credential helper`, () => {
    const { settings, entry } = exampleOf(file);
    assert.deepEqual(settings.createNamespaces, [entry.namespace]);

    const { spec, container } = podOf(file);
    const variables = Object.fromEntries(container.env.map(({ name, value }) => [name, value]));
    const home = container.volumeMounts.find(({ mountPath }) => mountPath === variables.HOME);
    assert.ok(spec.volumes.find(({ name }) => name === home?.name)?.emptyDir);
    assert.ok(variables.PULUMI_HOME?.startsWith(`${variables.HOME}/`));
    // Of a labeled pod, what the label adds.
    assert.equal(variables.PULUMI_CREDENTIAL_HELPER, CREDENTIAL_HELPER.value);
  });
}

const WITH_COMMENTS = EXAMPLES.filter(saysWhatToDelete);
assert.ok(WITH_COMMENTS.length > 5);
for (const file of WITH_COMMENTS) {
  test(`${file} exchanges a token as tokenExchangePod adds it, in the lines that the label replaces`, () => {
    const { spec, container } = podOf(file);
    const shorter = readManifests(withoutExchange(exampleOf(file).source));
    // The schema of a Stack accepts no null, and requires the list of containers.
    assert.doesNotMatch(JSON.stringify(shorter), /pulumi-token|exchange-token\.sh|:null/);
    const bare = podOf(file, shorter);
    assert.equal(bare.spec.serviceAccountName, exampleOf(file).entry.name);
    assert.deepEqual(withExchange(file, { ...bare.spec, containers: [bare.container] }), {
      ...spec,
      containers: [container],
    });
  });
}

test("docs/workloads/pods.md shows what `pulumi stack output serviceAccounts` prints for deployment.yaml", () => {
  const [block = ""] = codeIn(read("docs/workloads/pods.md"), "json");
  const { "apps/deployer": access } = stack.outputs.serviceAccounts;
  assert.deepEqual(JSON.parse(block), { "apps/deployer": access });
});

test("pulumi-operator.yaml mounts the API token and may review tokens, as the operator's agent requires", () => {
  const { spec, container } = podOf("pulumi-operator.yaml");
  assert.equal(stack.created("ServiceAccount", "team-a", "app").automountServiceAccountToken, false);
  assert.equal(spec.automountServiceAccountToken, true);
  assert.equal(manifest("pulumi-operator.yaml", "ClusterRoleBinding").roleRef.name, "system:auth-delegator");
  assert.equal(container.name, "pulumi", "any other container is added to the operator's");
});

test("workflow-runner.yaml configures the agent with the pool of its policy, and with its ID token", () => {
  const file = "workflow-runner.yaml";
  const { spec, container } = podOf(file);
  const { namespace, name, runnerId } = exampleOf(file).entry;
  const settings = stack.mountedBy(file);
  const variables = container.env.map(({ name, value, valueFrom }) => [
    name.replace("PULUMI_AGENT_", ""),
    value ?? settings[valueFrom.configMapKeyRef.key],
  ]);
  const volume = spec.volumes.find(({ projected }) => projected);
  const mount = container.volumeMounts.find((it) => it.name === volume?.name);
  assert.deepEqual(Object.fromEntries(variables), {
    DEPLOY_TARGET: "kubernetes",
    SHARED_VOLUME_DIRECTORY: "/mnt/work",
    SERVICE_ACCOUNT_NAME: manifest(file, "ServiceAccount").metadata?.name,
    RUNNER_POOL_ID: runnerId,
    TOKEN_EXPIRATION: `${Number(settings.tokenExpirationSeconds) / 3600}h`,
    OIDC_TOKEN_FILE: `${mount?.mountPath}/${volume?.projected.sources[0]?.serviceAccountToken.path}`,
    ORGANIZATION_NAME: settings.organization,
    SERVICE_URL: settings.apiUrl,
  });
  assert.equal(stack.created("ServiceAccount", namespace, name).automountServiceAccountToken, false);
  assert.equal(spec.automountServiceAccountToken, true);
});

test("external-secrets.yaml names the organization and lifetime of its settings, and its token is granted", async () => {
  const file = "external-secrets.yaml";
  const settings = stack.mountedBy(file);
  const { spec, metadata } = manifest(file, "SecretStore");
  const { organization, auth } = spec.provider.pulumi;
  const { serviceAccountRef, expirationSeconds } = auth.oidcConfig;
  assert.deepEqual(
    [organization, auth.oidcConfig.organization, String(expirationSeconds)],
    [settings.organization, settings.organization, settings.tokenExpirationSeconds],
  );
  assert.deepEqual(serviceAccountRef.audiences, [exampleOf(file).entry.tokenAudience]);

  // As in providers/v1/pulumi/auth_oidc.go and runtime/oidc/token_manager.go in external-secrets/external-secrets.
  const request = { ...settings, tokenType: "organization", tokenScope: "" };
  const { issuer, pulumiCloud } = stack.simulation;
  const isGranted = async (serviceAccount: string) => {
    const pod = { namespace: metadata?.namespace ?? "", serviceAccount };
    const idToken = await issuer.token(pod, { audience: serviceAccountRef.audiences, expiresIn: 600 });
    return (await requestAccessToken(pulumiCloud.url, request, idToken)).allowed;
  };
  assert.equal(await isGranted(serviceAccountRef.name), true);
  assert.equal(await isGranted("default"), false);
});

interface Reference {
  kind: string;
  namespace: string;
  name: string;
  key?: string;
}

/** Returns what a manifest refers to by name, with the key of a ConfigMap if it names one. */
function referencesOf({ metadata, ...manifest }: KubernetesObject): Reference[] {
  const found: Reference[] = [];
  const add = (kind: string, target: Omit<Reference, "kind" | "namespace">) =>
    found.push({ namespace: metadata?.namespace ?? "", ...target, kind });
  JSON.stringify(manifest, (property, value) => {
    if (property === "serviceAccountName") add("ServiceAccount", { name: value });
    if (property === "serviceAccountRef") add("ServiceAccount", value);
    if (property === "secretStoreRef" || (property === "roleRef" && value.kind === "Role"))
      add(value.kind, value);
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
