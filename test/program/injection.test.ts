// `injectToken` in the program: what it registers, and for which clusters.

import assert from "node:assert/strict";
import { test } from "node:test";
import { all, CLUSTER, entry, labelsOf, messageOf, only, type Stack, start, up } from "../support/stack";

const POLICY_TYPES = [
  "MutatingAdmissionPolicy",
  "MutatingAdmissionPolicyBinding",
  "ValidatingAdmissionPolicy",
  "ValidatingAdmissionPolicyBinding",
];

const ACCOUNTS = [
  entry({ namespace: "team-a", name: "deployer" }),
  entry({ namespace: "team-a", name: "drift", tokenAudience: "api" }),
  entry({ namespace: "team-b", name: "deployer" }),
];

interface Policy {
  metadata: { name: string };
  spec: {
    failurePolicy: string;
    matchConstraints: { resourceRules: object[] };
    matchConditions?: { expression: string }[];
    variables: { name: string; expression: string }[];
    validations?: { expression: string }[];
    validationActions?: string[];
    policyName: string;
  };
}

function policiesOf(stack: Stack) {
  return POLICY_TYPES.flatMap((type) => all<Policy>(stack, type));
}

test("registers no policy without injectToken", async (t) => {
  assert.deepEqual(policiesOf(await up(t)), []);
});

test("registers the policies and their bindings as children of the component", async (t) => {
  const stack = await up(t, { serviceAccounts: ACCOUNTS, injectToken: true });
  const policies = policiesOf(stack);
  assert.deepEqual(
    policies.map(({ type, name }) => `${type.split(":").at(-1)} ${name}`),
    POLICY_TYPES.map((type) => `${type} access.inject-token`),
  );
  for (const { inputs, options } of policies) {
    assert.match(inputs.metadata.name, /^access-inject-token-[0-9a-f]{8}$/);
    assert.deepEqual(await labelsOf(options.parent), ["PulumiCloudAccess access"]);
  }

  const [mutating, mutatingBinding, validating, validatingBinding] = policies;
  assert.equal(mutatingBinding?.inputs.spec.policyName, mutating?.id);
  assert.equal(validatingBinding?.inputs.spec.policyName, validating?.id);
  assert.deepEqual(validatingBinding?.inputs.spec.validationActions, ["Deny"]);
  // Without the other policy, it would deny every labeled pod.
  const dependencies = await labelsOf(validating?.options.dependsOn);
  assert.deepEqual(dependencies, ["MutatingAdmissionPolicyBinding access.inject-token"]);
});

test("denies a pod if the API server cannot evaluate a policy", async (t) => {
  const stack = await up(t, { injectToken: true });
  for (const type of ["MutatingAdmissionPolicy", "ValidatingAdmissionPolicy"]) {
    assert.equal(only<Policy>(stack, type).inputs.spec.failurePolicy, "Fail", type);
  }
});

test("compares only new pods, and no annotation of more than 1,024 characters", async (t) => {
  const stack = await up(t, { injectToken: true });
  for (const type of ["MutatingAdmissionPolicy", "ValidatingAdmissionPolicy"]) {
    const { matchConstraints, matchConditions, variables, validations } = only<Policy>(stack, type).inputs
      .spec;
    const pods = { apiGroups: [""], apiVersions: ["v1"], operations: ["CREATE"], resources: ["pods"] };
    assert.deepEqual(matchConstraints.resourceRules, [pods], type);

    const isShort = /annotations\["eks-pulumi-oidc\/containers"\]\.orValue\(''\)\.size\(\) <= 1024/;
    const named = variables.find(({ name }) => name === "named")?.expression ?? "";
    assert.match(named, RegExp(`^.*${isShort.source}\\n\\?`), type);
    assert.match((matchConditions ?? validations ?? []).map((it) => it.expression).join(), isShort, type);
  }
});

test("changes no pod of a service account that another stack has", async (t) => {
  const stack = await up(t, { injectToken: true });
  const { variables } = only<Policy>(stack, "MutatingAdmissionPolicy").inputs.spec;
  const targets = variables.find(({ name }) => name === "targets")?.expression ?? "";
  assert.match(targets, /^variables\.account in variables\.audiences\n\?.*\n: \[\]$/s);
});

test("writes every service account into the policy, whatever their order in the list", async (t) => {
  const audiences = async (serviceAccounts: object[]) => {
    const stack = await up(t, { serviceAccounts, injectToken: true });
    const { spec } = only<Policy>(stack, "MutatingAdmissionPolicy").inputs;
    return spec.variables.find(({ name }) => name === "audiences")?.expression;
  };
  const expected = `{
"team-a/deployer": "urn:pulumi:org:acme",
"team-a/drift": "api",
"team-b/deployer": "urn:pulumi:org:acme"
}`;
  assert.equal(await audiences(ACCOUNTS), expected);
  assert.equal(await audiences(ACCOUNTS.toReversed()), expected);
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
    const stack = await up(t, { injectToken: true }, { cluster: { ...CLUSTER, version } });
    assert.equal(policiesOf(stack).length, 4);
  }
  assert.ok(await up(t, {}, { cluster: { ...CLUSTER, version: "1.35" } }));
});

test("createCluster requests Kubernetes 1.36, so that injectToken changes no version", async (t) => {
  const version = async (settings: object) => {
    const stack = await up(t, { createCluster: true, ...settings }, { cluster: undefined });
    return only<{ version?: string }>(stack, "Cluster").inputs.version;
  };
  assert.equal(await version({ injectToken: true }), "1.36");
  assert.equal(await version({}), "1.36");
});
