// The authorization policies of an OIDC issuer in Pulumi Cloud: whose id token gets which access token, by a rule language of
// patterns. https://www.pulumi.com/docs/administration/access-identity/oidc-issuers/

import type { JWTPayload } from "jose";

export interface AuthPolicy {
  decision: string;
  tokenType: string;
  userLogin?: string;
  teamName?: string;
  runnerID?: string;
  authorizedPermissions?: string[];
  /** The path of a claim, such as `"kubernetes.io".namespace`, and the pattern that its value must match. */
  rules: Record<string, string>;
}

/** A deployment runner: policies name it by its id, token exchanges by its name. */
export interface Runner {
  id: string;
  name: string;
}

/**
 * Decides whether policies let a caller have a token: a matching deny policy wins, without a matching allow
 * policy the answer is no.
 *
 * @param policies those of the issuer that signed the caller's id token.
 * @param claims the verified claims of that token.
 * @param asked the token type, and the scope in the form that the token endpoint takes.
 * @param runners the deployment runners that exist.
 * @returns the answer and its reason, in words for the caller.
 */
export function decide(
  policies: AuthPolicy[],
  claims: JWTPayload,
  asked: { tokenType: string; scope: string },
  runners: Runner[] = [],
): { allowed: boolean; reason: string } {
  const mismatches: string[] = [];
  let allowed = false;
  for (const [index, policy] of policies.entries()) {
    const mismatch = mismatchOf(policy, claims, asked, runners);
    if (mismatch) mismatches.push(`policy ${index + 1} (${policy.decision}): ${mismatch}`);
    else if (policy.decision === "allow") allowed = true;
    else return { allowed: false, reason: `policy ${index + 1} denies this caller` };
  }
  const given = `${asked.tokenType} token${asked.scope && `, scope ${asked.scope}`}`;
  return {
    allowed,
    reason: allowed ? given : `no allow policy of the issuer matches; ${mismatches.join("; ")}`,
  };
}

/**
 * Matches a pattern of the rule language against the whole of a value: `*` is any run of characters, `?` zero
 * or one character, `.` exactly one, and everything else itself. There is no way to quote them.
 */
export function matchesPattern(pattern: string, value: string): boolean {
  const characters = [...value];
  // How many characters of the value can be used up by the pattern so far.
  let reached = new Set([0]);
  for (const symbol of pattern) {
    const next = new Set<number>();
    for (const position of reached) {
      const left = characters.length - position;
      if (symbol === "*") for (let skip = 0; skip <= left; skip++) next.add(position + skip);
      if (symbol === "?") next.add(position);
      if (left > 0 && ["?", ".", characters[position]].includes(symbol)) next.add(position + 1);
    }
    reached = next;
  }
  return reached.has(characters.length);
}

/**
 * Finds a claim by the path of a rule: names joined by dots, a name with dots of its own in double quotes, as
 * in `"kubernetes.io".serviceaccount.name`.
 *
 * @returns the claim, or undefined where the token has none or the path is no path.
 */
export function claimAt(claims: JWTPayload, path: string): unknown {
  if (!CLAIM_PATH.test(path)) return undefined;
  let claim: unknown = claims;
  for (const [, quoted, bare] of path.matchAll(CLAIM_NAMES)) {
    const name = quoted ?? bare ?? "";
    if (!isRecord(claim) || !Object.hasOwn(claim, name)) return undefined;
    claim = claim[name];
  }
  return claim;
}

/**
 * Matches a pattern against a claim.
 *
 * Assumed: an array, as `aud` is in the tokens of Kubernetes, matches when one of its elements does; numbers
 * and booleans match by their JSON text; an object never matches.
 */
export function matchesClaim(pattern: string, claim: unknown): boolean {
  if (Array.isArray(claim)) return claim.some((element) => matchesClaim(pattern, element));
  if (typeof claim === "string") return matchesPattern(pattern, claim);
  return (typeof claim === "number" || typeof claim === "boolean") && matchesPattern(pattern, String(claim));
}

/** The path of a claim in a rule. */
export const CLAIM_PATH = /^(?:"[^"]+"|[^".]+)(?:\.(?:"[^"]+"|[^".]+))*$/;

const CLAIM_NAMES = /"([^"]+)"|([^".]+)/g;

/** Why a policy is not about this caller and this token; undefined when it is. */
function mismatchOf(
  policy: AuthPolicy,
  claims: JWTPayload,
  asked: { tokenType: string; scope: string },
  runners: Runner[],
): string | undefined {
  if (policy.tokenType !== asked.tokenType) return `it is about tokens of type ${policy.tokenType}`;
  if (!matchesScope(policy, asked.scope, runners)) return `it is not about scope "${asked.scope}"`;

  const failed = Object.entries(policy.rules)
    .map(([path, pattern]) => ({ path, pattern, claim: claimAt(claims, path) }))
    .filter(({ pattern, claim }) => !matchesClaim(pattern, claim))
    .map(({ path, pattern, claim }) => `${path} is ${JSON.stringify(claim) ?? "absent"}, not "${pattern}"`);
  return failed.length > 0 ? failed.join(", ") : undefined;
}

function matchesScope(policy: AuthPolicy, scope: string, runners: Runner[]): boolean {
  const { decision, userLogin, teamName, runnerID, authorizedPermissions = [] } = policy;
  switch (policy.tokenType) {
    case "personal":
      return userLogin !== undefined && scope === `user:${userLogin}`;
    case "team":
      return teamName !== undefined && matchesPattern(`team:${teamName}`, scope);
    case "runner":
      return runners.some(({ id, name }) => id === runnerID && scope === `runner:${name}`);
    case "organization":
      // A deny policy needs no permission to deny an administrator.
      return (
        scope === "" ||
        (scope === "admin" && (decision === "deny" || authorizedPermissions.includes("admin")))
      );
    default:
      return false;
  }
}

/** @returns whether a value has members, as a JSON object does. */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
