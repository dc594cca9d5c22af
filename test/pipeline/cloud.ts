// What the pipeline's program and script talk to: an AWS account, and Pulumi Cloud's organizations.

import type { IncomingMessage } from "node:http";
import { text } from "node:stream/consumers";
import type { TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { createGunzip } from "node:zlib";
import { ISSUER_URL } from "../../pipeline/config";
import { type Emulator, type ResourceKind, storedKind } from "../../simulator/emulators/emulator";
import type { PulumiCloud } from "../../simulator/emulators/pulumiCloud";
import { type Reply, startServer } from "../../simulator/emulators/server";
import { openCertificateAuthority } from "../support/certificates";
import { answerAdmin } from "../support/cloudApi";
import { startTeams, type Teams } from "../support/teams";

type Issuer = ReturnType<PulumiCloud["list"]>[number]["registration"];

/** It serves Pulumi Cloud's API, and the TLS certificate of GitHub's issuer. */
export type PipelineCloud = Awaited<ReturnType<typeof startPipelineCloud>>;

const REPOSITORY = "acme/eks-pulumi-oidc";
export const SUBJECT_PREFIX = "repo:acme@11/eks-pulumi-oidc@42";
export const STACK = { stack: `${REPOSITORY}/dev`, clusterName: "my-cluster", region: "us-west-2" };
export const SETTINGS = {
  repository: REPOSITORY,
  repositoryId: "42",
  subjectPrefix: SUBJECT_PREFIX,
  stacks: [STACK],
};
export const ACCOUNT = "123456789012";
export const GITHUB_PROVIDER = `arn:aws:iam::${ACCOUNT}:oidc-provider/${new URL(ISSUER_URL).hostname}`;

/** Starts services that know nothing of the repository's pipeline, on a free loopback port, until the test ends. */
export async function startPipelineCloud(t: TestContext) {
  // The authentication mode, by region and name.
  const clusters = new Map([["us-west-2 my-cluster", "API"]]);
  // OIDC issuers of Pulumi Cloud, and everything else that exists, by ID.
  const issuers = new Map<string, Issuer>();
  const stored = new Map<string, object>();
  const teams = startTeams();

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
    ...teams.calls,
    "aws:iam/getOpenIdConnectProvider:getOpenIdConnectProvider": {
      answer() {
        if (!stored.has(GITHUB_PROVIDER)) throw new Error("finding IAM OIDC Provider by url: not found");
        return { arn: GITHUB_PROVIDER };
      },
    },
  };

  async function reply(request: IncomingMessage): Promise<Reply> {
    const { pathname } = new URL(request.url ?? "", "https://127.0.0.1");
    const isCompressed = request.headers["content-encoding"] === "gzip";
    const content = await text(isCompressed ? request.pipe(createGunzip()) : request);
    const list = () => [...issuers].map(([id, registration]) => ({ id, registration }));
    const answer = answerAdmin({ list }, `${request.method} ${pathname}`, content ? JSON.parse(content) : {});
    return answer ?? { status: 404, body: { code: 404, message: "Not Found" } };
  }

  const authority = await openCertificateAuthority();
  const issue = () => authority.issue({ hosts: ["127.0.0.1", new URL(ISSUER_URL).hostname] });
  const { server, origin, close } = await startServer(await issue(), reply);
  t.after(close);
  return {
    origin,
    port: Number(new URL(origin).port),
    clusters,
    issuers,
    stored,
    teams,
    // Every type of the providers is a kind, but the stack itself is not.
    resources: new Proxy<Emulator["resources"]>(
      {},
      {
        get: (_, type: string) =>
          /^pulumi:/.test(type) ? undefined : resourceKind(type, stored, issuers, teams),
      },
    ),
    calls,
    existing: () => [...issuers.keys(), ...stored.keys(), ...teams.existing()].sort(),
    /** Replaces the TLS certificate, as GitHub does. */
    rotateCertificate: async () => server.setSecureContext(await issue()),
  };
}

/** Returns the kind of a type of resource, whose ID is `Type name`. */
function resourceKind(
  token: string,
  stored: Map<string, object>,
  issuers: Map<string, Issuer>,
  teams: Teams,
): ResourceKind {
  const type = token.replace(/^.*:/, "");
  const store: Map<string, object> = type === "OidcIssuer" ? issuers : stored;
  const identify = (inputs: object, name: string): string => {
    const { organization, organizationName, teamName } = inputs as Record<string, string>;
    const parents: Record<string, string> = {
      AccessPolicyAssociation: `AccessEntry ${name}`,
      TeamRoleAssignment: `${organizationName}/${teamName}`,
    };
    const parent = parents[type];
    const existing = [...stored.keys(), ...teams.existing()];
    if (parent && !existing.includes(parent)) throw new Error(`404 API error: Not Found: ${parent}`);
    if (type === "OidcIssuer") return `${organization}/1`;
    return type === "OpenIdConnectProvider" ? GITHUB_PROVIDER : `${type} ${name}`;
  };
  const outputs = (id: string, inputs: object) => {
    const name = id.replace(`${type} `, "");
    const arn = type === "Role" ? `arn:aws:iam::${ACCOUNT}:role/${name}-1a2b3c4` : id;
    return { arn, name, roleId: "role-1", ...inputs };
  };
  const kind = teams.resources[token] ?? storedKind(store, identify, outputs);
  return {
    ...kind,
    async create(name, inputs) {
      // Whatever does not wait for its parent is too early.
      if (["Team", "AccessEntry"].includes(type)) await sleep(20);
      return kind.create(name, inputs);
    },
  };
}
