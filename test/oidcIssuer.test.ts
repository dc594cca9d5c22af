// Pulumi Cloud's side: the allow policy as data, and which serving certificates of an issuer become thumbprints.

import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import dns from "node:dns/promises";
import { once } from "node:events";
import { type AddressInfo, createServer, isIP, type Server } from "node:net";
import { before, type TestContext, test } from "node:test";
import tls, { createServer as createTlsServer } from "node:tls";
import * as pulumi from "@pulumi/pulumi";
import { type AllowPolicyArgs, allowPolicy, getThumbprints } from "../oidcIssuer";
import {
  type CertificateAuthority,
  createCertificateAuthority,
  openCertificateAuthority,
  type ServingCertificate,
} from "../simulator/certificates";

const POLICY: AllowPolicyArgs = {
  token: { tokenType: "personal", userLogin: "alice" },
  namespace: "ci",
  serviceAccountName: "runner",
  audience: undefined,
  rules: {},
};
const RULES = { '"kubernetes.io".namespace': "ci", '"kubernetes.io".serviceaccount.name': "runner" };

for (const [token, grant] of [
  [
    { tokenType: "personal", userLogin: "alice" },
    { tokenType: "personal", userLogin: "alice" },
  ],
  [
    { tokenType: "team", teamName: "ops" },
    { tokenType: "team", teamName: "ops" },
  ],
  [
    { tokenType: "runner", runnerId: "id-1" },
    { tokenType: "runner", runnerID: "id-1" },
  ],
  [{ tokenType: "organization", organizationAdmin: false }, { tokenType: "organization" }],
  [
    { tokenType: "organization", organizationAdmin: true },
    { tokenType: "organization", authorizedPermissions: ["admin"] },
  ],
] satisfies [AllowPolicyArgs["token"], object][]) {
  test(`the policy for ${JSON.stringify(token)} allows that token, to one service account`, () => {
    assert.deepEqual(allowPolicy({ ...POLICY, token }), { decision: "allow", ...grant, rules: RULES });
  });
}

test("an audience becomes the rule aud", () => {
  const { rules } = allowPolicy({ ...POLICY, audience: "urn:pulumi:org:acme" });
  assert.deepEqual(rules, { ...RULES, aud: "urn:pulumi:org:acme" });
});

test("further rules come on top, and replace none of the built-in ones", () => {
  const replacing = {
    '"kubernetes.io".namespace': "*",
    '"kubernetes.io".serviceaccount.name': "*",
    aud: "*",
  };
  const { rules } = allowPolicy({
    ...POLICY,
    audience: "sts.amazonaws.com",
    rules: { ...replacing, '"kubernetes.io".pod.name': "runner-*" },
  });
  assert.deepEqual(rules, {
    ...RULES,
    aud: "sts.amazonaws.com",
    '"kubernetes.io".pod.name': "runner-*",
  });
});

let authority: CertificateAuthority;
before(async () => {
  authority = await openCertificateAuthority(process.env.SIMULATOR_DIRECTORY);
});

test("configured thumbprints are taken as they are, and nobody is asked", async () => {
  const configured = ["cd".repeat(32), "ab".repeat(32)];
  assert.deepEqual(await getThumbprints(configured, "https://127.0.0.1:9/id/A"), configured);
});

test("the thumbprint is the SHA-256 of the certificate that the issuer serves, in lower-case hex", async (t) => {
  const issuer = await serve(t, { hosts: ["127.0.0.1"] });
  assert.match(issuer.thumbprint, /^[0-9a-f]{64}$/);
  assert.deepEqual(await getThumbprints([], issuer.url), [issuer.thumbprint]);
});

test("the issuer of a cluster that is still to be made is read once its URL is known", async (t) => {
  const issuer = await serve(t, { hosts: ["127.0.0.1"] });
  const thumbprints = await getThumbprints([], pulumi.output(issuer.url));
  assert.ok(pulumi.Output.isInstance(thumbprints));
  const known = new Promise((resolve) => pulumi.output(thumbprints).apply(resolve));
  assert.deepEqual(await known, [issuer.thumbprint]);
});

test("an issuer whose host is an IPv6 address is looked up without the brackets", async (t) => {
  const issuer = await serve(t, { hosts: ["127.0.0.1"] });
  // Not every machine has an IPv6 address to listen on.
  const lookup = resolveTo(t, ["127.0.0.1"]);
  const url = issuer.url.replace("127.0.0.1", "[::1]");
  assert.deepEqual(await getThumbprints([], url), [issuer.thumbprint]);
  assert.deepEqual(lookup.mock.calls[0]?.arguments[0], "::1");
});

for (const [problem, certificate, message] of [
  [
    "of an authority that nobody here trusts",
    async () => (await createCertificateAuthority()).issue({ hosts: ["127.0.0.1"] }),
    /unable to verify the first certificate/,
  ],
  [
    "of another host",
    () => authority.issue({ hosts: ["issuer.example"] }),
    /127\.0\.0\.1 port \d+: .*does not match certificate's altnames/,
  ],
  [
    "that has expired",
    () => authority.issue({ hosts: ["127.0.0.1"], notAfter: new Date(Date.now() - 1000) }),
    /certificate has expired/,
  ],
] satisfies [string, () => Promise<{ key: string; cert: string }>, RegExp][]) {
  test(`a certificate ${problem} is never pinned`, async (t) => {
    const { url } = await listen(t, createTlsServer(await certificate()));
    await assert.rejects(getThumbprints([], url), userError(url, message));
  });
}

test("a certificate is verified also where the environment switches verification off", async (t) => {
  const stranger = await createCertificateAuthority();
  const { url } = await listen(t, createTlsServer(await stranger.issue({ hosts: ["127.0.0.1"] })));
  process.env.NODE_TLS_REJECT_UNAUTHORIZED = "0";
  t.after(() => delete process.env.NODE_TLS_REJECT_UNAUTHORIZED);
  await assert.rejects(getThumbprints([], url), userError(url, /unable to verify/));
});

test("an issuer that cannot be reached is told apart", async (t) => {
  const { url, server } = await listen(t, createServer());
  server.close();
  await assert.rejects(getThumbprints([], url), userError(url, /127\.0\.0\.1 port \d+: .*ECONNREFUSED/));
});

test("an issuer whose URL names no port, as those of EKS, is read at 443 under its own name", async (t) => {
  resolveTo(t, ["127.0.0.1"]);
  const asked: unknown[] = [];
  t.mock.method(tls, "connect", ({ host, port, servername }: tls.ConnectionOptions) => {
    asked.push({ host, port, servername });
    throw new Error("seen enough");
  });
  await assert.rejects(getThumbprints([], "https://issuer.example/id/A"), /seen enough/);
  assert.deepEqual(asked, [{ host: "127.0.0.1", port: 443, servername: "issuer.example" }]);
});

test("a host that has no address is told apart", async (t) => {
  const url = "https://issuer.example/id/A";
  t.mock.method(dns, "lookup", async (host: string) => {
    throw new Error(`getaddrinfo ENOTFOUND ${host}`);
  });
  await assert.rejects(getThumbprints([], url), userError(url, /getaddrinfo ENOTFOUND issuer\.example/));
});

test("an issuer that is no TLS server is told apart", async (t) => {
  const server = createServer((socket) => socket.end("HTTP/1.1 400 Bad Request\r\n\r\n"));
  const { url } = await listen(t, server);
  await assert.rejects(
    getThumbprints([], url),
    userError(url, /port \d+: .*(wrong version number|packet length)/),
  );
});

test("a connection that hangs is given up after ten seconds", async (t) => {
  const { url, server } = await listen(t, createServer());
  const timers = t.mock.method(globalThis, "setTimeout");
  const refused = assert.rejects(
    getThumbprints([], url),
    userError(url, /port \d+: no answer within 10 seconds/),
  );
  await once(server, "connection");
  const [giveUp] = timers.mock.calls.filter(({ arguments: [, milliseconds] }) => milliseconds === 10_000);
  assert.ok(giveUp, "nothing would ever give up");
  // Ten seconds later.
  giveUp.arguments[0]();
  await refused;
});

test("each address of the issuer is read, and the thumbprints are sorted whatever the order of the addresses", async (t) => {
  const { url, thumbprints } = await serveTwo(t, "issuer.example");
  assert.notEqual(thumbprints[0], thumbprints[1]);
  for (const addresses of [ADDRESSES, ADDRESSES.toReversed()]) {
    resolveTo(t, addresses);
    assert.deepEqual(await getThumbprints([], url), thumbprints.toSorted());
  }
});

test("addresses that serve one and the same certificate give one thumbprint", async (t) => {
  const issuer = await serve(t, { hosts: ["issuer.example"] });
  resolveTo(t, ["127.0.0.1", "127.0.0.1"]);
  const url = issuer.url.replace("127.0.0.1", "issuer.example");
  assert.deepEqual(await getThumbprints([], url), [issuer.thumbprint]);
});

test("one address whose certificate does not verify refuses them all, and is named", async (t) => {
  const { url } = await serveTwo(t, "other.example");
  resolveTo(t, ADDRESSES);
  await assert.rejects(getThumbprints([], url), (error: Error) => {
    const [named, ...others] = error.message.match(/^ {2}.* port \d+: /gm) ?? [];
    assert.ok(named?.includes(SECOND_ADDRESS));
    assert.deepEqual(others, []);
    return true;
  });
});

// Linux has all of 127.0.0.0/8, other systems not.
const SECOND_ADDRESS = process.platform === "linux" ? "127.0.0.2" : "::1";
const ADDRESSES = ["127.0.0.1", SECOND_ADDRESS];

/** The message names the issuer, the reason, and the setting that says which certificate to trust. */
function userError(url: string, reason: RegExp) {
  return (error: unknown) => {
    assert.ok(pulumi.RunError.isInstance(error));
    assert.ok(error.message.startsWith(`The serving certificate of ${url} cannot be trusted:\n`));
    assert.match(error.message, reason);
    assert.match(error.message, /^ {2}pulumi config set --path 'thumbprints\[0\]' SHA256$/m);
    return true;
  };
}

async function listen(t: TestContext, server: Server, { address = "127.0.0.1", port = 0 } = {}) {
  const sockets = new Set<{ destroy(): void }>();
  server.on("connection", (socket) => sockets.add(socket));
  // A client that refuses a certificate breaks the handshake off.
  server.on("tlsClientError", () => {});
  server.listen(port, address);
  await once(server, "listening");
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const bound = (server.address() as AddressInfo).port;
  const host = address.includes(":") ? `[${address}]` : address;
  return { url: `https://${host}:${bound}/id/A`, server, port: bound };
}

async function serve(
  t: TestContext,
  certificate: ServingCertificate,
  at: { address?: string; port?: number } = {},
) {
  const serving = await authority.issue(certificate);
  const thumbprint = new X509Certificate(serving.cert).fingerprint256.replaceAll(":", "").toLowerCase();
  return { ...(await listen(t, createTlsServer(serving), at)), thumbprint };
}

/** Serves issuer.example at two addresses of one port, each with a certificate of its own. */
async function serveTwo(t: TestContext, secondHost: string) {
  const first = await serve(t, { hosts: ["issuer.example"] });
  const second = await serve(t, { hosts: [secondHost] }, { address: SECOND_ADDRESS, port: first.port });
  return {
    url: first.url.replace("127.0.0.1", "issuer.example"),
    thumbprints: [first.thumbprint, second.thumbprint],
  };
}

function resolveTo(t: TestContext, addresses: string[]) {
  const answer = addresses.map((address) => ({ address, family: isIP(address) }));
  return t.mock.method(dns, "lookup", async (_host: string) => answer);
}
