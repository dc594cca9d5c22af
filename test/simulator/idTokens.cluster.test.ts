// The claims of a real API server's ID tokens. live.cluster.test.ts checks the access with such tokens.

import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeJwt } from "jose";
import { startIssuer } from "../../simulator/emulators/issuer";
import { missingApiServer, startApiServer } from "../support/apiServer";
import { podObject } from "../support/pods";

const AUDIENCE = "urn:pulumi:org:acme";

test("ID tokens of a real API server have the claims of the simulation's", {
  skip: missingApiServer,
}, async (t) => {
  const emulated = await startIssuer();
  t.after(emulated.close);
  const identity = { namespace: "ci", serviceAccount: "deployer", pod: "app", node: "node-1" };
  const simulated = decodeJwt(await emulated.token(identity, { audience: [AUDIENCE], expiresIn: 600 }));

  const server = await startApiServer();
  t.after(server.close);
  await server.createNamespace("ci");
  await server.createServiceAccount("ci", "deployer");
  await server.create("/api/v1/nodes", { metadata: { name: "node-1" } });
  const pod = podObject({ serviceAccountName: "deployer" });
  pod.spec.nodeName = "node-1";
  await server.create("/api/v1/namespaces/ci/pods", pod);
  // As the kubelet requests it for a pod that mounts it.
  const options = ["--bound-object-kind=Pod", "--bound-object-name=app", `--audience=${AUDIENCE}`];
  const real = decodeJwt(await server.kubectl(["create", "token", "deployer", "--namespace=ci", ...options]));

  assert.deepEqual(shapeOf(real), shapeOf(simulated));
  assert.deepEqual(real.aud, [AUDIENCE]);
  assert.deepEqual([real.iss, real.sub], [server.url, "system:serviceaccount:ci:deployer"]);
});

/** Returns the types of all fields, such as `{ sub: "string" }`. */
function shapeOf(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(shapeOf);
  if (typeof value !== "object" || value === null) return typeof value;
  return Object.fromEntries(Object.entries(value).map(([key, field]) => [key, shapeOf(field)]));
}
