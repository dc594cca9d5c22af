// What the pipeline's program and scripts talk to: GitHub's REST API, an AWS account, and Pulumi Cloud's organizations.

import { randomUUID } from "node:crypto";
import { once } from "node:events";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { createGunzip } from "node:zlib";
import type { AuthPolicy } from "../simulator/authPolicy";
import type { CertificateAuthority } from "../simulator/certificates";
import { type Emulator, type ResourceKind, randomSuffix } from "../simulator/emulator";

type Json = Record<string, unknown>;

export interface Environment {
  name: string;
  protection_rules: Json[];
  deployment_branch_policy: { protected_branches: boolean; custom_branch_policies: boolean } | null;
}

export interface Issuer {
  organization: string;
  name: string;
  url: string;
  policies: AuthPolicy[];
}

export interface PipelineCloud extends Pick<Emulator, "resources" | "calls" | "existing"> {
  /** Serves GitHub's API, Pulumi Cloud's API, and GitHub's issuer. */
  url: string;
  github: {
    subject: Json;
    environments: Environment[];
    branchPolicies: { id: number; name: string; type: string }[];
    variables: Map<string, string>;
    /** Whether the plan has required reviewers for this repository. */
    hasReviewers: boolean;
  };
  /** By region and name. */
  clusters: Map<string, { authenticationMode: string; issuer: string }>;
  /** ARNs of the IAM OIDC providers that the account has without the stack. */
  oidcProviders: Set<string>;
  /** By ID. */
  issuers: Map<string, Issuer>;
  /** The requests that change something, in order. */
  writes: string[];
  /** Replaces the TLS certificate, as GitHub does. */
  rotateCertificate(): Promise<void>;
  close(): Promise<void>;
}

export const REPOSITORY = "acme/eks-pulumi-oidc";
export const SUBJECT_PREFIX = "repo:acme@11/eks-pulumi-oidc@42";
export const ACCOUNT = "123456789012";
/** What a new issuer has: https://www.pulumi.com/docs/administration/access-identity/oidc-issuers/ */
export const DEFAULT_DENY: AuthPolicy = { decision: "deny", tokenType: "organization", rules: { sub: "" } };

/** Starts services that know nothing of the repository's pipeline, on a free port of the loopback address. */
export async function startPipelineCloud(authority: CertificateAuthority): Promise<PipelineCloud> {
  const github: PipelineCloud["github"] = {
    subject: { use_default: true, sub_claim_prefix: SUBJECT_PREFIX },
    environments: [],
    branchPolicies: [],
    variables: new Map(),
    hasReviewers: true,
  };
  const clusters: PipelineCloud["clusters"] = new Map([
    ["us-west-2 my-cluster", { authenticationMode: "API", issuer: "https://oidc.eks.us-west-2.amazonaws.com/id/A" }],
  ]);
  const oidcProviders = new Set<string>();
  const issuers = new Map<string, Issuer>();
  const others = new Map<string, object>();
  const writes: string[] = [];
  let nextId = 1;

  const kept = (
    replaceOn: string[],
    describe: (inputs: Json, name: string) => { id: string; outputs?: Json },
  ): ResourceKind => ({
    replaceOn,
    async create(name, inputs) {
      const { id, outputs } = describe(inputs as Json, name);
      if (others.has(id)) throw new Error(`409 API error: Conflict: ${id} already exists`);
      others.set(id, inputs);
      return { id, outputs: { ...inputs, ...outputs } };
    },
    async update(id, inputs) {
      others.set(id, inputs);
      return inputs;
    },
    read: (id) => others.get(id),
    delete: (id) => void others.delete(id),
  });
  const arn = (resource: string) => `arn:aws:iam::${ACCOUNT}:${resource}`;
  const providerArn = (url: unknown) => arn(`oidc-provider/${String(url).replace("https://", "")}`);

  const resources: Emulator["resources"] = {
    "aws:iam/openIdConnectProvider:OpenIdConnectProvider": kept(["url"], ({ url }) => {
      const id = providerArn(url);
      if (oidcProviders.has(id)) throw new Error(`EntityAlreadyExists: Provider ${id} already exists.`);
      return { id, outputs: { arn: id } };
    }),
    "aws:iam/role:Role": kept([], (_inputs, name) => {
      const id = `${name}-${randomSuffix()}`;
      return { id, outputs: { name: id, arn: arn(`role/${id}`) } };
    }),
    "aws:iam/rolePolicy:RolePolicy": kept(["role"], ({ role }, name) => ({ id: `${role}:${name}` })),
    "aws:eks/accessEntry:AccessEntry": kept(["clusterName", "region", "principalArn"], (inputs) => {
      const { region, clusterName, principalArn } = inputs;
      if (clusters.get(`${region} ${clusterName}`)?.authenticationMode === "CONFIG_MAP") {
        throw new Error("InvalidRequestException: The cluster's authentication mode must be set to …");
      }
      return { id: `${region}:${clusterName}:${principalArn}` };
    }),
    "aws:eks/accessPolicyAssociation:AccessPolicyAssociation": kept(["policyArn"], (inputs) => {
      const entry = `${inputs.region}:${inputs.clusterName}:${inputs.principalArn}`;
      if (!others.has(entry)) throw new Error(`ResourceNotFoundException: no access entry ${entry}`);
      return { id: `${entry}#${inputs.policyArn}` };
    }),
    "pulumiservice:index:Team": {
      ...kept(["name", "organizationName"], ({ organizationName, name }) => ({
        id: `${organizationName}/${name}`,
      })),
      // Its creator is a member: https://github.com/pulumi/pulumi-pulumiservice/issues/278
      read: (id) => (others.has(id) ? { ...others.get(id), members: ["admin"] } : undefined),
    },
    "pulumiservice:index:OrganizationRole": kept([], ({ organizationName, name, permissions }) => {
      if ((permissions as Json).__type === undefined) throw new Error("400 API error: permissions have no type");
      return { id: `${organizationName}/roles/${name}`, outputs: { roleId: randomUUID() } };
    }),
    "pulumiservice:index:TeamRoleAssignment": kept(["roleId"], ({ organizationName, teamName }) =>
      ofTeam(`${organizationName}/${teamName}`, "role"),
    ),
    "pulumiservice:index:TeamStackPermission": kept(
      ["organization", "project", "stack", "team", "permission"],
      ({ organization, project, stack, team }) => ofTeam(`${organization}/${team}`, `${project}/${stack}`),
    ),
    "pulumiservice:index:OidcIssuer": {
      replaceOn: ["organization", "url"],
      async create(_name, inputs) {
        const { organization, url, policies } = inputs as Issuer;
        if ([...issuers.values()].some((other) => other.organization === organization && other.url === url)) {
          throw new Error(`409 API error: Conflict: an OIDC issuer with the URL ${url} exists already`);
        }
        const id = `${organization}/${randomUUID()}`;
        issuers.set(id, { ...(inputs as Issuer), policies: policies.length > 0 ? policies : [DEFAULT_DENY] });
        return { id, outputs: inputs };
      },
      async update(id, inputs) {
        issuers.set(id, inputs as Issuer);
        return inputs;
      },
      read: (id) => issuers.get(id),
      delete: (id) => void issuers.delete(id),
    },
  };
  function ofTeam(team: string, what: string): { id: string } {
    if (!others.has(team)) throw new Error(`404 API error: Not Found: Team ${team} not found`);
    return { id: `${team}/${what}` };
  }

  const calls: Emulator["calls"] = {
    "aws:index/getCallerIdentity:getCallerIdentity": {
      answer: () => ({
        accountId: ACCOUNT,
        arn: `arn:aws:sts::${ACCOUNT}:assumed-role/admin/me`,
        id: "",
        userId: "",
      }),
    },
    "aws:eks/getCluster:getCluster": {
      answer(inputs) {
        const { region, name } = inputs as { region: string; name: string };
        const cluster = clusters.get(`${region} ${name}`);
        if (!cluster) throw new Error(`reading EKS Cluster (${name}): couldn't find resource`);
        return {
          arn: `arn:aws:eks:${region}:${ACCOUNT}:cluster/${name}`,
          accessConfigs: [{ authenticationMode: cluster.authenticationMode }],
          identities: [{ oidcs: [{ issuer: cluster.issuer }] }],
        };
      },
    },
    "aws:iam/getOpenIdConnectProvider:getOpenIdConnectProvider": {
      answer(inputs) {
        const id = providerArn((inputs as Json).url);
        if (!oidcProviders.has(id)) throw new Error("finding IAM OIDC Provider by url: not found");
        return { id, arn: id };
      },
    },
  };

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const [path = ""] = (request.url ?? "").split("?");
    const method = request.method ?? "";
    const gzip = request.headers["content-encoding"] === "gzip";
    const content = await text(gzip ? request.pipe(createGunzip()) : request);
    const body: Json = content ? JSON.parse(content) : {};
    if (!/^token .+/.test(request.headers.authorization ?? "") && !path.endsWith("spec.json"))
      return send(response, 401, { message: "Bad credentials" });
    if (method !== "GET") writes.push(`${method} ${path}`);
    const handle = path.startsWith("/api/v3/") ? answerGithub : answerPulumi;
    const [status, result] = handle(method, path.replace("/api/v3", ""), body);
    send(response, status, result);
  }

  // https://docs.github.com/en/rest/deployments and https://docs.github.com/en/rest/actions
  function answerGithub(method: string, path: string, body: Json): [number, unknown] {
    const { environments, branchPolicies, variables } = github;
    const repository = `/repos/${REPOSITORY}`;
    const production = `${repository}/environments/production`;
    const id = Number(path.split("/").pop());
    switch (`${method} ${path}`) {
      case `GET ${repository}`:
        return [200, { id: 42 }];
      case `GET ${repository}/actions/oidc/customization/sub`:
        return [200, github.subject];
      case `GET ${repository}/environments`:
        return [200, { total_count: environments.length, environments }];
      case `PUT ${production}`: {
        const { reviewers = [], wait_timer, prevent_self_review = false, deployment_branch_policy = null } = body;
        const people = reviewers as { type: string; id: number }[];
        if (people.length > 0 && !github.hasReviewers) return [422, { message: "Failed to create the environment" }];
        // A PUT replaces the rules: what it leaves out is gone.
        const environment = {
          name: "production",
          deployment_branch_policy: deployment_branch_policy as Environment["deployment_branch_policy"],
          protection_rules: [
            ...(wait_timer ? [{ type: "wait_timer", wait_timer }] : []),
            ...(people.length > 0
              ? [
                  {
                    type: "required_reviewers",
                    prevent_self_review,
                    reviewers: people.map(({ type, id }) => ({ type, reviewer: { id } })),
                  },
                ]
              : []),
          ],
        };
        environments.splice(0, environments.length, environment);
        return [200, environment];
      }
      case `GET ${production}/deployment-branch-policies`:
        return [200, { total_count: branchPolicies.length, branch_policies: branchPolicies }];
      case `POST ${production}/deployment-branch-policies`:
        branchPolicies.push({ id: nextId++, name: String(body.name), type: String(body.type ?? "branch") });
        return [200, branchPolicies.at(-1)];
      case `DELETE ${production}/deployment-branch-policies/${id}`:
        github.branchPolicies = branchPolicies.filter((policy) => policy.id !== id);
        return [204, undefined];
      case "GET /users/octocat":
        return [200, { id: 7 }];
      case "GET /orgs/acme/teams/platform":
        return [200, { id: 8 }];
      case `POST ${repository}/actions/variables`:
        if (variables.has(String(body.name))) return [409, { message: "Already exists" }];
        variables.set(String(body.name), String(body.value));
        return [201, {}];
    }
    const variable = path.replace(`${repository}/actions/variables/`, "");
    if (method === "PATCH" && variables.has(variable)) {
      variables.set(variable, String(body.value));
      return [204, undefined];
    }
    if (method === "DELETE" && variables.delete(variable)) return [204, undefined];
    return [404, { message: "Not Found" }];
  }

  // provider/pkg/pulumiapi/oidc_issuer.go of pulumi/pulumi-pulumiservice; `pulumi api` reads the specification first.
  function answerPulumi(method: string, path: string, body: Json): [number, unknown] {
    if (path === "/api/openapi/pulumi-spec.json") return [200, SPECIFICATION];
    if (path === "/api/user") {
      return [200, { githubLogin: "admin", name: "admin", organizations: [{ githubLogin: "acme", name: "acme" }] }];
    }
    if (path === "/api/user/organizations/default") return [200, { GitHubLogin: "acme", Messages: [] }];
    const [, organization, rest] = /^\/api\/orgs\/([^/]+)\/(.+)$/.exec(path) ?? [];
    const own = [...issuers].filter(([, issuer]) => issuer.organization === organization);
    if (method === "GET" && rest === "oidc/issuers") {
      return [200, { oidcIssuers: own.map(([id, { name, url }]) => ({ id: id.split("/")[1], name, url })) }];
    }
    const uuid = rest?.split("/").pop() ?? "";
    const issuer = issuers.get(`${organization}/${uuid.replace("policy-", "")}`);
    if (method === "GET" && issuer && rest === `auth/policies/oidcissuers/${uuid}`) {
      return [200, { id: `policy-${uuid}`, version: 1, policies: issuer.policies }];
    }
    if (method === "PATCH" && issuer && rest === `auth/policies/policy-${uuid.replace("policy-", "")}`) {
      const policies = body.policies as AuthPolicy[];
      if (policies.length === 0) return [400, { code: 400, message: "policy definition can not be empty" }];
      const weak = policies.flatMap(({ rules }) => Object.values(rules)).some((value) => !/[^*?.]/.test(value));
      if (weak) return [400, { code: 400, message: "key should at least have a strict matching portion" }];
      issuer.policies = policies;
      return [200, { id: uuid, version: 2, policies }];
    }
    return [404, { code: 404, message: `Not Found: ${method} ${path}` }];
  }

  const server = createServer(await authority.issue({ hosts: ["127.0.0.1"] }), (request, response) => {
    answer(request, response).catch((error: Error) => send(response, 500, { message: error.message }));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `https://127.0.0.1:${(server.address() as AddressInfo).port}`,
    github,
    clusters,
    oidcProviders,
    issuers,
    writes,
    resources,
    calls,
    existing: () => [...oidcProviders, ...issuers.keys(), ...others.keys()].sort(),
    rotateCertificate: async () => server.setSecureContext(await authority.issue({ hosts: ["127.0.0.1"] })),
    async close() {
      server.close();
      server.closeAllConnections();
      await once(server, "close");
    },
  };
}

function send(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { "Content-Type": "application/json" });
  response.end(body === undefined ? undefined : JSON.stringify(body));
}

const operation = (operationId: string, parameters: string[]) => ({
  operationId,
  parameters: parameters.map((name) => ({ name, in: "path", required: true, schema: { type: "string" } })),
  responses: { 200: { description: "OK", content: { "application/json": { schema: { type: "object" } } } } },
});
const SPECIFICATION = {
  openapi: "3.0.3",
  info: { title: "Pulumi Cloud", version: "1" },
  // Without schemas `pulumi api` panics.
  components: { schemas: {} },
  paths: {
    "/api/orgs/{orgName}/oidc/issuers": { get: operation("List_orgs_oidc_issuers", ["orgName"]) },
    "/api/orgs/{orgName}/auth/policies/oidcissuers/{issuerId}": {
      get: operation("GetAuthPolicy", ["orgName", "issuerId"]),
    },
    "/api/orgs/{orgName}/auth/policies/{policyId}": {
      patch: operation("UpdateAuthPolicy", ["orgName", "policyId"]),
    },
  },
};
