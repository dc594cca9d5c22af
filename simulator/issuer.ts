// The emulated OIDC issuer of an EKS cluster: its keys, and the ID tokens of its pods. Nothing listens at its URL.

import { randomBytes, randomUUID } from "node:crypto";
import {
  calculateJwkThumbprint,
  createLocalJWKSet,
  exportJWK,
  type GenerateKeyPairResult,
  generateKeyPair,
  type JWTVerifyGetKey,
  SignJWT,
} from "jose";

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
  url: string;
  /** Verifies its ID tokens. */
  keys: JWTVerifyGetKey;
  /** Returns an ID token as the Kubernetes API server issues it. */
  token(pod: PodIdentity, options: TokenOptions): Promise<string>;
}

/** One for all issuers in this process, since it takes up to a second to generate. */
let keyPair: Promise<GenerateKeyPairResult> | undefined;

/** Returns the URL of an issuer in the form of EKS, with a new ID. */
export function eksIssuerUrl(region: string): string {
  return `https://oidc.eks.${region}.amazonaws.com/id/${randomBytes(16).toString("hex").toUpperCase()}`;
}

/** Returns the issuer of one cluster. */
export async function createIssuer(url: string): Promise<ClusterIssuer> {
  keyPair ??= generateKeyPair("RS256");
  const { privateKey, publicKey } = await keyPair;
  const key = await exportJWK(publicKey);
  const kid = await calculateJwkThumbprint(key);
  return {
    url,
    keys: createLocalJWKSet({ keys: [{ ...key, kid, use: "sig", alg: "RS256" }] }),
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
