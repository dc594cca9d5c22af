// The keys that an issuer publishes.

import { createPublicKey, type JsonWebKey, type KeyObject } from "node:crypto";
import { requestTls } from "../support/tls";

/**
 * Returns the keys that an issuer publishes, as Pulumi Cloud reads them when the issuer is registered:
 * https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderConfig
 */
export async function publishedKeys(issuerUrl: string): Promise<KeyObject[]> {
  const read = async (url: string) => JSON.parse((await requestTls(url)).content);
  const { issuer, jwks_uri } = await read(`${issuerUrl.replace(/\/$/, "")}/.well-known/openid-configuration`);
  if (issuer !== issuerUrl) throw new Error(`the OIDC issuer ${issuerUrl} calls itself ${issuer}`);
  const { keys } = await read(jwks_uri);
  return keys.map((key: JsonWebKey) => createPublicKey({ key, format: "jwk" }));
}
