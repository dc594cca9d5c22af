// Creates the identity of this repository's GitHub workflows, which can read what a preview needs and change nothing.

import { type AllowPolicy, createOidcIssuer, createPulumiCloudProvider } from "../oidcIssuer";
import { stayWhereDeployed } from "../place";
import { createPreviewRole, lookUp } from "./aws";
import { ISSUER_URL, readSettings } from "./config";
import { allowPolicies, createTeam, teamName } from "./pulumiCloud";

export = async () => {
  // Fail fast: check everything before registering a resource.
  const settings = readSettings();
  const { stacks } = settings;
  const existing = await lookUp(settings);

  // Pulumi Cloud: a stack stays where it was deployed, or the issuers that are registered there would remain in force.
  const dependsOn = stayWhereDeployed("pulumi-cloud", { pulumiApiUrl: settings.pulumiApiUrl });
  const provider = createPulumiCloudProvider("pulumi-cloud", settings.pulumiApiUrl, { dependsOn });

  // AWS: a role with access to the clusters. It waits for the provider: if pulumiApiUrl has changed, nothing changes here.
  const role = createPreviewRole(settings, existing, { dependsOn: provider });

  // In each organization, the team that the workflows act as, and the allow policies.
  const policies: Record<string, AllowPolicy[]> = {};
  for (const organization of new Set(stacks.map((stack) => stack.organization))) {
    createTeam(organization, settings, provider);
    const allowed = allowPolicies(organization, settings);
    policies[organization] = allowed;
    if (settings.githubIssuer === "create") {
      const issuer = { organization, name: "github", url: ISSUER_URL, maxExpirationSeconds: 900 };
      createOidcIssuer(organization, { ...issuer, policies: allowed }, { provider });
    }
  }

  return {
    githubIssuerUrl: ISSUER_URL,
    // What policies.sh adds to an issuer that exists already, for each organization.
    policies,
    // The content of .github/pipeline.json, which the workflows read.
    workflows: {
      repositoryId: settings.repositoryId,
      stacks: stacks.map(({ stack, organization, region }) => ({
        stack,
        organization,
        region,
        pulumiApiUrl: settings.pulumiApiUrl,
        previewTeam: teamName(settings.repository),
        previewRoleArn: role.arn,
      })),
    },
  };
};
