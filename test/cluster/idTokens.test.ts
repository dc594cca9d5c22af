// ID tokens of a real API server: their claims, and the access check with them at the emulated Pulumi Cloud and STS.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { decodeJwt } from "jose";
import { type Row, unexpected } from "../../simulator/accessCheck/questions";
import { checkSimulatedAccess } from "../../simulator/accessCheck/simulatedAccess";
import { startIssuer } from "../../simulator/emulators/issuer";
import { type ApiServer, missingApiServer, startApiServer } from "./apiServer";
import { requestToken } from "./realIssuer";
import { type RealStack, startRealStack } from "./realStack";

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

  test("contain each audience that was requested, in a list", async () => {
    const token = await requestToken(server, { namespace: "ci", serviceAccount: "deployer" }, ["one", "two"]);
    assert.deepEqual(decodeJwt(token).aud, ["one", "two"]);
  });

  test("are valid for as long as requested, and for at least ten minutes", async () => {
    const identity = { namespace: "ci", serviceAccount: "deployer" };
    for (const seconds of [600, 7200]) {
      const { iat = 0, exp = 0, nbf } = decodeJwt(await requestToken(server, identity, [AUDIENCE], seconds));
      assert.deepEqual([exp - iat, nbf], [seconds, iat]);
    }
    await assert.rejects(
      requestToken(server, identity, [AUDIENCE], 599),
      /may not specify a duration less than 10 minutes/,
    );
  });
});

describe("the access check with ID tokens of a real API server", { skip: missingApiServer }, () => {
  let stack: RealStack;
  let rows: Row[];

  before(async () => {
    stack = await startRealStack({
      runners: [{ id: "pool-1", name: "builders" }],
      settings: {
        serviceAccounts: [
          { namespace: "team-a", name: "deployer", tokenType: "personal", userLogin: "alice" },
          {
            namespace: "team-a",
            name: "drift",
            tokenType: "team",
            teamName: "platform",
            tokenAudience: "drift",
          },
          { namespace: "team-b", name: "secrets", tokenType: "organization", awsRole: "none" },
          {
            namespace: "runners",
            name: "runner",
            tokenType: "runner",
            runnerId: "pool-1",
            runnerName: "builders",
          },
        ].map((account) => ({ audienceRule: true, ...account })),
        createNamespaces: ["team-a", "team-b", "runners"],
      },
    });
    rows = await checkSimulatedAccess(stack.services, stack.outputs);
  });
  after(() => stack?.close());

  test("grants each service account its own token and role, and denies every other caller", () => {
    assert.deepEqual(unexpected(rows), []);
    const granted = rows.filter(({ allowed }) => allowed);
    assert.deepEqual(
      granted.map(
        ({ service, account, caller }) => `${service}, ${account.namespace}/${account.name}: ${caller.label}`,
      ),
      [
        "Pulumi Cloud, team-a/deployer: itself",
        "IAM role, team-a/deployer: itself",
        "Pulumi Cloud, team-a/drift: itself",
        "IAM role, team-a/drift: itself",
        "Pulumi Cloud, team-b/secrets: itself",
        "Pulumi Cloud, runners/runner: itself",
        "IAM role, runners/runner: itself",
      ],
    );
  });

  const reasons = {
    "other audience": [/^no allow policy .* aud is/, /unexpected "aud" claim value$/],
    "expired token": [/'exp' claim timestamp check failed$/, /"exp" claim timestamp check failed$/],
    "invalid signature": [/signature verification failed$/, /signature verification failed$/],
    "other cluster": [/^organization acme has no OIDC issuer/, /^no IAM OIDC provider for this issuer$/],
    "other namespace": [
      /'kubernetes.io'.namespace is 'team-a-2', not 'team-a'/,
      /^the trust policy requires another sub$/,
    ],
    "other service account": [
      /'kubernetes.io'.serviceaccount.name is 'drift-2'/,
      /^the trust policy requires another sub$/,
    ],
  } as const;
  for (const [label, [pulumiCloud, role]] of Object.entries(reasons)) {
    test(`denies ${label} for that reason`, () => {
      const asked = rows.filter(({ account, caller }) => account.name === "drift" && caller.label === label);
      const answers = Object.fromEntries(asked.map(({ service, reason }) => [service, reason]));
      assert.match(answers["Pulumi Cloud"] ?? "", pulumiCloud);
      assert.match(answers["IAM role"] ?? "", role);
    });
  }
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
