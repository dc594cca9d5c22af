// The emulated OIDC issuer of an EKS cluster: its keys over HTTPS, and the ID tokens of its pods.

import { randomBytes, randomUUID, X509Certificate } from "node:crypto";
import { once } from "node:events";
import type { Server } from "node:https";
import { connect } from "node:tls";
import {
  calculateJwkThumbprint,
  createRemoteJWKSet,
  exportJWK,
  type GenerateKeyPairResult,
  generateKeyPair,
  type JWTVerifyGetKey,
  SignJWT,
} from "jose";
import { emulatorCertificate } from "./certificates";
import { startServer } from "./server";

/** The pod that an ID token is for. */
export interface PodIdentity {
  namespace: string;
  serviceAccount: string;
  pod?: string;
}

export interface TokenOptions {
  audience: string[];
  /** Seconds. */
  expiresIn: number;
}

export interface ClusterIssuer {
  /** `https://127.0.0.1:PORT/PATH` */
  url: string;
  server: Server;
  /** SHA-256 of its TLS certificate, in lowercase hex. */
  thumbprint: string;
  /** Returns an ID token as the Kubernetes API server issues it. */
  token(pod: PodIdentity, options: TokenOptions): Promise<string>;
  close(): Promise<void>;
}

/**
 * Where an issuer says which URL has its keys, below the issuer's own URL:
 * https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderConfig
 */
const DISCOVERY_PATH = "/.well-known/openid-configuration";

/** Returns the URL of an issuer without a trailing slash, which the specification removes before it appends a path. */
const base = (url: string) => url.replace(/\/$/, "");

/** Returns the keys of an issuer. They are fetched at the first verification and cached. */
export async function keysOf(url: string): Promise<JWTVerifyGetKey> {
  const response = await fetch(`${base(url)}${DISCOVERY_PATH}`);
  const { issuer, jwks_uri } = (await response.json()) as { issuer: string; jwks_uri: string };
  if (issuer !== url) throw new Error(`the OIDC issuer ${url} calls itself ${issuer}`);
  return createRemoteJWKSet(new URL(jwks_uri));
}

/** Returns the thumbprint of the certificate that an issuer presents now: SHA-256, in lowercase hex. */
export async function thumbprintOf(url: string): Promise<string> {
  const { hostname: host, port } = new URL(url);
  const socket = connect({ host, port: Number(port) });
  try {
    await once(socket, "secureConnect");
    return inHex(socket.getPeerCertificate());
  } finally {
    socket.destroy();
  }
}

function inHex({ fingerprint256 }: { fingerprint256: string }): string {
  return fingerprint256.replaceAll(":", "").toLowerCase();
}

/** One for all issuers in this process, since it takes up to a second to generate. */
let keyPair: Promise<GenerateKeyPairResult> | undefined;

/**
 * Starts the issuer of one cluster on a free port of the loopback address.
 *
 * @param path of its URL, by default in the form of EKS: `/id/<32 uppercase hexadecimal digits>`.
 */
export async function startIssuer(
  path = `/id/${randomBytes(16).toString("hex").toUpperCase()}`,
): Promise<ClusterIssuer> {
  keyPair ??= generateKeyPair("RS256");
  const { privateKey, publicKey } = await keyPair;
  const key = await exportJWK(publicKey);
  const kid = await calculateJwkThumbprint(key);
  const tls = await emulatorCertificate();
  const { server, origin, close } = await startServer(tls, (request) => {
    switch (request.url) {
      case `${base(path)}${DISCOVERY_PATH}`:
        return { status: 200, body: { issuer: url, jwks_uri: `${base(url)}/keys` } };
      case `${base(path)}/keys`:
        return { status: 200, body: { keys: [{ ...key, kid, use: "sig", alg: "RS256" }] } };
      default:
        return { status: 404, body: { message: "Not Found" } };
    }
  });
  const url = `${origin}${path}`;

  return {
    url,
    close,
    server,
    thumbprint: inHex(new X509Certificate(tls.cert)),
    token(pod, { audience, expiresIn }) {
      const now = Math.floor(Date.now() / 1000);
      return new SignJWT(kubernetesClaims(pod))
        .setProtectedHeader({ alg: "RS256", kid })
        .setIssuer(url)
        .setSubject(`system:serviceaccount:${pod.namespace}:${pod.serviceAccount}`)
        .setAudience(audience)
        .setIssuedAt(now)
        .setNotBefore(now)
        .setExpirationTime(now + expiresIn)
        .setJti(randomUUID())
        .sign(privateKey);
    },
  };
}

// The private claims of kubernetes/kubernetes, pkg/serviceaccount/claims.go. In a cluster, an object keeps its UID.
function kubernetesClaims({ namespace, serviceAccount, pod }: PodIdentity) {
  const reference = (name: string) => ({ name, uid: randomUUID() });
  return {
    "kubernetes.io": {
      namespace,
      serviceaccount: reference(serviceAccount),
      ...(pod && { pod: reference(pod) }),
    },
  };
}
