// The manifests in examples/: they refer to what the program creates for their settings, their pods receive a token, and
// their comments say what to delete with the label.

import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { requestAccessToken } from "../../accessCheck/requestAccessToken";
import type { PodSpec } from "../../simulator/emulators/pod";
import { tokenExchangePod } from "../../tokenExchange";
import {
  type Container,
  EXAMPLES,
  type ExamplesStack,
  exampleOf,
  type Manifest,
  ORGANIZATION,
  podOf,
  readManifests,
  saysWhatToDelete,
  startExamplesStack,
  withoutExchange,
} from "../support/examples";
import { codeIn, ROOT, read } from "../support/project";

/** Those whose pods other programs create or complete. */
const OTHERS = ["external-secrets.yaml", "pulumi-operator.yaml", "workflow-runner.yaml"];

/** Those whose pods the stack's namespaces admit. */
const RESTRICTED = EXAMPLES.filter((file) => !OTHERS.includes(file));

/** Those whose pods run the Pulumi CLI. */
const WITH_CLI = [...RESTRICTED, "pulumi-operator.yaml"];

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

  test(`a page in docs/workloads/ is about ${file}`, () => {
    const pages = readdirSync(join(ROOT, "docs/workloads")).filter((page) => page !== "index.md");
    const links = pages.map((page) => read(`docs/workloads/${page}`)).join("");
    assert.ok(links.includes(`(../../examples/${file})`));
  });
}

for (const file of [...WITH_CLI, "workflow-runner.yaml"]) {
  test(`${file} runs on Linux nodes only`, () => {
    assert.deepEqual(podOf(file).spec.nodeSelector, { "kubernetes.io/os": "linux" });
  });
}

for (const file of RESTRICTED) {
  // `npm run test:cluster` tests that such a namespace admits the pod.
  test(`${file} is in a namespace that enforces Pod Security restricted`, () => {
    const { settings, entry } = exampleOf(file);
    assert.deepEqual(settings.createNamespaces, [entry.namespace]);
  });

  test(`${file} has a writable home`, () => {
    const { spec, container } = podOf(file);
    const variables = Object.fromEntries(container.env.map(({ name, value }) => [name, value]));
    const home = container.volumeMounts.find(({ mountPath }) => mountPath === variables.HOME);
    assert.ok(spec.volumes.find(({ name }) => name === home?.name)?.emptyDir);
    assert.ok(variables.PULUMI_HOME?.startsWith(`${variables.HOME}/`));
  });
}

for (const file of WITH_CLI) {
  test(`${file} receives an access token through the credential helper on the emulated cluster`, async () => {
    const output = await stack.runPodOf(file, { command: ASK_HELPER });
    const { tokenType, tokenScope } = stack.createdFor(file).settings;
    const answer = JSON.parse(output);
    assert.deepEqual([answer.accessToken, answer.backendUrl], ["TOKEN", stack.simulation.pulumiCloud.url]);

    const granted = { status: 200, reason: `${tokenType} token, scope ${tokenScope}` };
    assert.deepEqual(stack.simulation.pulumiCloud.exchanges.at(-1), granted);
  });
}

for (const file of WITH_CLI) {
  if (exampleOf(file).labeled) continue;

  test(`${file} is what tokenExchangePod returns for it without the lines that the label replaces`, () => {
    const { entry, source } = exampleOf(file);
    const { spec, container } = podOf(file);
    const bare = podOf(file, readManifests(withoutExchange(source)));
    const completed = tokenExchangePod(
      { ...bare.spec, containers: [bare.container] },
      {
        serviceAccountName: entry.name,
        configMap: `${entry.name}-pulumi-token-exchange`,
        tokenAudience: entry.tokenAudience ?? `urn:pulumi:org:${ORGANIZATION}`,
      },
    );
    assert.deepEqual(completed, { ...spec, containers: [container] });
  });
}

test("docs/workloads/pods.md shows what `pulumi stack output serviceAccounts` prints for deployment.yaml", () => {
  const [block = ""] = codeIn(read("docs/workloads/pods.md"), "json");
  const { "apps/deployer": access } = stack.outputs.serviceAccounts as Record<string, object>;
  assert.deepEqual(JSON.parse(block), { "apps/deployer": access });
});

test("AWS denies the ID token that a pod sends to Pulumi Cloud", async () => {
  const { aws, issuer } = stack.simulation;
  const file = "drift-detection.yaml";
  const { namespace, name: serviceAccount } = exampleOf(file).entry;
  const { spec, container } = podOf(file);
  const { audience } = idToken(spec, container) ?? assert.fail("no ID token");
  const { annotations } = stack.createdFor(file).serviceAccount.metadata;
  const assumeRole = async (audience: string) => {
    const token = await issuer.token({ namespace, serviceAccount }, { audience: [audience], expiresIn: 600 });
    return aws.assumeRoleWithWebIdentity(annotations["eks.amazonaws.com/role-arn"] ?? "", token);
  };

  assert.equal((await assumeRole("sts.amazonaws.com")).allowed, true, "a token with the audience of IRSA");
  assert.equal((await assumeRole(audience)).allowed, false);
});

test("the stacks in the examples belong to the organization of the tokens", () => {
  const ofOperator = manifest("pulumi-operator.yaml", "Stack").spec?.stack;
  const ofCronJobs = ["drift-detection.yaml", "scheduled-update.yaml"].map((file) => {
    return podOf(file).container.env.find(({ name }) => name === "STACK")?.value;
  });
  for (const name of [ofOperator, ...ofCronJobs]) {
    assert.match(String(name), RegExp(`^${ORGANIZATION}/[^/]+/[^/]+$`));
  }
});

test("pulumi-operator.yaml mounts the API token and may review tokens, as the operator's agent requires", () => {
  const { spec, container } = podOf("pulumi-operator.yaml");
  const binding = manifest("pulumi-operator.yaml", "ClusterRoleBinding");
  assert.equal(stack.createdFor("pulumi-operator.yaml").serviceAccount.automountServiceAccountToken, false);
  assert.equal(spec.automountServiceAccountToken, true);
  assert.equal(binding.roleRef?.name, "system:auth-delegator");
  assert.equal(container.name, "pulumi", "any other container is added to the operator's");
});

test("workflow-runner.yaml configures the agent with the pool of its policy, and with its ID token", () => {
  const { spec, container } = podOf("workflow-runner.yaml");
  const { settings, policy, serviceAccount } = stack.createdFor("workflow-runner.yaml");
  const variables = Object.fromEntries(
    container.env.map(({ name, value, valueFrom }) => [
      name,
      value ?? settings[valueFrom.configMapKeyRef.key],
    ]),
  );
  const jobAccount = manifest("workflow-runner.yaml", "ServiceAccount").metadata.name;
  assert.equal(variables.PULUMI_AGENT_SERVICE_ACCOUNT_NAME, jobAccount);
  assert.equal(variables.PULUMI_AGENT_RUNNER_POOL_ID, policy.runnerID);
  assert.equal(variables.PULUMI_AGENT_TOKEN_EXPIRATION, `${Number(settings.tokenExpirationSeconds) / 3600}h`);
  assert.equal(variables.PULUMI_AGENT_OIDC_TOKEN_FILE, idToken(spec, container)?.file);
  assert.equal(variables.PULUMI_AGENT_ORGANIZATION_NAME, settings.organization);
  assert.equal(variables.PULUMI_AGENT_SERVICE_URL, settings.apiUrl);
  assert.equal(serviceAccount.automountServiceAccountToken, false);
  assert.equal(spec.automountServiceAccountToken, true);
});

test("external-secrets.yaml names the organization and lifetime of its settings, and its token is granted", async () => {
  const { settings } = stack.createdFor("external-secrets.yaml");
  const store = manifest("external-secrets.yaml", "SecretStore");
  const { organization, auth } = store.spec?.provider?.pulumi ?? assert.fail("no provider");
  const { serviceAccountRef, expirationSeconds } = auth.oidcConfig;
  assert.deepEqual(
    [organization, auth.oidcConfig.organization],
    [settings.organization, settings.organization],
  );
  assert.equal(String(expirationSeconds), settings.tokenExpirationSeconds);

  // As in providers/v1/pulumi/auth_oidc.go and runtime/oidc/token_manager.go in external-secrets/external-secrets.
  const request = { ...settings, tokenType: "organization", tokenScope: "" };
  const { namespace = "" } = store.metadata;
  const { issuer, pulumiCloud } = stack.simulation;
  const exchange = async (serviceAccount: string) => {
    const idToken = await issuer.token(
      { namespace, serviceAccount },
      { audience: serviceAccountRef.audiences, expiresIn: 600 },
    );
    return requestAccessToken(pulumiCloud.url, request, idToken);
  };
  assert.deepEqual(serviceAccountRef.audiences, [exampleOf("external-secrets.yaml").entry.tokenAudience]);
  assert.equal((await exchange(serviceAccountRef.name)).allowed, true);
  assert.equal((await exchange("default")).allowed, false);
});

for (const file of EXAMPLES.filter(saysWhatToDelete)) {
  const { entry, source } = exampleOf(file);

  test(`${file} keeps no part of the exchange once the lines are deleted that the label replaces`, () => {
    const kept = JSON.stringify(readManifests(withoutExchange(source)));
    assert.doesNotMatch(kept, /pulumi-token|exchange-token\.sh/);
    assert.match(kept, RegExp(`"serviceAccountName":"${entry.name}"`));
    // The schema of a Stack accepts no null, and requires the list of containers.
    assert.doesNotMatch(kept, /:null/);
    assert.match(kept, /"containers":\[\{"name":/);
  });
}

/** What the CLI does first, in a pod. The token does not enter the log. */
const ASK_HELPER = [
  "bash",
  "-euo",
  "pipefail",
  "-c",
  `"$PULUMI_CREDENTIAL_HELPER" <<<'{"version":1,"reason":"initial"}' | sed 's/pul-[0-9a-f]*/TOKEN/'`,
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
    if (property === "secretStoreRef" || (property === "roleRef" && value.kind === "Role"))
      add(value.kind, value);
    if (property === "subjects") for (const subject of value) add(subject.kind, subject);
    if (["configMap", "configMapKeyRef"].includes(property)) add("ConfigMap", value);
    return value;
  });
  return found;
}

function manifest(file: string, kind: string): Manifest {
  return (
    exampleOf(file).manifests.find((candidate) => candidate.kind === kind) ??
    assert.fail(`${file} has no ${kind}`)
  );
}

/** Returns the audience, lifetime, and path of a projected token. */
function idToken({ volumes }: PodSpec, container: Container | undefined) {
  for (const { name, mountPath } of container?.volumeMounts ?? []) {
    const sources = volumes.find((volume) => volume.name === name)?.projected?.sources ?? [];
    for (const { serviceAccountToken: token } of sources) {
      if (!token) continue;
      const { audience, expirationSeconds, path } = token;
      return { audience, expirationSeconds, file: `${mountPath}/${path}` };
    }
  }
  return undefined;
}
