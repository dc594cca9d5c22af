// The list of what an update does: each row as `WHAT TYPE NAMES; DETAILS`. plan.engine.test.ts has lists of the real engine.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { planFrom } from "../../accessCheck/plan";
import { configLines } from "../../accessCheck/updateList";
import {
  ASSOCIATION,
  add,
  COMPONENT,
  CONFIG_MAP,
  deployedPlan,
  type Edit,
  IRSA,
  ISSUER,
  ISSUER_URL,
  JOB,
  newPlan,
  POD_IDENTITY,
  PULUMI_CLOUD,
  READ_ONLY,
  remove,
  SECRET,
  set,
  setDeployed,
  UNKNOWN,
} from "./draft";

const ROLE_NAME = `pulumi-oidc-ci-deployer-${"0".repeat(26)}`;
const CONTAINER = "spec.template.spec.containers.0";
const TOKEN = `pul-${"0".repeat(40)}`;
const ISSUER_ROW = `OidcIssuer access.oidc-issuer (ID: acme/UUID, name: eks-my-cluster, url: https://${ISSUER_URL}, organization: acme)`;
const ROLE_ROW = `Role access.ci.deployer (ID: ${ROLE_NAME})`;

const STATE = { type: "a:b:C", inputs: {}, id: "id" };
const OF_CLUSTER = "urn:pulumi:dev::eks-pulumi-oidc::pulumi:providers:kubernetes::cluster";

/** Returns an edit that gives a resource these steps: an operation, with the state before and after it. */
function steps(name: string, ...states: [op: string, oldState?: object, newState?: object][]): Edit {
  const urn = `urn:pulumi:dev::eks-pulumi-oidc::a:b:C::${name}`;
  return (draft) => {
    for (const [op, oldState, newState] of states) {
      const [old, now] = [oldState, newState].map((it) => it && { urn, ...STATE, ...it });
      draft.steps.push({ op, urn, ...(old && { oldState: old }), ...(now && { newState: now }) });
    }
  };
}

/** Returns an edit of the state of a resource before or after the update. */
function state(resource: string, when: "oldState" | "newState", values: object, op?: string): Edit {
  return (draft) => {
    const step = draft.step(resource);
    Object.assign(step[when] ?? assert.fail(resource), values);
    if (op) step.op = op;
  };
}

/** Steps of a plan, and the rows that they are. */
const CASES: [what: string, edits: Edit[], rows: string[], plan?: typeof newPlan][] = [
  // Sequences of steps, of a resource outside of the component.
  ["what stays", [steps("x", ["same", {}, {}])], []],
  ["what a refresh has read", [steps("x", ["refresh", {}, {}], ["same", {}, {}])], []],
  [
    "what a refresh has found different",
    [
      steps(
        "x",
        ["update", { inputs: { a: 1 } }, { inputs: { a: 2 } }],
        ["update", { inputs: { a: 2 } }, { inputs: { a: 1 } }],
      ),
    ],
    ["changes C x (ID: id); a: 2 → 1"],
  ],
  ["what is gone", [steps("x", ["delete", {}], ["create", undefined, {}])], ["creates C x (ID: id)"]],
  [
    "a creation",
    [steps("x", ["create", undefined, { id: "", inputs: { name: "n" } }])],
    ["creates C x (name: n)"],
  ],
  [
    "an import, and what differs from what exists",
    [
      steps("x", ["import", undefined, { id: "", importID: "i", inputs: { a: 1 } }]),
      steps(
        "y",
        ["import", undefined, { id: "", importID: "i", inputs: { a: 1 } }],
        ["update", { id: "i", inputs: { a: 2 } }, { id: "i", inputs: { a: 1 } }],
      ),
    ],
    ["imports C x (ID: i)", "imports C y (ID: i); a: 2 → 1"],
  ],
  [
    "an import that replaces something",
    [steps("x", ["replace", { id: "old" }, { id: "", importID: "i" }])],
    ["imports C x (ID: i)"],
  ],
  ["what was imported before", [steps("x", ["same", { importID: "i" }, { importID: "i" }])], []],
  [
    "a read for the first time, and again",
    [
      steps("x", ["read", undefined, { external: true }]),
      steps("y", ["read", { external: true }, { external: true }]),
    ],
    ["reads C x (ID: id)"],
  ],
  [
    "what the program gives up, to read it from now on, and what it no longer reads",
    [steps("x", ["read", {}, { external: true }]), steps("y", ["discard", { external: true }])],
    ["leaves C x (ID: id)", "forgets C y (ID: id)"],
  ],
  [
    "a deletion, and what is not deleted in its service",
    [
      steps("x", ["delete", {}]),
      steps("y", ["delete", { retainOnDelete: true }]),
      steps("z", ["delete", { deletedWith: "urn" }]),
    ],
    [
      "leaves C y (ID: id); retainOnDelete: true",
      "leaves C z (ID: id); deletedWith: urn",
      "deletes C x (ID: id)",
    ],
  ],
  [
    "all steps of a replacement as one row, and that the old one stays",
    [
      steps(
        "x",
        ["create-replacement", { inputs: { a: 1 } }, { id: "", inputs: { a: 2 } }],
        ["replace", { inputs: { a: 1 } }, { id: "", inputs: { a: 2 } }],
        ["delete-replaced", { inputs: { a: 1 }, delete: true }],
      ),
      steps("y", ["replace", { retainOnDelete: true }, { retainOnDelete: true }]),
    ],
    ["replaces C x (ID: id); a: 1 → 2", "replaces C y (ID: id); the old one stays"],
  ],
  [
    "what an earlier update has replaced, and not deleted",
    [
      steps("x", ["refresh", { id: "old", delete: true }], ["refresh", {}, {}], ["same", {}, {}]),
      steps("y", ["delete-replaced", { id: "old", delete: true }], ["same", {}, {}]),
    ],
    ["still has C x (ID: old), y (ID: old)"],
  ],
  [
    "an alias, also of another type, and another parent",
    [
      steps("x", ["same", { urn: "urn:pulumi:dev::p::a:b:C::w" }, {}]),
      steps("y", [
        "update",
        { urn: "urn:pulumi:dev::p::d:e:F::y", type: "d:e:F", inputs: { a: 1 } },
        { inputs: { a: 2 } },
      ]),
      steps("z", [
        "same",
        { parent: "urn:pulumi:dev::p::a:b:C::one" },
        { parent: "urn:pulumi:dev::p::a:b:C::other" },
      ]),
    ],
    [
      "moves C x (ID: id, from w), z (ID: id, parent: one → other)",
      "moves C y (ID: id, from d:e:F y); a: 1 → 2",
    ],
  ],
  [
    "options by which something stays in its service",
    [
      steps("x", ["same", { protect: true }, {}]),
      steps("y", ["same", {}, { retainOnDelete: true }]),
      steps("z", ["create", undefined, { deletedWith: "urn" }]),
    ],
    [
      "changes C x (ID: id); protect: true → none",
      "changes C y (ID: id); retainOnDelete: none → true",
      "creates C z (ID: id); deletedWith: none → urn",
    ],
  ],
  ["an operation that is not known", [steps("x", ["extend", {}, {}])], ["extend C x (ID: id)"]],
  [
    "nothing that is secret before and after, or empty in one of both",
    [
      steps("x", [
        "update",
        { inputs: { a: SECRET, b: { c: [] }, d: 1 } },
        { inputs: { a: SECRET, b: {}, d: SECRET } },
      ]),
    ],
    ["changes C x (ID: id); d: 1 → secret"],
  ],
  [
    "a rule and a selector that are empty, and so include everything",
    [
      steps("x", [
        "update",
        { inputs: { spec: { ingress: [] } } },
        { inputs: { spec: { ingress: [{}], podSelector: {} } } },
      ]),
    ],
    ["changes C x (ID: id); spec.ingress.0: none → {}; spec.podSelector: none → {}"],
  ],

  // Resources of the component.
  [
    "each allow policy by its service account, and every other input",
    [
      set(ISSUER, "policies.0.teamName", "b"),
      setDeployed(ISSUER, "policies.4", { decision: "allow", rules: { sub: "x" } }),
      set(ISSUER, "maxExpirationSeconds", 3601),
      set(CONFIG_MAP, "data.tokenScope", "team:b"),
      setDeployed(CONFIG_MAP, ["data", "exchange-token.sh"], "#!/bin/sh\n"),
      set(JOB, `${CONTAINER}.args.1`, `up --token=${TOKEN} ${"QUJD".repeat(10)}`),
      setDeployed(
        JOB,
        ["spec", "template", "metadata", "annotations", "pulumi.com/token-exchange-checksum"],
        "x",
      ),
    ],
    [
      `changes ${ISSUER_ROW}; maxExpirationSeconds: 3600 → 3601; policies.4: { "decision": "allow", "rules": { "sub": "x" } } → none; policies.ci/deployer.teamName: "a" → "b"`,
      `changes ConfigMap access.ci.deployer.pulumi-token-exchange (ci/deployer-pulumi-token-exchange); data.exchange-token.sh: another script → that of this clone; data.tokenScope: "team:a" → "team:b"`,
      'changes Job access.ci.deployer (ci/deployer-token-exchange); spec.template.metadata.annotations.pulumi.com/token-exchange-checksum: that of another ConfigMap; spec.template.spec.containers.token-exchange.args.1: "whoami" → "up --token=[redacted] QUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJD"',
    ],
  ],
  [
    "a role that is imported into the component, with the trust policy that it had",
    [
      (draft) => {
        const step = draft.step(IRSA);
        const { oldState, newState } = step;
        Object.assign(step, {
          op: "import",
          oldState: null,
          newState: { ...newState, importID: "of-others" },
        });
        const found = {
          ...oldState,
          id: "of-others",
          inputs: { ...oldState?.inputs, maxSessionDuration: 7200 },
        };
        draft.steps.push({ op: "update", urn: step.urn, oldState: found, newState });
      },
    ],
    ["imports Role access.ci.deployer (ID: of-others); maxSessionDuration: 7200 → 3600"],
  ],
  [
    "what leaves the component by another parent, and what becomes a part of it by an alias",
    [
      state("Job access.web.secrets", "newState", { parent: undefined }),
      state(IRSA, "oldState", { parent: undefined, urn: "urn:pulumi:dev::x::aws:iam/role:Role::app" }),
    ],
    [
      `moves Role access.ci.deployer (ID: ${ROLE_NAME}, from app)`,
      "moves Job access.web.secrets (web/secrets-token-exchange, parent: access.web.secrets → none)",
    ],
  ],
  [
    "what is removed from the component, with its options",
    [
      remove(IRSA, { retainOnDelete: true }),
      remove(POD_IDENTITY),
      remove(ASSOCIATION, { deletedWith: "urn" }),
    ],
    [
      `leaves ${ROLE_ROW}; retainOnDelete: true`,
      "leaves PodIdentityAssociation access.ops.drift (ID: my-cluster,ops/drift, namespace: ops, serviceAccount: drift, roleArn: arn:aws:iam::123456789012:role/pulumi-oidc-ops-drift-00000000000000000000000000, clusterName: my-cluster); deletedWith: urn",
      "deletes Role access.ops.drift (ID: pulumi-oidc-ops-drift-00000000000000000000000000)",
    ],
  ],
  [
    "a provider of the component that is another one, with its plugin, and one that changes",
    [
      (draft) => {
        for (const { newState } of draft.steps) {
          if (newState?.provider?.includes("kubernetes::cluster")) newState.provider = `${OF_CLUSTER}-2::id`;
        }
      },
      add("pulumi:providers:kubernetes", "cluster-2", {
        version: "4.34.2",
        kubeconfig: SECRET,
        __internal: { pluginDownloadURL: "https://example.com", envVarMappings: { A: "B" } },
      }),
      set(PULUMI_CLOUD, "version", "9.9.9"),
      setDeployed("kubernetes cluster", "kubeconfig", '{"users":[{"name":"a","user":{"token":"secret"}}]}'),
      set(
        "kubernetes cluster",
        "kubeconfig",
        '{"users":[{"name":"a","user":{"token":"other","exec":{"command":"aws"}}}]}',
      ),
    ],
    [
      'uses kubernetes cluster-2 (in access); version: 4.34.2; pluginDownloadURL: https://example.com; envVarMappings: { "A": "B" }',
      'changes pulumiservice pulumi-cloud (ID: pulumi-cloud); version: none → "9.9.9"',
      'changes kubernetes cluster (ID: cluster); kubeconfig.users.a.user.token: not shown → not shown; kubeconfig.users.a.user.exec: none → { "command": "aws" }',
      "creates kubernetes cluster-2",
    ],
  ],
  [
    "a provider that the engine calls unchanged, since only its plugin differs",
    [
      (draft) => {
        draft.edit(set("kubernetes cluster", "__internal", { name: "other", parameterization: "e30=" }));
        draft.edit(set("kubernetes cluster", "kubeconfig", "spelled in another way"));
        draft.step("kubernetes cluster").op = "same";
      },
    ],
    ['changes kubernetes cluster (ID: cluster); name: none → "other"; parameterization: none → "e30="'],
  ],

  // What is new.
  [
    "a new component, of which what is known after the update only has a row",
    [],
    [
      "uses pulumi default (in access), default (in the rest of the program)",
      "uses kubernetes cluster (in access)",
      "uses aws default (in access)",
      "uses pulumiservice pulumi-cloud (in access)",
      "creates Stash pulumi-cloud.url, pulumi-cloud.place",
      "creates pulumiservice pulumi-cloud",
      "creates kubernetes cluster",
      `creates RolePolicyAttachment access.ci.deployer.${READ_ONLY} (role: known after the update, policyArn: ${READ_ONLY}); role: known after the update`,
      "creates ServiceAccount ci/deployer; metadata.annotations.eks.amazonaws.com/role-arn: known after the update",
      "creates PodIdentityAssociation ops/drift; roleArn: known after the update",
      "creates 23 resources of access, as its settings say",
    ],
    newPlan,
  ],
  [
    "new resources of a component that are not only what its settings say",
    [
      ...newOf(
        "Job access.ci.deployer",
        "Namespace access.ops",
        IRSA,
        "Job access.web.secrets",
        "Job access.ops.drift",
      ),
      set(IRSA, "tags", { team: "a" }),
      set("Namespace access.ops", "metadata.labels", { team: "a" }),
      set(JOB, `${CONTAINER}.image`, "other:1"),
      state("Job access.ops.drift", "newState", { protect: true, retainOnDelete: true }),
    ],
    [
      'creates Namespace access.ops (ops); retainOnDelete: none → true; metadata.labels.team: none → "a"; metadata.labels.pod-security.kubernetes.io/enforce: "restricted" → none',
      'creates Role ci/deployer; tags: none → { "team": "a" }',
      "creates Job ops/drift; retainOnDelete: none → true; protect: none → true",
      'creates Job access.ci.deployer (ci/deployer-token-exchange); spec.template.spec.containers.token-exchange.image: "pulumi/pulumi-base:3.274.1" → "other:1"',
      "creates 1 resource of access, as its settings say",
    ],
  ],
  [
    "an allow policy of a new service account that is known after the update only",
    [
      set(COMPONENT, "serviceAccounts.3.runnerId", UNKNOWN),
      set(ISSUER, "policies.3.runnerID", UNKNOWN),
      setDeployed(ISSUER, "policies.3"),
    ],
    [
      `changes ${ISSUER_ROW}; policies.web/runner: none → { "decision": "allow", "rules": { "\\"kubernetes.io\\".namespace": "web", "\\"kubernetes.io\\".serviceaccount.name": "runner", "aud": "urn:pulumi:org:acme" }, "runnerID": "known after the update", "tokenType": "runner" }`,
    ],
  ],
  [
    "rows that are the same but for their names as one, with every name",
    Array.from({ length: 30 }, (_, index) => {
      const namespace = index === 17 ? "kube-system" : `team-${index}`;
      return add("kubernetes:rbac.authorization.k8s.io/v1:RoleBinding", `b${index}`, {
        metadata: { namespace, name: "deploy" },
      });
    }),
    [
      `creates RoleBinding ${Array.from({ length: 30 }, (_, index) => `b${index} (${index === 17 ? "kube-system" : `team-${index}`}/deploy)`).join(", ")}`,
    ],
  ],
  // Each of these could change what a component grants, and a program can do anything, so that nothing of it is judged.
  [
    "what is done elsewhere to the resources of the component",
    [
      add("kubernetes:core/v1:ConfigMapPatch", "a", { metadata: { namespace: "ci", name: UNKNOWN } }),
      add("aws:iam/rolePolicyAttachment:RolePolicyAttachment", "b", { role: UNKNOWN, policyArn: "arn" }),
      add("aws:iam/rolePolicy:RolePolicy", "c", { role: ROLE_NAME.toUpperCase(), policy: "{}" }),
      add("aws:cloudcontrol/resource:Resource", "d", {
        typeName: "AWS::IAM::RolePolicy",
        desiredState: "{}",
      }),
      add("pulumiservice:index:Team", "e", { organizationName: "acme", name: "a", members: ["mallory"] }),
      add("random:index:RandomId", "f", {}),
    ],
    [
      "creates ConfigMapPatch a (ci/known after the update)",
      "creates RolePolicyAttachment b (role: known after the update, policyArn: arn)",
      `creates RolePolicy c (role: ${ROLE_NAME.toUpperCase()})`,
      "creates Resource d (typeName: AWS::IAM::RolePolicy)",
      "creates Team e (name: a, organizationName: acme)",
      "creates RandomId f",
    ],
  ],
];

/** Returns edits by which these resources do not exist yet. */
function newOf(...resources: string[]): Edit[] {
  return resources.map(
    (resource) => (draft) => Object.assign(draft.step(resource), { op: "create", oldState: null }),
  );
}

describe("lists", () => {
  for (const [what, edits, expected, plan = deployedPlan] of CASES) {
    test(what, async () => {
      const { rows } = (await plan(...edits)).check();
      assert.deepEqual(
        rows.map((row) => row.replaceAll(/acme\/[0-9a-f-]{36}/g, "acme/UUID")),
        expected,
      );
    });
  }
});

test("lists the settings of the plan, those of service accounts before, and no credential", async () => {
  const config = {
    "eks-pulumi-oidc:clusterNam": "misspelled",
    "eks-pulumi-oidc:serviceAccounts": "[]",
    "aws:assumeRoles": '[{"roleArn":"arn","externalId":"x","webIdentityToken":"secret"}]',
    "aws:secretKey": "secret",
    "kubernetes:kubeconfig": "secret",
  };
  assert.deepEqual(configLines(planFrom((await deployedPlan()).steps, config)), [
    'aws:assumeRoles: [ { "roleArn": "arn", "externalId": "x", "webIdentityToken": "not shown" } ]',
    "aws:secretKey: not shown",
    "eks-pulumi-oidc:clusterNam: misspelled",
    "eks-pulumi-oidc:serviceAccounts: see above",
    "kubernetes:kubeconfig: not shown",
  ]);
});
