// The emulated Pulumi Cloud: its OIDC issuers, and the HTTPS API that exchanges ID tokens for access tokens.
//
// Documented at https://www.pulumi.com/docs/administration/access-identity/oidc-issuers/. What is not is marked "Assumed".

import { randomBytes, randomUUID } from "node:crypto";
import { once } from "node:events";
import type { IncomingMessage } from "node:http";
import { get } from "node:https";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { TLSSocket } from "node:tls";
import { createLocalJWKSet, decodeJwt, errors, type JSONWebKeySet, type JWTPayload, jwtVerify } from "jose";
import { type AuthPolicy, decide, type Runner } from "./authPolicy";
import type { CertificateAuthority } from "./certificates";
import { type Reply, startServer } from "./server";

export interface IssuerRegistration {
  organization: string;
  name: string;
  url: string;
  /** Seconds; by default 25 hours. */
  maxExpirationSeconds?: number;
  /** SHA-256 of the issuer's TLS certificates, in hex. */
  thumbprints?: string[];
  policies?: AuthPolicy[];
}

export interface RegisteredIssuer {
  /** `ORGANIZATION/UUID` */
  id: string;
  registration: IssuerRegistration;
}

export interface PulumiCloud {
  /** `https://127.0.0.1:PORT` */
  url: string;
  /** Registers an issuer. @throws Error in the words of the provider: `STATUS API error: MESSAGE`. */
  register(registration: IssuerRegistration): Promise<RegisteredIssuer>;
  /** Changes an issuer. What is missing stays, since the provider does not send it; assumed for thumbprints. */
  update(id: string, registration: IssuerRegistration): Promise<IssuerRegistration>;
  read(id: string): IssuerRegistration | undefined;
  remove(id: string): void;
  list(): RegisteredIssuer[];
  /** The token exchanges, the first one first. Contains no token. */
  exchanges: { status: number; reason: string }[];
  close(): Promise<void>;
}

interface StoredIssuer extends IssuerRegistration {
  thumbprints: string[];
  policies: AuthPolicy[];
}

type TokenRequest = ReturnType<typeof tokenRequest>;

/** A denied token exchange. */
class Denied extends Error {}

const TOKEN_TYPE = "urn:pulumi:token-type:access_token:";
const SCOPES: Record<string, RegExp> = {
  organization: /^(admin)?$/,
  personal: /^user:./,
  team: /^team:./,
  runner: /^runner:./,
};
/** The policy of an issuer that was registered without one. */
const DENY_ALL: AuthPolicy = { decision: "deny", tokenType: "organization", rules: { sub: "" } };

/**
 * Starts Pulumi Cloud.
 *
 * @param authority issues its TLS certificate, and is the only one whose issuers it trusts.
 * @param options the runner pools that exist, and how long a registration takes (1000 milliseconds).
 */
export async function startPulumiCloud(
  authority: CertificateAuthority,
  options: { runners?: Runner[]; registrationMilliseconds?: number } = {},
): Promise<PulumiCloud> {
  const { runners = [], registrationMilliseconds = 1000 } = options;
  const issuers = new Map<string, StoredIssuer>();
  // Read at the first exchange, and again after an update.
  const keySets = new Map<StoredIssuer, ReturnType<typeof readFromIssuer>>();
  const accessTokens = new Map<string, TokenRequest & { expiresAt: number }>();
  const exchanges: PulumiCloud["exchanges"] = [];

  async function verify(idToken: string, issuer: StoredIssuer): Promise<JWTPayload> {
    const keys = keySets.get(issuer) ?? readFromIssuer(issuer.url, "/keys", issuer.thumbprints, authority.certificate);
    keySets.set(issuer, keys);
    try {
      const verification = { issuer: issuer.url, algorithms: ["RS256"], requiredClaims: ["exp"] };
      return (await jwtVerify(idToken, createLocalJWKSet((await keys).body), verification)).payload;
    } catch (error) {
      if (error instanceof errors.JWTExpired) throw new Denied("the ID token has expired");
      if (error instanceof errors.JOSEError) throw new Denied("the signature of the ID token is invalid");
      keySets.delete(issuer);
      throw new Denied(`the OIDC issuer could not be read: ${messageOf(error)}`);
    }
  }

  async function exchange(form: URLSearchParams): Promise<Reply> {
    try {
      const asked = tokenRequest(form);
      const { organization, tokenType, scope, expiration, idToken } = asked;
      const url = issuerOf(idToken);
      const issuer = [...issuers.values()].find((it) => it.organization === organization && it.url === url);
      if (!issuer) throw new Denied(`organization ${organization} has no OIDC issuer ${url}`);
      const claims = await verify(idToken, issuer);
      const { maxExpirationSeconds: limit = 25 * 60 * 60 } = issuer;
      // Assumed: the service denies it, where it could also shorten it.
      if (expiration > limit) {
        throw new Denied(`expiration ${expiration} exceeds the issuer's limit of ${limit} seconds`);
      }
      const { allowed, reason } = decide(issuer.policies, claims, asked, runners);
      if (!allowed) throw new Denied(reason);

      const accessToken = `pul-${randomBytes(20).toString("hex")}`;
      accessTokens.set(accessToken, { ...asked, expiresAt: Date.now() + expiration * 1000 });
      exchanges.push({ status: 200, reason });
      // TokenExchangeGrantResponse in pulumi/pulumi, sdk/go/common/apitype/oauth.go.
      const issued = { issued_token_type: `${TOKEN_TYPE}${tokenType}`, expires_in: expiration, scope };
      return { status: 200, body: { access_token: accessToken, token_type: "token", ...issued } };
    } catch (error) {
      if (!(error instanceof Denied)) throw error;
      // Assumed: status 400 and OAuth's form (RFC 6749, section 5.2), which allows no quotes in the description.
      const reason = error.message.replaceAll(/["\\]/g, "'").replaceAll(/[^ -~]/g, "?");
      exchanges.push({ status: 400, reason });
      return { status: 400, body: { error: "invalid_request", error_description: reason } };
    }
  }

  async function reply(request: IncomingMessage): Promise<Reply> {
    const endpoint = `${request.method} ${request.url}`;
    if (endpoint === "POST /api/oauth/token") return exchange(new URLSearchParams(await text(request)));
    if (endpoint !== "GET /api/user") return { status: 404, body: { code: 404, message: "Not Found" } };
    const token = accessTokens.get(request.headers.authorization?.replace(/^token /, "") ?? "");
    if (token && token.expiresAt > Date.now()) return { status: 200, body: userOf(token) };
    return { status: 401, body: { code: 401, message: "Unauthorized" } };
  }

  const { origin, close } = await startServer(await authority.issue({ hosts: ["127.0.0.1", "localhost"] }), reply);
  return {
    url: origin,
    close,
    exchanges,
    async register(registration) {
      await sleep(registrationMilliseconds);
      const { organization, url, policies = [] } = registration;
      const thumbprints = await checkedThumbprints(url, registration.thumbprints, authority.certificate);
      checkPolicies(policies);
      // Assumed: the service rejects the same URL twice in one organization.
      if ([...issuers.values()].some((it) => it.organization === organization && it.url === url)) {
        throw new Error(`409 API error: Conflict: an OIDC issuer with the URL ${url} exists already`);
      }
      const id = `${organization}/${randomUUID()}`;
      const stored = { ...registration, thumbprints, policies: policies.length > 0 ? policies : [DENY_ALL] };
      issuers.set(id, structuredClone(stored));
      return { id, registration: stored };
    },
    async update(id, { name, maxExpirationSeconds, thumbprints = [], policies = [] }) {
      const stored = issuers.get(id);
      if (!stored) throw new Error(`404 API error: Not Found: no OIDC issuer ${id}`);
      if (thumbprints.length > 0) {
        stored.thumbprints = await checkedThumbprints(stored.url, thumbprints, authority.certificate);
      }
      Object.assign(stored, { name }, maxExpirationSeconds && { maxExpirationSeconds });
      keySets.delete(stored);
      // The provider sends the policies in a second request: if they are rejected, the rest is changed.
      checkPolicies(policies);
      if (policies.length > 0) stored.policies = structuredClone(policies);
      return structuredClone(stored);
    },
    read: (id) => structuredClone(issuers.get(id)),
    remove: (id) => void issuers.delete(id),
    list: () => [...issuers].map(([id, registration]) => structuredClone({ id, registration })),
  };
}

function tokenRequest(form: URLSearchParams) {
  const field = (name: string, pattern: RegExp): string => {
    const [, value] = pattern.exec(form.get(name) ?? "") ?? [];
    if (value === undefined) throw new Denied(`${name} must match ${pattern.source}`);
    return value;
  };
  field("grant_type", /^(urn:ietf:params:oauth:grant-type:token-exchange)$/);
  field("subject_token_type", /^(urn:ietf:params:oauth:token-type:id_token)$/);
  const tokenType = field("requested_token_type", /^urn:pulumi:token-type:access_token:(\w+)$/);
  const scope = form.get("scope") ?? "";
  if (!SCOPES[tokenType]?.test(scope)) throw new Denied(`a ${tokenType} token cannot have the scope "${scope}"`);
  return {
    organization: field("audience", /^urn:pulumi:org:(.+)$/),
    tokenType,
    scope,
    expiration: Number(field("expiration", /^([1-9][0-9]{0,9})$/)),
    idToken: form.get("subject_token") ?? "",
  };
}

function issuerOf(idToken: string): string | undefined {
  try {
    return decodeJwt(idToken).iss;
  } catch {
    throw new Denied("subject_token is not a JSON Web Token");
  }
}

// What UpdateAuthPolicy in Pulumi Cloud's OpenAPI document rejects, and a preview does not.
function checkPolicies(policies: AuthPolicy[]) {
  if (policies.length > 40) throw badRequest("at most 40 policies are allowed");
  for (const { tokenType, userLogin, teamName, runnerID, rules } of policies) {
    const owners: Record<string, unknown> = {
      personal: userLogin,
      team: teamName,
      runner: runnerID,
      organization: true,
    };
    if (!owners[tokenType]) throw badRequest(`a policy for a ${tokenType} token must say whose`);
    for (const [claim, pattern] of Object.entries(rules)) {
      if (!/[^*?.]/.test(pattern)) throw badRequest(`key ${claim} should at least have a strict matching portion`);
    }
  }
}

/** Returns the thumbprints to store: the given ones, one of which must be the certificate's, or else the certificate's. */
async function checkedThumbprints(url: string, thumbprints: string[] = [], trusted: string): Promise<string[]> {
  const { thumbprint } = await readFromIssuer(url, "/.well-known/openid-configuration", thumbprints, trusted).catch(
    (error: unknown) => {
      throw badRequest(`the OIDC issuer ${url} could not be read: ${messageOf(error)}`);
    },
  );
  if (thumbprints.length === 0) return [thumbprint];
  if (thumbprints.includes(thumbprint)) return [...thumbprints];
  throw badRequest(
    `Calculated thumbprint ${thumbprint} does not match any of the provided. Make sure it is properly generated (SHA256).`,
  );
}

// The certificate is verified; thumbprints are a fallback if that fails:
// https://www.pulumi.com/docs/administration/concepts/oidc-issuers/
async function readFromIssuer(
  url: string,
  path: string,
  thumbprints: string[],
  trusted: string,
): Promise<{ body: JSONWebKeySet; thumbprint: string }> {
  // A separate connection for each request, since one that is kept alive would hide a rotated certificate.
  const options = { ca: trusted, agent: false, signal: AbortSignal.timeout(5000), rejectUnauthorized: false };
  const [response]: IncomingMessage[] = await once(get(`${url}${path}`, options), "response");
  if (!(response?.socket instanceof TLSSocket)) throw new Error(`${url} has no certificate`);
  const thumbprint = response.socket.getPeerCertificate().fingerprint256.replaceAll(":", "").toLowerCase();
  if (!response.socket.authorized && !thumbprints.includes(thumbprint)) {
    throw new Error(`its certificate could not be verified: ${response.socket.authorizationError}`);
  }
  const body = await text(response);
  if (response.statusCode !== 200) throw new Error(`it returned HTTP ${response.statusCode}`);
  return { body: JSON.parse(body), thumbprint };
}

// What the CLI reads of an account: pulumi/pulumi, pkg/backend/httpstate/client/client.go (serviceUser). A personal token
// belongs to its user, any other to the organization.
function userOf({ organization, tokenType, scope }: TokenRequest): object {
  const [, owner] = scope.split(":");
  const login = tokenType === "personal" ? owner : organization;
  return { githubLogin: login, organizations: [{ githubLogin: organization }] };
}

function badRequest(message: string): Error {
  return new Error(`400 API error: Bad Request: ${message}`);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
