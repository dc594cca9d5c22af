// ID tokens of a real API server: their claims, and the access check with them at the emulated Pulumi Cloud and STS.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { decodeJwt } from "jose";
import { unexpected } from "../../accessCheck/questions";
import { startIssuer } from "../../simulator/emulators/issuer";
import { checkSimulatedAccess } from "../../simulator/simulatedAccess";
import { missingApiServer } from "../support/apiServer";
import { podObject } from "../support/pods";
import { requestToken } from "../support/realIssuer";
import { type RealStack, startRealStack } from "../support/realStack";
import { FOUR_ACCOUNTS } from "../support/stack";

const AUDIENCE = "urn:pulumi:org:acme";

describe("ID tokens of a real API server", { skip: missingApiServer }, () => {
  let stack: RealStack;
  before(async () => {
    const { settings, runners } = FOUR_ACCOUNTS;
    const serviceAccounts = settings.serviceAccounts.map((account) => ({ ...account, audienceRule: true }));
    stack = await startRealStack({ runners, settings: { ...settings, serviceAccounts } });
  });
  after(() => stack?.close());

  test("have the claims that the simulation's have", async (t) => {
    const emulated = await startIssuer();
    t.after(emulated.close);
    const { server } = stack;
    const identity = { namespace: "team-a", serviceAccount: "deployer", pod: "app", node: "node-1" };
    await server.create("/api/v1/nodes", { metadata: { name: "node-1" } });
    const pod = podObject({ serviceAccountName: "deployer" });
    pod.spec.nodeName = "node-1";
    const { metadata } = await server.create("/api/v1/namespaces/team-a/pods", pod);
    const mounted = { name: "app", uid: metadata?.uid ?? "" };

    const real = decodeJwt(await requestToken(server, identity, [AUDIENCE], 600, mounted));
    const simulated = decodeJwt(await emulated.token(identity, { audience: [AUDIENCE], expiresIn: 600 }));
    assert.deepEqual(shapeOf(real), shapeOf(simulated));
    assert.deepEqual(real.aud, [AUDIENCE]);
    assert.deepEqual([real.iss, real.sub], [server.url, "system:serviceaccount:team-a:deployer"]);
  });

  test("grant each service account its own token and role, and nothing to any other caller", async () => {
    const rows = await checkSimulatedAccess(stack.services, stack.registered);
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

/** Returns the types of all fields, such as `{ sub: "string" }`. */
function shapeOf(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(shapeOf);
  if (typeof value !== "object" || value === null) return typeof value;
  return Object.fromEntries(Object.entries(value).map(([key, field]) => [key, shapeOf(field)]));
}
