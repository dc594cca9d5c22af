// The REST API of an emulated Pulumi Cloud, as the Pulumi CLI calls it.

import type { IncomingMessage } from "node:http";
import { text } from "node:stream/consumers";
import { createGunzip } from "node:zlib";
import { type Reply, startServer } from "../../simulator/pulumiCloud";
import { ACCESS_TOKEN } from "../support/script";
import type { PulumiCloud } from "./pulumiCloud";

/** Serves an emulated Pulumi Cloud, together with what it answers an admin: requests with ACCESS_TOKEN. */
export async function serveCloudApi(cloud: PulumiCloud) {
  return startServer(async (request) => {
    const call = `${request.method} ${request.url}`;
    const isAdmin = request.headers.authorization === `token ${ACCESS_TOKEN}`;
    if (!isAdmin && request.url !== SPECIFICATION_PATH) return forward(request, cloud);

    const answer =
      answerAdmin(cloud, call) ??
      (await changeIssuer(cloud, call)) ??
      (await changePolicies(cloud, call, request));
    return answer ?? { status: 404, body: { code: 404, message: "Not Found" } };
  });
}

/** Lets an emulated Pulumi Cloud answer a request. */
export async function forward(request: IncomingMessage, { apiUrl }: PulumiCloud): Promise<Reply> {
  const { method = "GET", headers } = request;
  const response = await fetch(`${apiUrl}${request.url}`, {
    method,
    headers: { authorization: headers.authorization ?? "", "content-type": headers["content-type"] ?? "" },
    ...(method === "POST" && { body: await text(request) }),
  });
  return { status: response.status, body: (await response.json()) as object };
}

/**
 * Answers what an admin of the organization acme asks about registered issuers: provider/pkg/pulumiapi/oidc_issuer.go of
 * pulumi/pulumi-pulumiservice.
 *
 * @param call such as `GET /api/orgs/acme/oidc/issuers`.
 * @returns undefined for an unknown endpoint or issuer.
 */
export function answerAdmin(cloud: Pick<PulumiCloud, "list">, call: string): Reply | undefined {
  if (call === `GET ${SPECIFICATION_PATH}`) return { status: 200, body: SPECIFICATION };
  if (call === "GET /api/user") return { status: 200, body: USER };

  const pattern = /^GET \/api\/orgs\/([^/]+)\/(?:oidc\/issuers|auth\/policies\/oidcissuers\/(.+))$/;
  const [, organization, uuid] = pattern.exec(call) ?? [];
  const own = cloud.list().filter(({ registration }) => registration.organization === organization);
  if (organization && !uuid) {
    return { status: 200, body: { oidcIssuers: own.map(issuerBody) } };
  }

  const issuer = own.find(({ id }) => id === `${organization}/${uuid}`);
  return issuer && { status: 200, body: policyBody(issuer) };
}

type RegisteredIssuer = ReturnType<PulumiCloud["list"]>[number];

/** OidcIssuerRegistrationResponse in provider/pkg/cloud/spec.json of pulumi/pulumi-pulumiservice at dc76a018. */
function issuerBody({ id, registration }: RegisteredIssuer): object {
  const { name, url, maxExpirationSeconds, thumbprints } = registration;
  return { id: id.split("/")[1], name, url, issuer: url, thumbprints, maxExpiration: maxExpirationSeconds };
}

/** AuthPolicy of the same file. The service completes the policies, and returns them in another order. */
function policyBody({ id, registration }: RegisteredIssuer): object {
  const policies = (registration.policies ?? []).map((policy, index) => {
    return { authorizedPermissions: [], ...policy, id: `policy-${index}` };
  });
  return { id: `of-${id.split("/")[1]}`, version: 2, policies: policies.reverse() };
}

/**
 * Does to an issuer what an admin asks for: RegenerateThumbprints and DeleteOidcIssuer in provider/pkg/cloud/spec.json of
 * pulumi/pulumi-pulumiservice at dc76a018.
 *
 * @param call such as `DELETE /api/orgs/acme/oidc/issuers/ISSUER_ID`.
 * @returns undefined for an unknown endpoint or issuer.
 */
async function changeIssuer(cloud: PulumiCloud, call: string): Promise<Reply | undefined> {
  const pattern = /^(\w+) \/api\/orgs\/([^/]+)\/oidc\/issuers\/([^/]+)(\/regenerate-thumbprints)?$/;
  const [, method, organization, uuid, regenerates = ""] = pattern.exec(call) ?? [];
  const id = `${organization}/${uuid}`;
  if (!cloud.existing().includes(id)) return undefined;
  switch (`${method}${regenerates}`) {
    case "POST/regenerate-thumbprints":
      return { status: 200, body: issuerBody({ id, registration: await cloud.regenerateThumbprints(id) }) };
    case "DELETE":
      cloud.resources["pulumiservice:index:OidcIssuer"]?.delete(id);
      return { status: 204 };
  }
  return undefined;
}

/**
 * Replaces the policies of an issuer: UpdateAuthPolicy in provider/pkg/cloud/spec.json of pulumi/pulumi-pulumiservice at dc76a018.
 *
 * @returns undefined for an unknown endpoint or issuer.
 */
async function changePolicies(
  cloud: PulumiCloud,
  call: string,
  request: IncomingMessage,
): Promise<Reply | undefined> {
  const [, organization, uuid] = /^PATCH \/api\/orgs\/([^/]+)\/auth\/policies\/of-([^/]+)$/.exec(call) ?? [];
  const id = `${organization}/${uuid}`;
  if (!cloud.existing().includes(id)) return undefined;
  // The CLI compresses it.
  const { policies = [] } = JSON.parse(await text(request.pipe(createGunzip())));
  if (policies.length === 0) {
    return { status: 400, body: { code: 400, message: "policy definition can not be empty" } };
  }
  try {
    return { status: 200, body: policyBody({ id, registration: await cloud.update(id, { policies }) }) };
  } catch (error) {
    const { message } = error as Error;
    return { status: Number(/^400\b/.exec(message)?.[0] ?? 503), body: { code: 400, message } };
  }
}

const SPECIFICATION_PATH = "/api/openapi/pulumi-spec.json";
const JSON_CONTENT = { "application/json": { schema: { type: "object" } } };
const operation = (operationId: string) => ({ operationId, responses: { 200: { content: JSON_CONTENT } } });
const SPECIFICATION = {
  openapi: "3.0.3",
  // Without schemas `pulumi api` panics.
  components: { schemas: {} },
  paths: {
    "/api/user": { get: operation("GetCurrentUser") },
    "/api/orgs/{orgName}/oidc/issuers": { get: operation("List_orgs_oidc_issuers") },
    "/api/orgs/{orgName}/oidc/issuers/{issuerId}": {
      get: operation("GetOidcIssuer"),
      delete: operation("DeleteOidcIssuer"),
    },
    "/api/orgs/{orgName}/oidc/issuers/{issuerId}/regenerate-thumbprints": {
      post: operation("RegenerateThumbprints"),
    },
    "/api/orgs/{orgName}/auth/policies/oidcissuers/{issuerId}": { get: operation("GetAuthPolicy") },
    "/api/orgs/{orgName}/auth/policies/{policyId}": { patch: operation("UpdateAuthPolicy") },
  },
};

const USER = { githubLogin: "alice", organizations: [{ githubLogin: "acme" }] };
