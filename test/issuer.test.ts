// The simulation's OIDC issuer: what its tokens claim, what verifies them, and which certificates it can show.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { connect, type TLSSocket } from "node:tls";
import { createRemoteJWKSet, decodeJwt, decodeProtectedHeader, errors, jwtVerify } from "jose";
import { createCertificateAuthority, openCertificateAuthority } from "../simulator/certificates";
import { type ClusterIssuer, startIssuer } from "../simulator/issuer";

const runner = { namespace: "default", serviceAccount: "runner", pod: "runner-x7k2p", node: "ip-10-0-0-1" };

test("the issuer's URL looks like one of EKS, and its discovery document is for that URL", async (t) => {
  const issuer = await start(t);
  assert.match(issuer.url, /^https:\/\/127\.0\.0\.1:\d+\/id\/[0-9A-F]{32}$/);
  assert.equal((await discover(issuer)).issuer, issuer.url);
});

test("a token has the claims that Kubernetes gives a pod, the audience as an array", async (t) => {
  const issuer = await start(t);
  const claims = decodeJwt(await issuer.token(runner));

  assert.equal(claims.iss, issuer.url);
  assert.equal(claims.sub, "system:serviceaccount:default:runner");
  assert.deepEqual(claims.aud, ["sts.amazonaws.com"]);
  assert.equal(Number(claims.exp) - Number(claims.iat), 86400);
  assert.equal(claims.nbf, claims.iat);
  const uid = /"uid":"[0-9a-f-]{36}"/g;
  assert.deepEqual(JSON.parse(JSON.stringify(claims["kubernetes.io"]).replaceAll(uid, '"uid":"U"')), {
    namespace: "default",
    serviceaccount: { name: "runner", uid: "U" },
    pod: { name: "runner-x7k2p", uid: "U" },
    node: { name: "ip-10-0-0-1", uid: "U" },
  });
});

test("a token that is bound to no pod names neither pod nor node", async (t) => {
  const issuer = await start(t);
  const claims = decodeJwt(await issuer.token({ namespace: "default", serviceAccount: "runner" }));
  assert.doesNotMatch(JSON.stringify(claims), /"pod"|"node"/);
});

test("a token verifies with the keys that the discovery document points to", async (t) => {
  const issuer = await start(t);
  const token = await issuer.token(runner, { audience: ["urn:pulumi:org:acme"] });
  await verify(token, issuer, "urn:pulumi:org:acme");
});

test("an expired token has a good signature", async (t) => {
  const issuer = await start(t);
  await assert.rejects(verify(await issuer.token(runner, { expiresIn: -60 }), issuer), errors.JWTExpired);
});

test("a forged token names the cluster's own key and does not verify with it", async (t) => {
  const issuer = await start(t);
  const genuine = await issuer.token(runner);
  const forged = await issuer.token(runner, { forged: true });

  assert.equal(decodeProtectedHeader(forged).kid, decodeProtectedHeader(genuine).kid);
  await assert.rejects(verify(forged, issuer), errors.JWSSignatureVerificationFailed);
});

test("another issuer is another cluster: its own URL, and keys that verify no token of the first", async (t) => {
  const [issuer, other] = [await start(t), await start(t)];
  assert.notEqual(new URL(issuer.url).pathname, new URL(other.url).pathname);
  await assert.rejects(verify(await issuer.token(runner), other), errors.JWKSNoMatchingKey);
});

test("the thumbprint is the SHA-256 of the certificate that a client is shown, after a rotation too", async (t) => {
  const issuer = await start(t);
  const before = issuer.thumbprint();
  assert.equal((await shownCertificate(issuer)).thumbprint, before);

  await issuer.rotateCertificate();
  assert.notEqual(issuer.thumbprint(), before);
  assert.equal((await shownCertificate(issuer)).thumbprint, issuer.thumbprint());
});

test("a rotation closes connections that were kept alive under the old certificate", {
  timeout: 5000,
}, async (t) => {
  const issuer = await start(t);
  const socket = await open(issuer);
  const closed = new Promise((resolve) => socket.once("close", resolve));
  await issuer.rotateCertificate();
  await closed;
});

test("a rotation keeps URL and signing key: earlier tokens still verify", async (t) => {
  const issuer = await start(t);
  const token = await issuer.token(runner);
  await issuer.rotateCertificate();
  await verify(token, issuer);
});

test("a rotation can bring a certificate that has expired, names another host, or that nobody vouches for", async (t) => {
  const issuer = await start(t);

  await issuer.rotateCertificate({ notAfter: new Date(Date.now() - 1000) });
  assert.equal((await shownCertificate(issuer)).problem, "CERT_HAS_EXPIRED");

  await issuer.rotateCertificate({ hosts: ["issuer.example"] });
  assert.equal((await shownCertificate(issuer)).problem, "ERR_TLS_CERT_ALTNAME_INVALID");

  await issuer.rotateCertificate({ authority: await createCertificateAuthority() });
  assert.equal((await shownCertificate(issuer)).problem, "UNABLE_TO_VERIFY_LEAF_SIGNATURE");

  await issuer.rotateCertificate();
  assert.equal((await shownCertificate(issuer)).problem, undefined);
});

async function start(t: TestContext): Promise<ClusterIssuer> {
  const issuer = await startIssuer(await openCertificateAuthority(process.env.SIMULATOR_DIRECTORY));
  t.after(() => issuer.close());
  return issuer;
}

async function discover(issuer: ClusterIssuer) {
  const response = await fetch(`${issuer.url}/.well-known/openid-configuration`);
  return (await response.json()) as { issuer: string; jwks_uri: string };
}

async function verify(token: string, issuer: ClusterIssuer, audience = "sts.amazonaws.com") {
  const keys = createRemoteJWKSet(new URL((await discover(issuer)).jwks_uri));
  await jwtVerify(token, keys, { audience });
}

/** The certificate as a client sees it, and what a client that verifies finds wrong with it. */
async function shownCertificate(issuer: ClusterIssuer): Promise<{ thumbprint: string; problem?: string }> {
  const socket = await open(issuer, { rejectUnauthorized: false });
  const thumbprint = socket.getPeerCertificate().fingerprint256.replaceAll(":", "").toLowerCase();
  socket.destroy();
  try {
    (await open(issuer)).destroy();
    return { thumbprint };
  } catch (error) {
    return {
      thumbprint,
      problem: error instanceof Error && "code" in error ? String(error.code) : String(error),
    };
  }
}

function open(issuer: ClusterIssuer, options: { rejectUnauthorized?: boolean } = {}): Promise<TLSSocket> {
  const { hostname, port } = new URL(issuer.url);
  return new Promise((resolve, reject) => {
    const socket = connect({ host: hostname, port: Number(port), ...options }, () => resolve(socket));
    socket.on("error", reject);
  });
}
