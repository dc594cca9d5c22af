// The pipeline's program with the SDK's mocks.

import { type Answers, type Options, type Run, runProgram } from "../core/program";

export const ACCOUNT = "123456789012";
const REPOSITORY = "acme/eks-pulumi-oidc";
export const SUBJECT_PREFIX = "repo:acme@11/eks-pulumi-oidc@42";
export const STACK = { stack: `${REPOSITORY}/dev`, clusterName: "my-cluster", region: "us-west-2" };

export const SETTINGS = {
  repository: REPOSITORY,
  repositoryId: "42",
  subjectPrefix: SUBJECT_PREFIX,
  stacks: [STACK],
};

export const getCluster = ({ name, region }: Record<string, string>) => ({
  name,
  region,
  arn: `arn:${region?.startsWith("us-gov-") ? "aws-us-gov" : "aws"}:eks:${region}:${ACCOUNT}:cluster/${name}`,
  accessConfigs: [{ authenticationMode: "API" }],
  identities: [{ oidcs: [{ issuer: `https://oidc.example/id/${region}.${name}` }] }],
});

/** An AWS account with every cluster, and with GitHub's IAM OIDC provider; the current user of Pulumi Cloud is alice. */
export const ANSWERS = {
  "aws:eks/getCluster:getCluster": getCluster,
  "aws:iam/getOpenIdConnectProvider:getOpenIdConnectProvider": () => ({
    arn: `arn:aws:iam::${ACCOUNT}:oidc-provider/token.actions.githubusercontent.com`,
  }),
  "pulumiservice:index:getCurrentUser": () => ({ username: "alice" }),
} satisfies Answers;

/** Runs the program with these settings on top of the required ones. */
export function runPipeline(settings: object = {}, options: Options = {}): Promise<Run> {
  return runProgram(
    require("../../pipeline"),
    { ...SETTINGS, ...settings },
    { answers: ANSWERS, ...options },
  );
}
