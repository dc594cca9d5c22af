// The allow policy of a service account, and the thumbprint of the issuer's TLS certificate.

import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { createServer, type Server } from "node:net";
import { type TestContext, test } from "node:test";
import tls, { createServer as createTlsServer } from "node:tls";
import * as pulumi from "@pulumi/pulumi";
import { allowPolicy, readThumbprints } from "../../oidcIssuer";
import type { Account } from "../../settings/access";
import { scopeOf } from "../../settings/tokenTypes";
import { createCertificateAuthority, openCertificateAuthority } from "../../simulator/emulators/certificates";
import { accepted } from "../support/accounts";
import { listen } from "../support/loopback";
import { setVariables } from "../support/variables";

const RULES = { '"kubernetes.io".namespace': "ci", '"kubernetes.io".serviceaccount.name': "runner" };

test("the policy names the owner of the token that the exchange requests, and admin only on request", () => {
  for (const [token, scope, expected] of [
    [{ tokenType: "personal", userLogin: "alice" }, "user:alice", { userLogin: "alice" }],
    [{ tokenType: "team", teamName: "ops" }, "team:ops", { teamName: "ops" }],
    [{ tokenType: "runner", runnerId: "id-1", runnerName: "pool" }, "runner:pool", { runnerID: "id-1" }],
    [{ tokenType: "organization", organizationAdmin: true }, "admin", { authorizedPermissions: ["admin"] }],
    // An empty list of permissions would show as drift.
    [{ tokenType: "organization" }, "", {}],
  ] as const) {
    const { tokenType } = token;
    const policy = JSON.parse(JSON.stringify(allowPolicy(accountWith(token))));
    assert.deepEqual(policy, { decision: "allow", tokenType, ...expected, rules: RULES });
    assert.equal(scopeOf(token), scope);
  }
});

test("more rules and the rule on the audience are added, and replace no built-in rule", () => {
  const weaker = { '"kubernetes.io".namespace': "*", '"kubernetes.io".serviceaccount.name': "*", aud: "*" };
  const added = { '"kubernetes.io".pod.name': "runner-*" };
  const account = accountWith({ tokenType: "organization", audienceRule: true });
  const { rules } = allowPolicy({ ...account, policyRules: { ...weaker, ...added } });
  assert.deepEqual(rules, { ...added, ...RULES, aud: "urn:pulumi:org:acme" });
});

function accountWith(settings: object): Account {
  const [account] = accepted([{ namespace: "ci", name: "runner", ...settings }]);
  return account ?? assert.fail();
}

test("reads no certificate in a preview", async (t) => {
  t.mock.method(pulumi.runtime, "isDryRun", () => true);
  const connect = t.mock.method(tls, "connect");
  assert.equal(await readThumbprints("https://127.0.0.1:9/id/A"), undefined);
  assert.equal(connect.mock.callCount(), 0);
});

test("reads the SHA-256 of the certificate, in lowercase hex", async (t) => {
  const certificate = await trusted(["127.0.0.1"]);
  const url = await serve(t, createTlsServer(certificate));
  const expected = new X509Certificate(certificate.cert).fingerprint256.replaceAll(":", "").toLowerCase();
  assert.deepEqual(await readThumbprints(url), [expected]);
});

test("connects to port 443 with the issuer's name, which the certificate must have", async (t) => {
  t.mock.method(pulumi.log, "warn", () => {});
  const connections: tls.ConnectionOptions[] = [];
  t.mock.method(tls, "connect", (options: tls.ConnectionOptions) => {
    connections.push(options);
    throw new Error("not connected");
  });
  await readThumbprints("https://issuer.example/id/A");
  const host = "issuer.example";
  const ca = [...tls.rootCertificates];
  assert.deepEqual(connections, [{ host, port: 443, servername: host, rejectUnauthorized: true, ca }]);
});

const trusted = async (hosts: string[]) => (await openCertificateAuthority()).issue({ hosts });
const stranger = async () => (await createCertificateAuthority()).issue({ hosts: ["127.0.0.1"] });

for (const [problem, server, reason] of [
  [
    "a certificate of another host",
    async () => createTlsServer(await trusted(["a.example"])),
    /does not match/,
  ],
  [
    "a certificate of an unknown authority",
    async () => createTlsServer(await stranger()),
    /unable to verify/,
  ],
  ["a server without TLS", async () => createServer((it) => it.end("HTTP/1.1 400\r\n\r\n")), /SSL/],
] satisfies [string, () => Promise<Server>, RegExp][]) {
  test(`warns and registers no thumbprint, although NODE_TLS_REJECT_UNAUTHORIZED is 0: ${problem}`, async (t) => {
    t.after(setVariables({ NODE_TLS_REJECT_UNAUTHORIZED: "0" }));
    await assertUnverified(t, await serve(t, await server()), reason);
  });
}

test("closes a connection that has no answer after ten seconds", async (t) => {
  const { setTimeout } = globalThis;
  const limits: unknown[] = [];
  t.mock.method(globalThis, "setTimeout", (end: () => void, limit: number) => {
    limits.push(limit);
    return setTimeout(end, limit / 1000);
  });
  await assertUnverified(t, await serve(t, createServer()), /no answer within 10 seconds/);
  assert.ok(limits.includes(10_000), String(limits));
});

/** Nothing is registered, and a warning says why, and what to do. */
async function assertUnverified(t: TestContext, url: string, reason: RegExp): Promise<void> {
  const warn = t.mock.method(pulumi.log, "warn", () => {});
  assert.equal(await readThumbprints(url), undefined);
  const message = String(warn.mock.calls[0]?.arguments[0]);
  assert.ok(message.startsWith(`Failed to read the TLS certificate of ${url}: `), message);
  assert.match(message, reason);
  assert.match(message, /The authorities in NODE_EXTRA_CA_CERTS do not count here\. .*`pulumi refresh` once/);
}

/** Serves at a free port until the test ends, and returns the URL. */
async function serve(t: TestContext, server: Server): Promise<string> {
  // A client that rejects the certificate ends the handshake.
  server.on("tlsClientError", () => {});
  server.on("connection", (socket) => t.after(() => socket.destroy()));
  const port = await listen(server);
  t.after(() => server.close());
  return `https://127.0.0.1:${port}/id/A`;
}
