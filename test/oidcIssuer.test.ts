// Pulumi Cloud's side: the allow policy, and the thumbprint of the issuer's TLS certificate.

import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, createServer, type Server } from "node:net";
import { type TestContext, test } from "node:test";
import tls, { createServer as createTlsServer } from "node:tls";
import * as pulumi from "@pulumi/pulumi";
import { type AllowPolicyArgs, allowPolicy, getThumbprints } from "../oidcIssuer";
import { createCertificateAuthority, openCertificateAuthority } from "../simulator/emulators/certificates";
import { known } from "./stack";

const POLICY: AllowPolicyArgs = {
  token: { tokenType: "personal", userLogin: "alice" },
  namespace: "ci",
  name: "runner",
  audienceRule: false,
  tokenAudience: "sts.amazonaws.com",
  policyRules: {},
};
const RULES = { '"kubernetes.io".namespace': "ci", '"kubernetes.io".serviceaccount.name': "runner" };

test("the policy for a token without permissions omits the list of them, which would show as drift", () => {
  const token = { tokenType: "organization", organizationAdmin: false } as const;
  const expected = { decision: "allow", tokenType: "organization", rules: RULES };
  assert.deepEqual(allowPolicy({ ...POLICY, token }), expected);
});

test("more rules and the rule on the audience are added, and replace no built-in rule", () => {
  const weaker = { '"kubernetes.io".namespace': "*", '"kubernetes.io".serviceaccount.name': "*", aud: "*" };
  const policyRules = { ...weaker, '"kubernetes.io".pod.name': "runner-*" };
  const { rules } = allowPolicy({ ...POLICY, audienceRule: true, policyRules });
  assert.deepEqual(rules, { ...policyRules, ...RULES, aud: "sts.amazonaws.com" });
});

test("configured thumbprints are registered without asking the issuer", async (t) => {
  const connect = t.mock.method(tls, "connect");
  const values = ["cd".repeat(32), "ab".repeat(32)];
  const thumbprints = await getThumbprints(values, "https://127.0.0.1:9/id/A");
  assert.deepEqual(thumbprints, { values, ignoreChanges: false });
  assert.equal(connect.mock.callCount(), 0);
});

test("warns and registers no thumbprint of a new cluster that cannot be read", async (t) => {
  const warn = t.mock.method(pulumi.log, "warn", () => {});
  const { values } = await getThumbprints([], pulumi.output("https://127.0.0.1:9/id/A"));
  assert.equal(await known(values), undefined);
  assert.equal(warn.mock.callCount(), 1);
});

test("connects to port 443 with the issuer's name, which the certificate must have", async (t) => {
  t.mock.method(pulumi.log, "warn", () => {});
  const connections: tls.ConnectionOptions[] = [];
  t.mock.method(tls, "connect", (options: tls.ConnectionOptions) => assert.fail(`${connections.push(options)}`));
  await getThumbprints([], "https://issuer.example/id/A");
  const host = "issuer.example";
  assert.deepEqual(connections, [{ host, port: 443, servername: host, rejectUnauthorized: true }]);
});

// What cannot be read or verified: a server, and the reason in the warning.
const stranger = async () => (await createCertificateAuthority()).issue({ hosts: ["127.0.0.1"] });
const trusted = async (hosts: string[], notAfter?: Date) =>
  (await openCertificateAuthority()).issue({ hosts, ...(notAfter && { notAfter }) });
for (const [problem, server, reason] of [
  ["unknown authority", async () => createTlsServer(await stranger()), /unable to verify/],
  ["other host", async () => createTlsServer(await trusted(["a.example"])), /does not match certificate's/],
  ["past expiry", async () => createTlsServer(await trusted(["127.0.0.1"], new Date(1e12))), /has expired/],
  ["server without TLS", async () => createServer((it) => it.end("HTTP/1.1 400\r\n\r\n")), /SSL/],
] satisfies [string, () => Promise<Server>, RegExp][]) {
  test(`warns and registers no thumbprint: ${problem}`, async (t) => {
    await assertUnverified(t, await listen(t, await server()), reason);
  });
}

test("NODE_TLS_REJECT_UNAUTHORIZED=0 does not disable verification", async (t) => {
  process.env.NODE_TLS_REJECT_UNAUTHORIZED = "0";
  t.after(() => delete process.env.NODE_TLS_REJECT_UNAUTHORIZED);
  await assertUnverified(t, await listen(t, createTlsServer(await stranger())), /unable to verify/);
});

test("closes a connection that has no answer after ten seconds", async (t) => {
  const { setTimeout } = globalThis;
  const limits: unknown[] = [];
  t.mock.method(globalThis, "setTimeout", (end: () => void, limit: number) => {
    limits.push(limit);
    return setTimeout(end, limit / 1000);
  });
  await assertUnverified(t, await listen(t, createServer()), /no answer within 10 seconds/);
  assert.ok(limits.includes(10_000), String(limits));
});

/** Nothing is registered, what is registered stays, and the warning says how to set the thumbprint. */
async function assertUnverified(t: TestContext, url: string, reason: RegExp): Promise<void> {
  const warn = t.mock.method(pulumi.log, "warn", () => {});
  assert.deepEqual(await getThumbprints([], url), { values: undefined, ignoreChanges: true });
  const message = String(warn.mock.calls[0]?.arguments[0]);
  assert.ok(message.startsWith(`Failed to read the TLS certificate of ${url}: `), message);
  assert.match(message, reason);
  assert.match(message, /`pulumi refresh` once.*pulumi config set --path 'thumbprints\[0\]' SHA256$/);
}

/** Serves at a free port until the test ends, and returns the URL. */
async function listen(t: TestContext, server: Server): Promise<string> {
  // A client that rejects the certificate ends the handshake.
  server.on("tlsClientError", () => {});
  server.on("connection", (socket) => t.after(() => socket.destroy()));
  await once(server.listen(0, "127.0.0.1"), "listening");
  t.after(() => server.close());
  const { port } = server.address() as AddressInfo;
  return `https://127.0.0.1:${port}/id/A`;
}
