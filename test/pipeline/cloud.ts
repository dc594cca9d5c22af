// What the pipeline's program and scripts talk to: GitHub's REST API, an AWS account, and Pulumi Cloud's organizations.

import type { IncomingMessage } from "node:http";
import { text } from "node:stream/consumers";
import type { TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { createGunzip } from "node:zlib";
import { ISSUER_URL } from "../../pipeline/github";
import { openCertificateAuthority } from "../../simulator/emulators/certificates";
import { type Emulator, type ResourceKind, storedKind } from "../../simulator/emulators/emulator";
import type { PulumiCloud } from "../../simulator/emulators/pulumiCloud";
import { type Reply, startServer } from "../../simulator/emulators/server";
import { answerAdmin } from "../support/cloudApi";

type Json = Record<string, unknown>;

type Issuer = ReturnType<PulumiCloud["list"]>[number]["registration"];

type Ruleset = Json & { id: number; enforcement: string; rules: { type: string; parameters?: Json }[] };

/** It serves GitHub's API, Pulumi Cloud's API, and the TLS certificate of GitHub's issuer. */
export type PipelineCloud = Awaited<ReturnType<typeof startPipelineCloud>>;

export type Github = ReturnType<typeof newRepository>;

export const REPOSITORY = "acme/eks-pulumi-oidc";
export const SUBJECT_PREFIX = "repo:acme@11/eks-pulumi-oidc@42";
export const STACK = { stack: `${REPOSITORY}/dev`, clusterName: "my-cluster", region: "us-west-2" };
export const SETTINGS = { repository: REPOSITORY, subjectPrefix: SUBJECT_PREFIX, stacks: [STACK] };
export const ACCOUNT = "123456789012";
export const GITHUB_PROVIDER = `arn:aws:iam::${ACCOUNT}:oidc-provider/${new URL(ISSUER_URL).hostname}`;

/** Returns a repository that `github.sh` has not set up. */
function newRepository() {
  return {
    /** The commit of the branch main. */
    tip: "a".repeat(40),
    /** How often one asks until deploy.yml runs for the tip of main. */
    deploysAfter: 0,
    /** The rulesets of the repository and of its organization, all of them for the branch main. */
    rulesets: [] as Ruleset[],
    /** Where a browser shows the repository. */
    url: `https://github.com/${REPOSITORY}`,
    /** How the sub claims of its ID tokens are formed. */
    subject: { use_default: true, sub_claim_prefix: SUBJECT_PREFIX },
    environments: [{ name: "staging", protection_rules: [] as Json[] }],
    branchPolicies: [] as { id: number; name: string; type: string }[],
    /** Whether workflows can approve pull requests. */
    canApprove: true,
  };
}

/** Starts services that know nothing of the repository's pipeline, on a free loopback port, until the test ends. */
export async function startPipelineCloud(t: TestContext) {
  const github = newRepository();
  // The authentication mode, by region and name.
  const clusters = new Map([["us-west-2 my-cluster", "API"]]);
  // OIDC issuers of Pulumi Cloud, and everything else that exists, by ID.
  const issuers = new Map<string, Issuer>();
  const stored = new Map<string, object>();
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

  async function reply(request: IncomingMessage): Promise<Reply> {
    const { pathname, searchParams } = new URL(request.url ?? "", "https://127.0.0.1");
    const call = `${request.method} ${pathname}`;
    const isCompressed = request.headers["content-encoding"] === "gzip";
    const content = await text(isCompressed ? request.pipe(createGunzip()) : request);
    const body: Json = content ? JSON.parse(content) : {};
    if (request.method !== "GET") writes.push(call);
    const list = () => [...issuers].map(([id, registration]) => ({ id, registration }));
    const answer = call.includes(" /api/v3/")
      ? answerGithub(github, call.replace("/api/v3", ""), body, searchParams)
      : answerAdmin({ list }, call, body);
    return answer ?? { status: 404, body: { code: 404, message: "Not Found" } };
  }

  const authority = await openCertificateAuthority();
  const issue = () => authority.issue({ hosts: ["127.0.0.1", new URL(ISSUER_URL).hostname] });
  const { server, origin, close } = await startServer(await issue(), reply);
  t.after(close);
  return {
    origin,
    port: Number(new URL(origin).port),
    github,
    clusters,
    issuers,
    stored,
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
  const identify = (inputs: object, name: string): string => {
    const { organization, organizationName } = inputs as Record<string, string>;
    const parents: Record<string, string> = {
      AccessPolicyAssociation: `AccessEntry ${name}`,
      TeamRoleAssignment: `Team ${organizationName}`,
      TeamStackPermission: `Team ${organization}`,
    };
    const parent = parents[type];
    if (parent && !stored.has(parent)) throw new Error(`404 API error: Not Found: ${parent}`);
    if (type === "OidcIssuer") return `${organization}/1`;
    return type === "OpenIdConnectProvider" ? GITHUB_PROVIDER : `${type} ${name}`;
  };
  const outputs = (id: string, inputs: object) => {
    const name = id.replace(`${type} `, "");
    const arn = type === "Role" ? `arn:aws:iam::${ACCOUNT}:role/${name}-1a2b3c4` : id;
    return { arn, name, roleId: "role-1", ...inputs };
  };
  const kind = storedKind(store, identify, outputs);
  return {
    ...kind,
    async create(name, inputs) {
      // Whatever does not wait for its parent is too early.
      if (["Team", "AccessEntry"].includes(type)) await sleep(20);
      return kind.create(name, inputs);
    },
    // A team's creator is a member: https://github.com/pulumi/pulumi-pulumiservice/issues/278
    async read(id) {
      const inputs = await kind.read(id);
      return inputs && type === "Team" ? { ...inputs, members: ["admin"] } : inputs;
    },
  };
}

/**
 * Answers what an admin of the repository asks: https://docs.github.com/en/rest
 *
 * @returns undefined for an unknown endpoint.
 */
function answerGithub(github: Github, call: string, body: Json, parameters: URLSearchParams) {
  const [method, path = ""] = call.split(" ");
  const last = path.replace(/^.*\//, "");
  const page = Number(parameters.get("page") ?? 1);
  const ok = (content?: object): Reply => ({ status: 200, ...(content && { body: content }) });
  // One element on each page, so that a test needs only two of them.
  const paged = (elements: object[], key?: string): Reply => {
    const shown = elements.slice(page - 1, page);
    const next = page < elements.length && { Link: `<${path.slice(1)}?page=${page + 1}>; rel="next"` };
    return { status: 200, body: key ? { [key]: shown } : shown, headers: { ...next } };
  };
  // The endpoints of a list and of its elements.
  const collection = (path: string, elements: { id: number }[], key?: string) => {
    const index = elements.findIndex(({ id }) => id === Number(last));
    return {
      [`GET ${path}`]: () => paged(elements, key),
      [`POST ${path}`]: () => ok(void elements.push({ ...body, id: elements.length + 1 })),
      [`GET ${path}/${last}`]: () => ok(elements[index]),
      [`PUT ${path}/${last}`]: () => ok(Object.assign(elements[index] ?? {}, body)),
      [`DELETE ${path}/${last}`]: () => ok(void elements.splice(index, 1)),
    };
  };

  const branchPolicies = "/environments/production/deployment-branch-policies";
  const endpoints: Record<string, () => Reply> = {
    "GET ": () => ok({ id: 42, html_url: github.url }),
    "GET /git/ref/heads/main": () => ok({ object: { type: "commit", sha: github.tip } }),
    "GET /actions/oidc/customization/sub": () => ok(github.subject),

    // https://docs.github.com/en/rest/actions/workflow-runs
    "GET /actions/workflows/2": () => ok({ id: 2, name: "drift" }),
    "GET /actions/workflows/drift.yml": () => ok({ id: 2, name: "drift", state: "active" }),
    "GET /actions/workflows/2/runs": () => {
      const isOfMain = parameters.get("branch") === "main" && parameters.get("status") === "completed";
      return ok({ workflow_runs: [{ created_at: `2026-12-0${isOfMain ? 1 : 2}T05:17:00Z` }] });
    },
    "GET /actions/workflows/deploy.yml/runs": () => {
      const isOfTip = parameters.get("branch") === "main" && parameters.get("head_sha") === github.tip;
      return ok({ total_count: isOfTip && github.deploysAfter-- <= 0 ? 1 : 0 });
    },

    // https://docs.github.com/en/rest/repos/rules
    "GET /rules/branches/main": () => {
      const active = github.rulesets.filter(({ enforcement }) => enforcement === "active");
      return paged(active.flatMap(({ id, rules }) => rules.map((rule) => ({ ...rule, ruleset_id: id }))));
    },
    ...collection("/rulesets", github.rulesets),

    // https://docs.github.com/en/rest/deployments
    "GET /environments": () => paged(github.environments, "environments"),
    "PUT /environments/production": () => {
      const others = github.environments.filter(({ name }) => name.toLowerCase() !== "production");
      github.environments = [...others, environmentOf(body)];
      return ok();
    },
    ...collection(branchPolicies, github.branchPolicies, "branch_policies"),
    "GET /users/octocat": () => ok({ id: 7 }),
    "GET /orgs/acme/teams/platform": () => ok({ id: 8 }),

    // https://docs.github.com/en/rest/actions/permissions
    "GET /actions/permissions/workflow": () => ok({ can_approve_pull_request_reviews: github.canApprove }),
    "PUT /actions/permissions/workflow": () => {
      const { can_approve_pull_request_reviews: canApprove } = body;
      // Only JSON's own true and false.
      if (typeof canApprove !== "boolean") return { status: 422, body: { message: "Validation Failed" } };
      github.canApprove = canApprove;
      return ok();
    },
  };
  return endpoints[`${method} ${path.replace(`/repos/${REPOSITORY}`, "")}`]?.();
}

/** Returns the environment after a PUT, which replaces the rules: what it leaves out is gone. */
function environmentOf({ reviewers, wait_timer, prevent_self_review = false, ...rest }: Json) {
  const required = ((reviewers ?? []) as Json[]).map(({ type, id }) => ({ type, reviewer: { id } }));
  const protection_rules = [
    ...(wait_timer ? [{ type: "wait_timer", wait_timer }] : []),
    ...(required.length > 0
      ? [{ type: "required_reviewers", prevent_self_review, reviewers: required }]
      : []),
  ];
  return { name: "production", can_admins_bypass: true, ...rest, protection_rules };
}
