// The emulated Pulumi Cloud of engine tests: its OIDC issuers, as the provider registers them. The token exchange is that of `npm start`.
//
// Documented at https://www.pulumi.com/docs/administration/concepts/oidc-issuers/. What is not is marked "Assumed":
// simulator/README.md.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import type { JWTVerifyGetKey } from "jose";
import { AUDIENCE_RULE } from "../../settings/tokenTypes";
import { type AuthPolicy, exchange, type Reply, startServer } from "../../simulator/pulumiCloud";
import type { ResourceKind } from "./emulator";

export interface PulumiCloudOptions {
  /** Returns the keys of an issuer that is registered. @throws Error if the issuer does not publish any. */
  keysOf: (issuerUrl: string) => Promise<JWTVerifyGetKey>;
  /**
   * Returns the thumbprint of the certificate that an issuer presents now: SHA-256, in lowercase hex. By default, thumbprints are not
   * compared.
   */
  thumbprintOf?: (issuerUrl: string) => string;
  /** Returns what a further endpoint, such as `GET /PATH`, answers to an access token; undefined if it does not exist. */
  answer?: (endpoint: string) => object | undefined;
  /** How long the registration of an issuer takes; by default 50. */
  registrationMilliseconds?: number;
  /** Whether a rule matches a list, such as `aud`, if it matches one element; by default true. Assumed. */
  matchesLists?: boolean;
  /** Whether an update compares thumbprints with the issuer's certificate, too. Assumed: only a registration does. */
  updatesCompareThumbprints?: boolean;
}

interface IssuerRegistration {
  organization: string;
  name: string;
  url: string;
  /** Seconds. */
  maxExpirationSeconds?: number;
  /** SHA-256 of the issuer's TLS certificates, in hex. */
  thumbprints?: string[];
  policies?: AuthPolicy[];
}

/** The ID is `ORGANIZATION/UUID`. */
type RegisteredIssuer = { id: string; registration: IssuerRegistration };

export interface PulumiCloud {
  /** `http://127.0.0.1:PORT` */
  apiUrl: string;
  /**
   * Registers an issuer as the provider does, which sends the policies in a second request.
   *
   * @throws Error in the words of the provider: `STATUS API error: MESSAGE`.
   */
  register(registration: IssuerRegistration): Promise<RegisteredIssuer>;
  /** Changes an issuer. What is missing stays, since the provider does not send it. Assumed: thumbprints, too. */
  update(id: string, registration: Partial<IssuerRegistration>): Promise<IssuerRegistration>;
  /**
   * Replaces the thumbprints of an issuer with that of its certificate. RegenerateThumbprints in provider/pkg/cloud/spec.json
   * of pulumi/pulumi-pulumiservice at dc76a018.
   */
  regenerateThumbprints(id: string): Promise<IssuerRegistration>;
  list(): RegisteredIssuer[];
  /** Returns the ID of each issuer. */
  existing(): string[];
  /** `OidcIssuer`, which the provider maps to the API. */
  resources: Record<string, ResourceKind>;
  /** The token exchanges, the first one first. Contains no token. */
  exchanges: { status: number; reason: string }[];
  close(): Promise<void>;
}

/** What a new issuer has, whatever its registration says: it denies everything, and is rejected in an update. */
export const DEFAULT_POLICY: AuthPolicy = { decision: "deny", tokenType: "organization", rules: { sub: "" } };

function badRequest(reason: string): string {
  return `400 API error: Bad Request: ${reason}`;
}

/** @throws Error for a rule without a literal part, as users have reported. */
function rejectOpenRules(policies: AuthPolicy[] = []): void {
  const rules = policies.flatMap((policy) => Object.entries(policy.rules));
  const [claim] = rules.find(([, pattern]) => /^[*?.]*$/.test(pattern)) ?? [];
  if (claim === undefined) return;
  throw new Error(badRequest(`key ${claim} should at least have a strict matching portion`));
}

/** Starts Pulumi Cloud. */
export async function startPulumiCloud(options: PulumiCloudOptions): Promise<PulumiCloud> {
  const { answer = () => undefined, registrationMilliseconds = 50, updatesCompareThumbprints } = options;
  const { keysOf, thumbprintOf, matchesLists = true } = options;
  const issuers = new Map<string, IssuerRegistration>();
  /** The keys of each registered issuer, by its ID. */
  const keySets = new Map<string, JWTVerifyGetKey>();
  const accessTokens = new Map<string, Owner>();
  const exchanges: PulumiCloud["exchanges"] = [];
  const find = (organization: string, url: string | undefined) =>
    [...issuers].find(([, issuer]) => issuer.organization === organization && issuer.url === url);

  async function exchangeToken(form: URLSearchParams): Promise<Reply> {
    const canMatch = ({ rules }: AuthPolicy) => matchesLists || !(AUDIENCE_RULE in rules);
    const registered = [...issuers].map(([id, issuer]) => {
      const keys = keySets.get(id) ?? assert.fail();
      return { ...issuer, keys, policies: issuer.policies?.filter(canMatch) };
    });
    const { status, body = {}, denial } = await exchange(form, registered);
    const owner = ownerOf(form);
    if ("access_token" in body) accessTokens.set(String(body.access_token), owner);
    const { tokenType, scope } = owner;
    exchanges.push({ status, reason: denial ?? `${tokenType} token${scope && `, scope ${scope}`}` });
    return { status, body };
  }

  async function reply(request: IncomingMessage): Promise<Reply> {
    const endpoint = `${request.method} ${request.url}`;
    if (endpoint === "POST /api/oauth/token") return exchangeToken(new URLSearchParams(await text(request)));
    const token = accessTokens.get(request.headers.authorization?.replace(/^token /, "") ?? "");
    const further = answer(endpoint);
    if (endpoint !== "GET /api/user" && !further) {
      return { status: 404, body: { code: 404, message: "Not Found" } };
    }
    if (token) return { status: 200, body: further ?? userOf(token) };
    return { status: 401, body: { code: 401, message: "Unauthorized" } };
  }

  // The message is that of pulumi/pulumi-pulumiservice, pull request 989.
  function compareThumbprints(url: string, thumbprints?: string[]): void {
    const calculated = thumbprintOf?.(url);
    if (!thumbprints || calculated === undefined || thumbprints.includes(calculated)) return;
    const reason = `Calculated thumbprint ${calculated} does not match any of the provided.`;
    throw new Error(badRequest(`${reason} Make sure it is properly generated (SHA256).`));
  }

  async function register(registration: IssuerRegistration): Promise<RegisteredIssuer> {
    await sleep(registrationMilliseconds);
    const { organization, url } = registration;
    const keys = await keysOf(url);
    // wlami/esc-doks-kubeconfig, README.md at 63159e5. Assumed: the same name is accepted.
    if (find(organization, url))
      throw new Error(badRequest(`an issuer with the URL ${url} is already registered`));
    compareThumbprints(url, registration.thumbprints);
    const id = `${organization}/${randomUUID()}`;
    const { policies, ...created } = registration;
    issuers.set(id, { ...created, policies: [DEFAULT_POLICY] });
    keySets.set(id, keys);
    return { id, registration: policies ? await update(id, { policies }) : created };
  }

  async function update(id: string, changes: Partial<IssuerRegistration>): Promise<IssuerRegistration> {
    const stored = issuers.get(id);
    if (!stored) throw new Error(`404 API error: Not Found: no OIDC issuer ${id}`);
    rejectOpenRules(changes.policies);
    if (updatesCompareThumbprints) compareThumbprints(stored.url, changes.thumbprints);
    // Assumed: they are effective at once, and the policies of an update replace all policies.
    const updated = { ...stored, ...changes };
    issuers.set(id, updated);
    return updated;
  }

  const { origin, close } = await startServer(reply);
  const cloud: PulumiCloud = {
    apiUrl: origin,
    close,
    exchanges,
    register,
    update,
    async regenerateThumbprints(id) {
      return update(id, { thumbprints: [thumbprintOf?.(issuers.get(id)?.url ?? "") ?? ""] });
    },
    list: () => [...issuers].map(([id, registration]) => ({ id, registration })),
    existing: () => [...issuers.keys()],
    resources: {
      // pulumi/pulumi-pulumiservice, provider/pkg/resources/oidc_issuer.go at dc76a018.
      "pulumiservice:index:OidcIssuer": {
        async create(_name, inputs: IssuerRegistration) {
          const { id, registration } = await register(inputs);
          return { id, outputs: registration };
        },
        // Two requests. If the second one is rejected, the issuer has the new name and limit, and the state the old ones.
        async update(id, { policies = [], ...issuer }: IssuerRegistration) {
          const updated = await cloud.update(id, issuer);
          return policies.length > 0 ? cloud.update(id, { policies }) : updated;
        },
        read: (id) => issuers.get(id),
        delete: (id) => void issuers.delete(id),
      },
    },
  };
  return cloud;
}

/** Whose an access token is. */
type Owner = ReturnType<typeof ownerOf>;

function ownerOf(form: URLSearchParams) {
  const lastPart = (name: string) => form.get(name)?.split(":").at(-1) ?? "";
  return {
    organization: lastPart("audience"),
    tokenType: lastPart("requested_token_type"),
    scope: form.get("scope") ?? "",
  };
}

// What the CLI reads of an account: pulumi/pulumi, pkg/backend/httpstate/client/client.go (serviceUser).
function userOf(token: Owner): object {
  return { githubLogin: loginOf(token), organizations: [{ githubLogin: token.organization }] };
}

/** Returns what `pulumi whoami` prints for a token, as its help documents: pkg/cmd/pulumi/whoami/whoami.go in pulumi/pulumi. */
function loginOf({ organization, tokenType, scope }: Owner): string {
  const [, owner = ""] = scope.split(":");
  switch (tokenType) {
    case "personal":
      return owner;
    // Assumed: the documented form has the ID of the team, and the emulator only knows its name.
    case "team":
      return `team-account:${owner}`;
    default:
      return organization;
  }
}
