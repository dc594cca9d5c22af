// Creates the identities of this repository's GitHub workflows: one that can read, for previews, and one that can deploy.

import { createRoles, readClusters, readOidcProvider } from "./aws";
import { readSettings } from "./config";
import { checkRepository, ISSUER_URL } from "./github";
import { lookUp } from "./lookups";
import { type AuthPolicy, allowPolicies, createIssuer, createTeam, teamName } from "./pulumiCloud";

export = async () => {
  // Fail fast: the environment's branch rule has to exist before anything trusts the environment.
  const settings = readSettings();
  const { stacks } = settings;
  const [repositoryId, clusters, oidcProviderArn] = await lookUp(
    checkRepository(settings),
    readClusters(stacks),
    readOidcProvider(settings.githubOidcProvider),
  );

  // AWS: a role for previews and one for deployments, with access to the clusters.
  const roles = createRoles(settings, clusters, oidcProviderArn);

  // Pulumi Cloud: in each organization, the team that previews act as, and the allow policies.
  const policies: Record<string, AuthPolicy[]> = {};
  for (const organization of new Set(stacks.map((stack) => stack.organization))) {
    createTeam(organization, settings);
    policies[organization] = allowPolicies(organization, repositoryId, settings);
    if (settings.githubIssuer === "create") createIssuer(organization, policies[organization]);
  }

  return {
    githubIssuerUrl: ISSUER_URL,
    // What policies.sh adds to an issuer that exists already, for each organization.
    policies,
    // The repository's variables, which `github.sh variables` sets.
    variables: {
      AWS_PREVIEW_ROLE_ARN: roles.preview.arn,
      AWS_DEPLOY_ROLE_ARN: roles.deploy.arn,
      PULUMI_PREVIEW_TEAM: teamName(settings.repository),
      PULUMI_STACKS: JSON.stringify(stacks.map(({ stack, organization, region }) => ({ stack, organization, region }))),
    },
  };
};
