// Creates the identities of this repository's GitHub workflows: one that can read, for previews, and one that can deploy.

import { createPulumiCloudProvider } from "../oidcIssuer";
import { knownOf } from "../settings/outputs";
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

  // Pulumi Cloud: a stack stays where it was deployed, or the issuers that are registered there would remain in force.
  const provider = createPulumiCloudProvider("pulumi-cloud", settings.pulumiApiUrl);
  await knownOf(provider.urn);

  // AWS: a role for previews and one for deployments, with access to the clusters.
  const roles = createRoles(settings, repositoryId, clusters, oidcProviderArn);

  // In each organization, the team that previews act as, and the allow policies.
  const policies: Record<string, AuthPolicy[]> = {};
  for (const organization of new Set(stacks.map((stack) => stack.organization))) {
    createTeam(organization, settings, provider);
    policies[organization] = allowPolicies(organization, repositoryId, settings);
    if (settings.githubIssuer === "create") createIssuer(organization, policies[organization], provider);
  }

  return {
    githubIssuerUrl: ISSUER_URL,
    // What policies.sh adds to an issuer that exists already, for each organization.
    policies,
    // The content of .github/pipeline.json, which the workflows read.
    workflows: {
      repositoryId,
      stacks: stacks.map(({ stack, organization, region }) => ({
        stack,
        organization,
        region,
        pulumiApiUrl: settings.pulumiApiUrl,
        previewTeam: teamName(settings.repository),
        previewRoleArn: roles.preview.arn,
        deployRoleArn: roles.deploy.arn,
      })),
    },
  };
};
