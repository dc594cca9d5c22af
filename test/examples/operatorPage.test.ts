// The settings and the Stacks of docs/operator.md. Its commands are tested in operatorPage.cluster.test.ts.

import assert from "node:assert/strict";
import { test } from "node:test";
import { CREDENTIAL_HELPER, tokenVolume, VOLUME_MOUNT } from "../../tokenVolume";
import { SETTINGS, STACK_AFTER, STACK_BEFORE } from "../support/operatorPage";
import { all, up } from "../support/stack";

const WORKSPACE =
  STACK_AFTER.spec.workspaceTemplate?.spec ?? assert.fail("the Stack has no workspaceTemplate");

test("the settings keep the service account, and create what the changed Stack mounts", async (t) => {
  const { metadata, spec } = STACK_AFTER;
  const serviceAccounts = [`${metadata.namespace}/${spec.serviceAccountName}`];
  const stack = await up(t, { userLogin: undefined, ...SETTINGS }, { serviceAccounts });
  const created = (type: string) =>
    all<{ metadata: { namespace: string; name: string } }>(stack, type).map(({ inputs }) => inputs.metadata);

  assert.deepEqual([created("ServiceAccount"), created("Namespace"), all(stack, "Role")], [[], [], []]);
  const [configMap = assert.fail("no ConfigMap"), ...others] = created("ConfigMap");
  assert.deepEqual([configMap.namespace, others], [metadata.namespace, []]);
  const volume = tokenVolume(configMap.name, "urn:pulumi:org:acme");
  assert.deepEqual(WORKSPACE.podTemplate.spec.volumes, [volume]);
});

test("the changed Stack has no token, and otherwise only what the exchange needs", () => {
  const { envRefs, ...before } = STACK_BEFORE.spec;
  const { workspaceTemplate: _, ...after } = STACK_AFTER.spec;
  assert.ok(envRefs);
  assert.deepEqual([STACK_AFTER.metadata, after], [STACK_BEFORE.metadata, before]);

  const [container = assert.fail("no container")] = WORKSPACE.podTemplate.spec.containers;
  assert.deepEqual(WORKSPACE.env, [CREDENTIAL_HELPER]);
  assert.deepEqual(container, { name: "pulumi", volumeMounts: [VOLUME_MOUNT] });
});
