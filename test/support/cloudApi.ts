// The REST API of an emulated Pulumi Cloud, as the Pulumi CLI calls it.

import type { IncomingMessage } from "node:http";
import { createServer } from "node:https";
import { buffer } from "node:stream/consumers";
import { emulatorCertificate } from "../../simulator/emulators/certificates";
import type { PulumiCloud } from "../../simulator/emulators/pulumiCloud";
import { listen } from "./loopback";
import { ACCESS_TOKEN } from "./script";

/** Returns a specification of paths such as `/api/orgs/{orgName}`, with the ID of the operation for each method. */
export function specificationOf(paths: Record<string, Record<string, string>>): object {
  const described = Object.entries(paths).map(([path, operations]) => {
    const methods = Object.entries(operations).map(([method, id]) => [method, operationOf(id, path)]);
    return [path, Object.fromEntries(methods)];
  });
  return {
    openapi: "3.0.3",
    info: { title: "Pulumi Cloud", version: "1" },
    // Without schemas `pulumi api` panics.
    components: { schemas: {} },
    paths: Object.fromEntries(described),
  };
}

function operationOf(operationId: string, path: string): object {
  const names = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name);
  const content = { "application/json": { schema: { type: "object" } } };
  return {
    operationId,
    parameters: names.map((name) => ({ name, in: "path", required: true, schema: { type: "string" } })),
    responses: { 200: { description: "OK", content } },
  };
}

/**
 * Returns what the API answers about the registered issuers, such as to `/api/orgs/acme/oidc/issuers`.
 *
 * @returns undefined if there is no such endpoint or issuer.
 */
export function issuersApi({ list }: Pick<PulumiCloud, "list">, path: string): object | undefined {
  const issuers = list().map(({ id, registration }) => {
    const [, uuid] = id.split("/");
    return { ...registration, uuid };
  });
  const [, organization, further] = /^\/api\/orgs\/([^/]+)\/(.*)$/.exec(path) ?? [];
  const own = issuers.filter((issuer) => issuer.organization === organization);
  if (further === "oidc/issuers") {
    return {
      oidcIssuers: own.map(({ uuid, name, url, maxExpirationSeconds }) => {
        return { id: uuid, name, url, issuer: url, maxExpiration: maxExpirationSeconds };
      }),
    };
  }
  const found = own.find(({ uuid }) => further === `auth/policies/oidcissuers/${uuid}`);
  if (!found) return undefined;
  // As the service completes them, and in another order.
  const policies = (found.policies ?? []).map((policy, index) => {
    return { id: `policy-${index}`, authorizedPermissions: [], ...policy };
  });
  return { id: "policy", version: 2, policies: policies.reverse() };
}

/** An API whose requests were authorized with ACCESS_TOKEN. */
export interface CloudApi {
  url: string;
  /** The paths of the requests that were answered. */
  requests: string[];
  /** Answers a path with the status of an error instead. */
  errors: Map<string, number>;
  close(): void;
}

/** Serves the API of an emulated Pulumi Cloud, together with its token exchange, on a free loopback port. */
export async function serveCloudApi(cloud: PulumiCloud): Promise<CloudApi> {
  const requests: string[] = [];
  const errors: CloudApi["errors"] = new Map();

  async function answer(request: IncomingMessage): Promise<[status: number, body: unknown]> {
    const path = request.url ?? "";
    if (path === "/api/oauth/token") return exchange(request);
    if (path === "/api/openapi/pulumi-spec.json") return [200, SPECIFICATION];
    if (request.headers.authorization !== `token ${ACCESS_TOKEN}`) return [401, { message: "Unauthorized" }];
    const error = errors.get(path);
    const body = path === "/api/user" ? USER : issuersApi(cloud, path);
    if (error || !body) return [error ?? 404, { code: error ?? 404, message: "an error" }];
    requests.push(path);
    return [200, body];
  }

  async function exchange(request: IncomingMessage): Promise<[status: number, body: unknown]> {
    const headers = { "Content-Type": String(request.headers["content-type"]) };
    const body = await buffer(request);
    const response = await fetch(`${cloud.url}/api/oauth/token`, { method: "POST", headers, body });
    return [response.status, await response.json()];
  }

  const server = createServer(await emulatorCertificate(), async (request, response) => {
    const [status, body] = await answer(request);
    response.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(body));
  });
  const url = `https://127.0.0.1:${await listen(server)}`;
  return { url, requests, errors, close: () => server.close().closeAllConnections() };
}

const USER = { githubLogin: "alice", organizations: [{ githubLogin: "acme" }] };

const SPECIFICATION = specificationOf({
  "/api/orgs/{orgName}/oidc/issuers": { get: "List_orgs_oidc_issuers" },
  "/api/orgs/{orgName}/auth/policies/oidcissuers/{issuerId}": { get: "GetAuthPolicy" },
});
