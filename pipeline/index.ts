// Creates the identities of this repository's GitHub workflows: one that can read, for previews, and one that can deploy.

import { Provider } from "@pulumi/pulumiservice";
import { invalidConfiguration } from "../problems";
import { createAccessEntries, createRoles, readAccount } from "./aws";
import { readSettings } from "./config";
import { checkRepository } from "./github";
import { authPolicies, createIssuer, createTeam, previewToken } from "./pulumiCloud";

export = async () => {
  // Fail fast: the environment's branch rule has to exist before anything trusts the environment.
  const settings = readSettings();
  const { stacks } = settings;
  const [repository, account] = await Promise.all([checkRepository(settings), readAccount(settings)]);
  const problems = [...repository.problems, ...account.problems];
  if (problems.length > 0) throw invalidConfiguration(problems);

  // AWS: a role for previews and one for deployments, and their access to the clusters.
  const roles = createRoles(settings, account);
  createAccessEntries("preview", roles.preview.arn, "AmazonEKSViewPolicy", account);
  createAccessEntries("deploy", roles.deploy.arn, "AmazonEKSEditPolicy", account);

  // Pulumi Cloud: in each organization, the team that previews act as, and the allow policies.
  const provider = new Provider("pulumi-cloud", { apiUrl: settings.pulumiApiUrl });
  const token = previewToken(settings);
  const policies = new Map(
    stacks.map(({ organization }) => [organization, authPolicies(organization, repository.id, settings)]),
  );
  for (const [organization, organizationPolicies] of policies) {
    if (token.tokenType === "team") createTeam(organization, token.teamName, stacks, { provider });
    if (settings.githubIssuer === "create") {
      await createIssuer(organization, organizationPolicies, settings, { provider });
    }
  }

  return {
    githubIssuerUrl: settings.githubIssuerUrl,
    // What to add to an issuer that exists already, for each organization.
    policies: Object.fromEntries(policies),
    // The repository's variables, which `github.sh variables` sets.
    variables: {
      AWS_PREVIEW_ROLE_ARN: roles.preview.arn,
      AWS_DEPLOY_ROLE_ARN: roles.deploy.arn,
      PULUMI_PREVIEW_TOKEN_TYPE: token.tokenType,
      PULUMI_PREVIEW_TOKEN_SCOPE: token.scope,
      PULUMI_STACKS: JSON.stringify(stacks.map(({ stack, organization, region }) => ({ stack, organization, region }))),
    },
  };
};
