// The REST API of an emulated Pulumi Cloud, as the Pulumi CLI calls it.

import type { IncomingMessage } from "node:http";
import { text } from "node:stream/consumers";
import { emulatorCertificate } from "../../simulator/emulators/certificates";
import type { PulumiCloud } from "../../simulator/emulators/pulumiCloud";
import { type Reply, startServer } from "../../simulator/emulators/server";
import { ACCESS_TOKEN } from "./script";

/**
 * Serves an emulated Pulumi Cloud, together with what it answers an admin: requests with ACCESS_TOKEN.
 *
 * @returns with `calls`: the method and the path of each request of an admin.
 */
export async function serveCloudApi(cloud: PulumiCloud) {
  const calls: string[] = [];
  const server = await startServer(await emulatorCertificate(), async (request) => {
    const call = `${request.method} ${request.url}`;
    const isAdmin = request.headers.authorization === `token ${ACCESS_TOKEN}`;
    if (isAdmin) calls.push(call);
    const isAnswered = isAdmin || request.url === SPECIFICATION_PATH;
    const answer = isAnswered ? (answerAdmin(cloud, call) ?? (await changeIssuer(cloud, call))) : undefined;
    return answer ?? forward(request, cloud);
  });
  return { ...server, calls };
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

  const [, team] = /^GET \/api\/orgs\/acme\/teams\/(\w+)$/.exec(call) ?? [];
  if (team) return team === TEAM.name ? { status: 200, body: TEAM } : undefined;

  const pattern = /^GET \/api\/orgs\/([^/]+)\/(?:oidc\/issuers|auth\/policies\/oidcissuers\/(.+))$/;
  const [, organization, uuid] = pattern.exec(call) ?? [];
  const own = cloud.list().filter(({ registration }) => registration.organization === organization);
  if (organization && !uuid) {
    const oidcIssuers = own.map(({ id, registration: { name, url, maxExpirationSeconds, thumbprints } }) => {
      const common = { id: id.split("/")[1], name, url, thumbprints };
      return { ...common, issuer: url, maxExpiration: maxExpirationSeconds };
    });
    return { status: 200, body: { oidcIssuers } };
  }

  const issuer = own.find(({ id }) => id === `${organization}/${uuid}`)?.registration;
  if (!issuer) return undefined;
  // As the service completes them, and in another order.
  const policies = (issuer.policies ?? []).map((policy, index) => {
    return { authorizedPermissions: [], ...policy, id: `policy-${index}` };
  });
  return { status: 200, body: { id: `of-${uuid}`, version: 2, policies: policies.reverse() } };
}

/**
 * Does to a registered issuer what an admin asks for: RegenerateThumbprints and DeleteOidcIssuer in provider/pkg/cloud/spec.json of
 * pulumi/pulumi-pulumiservice at dc76a018.
 *
 * @param call such as `DELETE /api/orgs/acme/oidc/issuers/ISSUER_ID`.
 * @returns undefined for an unknown endpoint or issuer.
 */
async function changeIssuer(cloud: PulumiCloud, call: string): Promise<Reply | undefined> {
  const pattern = /^(DELETE|POST) \/api\/orgs\/([^/]+)\/oidc\/issuers\/([^/]+)(\/regenerate-thumbprints)?$/;
  const [, method, organization, uuid, regenerates] = pattern.exec(call) ?? [];
  const id = `${organization}/${uuid}`;
  if (!cloud.existing().includes(id)) return undefined;
  if (method === "POST" && regenerates) {
    return { status: 200, body: { id: uuid, ...(await cloud.regenerateThumbprints(id)) } };
  }
  if (method !== "DELETE" || regenerates) return undefined;
  cloud.resources["pulumiservice:index:OidcIssuer"]?.delete(id);
  return { status: 204 };
}

const SPECIFICATION_PATH = "/api/openapi/pulumi-spec.json";
const JSON_CONTENT = { "application/json": { schema: { type: "object" } } };
const operation = (operationId: string) => ({ operationId, responses: { 200: { content: JSON_CONTENT } } });
const SPECIFICATION = {
  openapi: "3.0.3",
  // Without schemas `pulumi api` panics.
  components: { schemas: {} },
  paths: {
    "/api/orgs/{orgName}/oidc/issuers": { get: operation("List_orgs_oidc_issuers") },
    "/api/orgs/{orgName}/oidc/issuers/{issuerId}": { delete: operation("DeleteOidcIssuer") },
    "/api/orgs/{orgName}/oidc/issuers/{issuerId}/regenerate-thumbprints": {
      post: operation("RegenerateThumbprints"),
    },
    "/api/orgs/{orgName}/auth/policies/oidcissuers/{issuerId}": { get: operation("GetAuthPolicy") },
    "/api/orgs/{orgName}/teams/{teamName}": { get: operation("GetTeam") },
  },
};

/** A team as GetTeam answers it: provider/pkg/cloud/spec.json of pulumi/pulumi-pulumiservice. */
const TEAM = {
  kind: "pulumi",
  name: "ops",
  stacks: [{ projectName: "app", stackName: "prod", permission: 102 }],
  environments: [{ projectName: "app", envName: "prod", permission: "open" }],
  roleIds: ["r"],
};

const USER = { githubLogin: "alice", organizations: [{ githubLogin: "acme" }] };
