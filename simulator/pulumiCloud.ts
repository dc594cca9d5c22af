// The token exchange of an emulated Pulumi Cloud: https://www.pulumi.com/docs/administration/concepts/oidc-issuers/
//
// What is not documented is marked "Assumed": README.md.

import { type KeyObject, randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { type Claims, claimsOf, isSigned } from "./issuer";

export interface AuthPolicy {
  decision: string;
  tokenType: string;
  userLogin?: string;
  teamName?: string;
  runnerID?: string;
  roleID?: string;
  authorizedPermissions?: string[];
  /** The path of a claim, such as `"kubernetes.io".namespace`, and the pattern that its value must match. */
  rules: Record<string, string>;
}

/** An OIDC issuer that an organization has registered. */
export interface RegisteredIssuer {
  organization: string;
  url: string;
  keys: KeyObject[];
  policies?: AuthPolicy[];
  maxExpirationSeconds?: number;
}

export interface Reply {
  status: number;
  body?: object;
}

/**
 * Exchanges an ID token for an access token.
 *
 * @param form of `POST /api/oauth/token`.
 * @param issuers of all organizations.
 * @returns the reply; with the reason if it is a denial.
 */
export function exchange(form: URLSearchParams, issuers: RegisteredIssuer[]): Reply & { denial?: string } {
  const field = (name: string, start = "") => (form.get(name) ?? "").replace(start, "");
  const organization = field("audience", "urn:pulumi:org:");
  const tokenType = field("requested_token_type", "urn:pulumi:token-type:access_token:");
  const scope = field("scope");
  const idToken = field("subject_token");

  const claims = claimsOf(idToken);
  const issuer = issuers.find((it) => it.organization === organization && it.url === claims.iss);
  if (!issuer) return denied(`organization ${organization} has no OIDC issuer ${claims.iss}`);
  if (!isSigned(idToken, issuer.keys)) return denied("the ID token is not signed by its issuer");
  const denial = denialOf(issuer.policies ?? [], claims, { tokenType, scope });
  if (denial !== undefined) return denied(denial);

  // TokenExchangeGrantResponse in pulumi/pulumi, sdk/go/common/apitype/oauth.go.
  const access_token = `pul-${randomBytes(20).toString("hex")}`;
  // "It is up to the Pulumi authorization server to grant or reduce it": README.md of pulumi/auth-actions. By default 25 hours.
  const expires_in = Math.min(Number(field("expiration")), issuer.maxExpirationSeconds ?? 90_000);
  const issued_token_type = field("requested_token_type");
  return { status: 200, body: { access_token, token_type: "token", issued_token_type, expires_in, scope } };
}

/** Assumed: status 400. */
function denied(denial: string) {
  return { status: 400, body: { error: "invalid_request", error_description: denial }, denial };
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
  claims: Claims,
  { tokenType, scope }: { tokenType: string; scope: string },
): string | undefined {
  const candidates = policies.filter((it) => it.decision === "allow" && isFor(it, tokenType, scope));
  const compared = candidates.map(({ rules }) => {
    const failed = Object.keys(rules).filter((path) => !matches(rules[path] ?? "", claimAt(claims, path)));
    return { rules, failed, failedNames: failed.filter((path) => path === NAMESPACE || path === NAME) };
  });
  if (compared.some(({ failed }) => failed.length === 0)) return undefined;
  // The caller has most likely meant the policy that names it.
  const [closest] = compared.toSorted((a, b) => a.failedNames.length - b.failedNames.length);
  if (!closest) return `no allow policy is for a token of the type ${tokenType} with the scope "${scope}"`;
  const { rules, failed } = closest;
  const why = failed.map((path) => {
    return `${path} is ${JSON.stringify(claimAt(claims, path)) ?? "absent"}, not "${rules[path]}"`;
  });
  return `the allow policy for ${rules[NAMESPACE]}/${rules[NAME]} does not match: ${why.join(", ")}`;
}

// Says again what a token type means, and shares nothing with settings/tokenTypes.ts: an error there would otherwise be emulated.
function isFor(policy: AuthPolicy, tokenType: string, scope: string): boolean {
  const isAdmin = policy.authorizedPermissions?.includes("admin") === true;
  const isInScope: Record<string, boolean> = {
    personal: scope === `user:${policy.userLogin}`,
    team: scope === `team:${policy.teamName}`,
    // Assumed: the policy's ID and the requested name are those of one pool.
    runner: scope.startsWith("runner:"),
    // Assumed: with a role or without one.
    organization: scope === "" || (scope === "admin" && isAdmin),
  };
  return policy.tokenType === tokenType && isInScope[tokenType] === true;
}

/** Returns the claim at a path: names that are joined by dots, in double quotes if they contain one. */
function claimAt(claims: Claims, path: string): unknown {
  const names = [...path.matchAll(/"([^"]+)"|([^".]+)/g)].map(([, quoted, bare]) => quoted ?? bare ?? "");
  return names.reduce<unknown>((claim, name) => new Map(Object.entries(Object(claim))).get(name), claims);
}

/** Assumed: a list, such as `aud`, matches if one of its elements does, a number or a boolean by its JSON, and no object does. */
function matches(pattern: string, claim: unknown): boolean {
  const values = [claim ?? []].flat().filter((value) => typeof value !== "object");
  return values.some((value) => matchesPattern(pattern, String(value)));
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
