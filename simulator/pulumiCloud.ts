// An emulated Pulumi Cloud: the token exchange, which verifies signed ID tokens and decides by the allow policies of their issuer; and
// the OIDC issuer of an emulated EKS cluster. https://www.pulumi.com/docs/administration/concepts/oidc-issuers/
//
// What is not documented is marked "Assumed": README.md.

import { randomBytes, randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import {
  decodeJwt,
  errors,
  generateKeyPair,
  type JWTPayload,
  type JWTVerifyGetKey,
  jwtVerify,
  SignJWT,
} from "jose";

export type ClusterIssuer = Awaited<ReturnType<typeof createIssuer>>;

/** One for all issuers in this process, since it takes up to a second to generate. */
let keyPair: ReturnType<typeof generateKeyPair> | undefined;

/** Returns the issuer of one cluster, at whose URL nothing listens. `keys` verify its ID tokens. */
export async function createIssuer(url: string) {
  keyPair ??= generateKeyPair("RS256");
  const { privateKey, publicKey } = await keyPair;
  const keys: JWTVerifyGetKey = async () => publicKey;
  const object = (name: string) => ({ name, uid: randomUUID() });

  /** Returns an ID token as the Kubernetes API server issues it. @param seconds until it expires. */
  async function token(
    { namespace, serviceAccount, pod }: { namespace: string; serviceAccount: string; pod?: string },
    audience: string,
    seconds = 600,
  ): Promise<string> {
    const now = Math.floor(Date.now() / 1000);
    const [sub, aud] = [`system:serviceaccount:${namespace}:${serviceAccount}`, [audience]];
    const standard = { iss: url, sub, aud, iat: now, nbf: now, exp: now + seconds, jti: randomUUID() };
    // The private claims of kubernetes/kubernetes, pkg/serviceaccount/claims.go. In a cluster, an object keeps its UID.
    const claims = { namespace, serviceaccount: object(serviceAccount), ...(pod && { pod: object(pod) }) };
    const unsigned = new SignJWT({ ...standard, "kubernetes.io": claims });
    return unsigned.setProtectedHeader({ alg: "RS256" }).sign(privateKey);
  }
  return { url, keys, token };
}

/** Returns the URL of an issuer in the form of EKS, with a new ID. */
export function eksIssuerUrl(region: string): string {
  return `https://oidc.eks.${region}.amazonaws.com/id/${randomBytes(16).toString("hex").toUpperCase()}`;
}

export interface AuthPolicy {
  decision: string;
  tokenType: string;
  userLogin?: string;
  teamName?: string;
  runnerID?: string;
  authorizedPermissions?: string[];
  /** The custom role of an organization token, which says what that may do. */
  roleID?: string;
  /** The path of a claim, such as `"kubernetes.io".namespace`, and the pattern that its value must match. */
  rules: Record<string, string>;
}

/** An OIDC issuer that an organization has registered. */
export interface RegisteredIssuer {
  url: string;
  keys: JWTVerifyGetKey;
  policies?: AuthPolicy[];
  /** By default 25 hours. */
  maxExpirationSeconds?: number;
}

export interface DecideOptions {
  /** Whether a rule matches a list, such as `aud`, if it matches one element; by default true. Assumed. */
  matchesLists?: boolean;
  /** Returns whether a rule on a claim, such as `iss`, is met by whatever an ID token has there. */
  isAssumed?: (path: string) => boolean;
}

export type TokenRequest = ReturnType<typeof tokenRequest>;

/** A denied token exchange. */
class Denied extends Error {}

/**
 * Exchanges an ID token for an access token.
 *
 * @param form of `POST /api/oauth/token`.
 * @param issuerOf returns the issuer of an organization with a URL; undefined if it has not registered one.
 * @returns the reply, with the reason of a denial, or else the access token and what it is for.
 */
export async function exchange(
  form: URLSearchParams,
  issuerOf: (organization: string, url?: string) => RegisteredIssuer | undefined,
  options?: DecideOptions,
): Promise<Reply & { denial?: string; granted?: TokenRequest & { accessToken: string } }> {
  try {
    const asked = tokenRequest(form);
    const { organization, tokenType, scope, expiration, idToken } = asked;
    const { iss } = decodeJwt(idToken);
    const issuer = issuerOf(organization, iss);
    if (!issuer) throw new Denied(`organization ${organization} has no OIDC issuer ${iss}`);
    const { url, keys, policies = [], maxExpirationSeconds = 90_000 } = issuer;
    const verification = { issuer: url, algorithms: ["RS256"], requiredClaims: ["exp"] };
    const { payload } = await jwtVerify(idToken, keys, verification);
    const denial = denialOf(policies, payload, asked, options);
    if (denial !== undefined) throw new Denied(denial);

    const accessToken = `pul-${randomBytes(20).toString("hex")}`;
    // "It is up to the Pulumi authorization server to grant or reduce it": README.md of pulumi/auth-actions.
    const expires_in = Math.min(expiration, maxExpirationSeconds);
    // TokenExchangeGrantResponse in pulumi/pulumi, sdk/go/common/apitype/oauth.go.
    const issued_token_type = `urn:pulumi:token-type:access_token:${tokenType}`;
    const body = { access_token: accessToken, token_type: "token", issued_token_type, expires_in, scope };
    return { status: 200, body, granted: { ...asked, accessToken } };
  } catch (error) {
    const isInvalid = error instanceof errors.JOSEError;
    if (!isInvalid && !(error instanceof Denied)) throw error;
    const denial = isInvalid ? `the ID token is invalid: ${error.message}` : error.message;
    // Assumed: status 400. The form is OAuth's (RFC 6749, section 5.2), which allows no quotes in the description: the CLI
    // forwards it from an exchange (pulumi/pulumi, pkg/backend/httpstate/client/client.go).
    const error_description = denial.replaceAll(/["\\]/g, "'").replaceAll(/[^ -~]/g, "?");
    return { status: 400, body: { error: "invalid_request", error_description }, denial };
  }
}

function tokenRequest(form: URLSearchParams) {
  const field = (name: string, pattern: RegExp): string => {
    const [, value] = pattern.exec(form.get(name) ?? "") ?? [];
    if (value === undefined) throw new Denied(`${name} must match ${pattern.source}`);
    return value;
  };
  field("grant_type", /^(urn:ietf:params:oauth:grant-type:token-exchange)$/);
  field("subject_token_type", /^(urn:ietf:params:oauth:token-type:id_token)$/);
  return {
    organization: field("audience", /^urn:pulumi:org:(.+)$/),
    tokenType: field("requested_token_type", /^urn:pulumi:token-type:access_token:(\w+)$/),
    scope: form.get("scope") ?? "",
    expiration: Number(field("expiration", /^([1-9][0-9]{0,9})$/)),
    idToken: form.get("subject_token") ?? "",
  };
}

const NAMESPACE = '"kubernetes.io".namespace';
const NAME = '"kubernetes.io".serviceaccount.name';

/**
 * Decides whether policies grant a token. What no policy allows is denied.
 *
 * @param claims of the verified ID token.
 * @returns why it is denied; undefined if it is granted.
 */
export function denialOf(
  policies: AuthPolicy[],
  claims: JWTPayload,
  asked: { tokenType: string; scope: string },
  { matchesLists = true, isAssumed = () => false }: DecideOptions = {},
): string | undefined {
  const candidates = policies.filter((policy) => policy.decision === "allow" && isFor(policy, asked));
  const compared = candidates.map(({ rules }) => {
    const failed = Object.entries(rules).filter(([path, pattern]) => {
      return !isAssumed(path) && !matchesClaim(pattern, claimAt(claims, path), matchesLists);
    });
    // The caller has most likely meant the policy that names it or, if none does, the one that fails in the fewest rules.
    const distance = failed.length + 100 * failed.filter(([path]) => [NAMESPACE, NAME].includes(path)).length;
    return { rules, failed, distance };
  });
  if (compared.some(({ failed }) => failed.length === 0)) return undefined;
  const [closest] = compared.toSorted((a, b) => a.distance - b.distance);
  if (!closest)
    return `no allow policy is for a token of the type ${asked.tokenType} with the scope "${asked.scope}"`;
  const why = closest.failed.map(([path, pattern]) => {
    return `${path} is ${JSON.stringify(claimAt(claims, path)) ?? "absent"}, not "${pattern}"`;
  });
  return `the allow policy for ${closest.rules[NAMESPACE]}/${closest.rules[NAME]} does not match: ${why.join(", ")}`;
}

// Says again what a token type means, and shares nothing with settings/tokenTypes.ts: an error there would otherwise be emulated.
function isFor(policy: AuthPolicy, { tokenType, scope }: { tokenType: string; scope: string }): boolean {
  if (policy.tokenType !== tokenType) return false;
  switch (tokenType) {
    case "personal":
      return policy.userLogin !== undefined && scope === `user:${policy.userLogin}`;
    case "team":
      return policy.teamName !== undefined && scope === `team:${policy.teamName}`;
    // Assumed: the policy's ID and the requested name are those of one pool.
    case "runner":
      return policy.runnerID !== undefined && scope.startsWith("runner:");
    // Assumed: with a role or without one.
    default:
      return scope === "" || (scope === "admin" && policy.authorizedPermissions?.includes("admin") === true);
  }
}

/** Returns the claim at a path: names that are joined by dots, in double quotes if they contain one. */
function claimAt(claims: JWTPayload, path: string): unknown {
  const names = [...path.matchAll(/"([^"]+)"|([^".]+)/g)].map(([, quoted, bare]) => quoted ?? bare ?? "");
  return names.reduce<unknown>((claim, name) => {
    return Object.hasOwn(Object(claim), name) ? Object(claim)[name] : undefined;
  }, claims);
}

/** Assumed: a list, such as `aud`, matches if one of its elements does; a number or a boolean matches by its JSON, and no object does. */
function matchesClaim(pattern: string, claim: unknown, matchesLists: boolean): boolean {
  if (Array.isArray(claim))
    return matchesLists && claim.some((it) => matchesClaim(pattern, it, matchesLists));
  return ["string", "number", "boolean"].includes(typeof claim) && matchesPattern(pattern, String(claim));
}

/**
 * Returns whether a pattern matches a whole value: `*` is any run of characters, `?` zero or one character, `.` exactly one. No
 * character escapes them.
 *
 * It takes time in proportion to the length of the value and to that of the pattern. A regular expression would take hours for
 * a hostile pattern with thirty wildcards.
 */
export function matchesPattern(pattern: string, value: string): boolean {
  const symbols = [...pattern];
  /** The positions of the pattern that are reached. */
  let reached = new Set([0]);
  for (const character of ["", ...value]) {
    const next = [...reached].flatMap((position) => {
      const symbol = symbols[position] ?? "";
      if (symbol === "*" || character === "") return position;
      return [character, "?", "."].includes(symbol) ? position + 1 : [];
    });
    reached = new Set(next);
    // Those that need no character: a set also iterates over what is added to it.
    for (const position of reached) {
      if (symbols[position] === "*" || symbols[position] === "?") reached.add(position + 1);
    }
  }
  return reached.has(symbols.length);
}

export interface Reply {
  status: number;
  body?: object;
}

/** Starts a server on a free port of the loopback address, which replies with JSON. */
export async function startServer(reply: (request: IncomingMessage) => Reply | Promise<Reply>) {
  const server = createServer(async (request, response) => {
    try {
      const { status, body } = await reply(request);
      response.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(body));
    } catch {
      response.destroy();
    }
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  const close = async () => {
    server.close().closeAllConnections();
    await once(server, "close");
  };
  return { origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, close };
}
