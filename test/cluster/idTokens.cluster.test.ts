// ID tokens of a real API server: their claims, and the access check with them at the emulated Pulumi Cloud and STS.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { decodeJwt } from "jose";
import { unexpected } from "../../accessCheck/questions";
import { startIssuer } from "../../simulator/emulators/issuer";
import { checkSimulatedAccess } from "../../simulator/simulatedAccess";
import { type ApiServer, missingApiServer, startApiServer } from "../support/apiServer";
import { requestToken } from "../support/realIssuer";
import { type RealStack, startRealStack } from "../support/realStack";
import { FOUR_ACCOUNTS } from "../support/stack";

const AUDIENCE = "urn:pulumi:org:acme";

describe("ID tokens of a real API server", { skip: missingApiServer }, () => {
  let server: ApiServer;

  before(async () => {
    server = await startApiServer();
    await server.createNamespace("ci");
    await server.createServiceAccount("ci", "deployer");
  });
  after(() => server?.close());

  test("have the claims that the simulation's have", async (t) => {
    const emulated = await startIssuer();
    t.after(emulated.close);
    const pod = await createPod(server);

    const identity = { namespace: "ci", serviceAccount: "deployer", pod: "app", node: "node-1" };
    const real = decodeJwt(await requestToken(server, identity, [AUDIENCE], 600, pod));
    const simulated = decodeJwt(await emulated.token(identity, { audience: [AUDIENCE], expiresIn: 600 }));
    assert.deepEqual(shapeOf(real), shapeOf(simulated));

    assert.deepEqual(real.aud, [AUDIENCE]);
    assert.equal(real.iss, server.url);
    assert.equal(real.sub, "system:serviceaccount:ci:deployer");
  });
});

describe("the access check with ID tokens of a real API server", { skip: missingApiServer }, () => {
  let stack: RealStack;
  before(async () => {
    const { settings, runners } = FOUR_ACCOUNTS;
    const serviceAccounts = settings.serviceAccounts.map((account) => ({ ...account, audienceRule: true }));
    stack = await startRealStack({ runners, settings: { ...settings, serviceAccounts } });
  });
  after(() => stack?.close());

  test("grants each service account its own token and role, and denies every other caller", async () => {
    const rows = await checkSimulatedAccess(stack.services, stack.outputs);
    assert.deepEqual(unexpected(rows), []);
    const granted = rows.filter(({ allowed }) => allowed);
    assert.deepEqual(
      granted.map(({ service, account, caller }) => `${service}, ${account.name}: ${caller.label}`),
      [
        "Pulumi Cloud, deployer: itself",
        "IAM role, deployer: itself",
        "Pulumi Cloud, drift: itself",
        "IAM role, drift: itself",
        "Pulumi Cloud, secrets: itself",
        "Pulumi Cloud, runner: itself",
        "IAM role, runner: itself",
      ],
    );
  });
});

/** Creates a pod on a node. Nothing runs it. */
async function createPod(server: ApiServer): Promise<{ name: string; uid: string }> {
  await server.create("/api/v1/nodes", { metadata: { name: "node-1" } });
  const { metadata } = await server.create("/api/v1/namespaces/ci/pods", {
    metadata: { name: "app" },
    spec: {
      nodeName: "node-1",
      serviceAccountName: "deployer",
      containers: [{ name: "app", image: "example.com/image:1" }],
    },
  });
  return { name: "app", uid: metadata?.uid ?? assert.fail() };
}

/** Returns the types of all fields, such as `{ sub: "string" }`. */
function shapeOf(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(shapeOf);
  if (typeof value !== "object" || value === null) return typeof value;
  const entries = Object.entries(value).map(([key, field]) => [key, shapeOf(field)] as const);
  return Object.fromEntries(entries.sort(([a], [b]) => a.localeCompare(b)));
}
