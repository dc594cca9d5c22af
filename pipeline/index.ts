// Creates the identity of this repository's GitHub workflows, which can read what a preview needs, and in Pulumi Cloud do what every
// member may.

import { createOidcIssuer, createPulumiCloudProvider } from "../oidcIssuer";
import { requireFirstPlace } from "../place";
import type { AuthPolicy } from "../settings/tokenTypes";
import { createPreviewRole, hasCluster, lookUp } from "./aws";
import { ISSUER_URL, readSettings } from "./config";
import { allowPolicies, createTeam, teamName } from "./pulumiCloud";

export = async () => {
  // Fail fast: check everything before registering a resource.
  const settings = readSettings();
  const { stacks, pulumiApiUrl, repository, repositoryId } = settings;
  const existing = await lookUp(settings);

  // A stack stays where it was deployed, or the issuers that are registered there would remain in force.
  const dependsOn = requireFirstPlace("first-deployment", { pulumiApiUrl });

  // AWS: a role with access to the clusters in this account.
  const role =
    existing.clusters.length > 0 ? createPreviewRole(settings, existing, { dependsOn }) : undefined;

  // Pulumi Cloud: in each organization, the team that the workflows act as, and the allow policies.
  const policies: Record<string, AuthPolicy[]> = {};
  if (settings.pulumiCloud) {
    const provider = createPulumiCloudProvider("pulumi-cloud", pulumiApiUrl, { dependsOn });
    for (const organization of new Set(stacks.map((stack) => stack.organization))) {
      createTeam(organization, settings, provider);
      const allowed = allowPolicies(organization, settings);
      if (settings.githubIssuer === "create") {
        const issuer = { organization, name: "github", url: ISSUER_URL, maxExpirationSeconds: 900 };
        createOidcIssuer(organization, { ...issuer, policies: allowed }, { provider });
      } else {
        policies[organization] = allowed;
      }
    }
  }

  return {
    /** For each organization, what an administrator adds to the issuer of GitHub that exists already. */
    policies,
    /** The part of .github/pipeline.json for the clusters in this account. */
    workflows: {
      repositoryId,
      stacks: stacks.filter(hasCluster).map(({ clusterName: _, ...stack }) => {
        return { ...stack, pulumiApiUrl, previewTeam: teamName(repository), previewRoleArn: role?.arn };
      }),
    },
  };
};
