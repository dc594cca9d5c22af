// The OIDC issuer of an EKS cluster: discovery document and keys over HTTPS, and the id tokens of its pods.

import { randomBytes, randomUUID, X509Certificate } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { calculateJwkThumbprint, exportJWK, generateKeyPair, SignJWT } from "jose";
import type { CertificateAuthority, ServingCertificate } from "./certificates";

/** The pod that a token is for; a token that is bound to no pod names neither pod nor node. */
export interface PodIdentity {
  namespace: string;
  serviceAccount: string;
  pod?: string;
  node?: string;
}

export interface TokenOptions {
  /** `sts.amazonaws.com` by default, as in the token that the EKS pod identity webhook mounts. */
  audience?: string[];
  /** Seconds, 86400 by default as the webhook asks for; negative for a token that has expired. */
  expiresIn?: number;
  /** Signs with a key that is not the cluster's, under the name of the one that is. */
  forged?: boolean;
}

export interface ClusterIssuer {
  /** `https://127.0.0.1:PORT/id/<32 upper-case hexadecimal digits>`, as the issuers of EKS look. */
  url: string;
  /** The SHA-256 of the serving certificate now in use, in lower-case hexadecimal digits. */
  thumbprint(): string;
  /** An id token of the shape that the Kubernetes API server gives a pod. */
  token(pod: PodIdentity, options?: TokenOptions): Promise<string>;
  /**
   * Puts a new key and certificate on the running server.
   *
   * @param options what is odd about the certificate: other hosts, another validity, another authority.
   */
  rotateCertificate(
    options?: Partial<ServingCertificate> & { authority?: CertificateAuthority },
  ): Promise<void>;
  close(): Promise<void>;
}

/**
 * Starts the issuer of one cluster on a free port of the loopback address. Two of them are two clusters.
 *
 * @param authority signs the serving certificate.
 */
export async function startIssuer(authority: CertificateAuthority): Promise<ClusterIssuer> {
  const [signingKey, serving] = await Promise.all([generateSigningKey(), authority.issue({ hosts: HOSTS })]);
  let { cert } = serving;
  let forgingKey: ReturnType<typeof generateSigningKey> | undefined;

  const path = `/id/${randomBytes(16).toString("hex").toUpperCase()}`;
  const documents = new Map<string | undefined, object>();
  const server = createServer(serving, (request, response) => {
    const document = documents.get(request.url);
    response.writeHead(document ? 200 : 404, { "Content-Type": "application/json" });
    response.end(JSON.stringify(document ?? { message: "Not Found" }));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");

  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}${path}`;
  documents.set(`${path}/.well-known/openid-configuration`, {
    issuer: url,
    jwks_uri: `${url}/keys`,
    authorization_endpoint: "urn:kubernetes:programmatic_authorization",
    response_types_supported: ["id_token"],
    subject_types_supported: ["public"],
    claims_supported: ["sub", "iss"],
    id_token_signing_alg_values_supported: ["RS256"],
  });
  documents.set(`${path}/keys`, { keys: [signingKey.jwk] });

  return {
    url,
    thumbprint: () => new X509Certificate(cert).fingerprint256.replaceAll(":", "").toLowerCase(),
    async token(pod, { audience = ["sts.amazonaws.com"], expiresIn = 86400, forged = false } = {}) {
      if (forged) forgingKey ??= generateSigningKey();
      const { privateKey } = (forged && (await forgingKey)) || signingKey;
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
      // A connection that is kept alive would go on under the old certificate.
      server.closeAllConnections();
      cert = next.cert;
    },
    async close() {
      server.close();
      server.closeAllConnections();
      await once(server, "close");
    },
  };
}

const HOSTS = ["127.0.0.1", "localhost"];

async function generateSigningKey() {
  const { privateKey, publicKey } = await generateKeyPair("RS256");
  const jwk = await exportJWK(publicKey);
  const kid = await calculateJwkThumbprint(jwk);
  return { privateKey, jwk: { ...jwk, kid, use: "sig", alg: "RS256" } };
}

// The private claims of kubernetes/kubernetes, pkg/serviceaccount/claims.go. Every token gets new
// identifiers, where a cluster's objects keep theirs.
function kubernetesClaims({ namespace, serviceAccount, pod, node }: PodIdentity) {
  const reference = (name: string) => ({ name, uid: randomUUID() });
  return {
    "kubernetes.io": {
      namespace,
      serviceaccount: reference(serviceAccount),
      ...(pod !== undefined && { pod: reference(pod) }),
      ...(node !== undefined && { node: reference(node) }),
    },
  };
}
