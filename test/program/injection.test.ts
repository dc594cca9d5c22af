// `injectToken` in the program: what it registers, and for which clusters. injection.cluster.test.ts asks a real API server.

import assert from "node:assert/strict";
import { posix } from "node:path";
import { test } from "node:test";
import type { output } from "@pulumi/kubernetes/types";
import { audiencesById, policySpec } from "../../kubernetes/injectionPolicy";
import {
  CONFIG_MAP_SUFFIX,
  CREDENTIAL_HELPER,
  DIRECTORY,
  tokenVolume,
  VOLUME_MOUNT,
  VOLUME_NAME,
} from "../../kubernetes/tokenVolume";
import {
  all,
  CLUSTER,
  entry,
  labelsOf,
  messageOf,
  only,
  type Stack,
  stackWith,
  start,
  up,
} from "../environment/stack";

type Policy = {
  metadata: { name: string };
  spec: output.admissionregistration.v1.MutatingAdmissionPolicySpec;
};
type Binding = { spec: output.admissionregistration.v1.MutatingAdmissionPolicyBindingSpec };

const POLICY = "MutatingAdmissionPolicy";
const BINDING = "MutatingAdmissionPolicyBinding";

const injected = (settings: object) => entry({ injectToken: true, ...settings });

const SERVICE_ACCOUNTS = [
  injected({ namespace: "team-b", name: "deployer" }),
  entry({ namespace: "team-c", name: "other" }),
  injected({ namespace: "team-a", name: "drift", tokenAudience: "urn:pulumi:api" }),
  injected({ namespace: "team-a", name: "deployer" }),
];

test("the policy contains the service accounts with injectToken, in an order that does not depend on the list's", async (t) => {
  const stack = await up(t, { serviceAccounts: SERVICE_ACCOUNTS });
  const [policy, binding] = [only<Policy>(stack, POLICY), only<Binding>(stack, BINDING)];
  assert.equal(binding.inputs.spec.policyName, policy.id);
  assert.match(policy.inputs.metadata.name, /^access-inject-token-[0-9a-f]{8}$/);

  const { failurePolicy, matchConstraints, matchConditions, variables } = policy.inputs.spec;
  assert.equal(failurePolicy, "Ignore", "what fails must not stop a pod");
  const namespaces = { key: "kubernetes.io/metadata.name", operator: "In", values: ["team-a", "team-b"] };
  assert.deepEqual(matchConstraints.namespaceSelector, { matchExpressions: [namespaces] });
  const accounts = ["team-a/deployer", "team-a/drift", "team-b/deployer"].map((id) => `"${id}"`);
  assert.ok(matchConditions[0]?.expression.endsWith(` in [\n${accounts.join(",\n")}\n]`));
  const audiences = ["urn:pulumi:org:acme", "urn:pulumi:api", "urn:pulumi:org:acme"];
  const expected = audiences.map((audience, index) => `${accounts[index]}: "${audience}"`);
  assert.equal(variables[0]?.expression, `{\n${expected.join(",\n")}\n}`);

  for (const { name, options } of [policy, binding]) {
    assert.equal(name, "access.inject-token");
    assert.deepEqual(await labelsOf(options.parent), ["PulumiCloudAccess access"]);
    // A renamed component keeps its objects.
    assert.deepEqual(options.ignoreChanges, ["metadata.name"]);
    const jobs = ["team-a.deployer", "team-a.drift", "team-b.deployer"].map((it) => `Job access.${it}`);
    assert.deepEqual(await requiredBy(options), jobs);
  }
});

test("the policy adds the volume, the mount, and the variable of a manifest, and looks for them", () => {
  const { variables } = policySpec([], audiencesById([]));
  const expressions = new Map(variables.map(({ name, expression }) => [name, expression]));
  const added = ["volume", "volumeMount", "variable"].map((name) => objectIn(expressions.get(name)));
  const volume = tokenVolume("variables.configMap", "variables.audience");
  assert.deepEqual(added, [volume, VOLUME_MOUNT, CREDENTIAL_HELPER]);
  assert.equal(expressions.get("configMap"), `object.spec.serviceAccountName + '${CONFIG_MAP_SUFFIX}'`);

  const compared = [...(expressions.get("targets")?.matchAll(/(?:name ==|startsWith\() ?('[^']*')/g) ?? [])];
  assert.deepEqual(
    compared.map(([, literal]) => literal),
    [`'${VOLUME_NAME}'`, `'${CREDENTIAL_HELPER.name}'`, `'${DIRECTORY}/'`],
  );
  // In images where /var/run is a link, both are the directory that contains the mount.
  const parent = posix.dirname(DIRECTORY);
  const parents = [parent.replace("/var", ""), parent].flatMap((path) => [`'${path}'`, `'${path}/'`]);
  assert.ok(expressions.get("targets")?.includes(`mount.mountPath in [${parents.join(", ")}]`));
});

test("without a Job, the policy waits for what the Job would wait for", async (t) => {
  const rolePolicyArns = ["arn:aws:iam::aws:policy/ReadOnlyAccess"];
  const serviceAccounts = [injected({ rolePolicyArns, runJob: false })];
  const { options } = only(await up(t, { serviceAccounts }), POLICY);
  const account = "access.default.pulumi-service-account";
  assert.deepEqual(await requiredBy(options), [
    `ConfigMap ${account}.pulumi-token-exchange`,
    "OidcIssuer access.oidc-issuer",
    `RolePolicyAttachment ${account}.${rolePolicyArns}`,
    `ServiceAccount ${account}`,
  ]);
});

test("stops before anything is registered if the cluster is older than Kubernetes 1.36", async (t) => {
  const settings = stackWith({ injectToken: true });
  for (const version of ["1.35", "1.9", "0.99"]) {
    assert.equal(
      await messageOf(await start(t, { cluster: { ...CLUSTER, version } }), settings),
      `EKS cluster "my-cluster" has Kubernetes ${version}, but injectToken requires 1.36 or later.\n\n` +
        "  To use injectToken, upgrade the cluster.\n" +
        "  To use the cluster as it is, remove injectToken from every entry of serviceAccounts, and use the manifests in " +
        "docs/workloads.md.\n",
    );
  }
  const policiesOf = (stack: Stack) => [...all(stack, POLICY), ...all(stack, BINDING)];
  for (const version of ["1.36", "1.100", "2.0"]) {
    assert.equal(policiesOf(await up(t, settings, { cluster: { ...CLUSTER, version } })).length, 2);
  }
  assert.deepEqual(policiesOf(await up(t, {}, { cluster: { ...CLUSTER, version: "1.35" } })), []);
});

/** Returns what a resource waits for besides the place of its component, for which it has promises. */
async function requiredBy({ dependsOn }: { dependsOn?: unknown }): Promise<string[]> {
  return (await labelsOf(dependsOn)).sort();
}

/** Returns the object that an expression describes: without `dyn`, it is JSON with variables. */
function objectIn(expression = ""): unknown {
  return JSON.parse(expression.replaceAll(/dyn\(|\)/g, "").replaceAll(/variables\.\w+/g, '"$&"'));
}
