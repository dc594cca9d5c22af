// The OIDC issuer of an emulated EKS cluster, and what verifies ID tokens.

import { generateKeyPairSync, type KeyObject, randomBytes, randomUUID, sign, verify } from "node:crypto";

export type Claims = Record<string, unknown>;
export type ClusterIssuer = ReturnType<typeof createIssuer>;

/** How a JWT contains an ECDSA signature: RFC 7518, section 3.4. Those of RSA have only one form. */
const dsaEncoding = "ieee-p1363";

/**
 * Returns the issuer of one cluster, at whose URL nothing listens. `keys` verify its ID tokens.
 *
 * It signs with ES256, which Kubernetes supports too: for RS256, as on EKS, a key takes a fifth of a second to generate.
 */
export function createIssuer(url: string) {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });

  /** Returns an ID token as the Kubernetes API server issues it. @param seconds until it expires. */
  function token(
    { namespace, serviceAccount: name }: { namespace: string; serviceAccount: string },
    audience: string,
    seconds = 600,
  ): string {
    const iat = Math.floor(Date.now() / 1000);
    const sub = `system:serviceaccount:${namespace}:${name}`;
    // kubernetes/kubernetes, pkg/serviceaccount/claims.go. In a cluster, a service account keeps its UID.
    const kubernetes = { namespace, serviceaccount: { name, uid: randomUUID() } };
    const standard = { iss: url, sub, aud: [audience], iat, nbf: iat, exp: iat + seconds, jti: randomUUID() };
    const parts = [{ alg: "ES256" }, { ...standard, "kubernetes.io": kubernetes }];
    const signed = parts.map((part) => Buffer.from(JSON.stringify(part)).toString("base64url")).join(".");
    const signature = sign("sha256", Buffer.from(signed), { key: privateKey, dsaEncoding });
    return `${signed}.${signature.toString("base64url")}`;
  }
  return { url, keys: [publicKey], token };
}

/** Returns the URL of an issuer in the form of EKS, with a new ID. */
export function eksIssuerUrl(region: string): string {
  return `https://oidc.eks.${region}.amazonaws.com/id/${randomBytes(16).toString("hex").toUpperCase()}`;
}

/** Returns the claims of an ID token, which can be anyone's. */
export function claimsOf(idToken: string): Claims {
  const [, payload = ""] = idToken.split(".");
  return JSON.parse(Buffer.from(payload, "base64url").toString());
}

/** Returns whether an ID token is signed with one of these keys, by ES256 or RS256. */
export function isSigned(idToken: string, keys: KeyObject[]): boolean {
  const [header, payload, end = ""] = idToken.split(".");
  const signed = Buffer.from(`${header}.${payload}`);
  const signature = Buffer.from(end, "base64url");
  return keys.some((key) => verify("sha256", signed, { key, dsaEncoding }, signature));
}
