// What the pipeline's program and scripts talk to: GitHub's REST API, an AWS account, and Pulumi Cloud's organizations.

import type { IncomingMessage } from "node:http";
import { createServer } from "node:https";
import { text } from "node:stream/consumers";
import type { TestContext } from "node:test";
import { createGunzip } from "node:zlib";
import { ISSUER_URL } from "../../pipeline/github";
import type { AuthPolicy } from "../../simulator/emulators/authPolicy";
import { openCertificateAuthority } from "../../simulator/emulators/certificates";
import type { Emulator, ResourceKind } from "../../simulator/emulators/emulator";
import { specificationOf } from "../support/cloudApi";
import { listen } from "../support/loopback";

type Json = Record<string, unknown>;

/** With the path of the next page of a list. */
type Answer = [status: number, body?: unknown, next?: string | undefined];

export interface Environment {
  name: string;
  can_admins_bypass: boolean;
  protection_rules: Json[];
  deployment_branch_policy: unknown;
}

/** An OIDC issuer of an organization. */
interface Issuer {
  name: string;
  url: string;
  maxExpirationSeconds?: number;
  policies: AuthPolicy[];
}

/** It serves GitHub's API, Pulumi Cloud's API, and the TLS certificate of GitHub's issuer. */
export type PipelineCloud = Awaited<ReturnType<typeof startPipelineCloud>>;

export interface Ruleset {
  id: number;
  name: string;
  enforcement: string;
  rules: { type: string; parameters?: Json }[];
  /** Left out in an answer to someone who cannot edit it. */
  bypass_actors?: Json[];
  conditions?: Json;
}

interface Github {
  /** The commit of the branch main. */
  tip: string;
  /** The commits for which deploy.yml has run. */
  deployed: string[];
  /** The rulesets of the repository and of its organization, all of them for the branch main. */
  rulesets: Ruleset[];
  /** Where a browser shows the repository. */
  url: string;
  /** How the sub claims of its ID tokens are formed. */
  subject: { use_default: boolean; sub_claim_prefix: string };
  environments: Environment[];
  branchPolicies: { id: number; name: string; type: string }[];
  /** Whether workflows can approve pull requests. */
  canApprove: boolean;
  /** Whether the plan has required reviewers for this repository. */
  hasReviewers: boolean;
}

export const REPOSITORY = "acme/eks-pulumi-oidc";
export const SUBJECT_PREFIX = "repo:acme@11/eks-pulumi-oidc@42";
export const STACK = { stack: `${REPOSITORY}/dev`, clusterName: "my-cluster", region: "us-west-2" };
export const SETTINGS = { repository: REPOSITORY, subjectPrefix: SUBJECT_PREFIX, stacks: [STACK] };
export const ACCOUNT = "123456789012";
export const GITHUB_PROVIDER = `arn:aws:iam::${ACCOUNT}:oidc-provider/${new URL(ISSUER_URL).hostname}`;
/** What a new issuer has: https://www.pulumi.com/docs/administration/concepts/oidc-issuers/ */
export const DEFAULT_DENY: AuthPolicy = { decision: "deny", tokenType: "organization", rules: { sub: "" } };

/** Starts services that know nothing of the repository's pipeline, on a free loopback port, until the test ends. */
export async function startPipelineCloud(t: TestContext) {
  const authority = await openCertificateAuthority();
  const github: Github = {
    tip: "a".repeat(40),
    deployed: [],
    rulesets: [],
    url: `https://github.com/${REPOSITORY}`,
    subject: { use_default: true, sub_claim_prefix: SUBJECT_PREFIX },
    environments: [],
    branchPolicies: [],
    canApprove: false,
    hasReviewers: true,
  };
  // The authentication mode, by region and name.
  const clusters = new Map([["us-west-2 my-cluster", "API"]]);
  // OIDC issuers of Pulumi Cloud, and everything else that exists, by ID.
  const issuers = new Map<string, Issuer>();
  const stored = new Map<string, object>();
  // Stacks of Pulumi Cloud, as ORGANIZATION/PROJECT/STACK.
  const stacks = new Set<string>();
  // The requests that change something, in order.
  const writes: string[] = [];

  const calls: Emulator["calls"] = {
    "aws:eks/getCluster:getCluster": {
      answer(inputs) {
        const { region, name } = inputs as { region: string; name: string };
        const authenticationMode = clusters.get(`${region} ${name}`);
        if (!authenticationMode) throw new Error(`reading EKS Cluster (${name}): couldn't find resource`);
        const partition = region.startsWith("us-gov-") ? "aws-us-gov" : "aws";
        const arn = `arn:${partition}:eks:${region}:${ACCOUNT}:cluster/${name}`;
        const identities = [{ oidcs: [{ issuer: `https://oidc.example.com/id/${region}.${name}` }] }];
        return { name, region, arn, accessConfigs: [{ authenticationMode }], identities };
      },
    },
    "aws:iam/getOpenIdConnectProvider:getOpenIdConnectProvider": {
      answer() {
        if (!stored.has(GITHUB_PROVIDER)) throw new Error("finding IAM OIDC Provider by url: not found");
        return { arn: GITHUB_PROVIDER };
      },
    },
  };

  async function answer(request: IncomingMessage): Promise<Answer> {
    const { pathname, searchParams } = new URL(request.url ?? "", "https://127.0.0.1");
    const gzip = request.headers["content-encoding"] === "gzip";
    const content = await text(gzip ? request.pipe(createGunzip()) : request);
    const body: Json = content ? JSON.parse(content) : {};
    if (!/^token .+/.test(request.headers.authorization ?? "") && !pathname.endsWith("spec.json")) {
      return [401, { message: "Bad credentials" }];
    }
    if (request.method !== "GET") writes.push(`${request.method} ${pathname}`);
    const call = `${request.method} ${pathname}`;
    return call.includes(" /api/v3/")
      ? answerGithub(github, call.replace("/api/v3", ""), body, searchParams)
      : (answerStacks(stacks, call, body) ?? answerPulumiCloud(issuers, call, body));
  }

  const issue = () => authority.issue({ hosts: ["127.0.0.1", new URL(ISSUER_URL).hostname] });
  const server = createServer(await issue(), async (request, response) => {
    const [status, body, next] = await answer(request).catch(({ message }): Answer => [500, { message }]);
    response.writeHead(status, {
      "Content-Type": "application/json",
      ...(next && { Link: `<https://${request.headers.host}/api/v3${next}>; rel="next"` }),
    });
    response.end(body === undefined ? undefined : JSON.stringify(body));
  });
  const port = await listen(server);
  t.after(() => new Promise((resolve) => server.close(resolve).closeAllConnections()));
  return {
    port,
    github,
    clusters,
    issuers,
    stored,
    stacks,
    writes,
    // Every type of the providers is a kind, but the stack itself is not.
    resources: new Proxy<Emulator["resources"]>(
      {},
      { get: (_, type: string) => (/^pulumi:/.test(type) ? undefined : resourceKind(type, stored, issuers)) },
    ),
    calls,
    existing: () => [...issuers.keys(), ...stored.keys()].sort(),
    /** Replaces the TLS certificate, as GitHub does. */
    rotateCertificate: async () => server.setSecureContext(await issue()),
  };
}

/** Returns the kind of a type of resource, whose ID is `Type name`. */
function resourceKind(
  token: string,
  stored: Map<string, object>,
  issuers: Map<string, Issuer>,
): ResourceKind {
  const type = token.replace(/^.*:/, "");
  const store: Map<string, object> = type === "OidcIssuer" ? issuers : stored;
  return {
    async create(name, inputs) {
      const { organization, organizationName } = inputs as Record<string, string>;
      const ids: Record<string, string> = {
        OidcIssuer: `${organization}/1`,
        OpenIdConnectProvider: GITHUB_PROVIDER,
      };
      const parents: Record<string, string> = {
        AccessPolicyAssociation: `AccessEntry ${name}`,
        TeamRoleAssignment: `Team ${organizationName}`,
        TeamStackPermission: `Team ${organization}`,
      };
      const { [type]: id = `${type} ${name}` } = ids;
      const { [type]: parent } = parents;
      if (store.has(id)) throw new Error(`409 API error: Conflict: ${id} already exists`);
      if (parent && !store.has(parent)) throw new Error(`404 API error: Not Found: ${parent}`);
      store.set(id, inputs);
      const arn = type === "Role" ? `arn:aws:iam::${ACCOUNT}:role/${name}-1a2b3c4` : id;
      return { id, outputs: { arn, name, roleId: "role-1", ...inputs } };
    },
    async update(id, inputs) {
      store.set(id, inputs);
      return inputs;
    },
    read(id) {
      const inputs = store.get(id);
      // A team's creator is a member: https://github.com/pulumi/pulumi-pulumiservice/issues/278
      return inputs && type === "Team" ? { ...inputs, members: ["admin"] } : inputs;
    },
    delete: (id) => void store.delete(id),
  };
}

// https://docs.github.com/en/rest/deployments and https://docs.github.com/en/rest/actions
function answerGithub(github: Github, call: string, body: Json, parameters: URLSearchParams): Answer {
  const page = Number(parameters.get("page") ?? 1);
  const { environments, branchPolicies } = github;
  const repository = `/repos/${REPOSITORY}`;
  const production = `${repository}/environments/production`;
  const lastStep = call.split("/").pop() ?? "";
  // One element on each page, so that a test needs only two of them.
  const next = (elements: object[]) =>
    page < elements.length ? `${call.replace("GET ", "")}?page=${page + 1}` : undefined;
  const pageOf = (key: string, elements: object[]): Answer => {
    return [200, { total_count: elements.length, [key]: elements.slice(page - 1, page) }, next(elements)];
  };
  switch (call) {
    case `GET ${repository}`:
      return [200, { id: 42, html_url: github.url }];
    case `GET ${repository}/actions/oidc/customization/sub`:
      return [200, github.subject];
    case `GET ${repository}/git/ref/heads/main`:
      return [200, { ref: "refs/heads/main", object: { type: "commit", sha: github.tip } }];
    case `GET ${repository}/actions/workflows/2`:
    case `GET ${repository}/actions/workflows/drift.yml`:
      return [200, { id: 2, name: "drift", state: "active" }];
    // https://docs.github.com/en/rest/actions/workflow-runs
    case `GET ${repository}/actions/workflows/2/runs`: {
      const runs = [
        { status: "queued", head_branch: "main", created_at: "2026-12-03T05:17:00Z" },
        { status: "completed", head_branch: "feature", created_at: "2026-12-02T11:00:00Z" },
        { status: "completed", head_branch: "main", created_at: "2026-12-01T05:17:00Z" },
      ];
      const workflow_runs = runs.filter(
        ({ status, head_branch }) =>
          [null, status].includes(parameters.get("status")) &&
          [null, head_branch].includes(parameters.get("branch")),
      );
      return [200, { total_count: workflow_runs.length, workflow_runs }];
    }
    case `GET ${repository}/actions/workflows/deploy.yml/runs`: {
      const ofMain = parameters.get("branch") === "main" ? github.deployed : [];
      return [200, { total_count: ofMain.filter((commit) => commit === parameters.get("head_sha")).length }];
    }
    // https://docs.github.com/en/rest/repos/rules
    case `GET ${repository}/rules/branches/main`: {
      const active = github.rulesets.filter(({ enforcement }) => enforcement === "active");
      const rules = active.flatMap(({ id, rules }) => rules.map((rule) => ({ ...rule, ruleset_id: id })));
      return [200, rules.slice(page - 1, page), next(rules)];
    }
    case `GET ${repository}/rulesets`:
      return [200, github.rulesets.slice(page - 1, page), next(github.rulesets)];
    case `POST ${repository}/rulesets`:
      github.rulesets.push({ ...(body as unknown as Ruleset), id: github.rulesets.length + 1 });
      return [201, {}];
    case `PUT ${repository}/rulesets/${lastStep}`:
      github.rulesets = github.rulesets.map((it) => (it.id === Number(lastStep) ? { ...it, ...body } : it));
      return [200, {}];
    case `GET ${repository}/rulesets/${lastStep}`:
      return [200, github.rulesets.find(({ id }) => id === Number(lastStep))];
    case `GET ${repository}/environments`:
      return pageOf("environments", environments);
    case `PUT ${production}`: {
      const { reviewers = [], wait_timer, prevent_self_review = false } = body;
      const { can_admins_bypass = true, deployment_branch_policy } = body as Partial<Environment>;
      const people = (reviewers as { type: string; id: number }[]).map(({ type, id }) => ({
        type,
        reviewer: { id },
      }));
      if (people.length > 0 && !github.hasReviewers) return [422, { message: "Failed to create it" }];
      // A PUT replaces the rules: what it leaves out is gone.
      const environment = {
        name: "production",
        can_admins_bypass,
        deployment_branch_policy,
        protection_rules: [
          ...(wait_timer ? [{ type: "wait_timer", wait_timer }] : []),
          ...(people.length > 0
            ? [{ type: "required_reviewers", prevent_self_review, reviewers: people }]
            : []),
        ],
      };
      github.environments = [
        ...environments.filter(({ name }) => name.toLowerCase() !== "production"),
        environment,
      ];
      return [200, environment];
    }
    case `GET ${production}/deployment-branch-policies`:
      return pageOf("branch_policies", branchPolicies);
    case `POST ${production}/deployment-branch-policies`:
      branchPolicies.push({
        id: branchPolicies.length + 1,
        name: String(body.name),
        type: String(body.type),
      });
      return [200, {}];
    case `DELETE ${production}/deployment-branch-policies/${lastStep}`:
      github.branchPolicies = branchPolicies.filter(({ id }) => id !== Number(lastStep));
      return [204];
    case "GET /users/octocat":
      return [200, { id: 7 }];
    case "GET /orgs/acme/teams/platform":
      return [200, { id: 8 }];
    case `GET ${repository}/actions/permissions/workflow`:
      return [
        200,
        { default_workflow_permissions: "read", can_approve_pull_request_reviews: github.canApprove },
      ];
    case `PUT ${repository}/actions/permissions/workflow`:
      // Only JSON's own true and false.
      if (typeof body.can_approve_pull_request_reviews !== "boolean")
        return [422, { message: "Validation Failed" }];
      github.canApprove = body.can_approve_pull_request_reviews;
      return [204];
  }
  return [404, { message: "Not Found" }];
}

// What `pulumi stack init` and `pulumi stack select --create` call: pkg/backend/httpstate/client of pulumi/pulumi.
function answerStacks(stacks: Set<string>, call: string, body: Json): Answer | undefined {
  const [, method, project, name] = /^(\w+) \/api\/stacks\/([\w-]+\/[\w-]+)(?:\/([\w-]+))?$/.exec(call) ?? [];
  if (method === "POST" && !name) {
    const stack = `${project}/${body.stackName}`;
    if (stacks.has(stack)) return [409, { code: 409, message: "Conflict: Stack already exists" }];
    stacks.add(stack);
    return [200, {}];
  }
  if (method === "GET" && name) {
    const [orgName, projectName] = (project ?? "").split("/");
    if (!stacks.has(`${project}/${name}`)) return [404, { code: 404, message: "Not Found: Stack not found" }];
    return [200, { id: "1", orgName, projectName, stackName: name, version: 1, activeUpdate: "", tags: {} }];
  }
  return undefined;
}

/**
 * Answers what an admin of the organization acme asks about OIDC issuers and their policies:
 * provider/pkg/pulumiapi/oidc_issuer.go of pulumi/pulumi-pulumiservice.
 *
 * @param issuers the issuers by `ORGANIZATION/ID`. A `PATCH` changes their policies.
 * @param call such as `GET /api/user`.
 * @returns the status and the body.
 */
function answerPulumiCloud(
  issuers: Map<string, Issuer>,
  call: string,
  body: { policies?: AuthPolicy[] },
): [status: number, body: object] {
  switch (call) {
    case "GET /api/openapi/pulumi-spec.json":
      return [200, SPECIFICATION];
    case "GET /api/user":
      return [200, { githubLogin: "admin", organizations: [{ githubLogin: "acme", name: "acme" }] }];
    case "GET /api/user/organizations/default":
      return [200, { GitHubLogin: "acme", Messages: [] }];
  }
  const pattern =
    /^(\w+) \/api\/orgs\/(\w+)\/(?:oidc\/issuers|auth\/policies\/(?:oidcissuers\/|policy-)(\w+))$/;
  const [, method, organization, id] = pattern.exec(call) ?? [];
  if (organization && !id) {
    const own = [...issuers].filter(([key]) => key.startsWith(`${organization}/`));
    return [200, { oidcIssuers: own.map(([key, { name, url }]) => ({ id: key.split("/")[1], name, url })) }];
  }
  const issuer = issuers.get(`${organization}/${id}`);
  if (!issuer) return [404, { code: 404, message: `Not Found: ${call}` }];
  if (method === "PATCH") {
    const { policies = [] } = body;
    const values = policies.flatMap(({ rules }) => Object.values(rules));
    if (values.some((value) => !/[^*?.]/.test(value))) {
      return [400, { code: 400, message: "key should at least have a strict matching portion" }];
    }
    if (policies.length === 0) return [400, { code: 400, message: "policy definition can not be empty" }];
    issuer.policies = policies;
  }
  return [200, { id: `policy-${id}`, version: 1, policies: issuer.policies }];
}

const SPECIFICATION = specificationOf({
  "/api/orgs/{orgName}/oidc/issuers": { get: "List_orgs_oidc_issuers" },
  "/api/orgs/{orgName}/auth/policies/oidcissuers/{issuerId}": { get: "GetAuthPolicy" },
  "/api/orgs/{orgName}/auth/policies/{policyId}": { patch: "UpdateAuthPolicy" },
});
