// What the pipeline's program creates in an AWS account and in Pulumi Cloud's organizations.

import { setTimeout as sleep } from "node:timers/promises";
import { ISSUER_URL } from "../../pipeline/config";
import { type Emulator, type ResourceKind, storedKind } from "../environment/emulator";
import type { PulumiCloud } from "../environment/pulumiCloud";
import { startTeams } from "../environment/teams";

type Issuer = ReturnType<PulumiCloud["list"]>[number]["registration"];

export type PipelineCloud = ReturnType<typeof startPipelineCloud>;

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

/** Starts services that know nothing of the repository's pipeline. */
export function startPipelineCloud() {
  // The authentication mode, by region and name.
  const clusters = new Map([["us-west-2 my-cluster", "API"]]);
  // OIDC issuers of Pulumi Cloud, and everything else that exists, by ID.
  const issuers = new Map<string, Issuer>();
  const stored = new Map<string, object>();
  const teams = startTeams();
  const existing = () => [...issuers.keys(), ...stored.keys(), ...teams.existing()].sort();

  function requireExisting(id: string): void {
    if (!existing().includes(id)) throw new Error(`404 API error: Not Found: ${id}`);
  }

  /** Returns the kind of a type of resource, whose ID is `Type name`. */
  function kindOf(token: string): ResourceKind {
    const type = token.replace(/^.*:/, "");
    const identify = (inputs: object, name: string): string => {
      const { organization, organizationName, teamName } = inputs as Record<string, string>;
      if (type === "AccessPolicyAssociation") {
        requireExisting(`AccessEntry ${name}`);
        // hashicorp/terraform-provider-aws, internal/service/eks/access_policy_association.go at
        // 01f431114674c27cf790fafb67ac274bf8f765e1: creating one that exists overwrites its scope.
        const { clusterName, principalArn, policyArn } = inputs as Record<string, string>;
        return `${clusterName}#${principalArn}#${policyArn}`;
      }
      if (type === "TeamRoleAssignment") requireExisting(`${organizationName}/${teamName}`);
      if (type === "OidcIssuer") return `${organization}/1`;
      return type === "OpenIdConnectProvider" ? GITHUB_PROVIDER : `${type} ${name}`;
    };
    const outputs = (id: string, inputs: object) => {
      const name = id.replace(`${type} `, "");
      const arn = type === "Role" ? `arn:aws:iam::${ACCOUNT}:role/${name}-1a2b3c4` : id;
      return { arn, name, ...inputs };
    };
    const store: Map<string, object> = type === "OidcIssuer" ? issuers : stored;
    const kind = teams.resources[token] ?? storedKind(store, identify, outputs);
    return {
      ...kind,
      async create(name, inputs) {
        // Whatever does not wait for it is too early.
        if (["Team", "AccessEntry"].includes(type)) await sleep(20);
        return kind.create(name, inputs);
      },
    };
  }

  const calls: Emulator["calls"] = {
    ...teams.calls,
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
  // Every type of the providers is a kind, but the stack itself is not.
  const get = (_: object, type: string) => (type.startsWith("pulumi:") ? undefined : kindOf(type));
  const resources = new Proxy<Emulator["resources"]>({}, { get });
  return { clusters, issuers, stored, resources, calls, existing };
}
