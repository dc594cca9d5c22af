// Pulumi Cloud of the simulation: the OIDC issuers that are registered there, and the HTTPS API that trades
// the id tokens of such an issuer for access tokens.
//
// What is documented is at https://www.pulumi.com/docs/administration/access-identity/oidc-issuers/. What
// this emulation merely assumes of the service is marked "Assumed".

import { randomBytes, randomUUID } from "node:crypto";
import { once } from "node:events";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer, get } from "node:https";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { TLSSocket } from "node:tls";
import { createLocalJWKSet, decodeJwt, errors, type JSONWebKeySet, type JWTPayload, jwtVerify } from "jose";
import { type AuthPolicy, CLAIM_PATH, decide, isRecord, type Runner } from "./authPolicy";
import type { CertificateAuthority } from "./certificates";

export interface IssuerRegistration {
  organization: string;
  name: string;
  url: string;
  /** Seconds; 25 hours when left out. */
  maxExpirationSeconds?: number;
  /** SHA-256 of the issuer's serving certificates, in hexadecimal digits. */
  thumbprints?: string[];
  policies?: AuthPolicy[];
}

export interface PulumiCloud {
  /** `https://127.0.0.1:PORT` */
  url: string;
  /**
   * Registers an issuer, which takes a while as it does over the internet.
   *
   * @returns the id, `ORGANIZATION/UUID`, and the registration as the service stores it: thumbprints and
   *   policies that were left out are filled in.
   * @throws Error in the words of the provider, `<status> API error: <message>`: 409 for a URL that the
   *   organization has registered already, 400 for policies and thumbprints that the service refuses. Nothing
   *   is registered then.
   */
  register(registration: IssuerRegistration): Promise<RegisteredIssuer>;
  /**
   * Changes name, limit, thumbprints and policies. What is left out stays as it was: the provider sends
   * neither a limit that is left out nor an empty list of policies. Assumed: thumbprints that are left out
   * stay too.
   *
   * @throws Error as `register` does, and 404 for an unknown id. Refused policies leave the other changes in
   *   place, since the provider sends them in a request of their own, after the others.
   */
  update(id: string, registration: IssuerRegistration): Promise<IssuerRegistration>;
  read(id: string): IssuerRegistration | undefined;
  /** Removes a registration; an unknown id is none already. */
  remove(id: string): void;
  list(): RegisteredIssuer[];
  /** One entry for each token exchange, the first one first; holds no token. */
  exchanges: { status: number; reason: string }[];
  close(): Promise<void>;
}

export interface RegisteredIssuer {
  id: string;
  registration: IssuerRegistration;
}

/**
 * Starts Pulumi Cloud on a free port of the loopback address.
 *
 * @param authority signs its serving certificate, and is the one authority that it trusts when it reads from
 *   issuers.
 * @param options the deployment runners that exist, and how long a registration takes (1000 milliseconds).
 */
export async function startPulumiCloud(
  authority: CertificateAuthority,
  options: { runners?: Runner[]; registrationMilliseconds?: number } = {},
): Promise<PulumiCloud> {
  const { runners = [], registrationMilliseconds = 1000 } = options;
  const registrations = new Map<string, StoredRegistration>();
  const accessTokens = new Map<string, AccessToken>();
  const exchanges: PulumiCloud["exchanges"] = [];

  async function exchange(request: IncomingMessage, response: ServerResponse) {
    try {
      const asked = tokenRequest(request.headers["content-type"], await text(request));
      const registration = registrationFor(asked, [...registrations.values()]);
      const claims = await verifiedClaims(asked.subjectToken, registration, authority.certificate);
      checkExpiration(asked.expiration, registration);
      const decision = decide(registration.policies, claims, asked, runners);
      if (!decision.allowed) throw new Refusal("invalid_request", decision.reason);

      const accessToken = `pul-${randomBytes(20).toString("hex")}`;
      const { organization, tokenType, scope } = asked;
      const expiresAt = Date.now() + asked.expiration * 1000;
      accessTokens.set(accessToken, { organization, tokenType, scope, expiresAt });
      exchanges.push({ status: 200, reason: decision.reason });
      // The fields of TokenExchangeGrantResponse in pulumi/pulumi, sdk/go/common/apitype/oauth.go.
      send(response, 200, {
        access_token: accessToken,
        issued_token_type: `${TOKEN_TYPE}${tokenType}`,
        token_type: "token",
        expires_in: asked.expiration,
        scope,
      });
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      // Assumed: the error form of OAuth (RFC 6749, section 5.2), which also keeps quotes out of the
      // description.
      const description = error.message.replaceAll(/["\\]/g, "'").replaceAll(/[^ -~]/g, "?");
      exchanges.push({ status: 400, reason: description });
      send(response, 400, { error: error.code, error_description: description });
    }
  }

  async function answer(request: IncomingMessage, response: ServerResponse) {
    const endpoint = `${request.method} ${request.url}`;
    if (endpoint === "POST /api/oauth/token") return exchange(request, response);

    const describe = accountEndpoints[endpoint];
    if (!describe)
      return sendError(response, 404, `Not Found: the simulation's Pulumi Cloud has no ${endpoint}`);

    const accessToken = request.headers.authorization?.match(/^token (.+)$/)?.[1];
    const account = accessTokens.get(accessToken ?? "");
    if (account && account.expiresAt > Date.now()) return send(response, 200, describe(account));
    sendError(response, 401, "Unauthorized: No credentials provided or are invalid.");
  }

  const serving = await authority.issue({ hosts: ["127.0.0.1", "localhost"] });
  const server = createServer(serving, (request, response) => {
    answer(request, response).catch((error: unknown) => sendError(response, 500, messageOf(error)));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");

  return {
    url: `https://127.0.0.1:${(server.address() as AddressInfo).port}`,
    exchanges,
    async register(registration) {
      await sleep(registrationMilliseconds);
      const { organization, url, policies = [] } = registration;
      const thumbprints = await checkedThumbprints(registration, authority.certificate);
      checkPolicies(policies);
      // Assumed: the service refuses the same URL twice in one organization.
      for (const other of registrations.values()) {
        if (other.organization === organization && other.url === url) {
          throw apiError(409, `Conflict: an OIDC issuer with the URL ${url} exists already`);
        }
      }

      const id = `${organization}/${randomUUID()}`;
      const stored = { ...registration, thumbprints, policies: policies.length > 0 ? policies : [DENY_ALL] };
      registrations.set(id, structuredClone(stored));
      return { id, registration: stored };
    },
    async update(id, { name, maxExpirationSeconds, thumbprints = [], policies = [] }) {
      const stored = registrations.get(id);
      if (!stored) throw apiError(404, `Not Found: no OIDC issuer ${id}`);
      if (thumbprints.length > 0) {
        stored.thumbprints = await checkedThumbprints(
          { url: stored.url, thumbprints },
          authority.certificate,
        );
      }
      stored.name = name;
      if (maxExpirationSeconds !== undefined) stored.maxExpirationSeconds = maxExpirationSeconds;
      checkPolicies(policies);
      if (policies.length > 0) stored.policies = structuredClone(policies);
      return structuredClone(stored);
    },
    read: (id) => structuredClone(registrations.get(id)),
    remove: (id) => void registrations.delete(id),
    list: () => [...registrations].map(([id, registration]) => structuredClone({ id, registration })),
    async close() {
      server.close();
      server.closeAllConnections();
      await once(server, "close");
    },
  };
}

interface StoredRegistration extends IssuerRegistration {
  thumbprints: string[];
  policies: AuthPolicy[];
}

interface TokenRequest {
  organization: string;
  tokenType: string;
  scope: string;
  /** Seconds. */
  expiration: number;
  subjectToken: string;
}

interface AccessToken extends Pick<TokenRequest, "organization" | "tokenType" | "scope"> {
  /** Milliseconds since 1970. */
  expiresAt: number;
}

/** A token exchange that is refused, with the error code of RFC 6749, section 5.2, or RFC 8693, section 2.2.2. */
class Refusal extends Error {
  constructor(
    readonly code: string,
    description: string,
  ) {
    super(description);
  }
}

const TOKEN_TYPES = ["organization", "personal", "runner", "team"];
const TOKEN_TYPE = "urn:pulumi:token-type:access_token:";
const SCOPE_PREFIXES: Record<string, string> = { personal: "user:", team: "team:", runner: "runner:" };
const DEFAULT_EXPIRATION_SECONDS = 2 * 60 * 60;
const DEFAULT_MAX_EXPIRATION_SECONDS = 25 * 60 * 60;
const MAX_POLICIES = 40;
const ISSUER_TIMEOUT_MILLISECONDS = 5000;

/** What the service gives an issuer that was registered without policies. */
const DENY_ALL: AuthPolicy = { decision: "deny", tokenType: "organization", rules: { sub: "" } };

function tokenRequest(contentType: string | undefined, body: string): TokenRequest {
  // The service takes JSON as well; the script and the CLI send forms.
  if (contentType?.split(";")[0] !== "application/x-www-form-urlencoded") {
    throw new Refusal("invalid_request", "the content type must be application/x-www-form-urlencoded");
  }
  const form = new URLSearchParams(body);
  const field = (name: string) => {
    const [value = "", ...others] = form.getAll(name);
    if (others.length > 0) throw new Refusal("invalid_request", `${name} is given twice`);
    return value;
  };

  if (field("grant_type") !== "urn:ietf:params:oauth:grant-type:token-exchange") {
    throw new Refusal(
      "unsupported_grant_type",
      "grant_type must be urn:ietf:params:oauth:grant-type:token-exchange",
    );
  }
  if (field("subject_token_type") !== "urn:ietf:params:oauth:token-type:id_token") {
    throw new Refusal(
      "invalid_request",
      "subject_token_type must be urn:ietf:params:oauth:token-type:id_token",
    );
  }
  const organization = field("audience").match(/^urn:pulumi:org:(.+)$/)?.[1];
  if (!organization) throw new Refusal("invalid_target", "audience must be urn:pulumi:org:ORGANIZATION");

  const requestedType = field("requested_token_type");
  const tokenType = TOKEN_TYPES.find((type) => requestedType === `${TOKEN_TYPE}${type}`);
  if (!tokenType) {
    throw new Refusal(
      "invalid_request",
      `requested_token_type must be ${TOKEN_TYPE} and ${TOKEN_TYPES.join(", ")}`,
    );
  }
  const scope = field("scope");
  const prefix = SCOPE_PREFIXES[tokenType];
  if (prefix ? !scope.startsWith(prefix) || scope === prefix : !["", "admin"].includes(scope)) {
    const wanted = prefix ? `${prefix}NAME` : "empty or admin";
    throw new Refusal("invalid_scope", `the scope of a token of type ${tokenType} must be ${wanted}`);
  }

  const expiration = field("expiration") || String(DEFAULT_EXPIRATION_SECONDS);
  if (!/^[1-9][0-9]{0,9}$/.test(expiration)) {
    throw new Refusal("invalid_request", "expiration must be a whole number of seconds above 0");
  }
  return {
    organization,
    tokenType,
    scope,
    expiration: Number(expiration),
    subjectToken: field("subject_token"),
  };
}

function registrationFor(asked: TokenRequest, registrations: StoredRegistration[]): StoredRegistration {
  const issuer = unverifiedIssuer(asked.subjectToken);
  const registration = registrations.find(
    ({ organization, url }) => organization === asked.organization && url === issuer,
  );
  if (registration) return registration;
  throw new Refusal("invalid_request", `organization ${asked.organization} has no OIDC issuer ${issuer}`);
}

function unverifiedIssuer(idToken: string): string {
  try {
    return decodeJwt(idToken).iss ?? "(none)";
  } catch {
    throw new Refusal("invalid_request", "subject_token is no JSON Web Token");
  }
}

// Assumed: an expiration above the issuer's limit is refused, where it could also be shortened.
function checkExpiration(expiration: number, { maxExpirationSeconds }: StoredRegistration) {
  const limit = maxExpirationSeconds ?? DEFAULT_MAX_EXPIRATION_SECONDS;
  if (expiration > limit) {
    throw new Refusal(
      "invalid_request",
      `expiration ${expiration} is above the issuer's limit of ${limit} seconds`,
    );
  }
}

// Assumed: the issuer is asked for its keys at each exchange, so that a rotated certificate shows at once.
async function verifiedClaims(
  idToken: string,
  registration: StoredRegistration,
  trusted: string,
): Promise<JWTPayload> {
  const read = async (url: string) => {
    const { body } = await readFromIssuer(url, trusted, registration.thumbprints).catch((error: unknown) => {
      throw new Refusal("invalid_request", `the OIDC issuer could not be read: ${messageOf(error)}`);
    });
    return body;
  };

  const configuration = await read(configurationUrl(registration.url));
  if (!isRecord(configuration) || configuration.issuer !== registration.url) {
    throw new Refusal("invalid_request", "the issuer's discovery document is for another issuer");
  }
  const keys = await read(String(configuration.jwks_uri));
  if (!isKeySet(keys)) throw new Refusal("invalid_request", "the issuer's key set is none");

  try {
    const { payload } = await jwtVerify(idToken, createLocalJWKSet(keys), {
      issuer: registration.url,
      algorithms: ["RS256"],
      requiredClaims: ["exp"],
    });
    return payload;
  } catch (error) {
    if (error instanceof errors.JWTExpired) throw new Refusal("invalid_request", "the id token has expired");
    throw new Refusal("invalid_request", `the id token does not verify: ${messageOf(error)}`);
  }
}

// UpdateAuthPolicy in Pulumi Cloud's OpenAPI document. Assumed: a policy without rules is refused. Whether
// users, teams and runners exist is not looked at.
function checkPolicies(policies: AuthPolicy[]) {
  if (policies.length > MAX_POLICIES) throw badRequest(`at most ${MAX_POLICIES} policies are allowed`);
  for (const { decision, tokenType, authorizedPermissions = [], rules, ...target } of policies) {
    if (!["allow", "deny"].includes(decision)) throw badRequest(`invalid decision ${decision}`);
    if (!TOKEN_TYPES.includes(tokenType)) throw badRequest(`invalid token type ${tokenType}`);
    if (tokenType === "personal" && !target.userLogin) throw badRequest("userLogin is required");
    if (tokenType === "team" && !target.teamName) throw badRequest("teamName is required");
    if (tokenType === "runner" && !target.runnerID) throw badRequest("runnerID is required");
    if (authorizedPermissions.some((name) => name !== "admin" || tokenType !== "organization")) {
      throw badRequest("the only permission is admin, for organization tokens");
    }
    if (Object.keys(rules).length === 0) throw badRequest("rules can not be empty");
    for (const [path, pattern] of Object.entries(rules)) {
      if (!CLAIM_PATH.test(path)) throw badRequest(`key ${path} is not a claim path`);
      if (!/[^*?.]/.test(pattern))
        throw badRequest(`key ${path} should at least have a strict matching portion`);
    }
  }
}

/** The thumbprints to store: those given, when one of them is the certificate's, else the certificate's. */
async function checkedThumbprints(
  { url, thumbprints = [] }: Pick<IssuerRegistration, "url" | "thumbprints">,
  trusted: string,
): Promise<string[]> {
  const { thumbprint } = await readFromIssuer(configurationUrl(url), trusted, thumbprints).catch(
    (error: unknown) => {
      throw badRequest(`the OIDC issuer ${url} cannot be read: ${messageOf(error)}`);
    },
  );
  if (thumbprints.length === 0) return [thumbprint];
  if (hasThumbprint(thumbprints, thumbprint)) return [...thumbprints];
  throw badRequest(
    `Calculated thumbprint ${thumbprint} does not match any of the provided. Make sure it is properly generated (SHA256).`,
  );
}

// Upper case is documented, lower case works too.
function hasThumbprint(thumbprints: string[], thumbprint: string): boolean {
  return thumbprints.some((registered) => registered.toLowerCase() === thumbprint);
}

function configurationUrl(issuer: string): string {
  return `${issuer}/.well-known/openid-configuration`;
}

// The certificate is verified; thumbprints are a fallback if that fails:
// https://www.pulumi.com/docs/administration/concepts/oidc-issuers/
async function readFromIssuer(
  url: string,
  trusted: string,
  thumbprints: string[] = [],
): Promise<{ body: unknown; thumbprint: string }> {
  // A connection of its own for each request: one that is kept alive would hide a rotated certificate.
  const signal = AbortSignal.timeout(ISSUER_TIMEOUT_MILLISECONDS);
  const [response]: IncomingMessage[] = await once(
    get(url, { ca: trusted, agent: false, signal, rejectUnauthorized: false }),
    "response",
  );
  if (!(response?.socket instanceof TLSSocket)) throw new Error(`${url} has no certificate`);
  const thumbprint = response.socket.getPeerCertificate().fingerprint256.replaceAll(":", "").toLowerCase();
  if (!response.socket.authorized && !hasThumbprint(thumbprints, thumbprint)) {
    throw new Error(
      `${url} has a certificate that could not be verified: ${response.socket.authorizationError}`,
    );
  }
  const body = await text(response);
  if (response.statusCode !== 200) throw new Error(`${url} answers ${response.statusCode}`);
  return { body: JSON.parse(body), thumbprint };
}

// What the CLI reads of an account: pulumi/pulumi, pkg/backend/httpstate/client/client.go (serviceUser) and
// sdk/go/common/apitype/organizations.go. The owner of a personal token is its user, of any other the
// organization.
const accountEndpoints: Record<string, (token: AccessToken) => object> = {
  "GET /api/user": ({ organization, tokenType, scope }) => {
    const login = tokenType === "personal" ? scope.replace(/^user:/, "") : organization;
    const team = tokenType === "team" ? scope.replace(/^team:/, "") : undefined;
    return {
      githubLogin: login,
      name: login,
      organizations: [{ githubLogin: organization, name: organization }],
      ...(tokenType !== "personal" && { tokenInfo: { name: "OIDC", organization, team } }),
    };
  },
  "GET /api/user/organizations/default": ({ organization }) => ({ GitHubLogin: organization, Messages: [] }),
};

function send(response: ServerResponse, status: number, body: object) {
  response.writeHead(status, { "Content-Type": "application/json", "Cache-Control": "no-store" });
  response.end(JSON.stringify(body));
}

function sendError(response: ServerResponse, code: number, message: string) {
  send(response, code, { code, message });
}

function apiError(status: number, message: string): Error {
  return new Error(`${status} API error: ${message}`);
}

function badRequest(message: string): Error {
  return apiError(400, `Bad Request: ${message}`);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function isKeySet(value: unknown): value is JSONWebKeySet {
  return isRecord(value) && Array.isArray(value.keys);
}
