// What exists beside the program: what a refresh has read into the outputs, and the preview calls unchanged. whatExists.cluster.test.ts
// has it on a real API server.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  add,
  CONFIG_MAP,
  deployedPlan,
  type Edit,
  INJECTION,
  type Inputs,
  IRSA,
  type Key,
  READ_ONLY,
  SECRET,
  SERVICE_ACCOUNT,
  setAt,
  setExisting,
} from "./draft";

const ROLE_NAME = `pulumi-oidc-ci-deployer-${"0".repeat(26)}`;
const MORE = "arn:aws:iam::aws:policy/More";
const ROLE_ROW = `has beside the program Role access.ci.deployer (ID: ${ROLE_NAME})`;
const CONFIG_MAP_ROW = `has beside the program ConfigMap access.ci.deployer.pulumi-token-exchange (ci/deployer-pulumi-token-exchange)`;
const POLICY_ROW =
  "has beside the program MutatingAdmissionPolicy access.inject-token (access-inject-token-9eb00901)";
const BINDING = "MutatingAdmissionPolicyBinding access.inject-token";
const ANNOTATIONS = { "eks.amazonaws.com/role-arn": "arn" };

/** Returns an edit of the spec of an object as the API server has it: that of the program, with its defaults. */
function setSpec(resource: string, ...changes: [path: string | Key[], value: unknown][]): Edit {
  return (draft) => {
    const spec = structuredClone(draft.step(resource).newState?.inputs.spec) as Inputs;
    const isPolicy = resource === INJECTION;
    const defaults: typeof changes = [
      ["matchConstraints.matchPolicy", "Equivalent"],
      ["matchConstraints.objectSelector", {}],
      ["matchConstraints.resourceRules.0.scope", "*"],
    ];
    for (const [path, value] of [...(isPolicy ? defaults : []), ...changes]) setAt(spec, path, value);
    draft.edit(setExisting(resource, "spec", spec));
  };
}

/** A service account that exists already. */
const existing: Edit = (draft) => {
  const step = draft.step("ServiceAccount access.web.secrets");
  step.op = "read";
  for (const state of [step.oldState, step.newState]) Object.assign(state ?? {}, { external: true });
};

const CASES: [what: string, edits: Edit[], rows: string[]][] = [
  [
    "policies of a role that nothing in the plan attaches",
    [
      setExisting(IRSA, "managedPolicyArns", [READ_ONLY, MORE, "arn:of-program"]),
      setExisting(IRSA, "inlinePolicies", [
        { name: "inline", policy: "{}" },
        { name: "of-program", policy: "{}" },
      ]),
      add("aws:iam/rolePolicyAttachment:RolePolicyAttachment", "a", {
        role: ROLE_NAME,
        policyArn: "arn:of-program",
      }),
      add("aws:iam/rolePolicy:RolePolicy", "b", { role: ROLE_NAME, name: "of-program", policy: "{}" }),
    ],
    [`${ROLE_ROW}; policy ${MORE}`, `${ROLE_ROW}; inline policy inline`],
  ],
  [
    "keys of a ConfigMap, each of which becomes a file, and keys that are secret",
    [
      setExisting(CONFIG_MAP, "data.more", "x"),
      setExisting(CONFIG_MAP, "binaryData", { constructor: "" }),
      setExisting("ConfigMap access.ops.drift.pulumi-token-exchange", "data", SECRET),
    ],
    [
      `${CONFIG_MAP_ROW.replace("ci.deployer", "ops.drift").replace("ci/deployer", "ops/drift")}; file data`,
      `${CONFIG_MAP_ROW}; file more`,
      `${CONFIG_MAP_ROW}; file constructor`,
    ],
  ],
  [
    "annotations that give an identity, also of a service account that exists already, and no others",
    [
      existing,
      setExisting(SERVICE_ACCOUNT, ["metadata", "annotations", "iam.gke.io/gcp-service-account"], "x@y"),
      setExisting(SERVICE_ACCOUNT, ["metadata", "annotations", "team"], "a"),
      setExisting("ServiceAccount access.web.secrets", "metadata.annotations", ANNOTATIONS),
    ],
    [
      "has beside the program ServiceAccount access.web.secrets (web/secrets); annotation eks.amazonaws.com/role-arn: arn",
      "has beside the program ServiceAccount access.ci.deployer (ci/deployer); annotation iam.gke.io/gcp-service-account: x@y",
    ],
  ],
  ["the defaults of the API server in an admission policy", [setSpec(INJECTION), setSpec(BINDING)], []],
  [
    "whatever else an admission policy and its binding have",
    [
      setSpec(
        INJECTION,
        ["paramKind", { apiVersion: "v1", kind: "ConfigMap" }],
        ["matchConstraints.objectSelector", { matchLabels: { a: "b" } }],
        ["matchConstraints.resourceRules.1", { resources: ["*"] }],
        ["matchConditions.3", { name: "never", expression: "false" }],
        ["mutations.1", { patchType: "JSONPatch" }],
      ),
      setSpec(BINDING, ["matchResources", { objectSelector: {} }], ["paramRef", { name: "a" }]),
    ],
    [
      `${POLICY_ROW}; spec.matchConstraints.objectSelector: { "matchLabels": { "a": "b" } }`,
      `${POLICY_ROW}; spec.matchConstraints.resourceRules.1: { "resources": [ "*" ] }`,
      `${POLICY_ROW}; spec.matchConditions.never: { "name": "never", "expression": "false" }`,
      `${POLICY_ROW}; spec.mutations.1: { "patchType": "JSONPatch" }`,
      `${POLICY_ROW}; spec.paramKind: { "apiVersion": "v1", "kind": "ConfigMap" }`,
      `${POLICY_ROW.replace("Policy ", "PolicyBinding ")}; spec.paramRef: { "name": "a" }`,
      `${POLICY_ROW.replace("Policy ", "PolicyBinding ")}; spec.matchResources: { "objectSelector": {} }`,
    ],
  ],
];

describe("lists what exists beside the program:", () => {
  for (const [what, edits, expected] of CASES) {
    test(what, async () => {
      const { rows } = (await deployedPlan(...edits)).check();
      assert.deepEqual(rows.filter((row) => row.startsWith("has beside")).sort(), expected.toSorted());
    });
  }
});
