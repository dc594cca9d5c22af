// The emulated OIDC issuer of an EKS cluster: discovery document and keys over HTTPS, and the ID tokens of its pods.

import { randomBytes, randomUUID, X509Certificate } from "node:crypto";
import { calculateJwkThumbprint, exportJWK, generateKeyPair, SignJWT } from "jose";
import type { CertificateAuthority, TlsCertificateOptions } from "./certificates";
import { startServer } from "./server";

/** The pod that an ID token is for. */
export interface PodIdentity {
  namespace: string;
  serviceAccount: string;
  pod?: string;
  node?: string;
}

export interface TokenOptions {
  /** By default `sts.amazonaws.com`, as in the token that the EKS webhook mounts. */
  audience?: string[];
  /** Seconds, by default 86400 as the webhook requests; negative for a token that has expired. */
  expiresIn?: number;
  /** Signs with another key, under the ID of the cluster's. */
  forged?: boolean;
}

export interface ClusterIssuer {
  /** `https://127.0.0.1:PORT/id/<32 uppercase hexadecimal digits>`, in the form of EKS. */
  url: string;
  /** Returns the SHA-256 of the TLS certificate in use, in lowercase hex. */
  thumbprint(): string;
  /** Returns an ID token as the Kubernetes API server issues it. */
  token(pod: PodIdentity, options?: TokenOptions): Promise<string>;
  /** Replaces the TLS certificate of the running server. */
  rotateCertificate(options?: Partial<TlsCertificateOptions> & { authority?: CertificateAuthority }): Promise<void>;
  close(): Promise<void>;
}

const HOSTS = ["127.0.0.1", "localhost"];

/** Starts the issuer of one cluster on a free port of the loopback address. */
export async function startIssuer(authority: CertificateAuthority): Promise<ClusterIssuer> {
  const [signingKey, tls] = await Promise.all([generateSigningKey(), authority.issue({ hosts: HOSTS })]);
  let { cert } = tls;
  let otherKey: ReturnType<typeof generateSigningKey> | undefined;

  const documents = new Map<string | undefined, object>();
  const { server, origin, close } = await startServer(tls, ({ url }) => {
    const body = documents.get(url);
    return body ? { status: 200, body } : { status: 404, body: { message: "Not Found" } };
  });
  const path = `/id/${randomBytes(16).toString("hex").toUpperCase()}`;
  const url = `${origin}${path}`;
  documents.set(`${path}/keys`, { keys: [signingKey.jwk] });
  documents.set(`${path}/.well-known/openid-configuration`, {
    issuer: url,
    jwks_uri: `${url}/keys`,
  });

  return {
    url,
    close,
    thumbprint: () => new X509Certificate(cert).fingerprint256.replaceAll(":", "").toLowerCase(),
    async token(pod, { audience = ["sts.amazonaws.com"], expiresIn = 86400, forged = false } = {}) {
      if (forged) otherKey ??= generateSigningKey();
      const { privateKey } = (forged && (await otherKey)) || signingKey;
      const now = Math.floor(Date.now() / 1000);
      const issuedAt = Math.min(now, now + expiresIn);
      return new SignJWT(kubernetesClaims(pod))
        .setProtectedHeader({ alg: "RS256", kid: signingKey.jwk.kid })
        .setIssuer(url)
        .setSubject(`system:serviceaccount:${pod.namespace}:${pod.serviceAccount}`)
        .setAudience(audience)
        .setIssuedAt(issuedAt)
        .setNotBefore(issuedAt)
        .setExpirationTime(now + expiresIn)
        .setJti(randomUUID())
        .sign(privateKey);
    },
    async rotateCertificate({ authority: signer = authority, hosts = HOSTS, ...validity } = {}) {
      const next = await signer.issue({ hosts, ...validity });
      server.setSecureContext(next);
      // A connection that is kept alive would continue with the previous certificate.
      server.closeAllConnections();
      cert = next.cert;
    },
  };
}

async function generateSigningKey() {
  const { privateKey, publicKey } = await generateKeyPair("RS256");
  const jwk = await exportJWK(publicKey);
  return { privateKey, jwk: { ...jwk, kid: await calculateJwkThumbprint(jwk), use: "sig", alg: "RS256" } };
}

// The private claims of kubernetes/kubernetes, pkg/serviceaccount/claims.go. In a cluster, an object keeps its UID.
function kubernetesClaims({ namespace, serviceAccount, pod, node }: PodIdentity) {
  const reference = (name: string) => ({ name, uid: randomUUID() });
  return {
    "kubernetes.io": {
      namespace,
      serviceaccount: reference(serviceAccount),
      ...(pod && { pod: reference(pod) }),
      ...(node && { node: reference(node) }),
    },
  };
}
