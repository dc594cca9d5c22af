// `injectToken` in the program: what it registers, and for which clusters. injection.cluster.test.ts asks a real API server.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { output } from "@pulumi/kubernetes/types";
import { createInjection } from "../../injection";
import { runProgram } from "../../simulator/runProgram";
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
  const variable = (spec: Spec | undefined, name: string) =>
    spec?.variables.find((it) => it.name === name)?.expression ?? assert.fail(name);

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
    const isShort = /annotations\["eks-pulumi-oidc\/containers"\]\.orValue\(''\)\.size\(\) <= 1024/;
    // Not once more after a webhook, whose containers stay as they are.
    assert.equal(mutating?.reinvocationPolicy, "Never");
    for (const spec of [mutating, validating]) {
      assert.equal(spec?.failurePolicy, "Fail");
      assert.deepEqual(spec.matchConstraints.resourceRules, [pods]);
      assert.match(variable(spec, "named"), RegExp(`^.*${isShort.source}\\n\\?`));
      const conditions = spec.matchConditions ?? spec.validations;
      assert.match(conditions.map(({ expression }) => expression).join(), isShort);
    }
  });

  await t.test("contain all accounts in alphabetical order, and change no pod of another stack", () => {
    const audiences = `{
"team-a/deployer": "urn:pulumi:org:acme",
"team-a/drift": "api",
"team-b/deployer": "urn:pulumi:org:acme"
}`;
    assert.equal(variable(mutating, "audiences"), audiences);
    const targets = /^variables\.account in variables\.audiences\n\?.*\n: \[\]$/s;
    assert.match(variable(mutating, "targets"), targets);
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

test("two components whose names differ only in case have separate policies", async () => {
  const program = async () => {
    for (const name of ["Access", "access"]) createInjection(name, { accounts: [] });
    return {};
  };
  const stack = { project: "project", stack: "dev", organization: "acme", config: {} };
  const { registered } = await runProgram({ resources: {}, calls: {} }, { ...stack, program });
  const names = registered.map(({ inputs }) => JSON.stringify(inputs.metadata));
  assert.equal(new Set(names).size, 2);
});
