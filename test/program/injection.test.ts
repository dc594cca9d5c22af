// The admission policy of `injectToken` adds what a manifest has. injection.cluster.test.ts asks a real API server.

import assert from "node:assert/strict";
import { posix } from "node:path";
import { test } from "node:test";
import { audiencesById, policySpec } from "../../kubernetes/injectionPolicy";
import {
  CONFIG_MAP_SUFFIX,
  CREDENTIAL_HELPER,
  DIRECTORY,
  tokenVolume,
  VOLUME_MOUNT,
  VOLUME_NAME,
} from "../../kubernetes/tokenVolume";

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

/** Returns the object that an expression describes: without `dyn`, it is JSON with variables. */
function objectIn(expression = ""): unknown {
  return JSON.parse(expression.replaceAll(/dyn\(|\)/g, "").replaceAll(/variables\.\w+/g, '"$&"'));
}
