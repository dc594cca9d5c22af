// The issuer of an emulated EKS cluster, and the token exchange of Pulumi Cloud:
// https://www.pulumi.com/docs/administration/concepts/oidc-issuers/. What is not documented is marked "Assumed": README.md.

import { randomBytes, randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import type { types } from "@pulumi/pulumiservice";
import * as jose from "jose";
import { canBothMatch } from "../policy/patterns";

export type ClusterIssuer = Awaited<ReturnType<typeof createIssuer>>;

/**
 * Returns the issuer of one cluster, at whose URL nothing listens. `keys` verify its ID tokens.
 *
 * It signs with ES256, which Kubernetes supports too: for RS256, as on EKS, a key takes a fifth of a second to generate.
 */
export async function createIssuer(url: string) {
  const { privateKey, publicKey } = await jose.generateKeyPair("ES256");
  /** Returns an ID token as the Kubernetes API server issues it. @param seconds until it expires. */
  function token(
    { namespace, serviceAccount: name, pod }: { namespace: string; serviceAccount: string; pod?: string },
    audience: string,
    seconds = 600,
  ): Promise<string> {
    const iat = Math.floor(Date.now() / 1000);
    const sub = `system:serviceaccount:${namespace}:${name}`;
    // kubernetes/kubernetes, pkg/serviceaccount/claims.go. In a cluster, a service account keeps its UID.
    const ofPod = pod === undefined ? {} : { pod: { name: pod, uid: randomUUID() } };
    const kubernetes = { namespace, serviceaccount: { name, uid: randomUUID() }, ...ofPod };
    const standard = { iss: url, sub, aud: [audience], iat, nbf: iat, exp: iat + seconds, jti: randomUUID() };
    const claims = { ...standard, "kubernetes.io": kubernetes };
    return new jose.SignJWT(claims).setProtectedHeader({ alg: "ES256" }).sign(privateKey);
  }
  return { url, keys: async () => publicKey, token };
}

export type AuthPolicy = types.output.AuthPolicyDefinition;

/** An OIDC issuer that an organization has registered. */
export interface RegisteredIssuer {
  organization: string;
  url: string;
  keys: jose.JWTVerifyGetKey;
  policies?: AuthPolicy[];
  maxExpirationSeconds?: number;
}

export type Reply = { status: number; body?: object };

/**
 * Exchanges an ID token for an access token.
 *
 * @param form of `POST /api/oauth/token`.
 * @param issuers of all organizations.
 * @returns the reply; with the reason if it is a denial.
 */
export async function exchange(
  form: URLSearchParams,
  issuers: RegisteredIssuer[],
): Promise<Reply & { denial?: string }> {
  const field = (name: string, start = "") => (form.get(name) ?? "").replace(start, "");
  const organization = field("audience", "urn:pulumi:org:");
  const tokenType = field("requested_token_type", "urn:pulumi:token-type:access_token:");
  const scope = field("scope");
  const idToken = field("subject_token");

  const { iss } = jose.decodeJwt(idToken);
  const ofOrganization = issuers.filter((it) => it.organization === organization);
  if (ofOrganization.length === 0) return invalidOrganization(organization);
  const issuer = ofOrganization.find(({ url }) => url === iss);
  if (!issuer) return denied(`organization ${organization} has no OIDC issuer ${iss}`);
  const { payload } = await jose.jwtVerify(idToken, issuer.keys, { issuer: issuer.url });
  const denial = denialOf(issuer.policies ?? [], payload, { tokenType, scope });
  if (denial !== undefined) return denied(denial);

  // TokenExchangeGrantResponse in pulumi/pulumi, sdk/go/common/apitype/oauth.go.
  const access_token = `pul-${randomBytes(20).toString("hex")}`;
  // "It is up to the Pulumi authorization server to grant or reduce it": README.md of pulumi/auth-actions. By default 25 hours.
  const expires_in = Math.min(Number(field("expiration")), issuer.maxExpirationSeconds ?? 90_000);
  const issued_token_type = field("requested_token_type");
  return { status: 200, body: { access_token, token_type: "token", issued_token_type, expires_in, scope } };
}

/** What Pulumi Cloud has answered others, whatever the reason: wlami/esc-doks-kubeconfig, README.md at 63159e5. */
function denied(denial: string) {
  return { status: 401, body: { error: "access_denied", error_description: "unauthorized" }, denial };
}

/** Of an organization that does not exist, or has no issuer: VilnaCRM-Org/bootstrap-infrastructure, specs. */
function invalidOrganization(organization: string) {
  const denial = `invalid organization ${organization}`;
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
  claims: jose.JWTPayload,
  { tokenType, scope }: { tokenType: string; scope: string },
): string | undefined {
  const candidates = policies.filter((it) => isFor(it, tokenType, scope));
  const results = candidates.map(({ decision, rules }) => {
    const failed = Object.keys(rules).filter((path) => !matches(rules[path] ?? "", claimAt(claims, path)));
    return { decision, rules, failed };
  });
  // "When a token's claims match more than one policy, deny wins": https://github.com/pulumi/docs/pull/20481
  const denying = results.find(({ decision, failed }) => decision === "deny" && failed.length === 0);
  if (denying) return `a deny policy for ${denying.rules[NAMESPACE]}/${denying.rules[NAME]} matches`;
  const compared = results.filter(({ decision }) => decision === "allow");
  if (compared.some(({ failed }) => failed.length === 0)) return undefined;
  // The caller has most likely meant the policy that names it.
  const isNamed = ({ failed }: { failed: string[] }) => !failed.includes(NAMESPACE) && !failed.includes(NAME);
  const closest = compared.find(isNamed) ?? compared[0];
  if (!closest) return `no allow policy is for a token of the type ${tokenType} with the scope "${scope}"`;
  const { rules, failed } = closest;
  const why = failed.map((path) => {
    return `${path} is ${JSON.stringify(claimAt(claims, path)) ?? "absent"}, not "${rules[path]}"`;
  });
  return `the allow policy for ${rules[NAMESPACE]}/${rules[NAME]} does not match: ${why.join(", ")}`;
}

// Says again what a token type means, and shares nothing with settings/tokenTypes.ts: an error there would otherwise be emulated.
function isFor(policy: AuthPolicy, tokenType: string, scope: string): boolean {
  // Assumed: an owner is a pattern, too, and its case does not matter.
  const isOwner = (prefix: string, owner = "") => {
    return canBothMatch(`${prefix}:${owner}`.toLowerCase(), scope.toLowerCase());
  };
  const isInScope: Record<string, boolean | undefined> = {
    personal: isOwner("user", policy.userLogin),
    team: isOwner("team", policy.teamName),
    // Assumed: the policy's ID and the requested name are those of one pool.
    runner: scope.startsWith("runner:"),
    // Assumed: with a role or without one.
    organization: scope === "" || (scope === "admin" && policy.authorizedPermissions?.includes("admin")),
  };
  return policy.tokenType === tokenType && isInScope[tokenType] === true;
}

/** Returns the claim at a path: names that are joined by dots, in double quotes if they contain one. */
function claimAt(claims: jose.JWTPayload, path: string): unknown {
  const names = [...path.matchAll(/"([^"]+)"|([^".]+)/g)].map(([, quoted, bare]) => quoted ?? bare ?? "");
  return names.reduce<unknown>((claim, name) => new Map(Object.entries(Object(claim))).get(name), claims);
}

/** Assumed: a list, such as `aud`, matches if one of its elements does, a number or a boolean by its JSON, and no object does. */
function matches(pattern: string, claim: unknown): boolean {
  const values = [claim ?? []].flat().filter((value) => typeof value !== "object");
  return values.some((value) => canBothMatch(pattern, String(value)));
}

/** Starts a server on a free port of the loopback address, which replies with JSON. */
export async function startServer(reply: (request: IncomingMessage) => Reply | Promise<Reply>) {
  const server = createServer((request, response) => {
    const send = ({ status, body }: Reply) => {
      response.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(body));
    };
    Promise.resolve(reply(request)).then(send, () => response.destroy());
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  const close = async () => void server.close().closeAllConnections();
  return { origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, close };
}
