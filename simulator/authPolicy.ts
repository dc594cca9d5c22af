// The allow policies of an OIDC issuer in Pulumi Cloud, and what they grant.
// https://www.pulumi.com/docs/administration/concepts/oidc-issuers/

import type { JWTPayload } from "jose";

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

/** A runner pool: policies contain its ID, token exchanges its name. */
export interface Runner {
  id: string;
  name: string;
}

export interface DecideOptions {
  /** The runner pools that exist. */
  runners?: Runner[];
  /** Whether a rule matches a list, such as `aud`, if it matches one element; by default true. Assumed. */
  matchesLists?: boolean;
  /** Returns whether a rule on a claim, such as `iss`, is met by whatever an ID token with these claims has there. */
  isAssumed?: (path: string, claims: JWTPayload) => boolean;
}

/** Whether Pulumi Cloud grants what it is asked for. */
interface Decision {
  allowed: boolean;
  /** Why, for people; not secret. */
  reason: string;
}

/**
 * Decides whether policies grant a token. What no policy allows is denied.
 *
 * @param policies of the issuer that signed the ID token.
 * @param claims of the verified ID token.
 * @param asked the type and the scope of the access token.
 */
export function decide(
  policies: AuthPolicy[],
  claims: JWTPayload,
  asked: { tokenType: string; scope: string },
  { runners = [], ...matching }: DecideOptions = {},
): Decision {
  const token = `${asked.tokenType} token${asked.scope && `, scope ${asked.scope}`}`;
  const candidates = policies.filter((policy) => {
    return policy.decision === "allow" && isFor(policy, asked, runners);
  });
  const mismatches = candidates.map((policy) => mismatchesOf(policy, claims, matching));
  if (mismatches.some(({ length }) => length === 0)) return { allowed: true, reason: token };

  // The caller has most likely meant the policy that names it or, if none does, the one that fails in the fewest rules.
  const rank = (ofPolicy: string[]) =>
    ofPolicy.length + 100 * ofPolicy.filter((it) => /\.(namespace|serviceaccount\.name) is /.test(it)).length;
  const [closest] = mismatches.sort((a, b) => rank(a) - rank(b));
  const why = closest ? closest.join(", ") : `none is for a ${token}`;
  return { allowed: false, reason: `no allow policy of the issuer matches: ${why}` };
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

  /** Marks a position of the pattern as reached, and those behind it that need no character. */
  const reach = (reached: Set<number>, position: number): void => {
    reached.add(position);
    let next = position;
    while (symbols[next] === "*" || symbols[next] === "?") reached.add(++next);
  };

  let reached = new Set<number>();
  reach(reached, 0);
  for (const character of value) {
    const following = new Set<number>();
    for (const position of reached) {
      const symbol = symbols[position];
      if (symbol === "*") reach(following, position);
      else if (symbol === character || symbol === "?" || symbol === ".") reach(following, position + 1);
    }
    reached = following;
  }
  return reached.has(symbols.length);
}

/**
 * Returns the claim at the path of a rule; undefined if the token does not have it.
 *
 * @param path names that are joined by dots, in double quotes if they contain one. The program has checked it.
 */
function claimAt(claims: JWTPayload, path: string): unknown {
  let claim: unknown = claims;
  for (const [, quoted, bare] of path.matchAll(/"([^"]+)"|([^".]+)/g)) {
    const name = quoted ?? bare ?? "";
    claim = isObject(claim) && Object.hasOwn(claim, name) ? claim[name] : undefined;
  }
  return claim;
}

/**
 * Matches a pattern against a claim.
 *
 * Assumed: a list, such as `aud` in the tokens of Kubernetes, matches if one of its elements does, or never.
 * Assumed: numbers and booleans match by their JSON; an object never matches.
 */
function matchesClaim(pattern: string, claim: unknown, matchesLists: boolean): boolean {
  if (Array.isArray(claim)) {
    return matchesLists && claim.some((element) => matchesClaim(pattern, element, matchesLists));
  }
  return ["string", "number", "boolean"].includes(typeof claim) && matchesPattern(pattern, String(claim));
}

function mismatchesOf(
  { rules }: AuthPolicy,
  claims: JWTPayload,
  { matchesLists = true, isAssumed = () => false }: DecideOptions,
): string[] {
  return Object.entries(rules)
    .filter(([path]) => !isAssumed(path, claims))
    .map(([path, pattern]) => ({ path, pattern, claim: claimAt(claims, path) }))
    .filter(({ pattern, claim }) => !matchesClaim(pattern, claim, matchesLists))
    .map(({ path, pattern, claim }) => `${path} is ${JSON.stringify(claim) ?? "absent"}, not "${pattern}"`);
}

// Says again what a token type means, and shares nothing with settings/tokenTypes.ts: an error there would otherwise be emulated.
function isFor(policy: AuthPolicy, asked: { tokenType: string; scope: string }, runners: Runner[]): boolean {
  const { tokenType, userLogin, teamName, runnerID, authorizedPermissions = [] } = policy;
  const { scope } = asked;
  if (tokenType !== asked.tokenType) return false;
  switch (tokenType) {
    case "personal":
      return userLogin !== undefined && scope === `user:${userLogin}`;
    case "team":
      return teamName !== undefined && scope === `team:${teamName}`;
    case "runner":
      return runners.some(({ id, name }) => id === runnerID && scope === `runner:${name}`);
    // Assumed: with a role or without one.
    default:
      return scope === "" || (scope === "admin" && authorizedPermissions.includes("admin"));
  }
}

/** Returns whether a value is a JSON object. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
