// The settings and the Stacks of docs/operator.md. Its commands are tested in cluster/operatorPage.test.ts.

import assert from "node:assert/strict";
import { test } from "node:test";
import { CREDENTIAL_HELPER, tokenVolume, VOLUME_MOUNT } from "../tokenVolume";
import { ORGANIZATION, podOf } from "./examples";
import { SETTINGS, STACK_AFTER, STACK_BEFORE } from "./operatorPage";
import { all, up } from "./stack";

test("the settings keep the service account, and create what the changed Stack mounts", async (t) => {
  const serviceAccount = `${STACK_AFTER.metadata.namespace}/${STACK_AFTER.spec?.serviceAccountName}`;
  const stack = await up(t, { userLogin: undefined, ...SETTINGS }, { serviceAccounts: [serviceAccount] });
  const created = (type: string) =>
    all<{ metadata: { namespace: string; name: string } }>(stack, type).map(({ inputs }) => inputs.metadata);

  assert.deepEqual([created("ServiceAccount"), created("Namespace"), all(stack, "Role")], [[], [], []]);
  const [configMap = assert.fail(), ...others] = created("ConfigMap");
  assert.deepEqual([configMap.namespace, others], [STACK_AFTER.metadata.namespace, []]);
  const { spec } = podOf("docs/operator.md", [STACK_AFTER]);
  assert.deepEqual(spec.volumes, [tokenVolume(configMap.name, `urn:pulumi:org:${ORGANIZATION}`)]);
});

test("the changed Stack has no token, and otherwise only what the exchange needs", () => {
  const { envRefs, ...unchanged } = STACK_BEFORE.spec ?? {};
  const { workspaceTemplate, ...rest } = STACK_AFTER.spec ?? {};
  const { container } = podOf("docs/operator.md", [STACK_AFTER]);

  assert.ok(envRefs);
  assert.deepEqual([STACK_AFTER.metadata, rest], [STACK_BEFORE.metadata, unchanged]);
  assert.deepEqual(workspaceTemplate?.spec.env, [CREDENTIAL_HELPER]);
  assert.deepEqual([container.name, container.volumeMounts], ["pulumi", [VOLUME_MOUNT]]);
});
