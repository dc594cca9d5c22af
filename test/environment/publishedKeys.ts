// The keys that an issuer publishes.

import { createLocalJWKSet, type JWTVerifyGetKey } from "jose";
import { requestTls } from "../support/tls";

/**
 * Returns the keys that an issuer publishes, as Pulumi Cloud reads them when the issuer is registered:
 * https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderConfig
 */
export async function publishedKeys(issuerUrl: string): Promise<JWTVerifyGetKey> {
  const read = async (url: string) => JSON.parse((await requestTls(url)).content);
  const { issuer, jwks_uri } = await read(`${issuerUrl.replace(/\/$/, "")}/.well-known/openid-configuration`);
  if (issuer !== issuerUrl) throw new Error(`the OIDC issuer ${issuerUrl} calls itself ${issuer}`);
  return createLocalJWKSet(await read(jwks_uri));
}
