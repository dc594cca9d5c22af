// The settings and the Stack of docs/operator.md. Its commands are tested in operatorPage.cluster.test.ts.

import assert from "node:assert/strict";
import { test } from "node:test";
import { CREDENTIAL_HELPER, VOLUME_MOUNT } from "../../tokenVolume";
import { SETTINGS, SPEC_AFTER, SPEC_BEFORE } from "../support/operatorPage";
import { all, up } from "../support/stack";

const { env, podTemplate = assert.fail("no podTemplate") } = SPEC_AFTER.workspaceTemplate.spec;

test("the settings keep the service account, and create what the changed Stack mounts", async (t) => {
  const serviceAccount = `default/${SPEC_AFTER.serviceAccountName}`;
  const stack = await up(t, { userLogin: undefined, ...SETTINGS }, { serviceAccounts: [serviceAccount] });

  assert.deepEqual([all(stack, "ServiceAccount"), all(stack, "Namespace"), all(stack, "Role")], [[], [], []]);
  const { [serviceAccount]: access = assert.fail("no access") } = stack.outputs.serviceAccounts as Record<
    string,
    { volume: object }
  >;
  assert.deepEqual(podTemplate.spec.volumes, [access.volume]);
});

test("the changed Stack has no token, and otherwise only what the exchange needs", () => {
  const { envRefs, ...before } = SPEC_BEFORE;
  const { image } = SPEC_AFTER.workspaceTemplate.spec;
  assert.ok(envRefs);
  assert.deepEqual({ ...SPEC_AFTER, workspaceTemplate: { spec: { image } } }, before);

  const [container = assert.fail("no container")] = podTemplate.spec.containers;
  assert.deepEqual(env, [CREDENTIAL_HELPER]);
  assert.deepEqual(container, { name: "pulumi", volumeMounts: [VOLUME_MOUNT] });
});
