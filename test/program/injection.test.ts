// `injectToken` in the program: what it registers, and for which clusters. injection.cluster.test.ts asks a real API server.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { output } from "@pulumi/kubernetes/types";
import { all, CLUSTER, entry, labelsOf, messageOf, type Stack, start, up } from "../support/stack";

type Spec = output.admissionregistration.v1.MutatingAdmissionPolicySpec &
  output.admissionregistration.v1.ValidatingAdmissionPolicySpec &
  output.admissionregistration.v1.ValidatingAdmissionPolicyBindingSpec;
type Policy = { metadata: { name: string }; spec: Spec };

const TYPES = ["Mutating", "Validating"].flatMap((kind) => [
  `${kind}AdmissionPolicy`,
  `${kind}AdmissionPolicyBinding`,
]);

const SERVICE_ACCOUNTS = [
  entry({ namespace: "team-b", name: "deployer" }),
  entry({ namespace: "team-a", name: "drift", tokenAudience: "api" }),
  entry({ namespace: "team-a", name: "deployer" }),
];

const policiesOf = (stack: Stack) => TYPES.flatMap((type) => all<Policy>(stack, type));

test("the policies of injectToken", async (t) => {
  const policies = policiesOf(await up(t, { serviceAccounts: SERVICE_ACCOUNTS, injectToken: true }));
  const [mutating, mutatingBinding, validating, validatingBinding] = policies.map((it) => it.inputs.spec);

  await t.test("are children of the component with their bindings, of which the last denies", async () => {
    assert.deepEqual(
      policies.map(({ type, name }) => `${type.split(":").at(-1)} ${name}`),
      TYPES.map((type) => `${type} access.inject-token`),
    );
    for (const { inputs, options } of policies) {
      assert.match(inputs.metadata.name, /^access-inject-token-[0-9a-f]{8}$/);
      assert.deepEqual(await labelsOf(options.parent), ["PulumiCloudAccess access"]);
      // A renamed component keeps its objects.
      assert.deepEqual(options.ignoreChanges, ["metadata.name"]);
    }
    const names = [mutatingBinding?.policyName, validatingBinding?.policyName];
    assert.deepEqual(names, [policies[0]?.id, policies[2]?.id]);
    assert.deepEqual(validatingBinding?.validationActions, ["Deny"]);
    // Without the other policy, it would deny every labeled pod.
    const dependencies = await labelsOf(policies[2]?.options.dependsOn);
    assert.deepEqual(dependencies, ["MutatingAdmissionPolicyBinding access.inject-token"]);
  });

  await t.test("see new pods once, deny what fails, and compare no annotation over 1,024 characters", () => {
    const pods = { apiGroups: [""], apiVersions: ["v1"], operations: ["CREATE"], resources: ["pods"] };
    // Not once more after a webhook, whose containers stay as they are.
    assert.equal(mutating?.reinvocationPolicy, "Never");
    for (const spec of [mutating, validating]) {
      assert.equal(spec?.failurePolicy, "Fail");
      assert.deepEqual(spec.matchConstraints.resourceRules, [pods]);
      const compared = spec.variables.find(({ name }) => name === "named");
      assert.match(compared?.expression ?? "", /^.*\.size\(\) <= 1024\n\?/);
    }
  });

  await t.test("contain all accounts in alphabetical order", () => {
    const audiences = mutating?.variables.find(({ name }) => name === "audiences");
    const expected = `{
"team-a/deployer": "urn:pulumi:org:acme",
"team-a/drift": "api",
"team-b/deployer": "urn:pulumi:org:acme"
}`;
    assert.equal(audiences?.expression, expected);
  });
});

test("stops before anything is registered if the cluster is older than Kubernetes 1.36", async (t) => {
  for (const version of ["1.35", "1.9", "0.99"]) {
    const simulation = await start(t, { cluster: { ...CLUSTER, version } });
    assert.equal(
      await messageOf(simulation, { injectToken: true }),
      `EKS cluster "my-cluster" has Kubernetes ${version}, but injectToken requires 1.36 or later.\n\n` +
        "  To use injectToken, upgrade the cluster.\n" +
        "  To use the cluster as it is, set injectToken to false, and use the manifests in docs/workloads/index.md.\n",
    );
  }
  for (const version of ["1.36", "1.100", "2.0"]) {
    const { length } = policiesOf(await up(t, { injectToken: true }, { cluster: { ...CLUSTER, version } }));
    assert.equal(length, 4);
  }
  assert.deepEqual(policiesOf(await up(t, {}, { cluster: { ...CLUSTER, version: "1.35" } })), []);
});
