// The thumbprint of the issuer's TLS certificate.

import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { createServer, type Server } from "node:net";
import { type TestContext, test } from "node:test";
import tls, { createServer as createTlsServer } from "node:tls";
import * as pulumi from "@pulumi/pulumi";
import { readThumbprints } from "../../thumbprint";
import { listen } from "../support/endpoint";
import { authorityOfTests, createAuthority } from "../support/tls";
import { setVariables } from "../support/variables";

/** Reads the thumbprints in an update: other files of the same process can leave a preview behind. */
function readInUpdate(t: TestContext, url: string) {
  t.mock.method(pulumi.runtime, "isDryRun", () => false);
  return readThumbprints(url);
}

test("reads no certificate in a preview", async (t) => {
  t.mock.method(pulumi.runtime, "isDryRun", () => true);
  const connect = t.mock.method(tls, "connect");
  assert.equal(await readThumbprints("https://127.0.0.1:9/id/A"), undefined);
  assert.equal(connect.mock.callCount(), 0);
});

test("reads the SHA-256 of the certificate, in lowercase hex", async (t) => {
  await trustTests(t);
  const certificate = await trusted("127.0.0.1");
  const url = await serve(t, createTlsServer(certificate));
  const expected = new X509Certificate(certificate.cert).fingerprint256.replaceAll(":", "").toLowerCase();
  assert.deepEqual(await readInUpdate(t, url), [expected]);
});

test("connects to port 443 with the issuer's name, which the certificate must have", async (t) => {
  t.mock.method(pulumi.log, "warn", () => {});
  const connections: tls.ConnectionOptions[] = [];
  t.mock.method(tls, "connect", (options: tls.ConnectionOptions) => {
    connections.push(options);
    throw new Error("not connected");
  });
  await readInUpdate(t, "https://issuer.example/id/A");
  const host = "issuer.example";
  const ca = [...tls.rootCertificates];
  assert.deepEqual(connections, [{ host, port: 443, servername: host, rejectUnauthorized: true, ca }]);
});

const trusted = async (host: string) => (await authorityOfTests()).issue(host);
const untrusted = async () => (await createAuthority()).issue("127.0.0.1");

/** Lets connections also trust the authority of the tests, beside those that the caller names. */
async function trustTests(t: TestContext): Promise<void> {
  const { cert } = await authorityOfTests();
  const { connect } = tls;
  t.mock.method(tls, "connect", (options: tls.ConnectionOptions) => {
    return connect({ ...options, ca: [options.ca ?? [], cert].flat() });
  });
}

for (const [problem, certificate, reason] of [
  ["of another host", () => trusted("a.example"), /does not match/],
  ["of an unknown authority", untrusted, /unable to verify/],
] as const) {
  test(`warns and registers no thumbprint of a certificate ${problem}, although NODE_TLS_REJECT_UNAUTHORIZED is 0`, async (t) => {
    await trustTests(t);
    t.after(setVariables({ NODE_TLS_REJECT_UNAUTHORIZED: "0", NODE_EXTRA_CA_CERTS: "proxy.pem" }));
    const message = await warningOf(t, await serve(t, createTlsServer(await certificate())));
    assert.match(message, reason);
    assert.match(message, /\. The authorities in NODE_EXTRA_CA_CERTS do not count here\. The thumbprint /);
  });
}

test("closes a connection that has no answer after ten seconds", { timeout: 10_000 }, async (t) => {
  const { setTimeout } = globalThis;
  const limits: unknown[] = [];
  t.mock.method(globalThis, "setTimeout", (end: () => void, limit: number) => {
    limits.push(limit);
    return setTimeout(end, limit / 1000);
  });
  const server = createServer();
  const closed = new Promise((close) => {
    server.on("connection", (socket) => socket.resume().once("close", close));
  });
  assert.match(await warningOf(t, await serve(t, server)), /: no answer within 10 seconds\. The thumbprint /);
  await closed;
  assert.ok(limits.includes(10_000), String(limits));
});

/** Requires that nothing is registered, and returns the warning, which says what to do. */
async function warningOf(t: TestContext, url: string): Promise<string> {
  const warn = t.mock.method(pulumi.log, "warn", () => {});
  assert.equal(await readInUpdate(t, url), undefined);
  const message = String(warn.mock.calls[0]?.arguments[0]);
  assert.ok(message.startsWith(`Failed to read the TLS certificate of ${url}: `), message);
  assert.match(message, /`pulumi refresh` once/);
  return message;
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
