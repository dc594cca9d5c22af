// The manifests in examples/: they refer to what the program creates for their settings, and their pods receive a token.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { requestAccessToken } from "../simulator/accessCheck/tokenExchange";
import type { PodSpec } from "../simulator/emulators/pod";
import {
  type Container,
  EXAMPLES,
  type ExamplesStack,
  exampleOf,
  type Manifest,
  podOf,
  startExamplesStack,
} from "./examples";
import { violations } from "./podSecurity";

let stack: ExamplesStack;
before(async () => {
  stack = await startExamplesStack();
});
after(() => stack.simulation.close());

for (const file of EXAMPLES) {
  test(`${file} refers only to objects and keys that its settings create`, () => {
    const { manifests } = exampleOf(file);
    const declared = manifests.map(({ kind, metadata }) => `${kind} ${metadata.namespace}/${metadata.name}`);
    const references = manifests.flatMap(referencesOf);
    assert.ok(references.length > 0);
    for (const { kind, namespace, name, key } of references) {
      if (declared.includes(`${kind} ${namespace}/${name}`)) continue;
      const { data = {} } = stack.created(kind, namespace, name);
      if (key) assert.ok(Object.hasOwn(data, key), `${name} has no key ${key}`);
    }
  });

  test(`docs/workloads.md describes ${file}`, () => {
    const docs = readFileSync(join(__dirname, "..", "docs", "workloads.md"), "utf8");
    assert.ok(docs.includes(`(../examples/${file})`));
  });
}

for (const file of ["deployment.yaml", "drift-detection.yaml"]) {
  test(`${file} conforms to Pod Security restricted, in a namespace that enforces it`, () => {
    assert.equal(exampleOf(file).entry.createNamespace, true);
    assert.deepEqual(violations(podOf(file).spec), []);
  });

  test(`${file} has a writable home`, () => {
    const { spec, container } = podOf(file);
    const variables = Object.fromEntries(container.env.map(({ name, value }) => [name, value]));
    const home = container.volumeMounts.find(({ mountPath }) => mountPath === variables.HOME);
    assert.ok(spec.volumes.find(({ name }) => name === home?.name)?.emptyDir);
    assert.ok(variables.PULUMI_HOME?.startsWith(`${variables.HOME}/`));
  });
}

for (const file of ["deployment.yaml", "drift-detection.yaml", "pulumi-operator.yaml"]) {
  test(`${file} receives an access token through the credential helper on the emulated cluster`, async () => {
    const output = await stack.runPodOf(file, { command: ASK_HELPER });
    assert.match(output, /^\{"version":1,"accessToken":"TOKEN","expiresAt":"[^"]+Z"\}$/);

    const { PULUMI_TOKEN_TYPE: type, PULUMI_TOKEN_SCOPE: scope } = stack.createdFor(file).environment;
    const granted = { status: 200, reason: `${type} token, scope ${scope}` };
    assert.deepEqual(stack.simulation.pulumiCloud.exchanges.at(-1), granted);
  });
}

test("the stacks in the examples belong to the organization of the tokens", () => {
  const { PULUMI_ORG } = stack.createdFor("pulumi-operator.yaml").environment;
  const deployed = manifest("pulumi-operator.yaml", "Stack").spec?.stack;
  const { env } = podOf("drift-detection.yaml").container;
  const drifting = env.find(({ name }) => name === "STACK")?.value;
  for (const name of [deployed, drifting]) assert.match(String(name), RegExp(`^${PULUMI_ORG}/[^/]+/[^/]+$`));
});

test("pulumi-operator.yaml mounts the API token and may review tokens, as the operator's agent requires", () => {
  const { spec, container } = podOf("pulumi-operator.yaml");
  const binding = manifest("pulumi-operator.yaml", "ClusterRoleBinding");
  assert.equal(stack.createdFor("pulumi-operator.yaml").serviceAccount.automountServiceAccountToken, false);
  assert.equal(spec.automountServiceAccountToken, true);
  assert.equal(binding.roleRef?.name, "system:auth-delegator");
  assert.equal(container.name, "pulumi", "any other container is added to the operator's");
});

test("workflow-runner.yaml configures the agent with the pool of its policy, and with the ID token of the Job", () => {
  const { spec, container } = podOf("workflow-runner.yaml");
  const { environment, policy, job, serviceAccount } = stack.createdFor("workflow-runner.yaml");
  const variables = Object.fromEntries(
    container.env.map(({ name, value, valueFrom }) => [name, value ?? environment[valueFrom.configMapKeyRef.key]]),
  );
  const file = environment.PULUMI_OIDC_TOKEN_FILE;
  const jobAccount = manifest("workflow-runner.yaml", "ServiceAccount").metadata.name;
  assert.equal(variables.PULUMI_AGENT_SERVICE_ACCOUNT_NAME, jobAccount);
  assert.equal(variables.PULUMI_AGENT_RUNNER_POOL_ID, policy.runnerID);
  assert.equal(variables.PULUMI_AGENT_TOKEN_EXPIRATION, `${Number(environment.PULUMI_TOKEN_EXPIRATION) / 3600}h`);
  assert.equal(variables.PULUMI_AGENT_OIDC_TOKEN_FILE, file);
  assert.equal(variables.PULUMI_AGENT_ORGANIZATION_NAME, environment.PULUMI_ORG);
  assert.equal(variables.PULUMI_AGENT_SERVICE_URL, environment.PULUMI_BACKEND_URL);
  assert.deepEqual(idToken(spec, container), { audience: policy.rules.aud, file });
  assert.deepEqual(idToken(spec, container), idToken(job, job.containers[0]));
  assert.equal(serviceAccount.automountServiceAccountToken, false);
  assert.equal(spec.automountServiceAccountToken, true);
});

test("external-secrets.yaml names the organization and lifetime of its settings, and its token is granted", async () => {
  const { environment } = stack.createdFor("external-secrets.yaml");
  const store = manifest("external-secrets.yaml", "SecretStore");
  const { organization, auth } = store.spec?.provider?.pulumi ?? assert.fail("no provider");
  const { serviceAccountRef, expirationSeconds } = auth.oidcConfig;
  assert.deepEqual([organization, auth.oidcConfig.organization], [environment.PULUMI_ORG, environment.PULUMI_ORG]);
  assert.equal(String(expirationSeconds), environment.PULUMI_TOKEN_EXPIRATION);

  // As in providers/v1/pulumi/auth_oidc.go and runtime/oidc/token_manager.go in external-secrets/external-secrets.
  const request = { ...environment, PULUMI_TOKEN_TYPE: "organization", PULUMI_TOKEN_SCOPE: "" };
  const identity = { namespace: store.metadata.namespace ?? "", serviceAccount: serviceAccountRef.name };
  const { issuer, pulumiCloud } = stack.simulation;
  for (const audience of [serviceAccountRef.audiences, ["sts.amazonaws.com"]]) {
    const idToken = await issuer.token(identity, { audience });
    const { allowed } = await requestAccessToken(pulumiCloud.url, request, idToken);
    assert.equal(allowed, audience === serviceAccountRef.audiences);
  }
});

/** What the CLI does first, in a pod. The token does not enter the log. */
const ASK_HELPER = [
  "bash",
  "-euo",
  "pipefail",
  "-c",
  `arguments=$(tr -d '[]"' <<<"$PULUMI_CREDENTIAL_HELPER_ARGS")
  printf '{"version":1,"reason":"initial","selectedBackendUrl":"%s"}' "$PULUMI_BACKEND_URL" |
    "$PULUMI_CREDENTIAL_HELPER" $arguments | sed 's/pul-[0-9a-f]*/TOKEN/'`,
];

interface Reference {
  kind: string;
  namespace: string;
  name: string;
  key?: string;
}

/** Returns what a manifest refers to by name, with the key of a ConfigMap if it names one. */
function referencesOf({ metadata, ...manifest }: Manifest): Reference[] {
  const found: Reference[] = [];
  const add = (kind: string, { namespace = metadata.namespace, ...target }: Partial<Reference>) =>
    found.push({ kind, namespace, ...target } as Reference);
  JSON.stringify(manifest, (property, value) => {
    if (property === "serviceAccountName") add("ServiceAccount", { name: value });
    if (property === "serviceAccountRef") add("ServiceAccount", value);
    if (property === "secretStoreRef" || (property === "roleRef" && value.kind === "Role")) add(value.kind, value);
    if (property === "subjects") for (const subject of value) add(subject.kind, subject);
    if (["configMap", "configMapRef", "configMapKeyRef"].includes(property)) add("ConfigMap", value);
    return value;
  });
  return found;
}

function manifest(file: string, kind: string): Manifest {
  return (
    exampleOf(file).manifests.find((candidate) => candidate.kind === kind) ?? assert.fail(`${file} has no ${kind}`)
  );
}

/** Returns the audience and the path of a projected token. */
function idToken({ volumes }: PodSpec, container: Container | undefined) {
  for (const { name, mountPath } of container?.volumeMounts ?? []) {
    const sources = volumes.find((volume) => volume.name === name)?.projected?.sources ?? [];
    for (const { serviceAccountToken: token } of sources) {
      if (token) return { audience: token.audience, file: `${mountPath}/${token.path}` };
    }
  }
  return undefined;
}
