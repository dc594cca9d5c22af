// The Pulumi Cloud side: the allow policies for GitHub's issuer, and the team that the workflows act as.

import * as pulumiservice from "@pulumi/pulumiservice";
import type { AuthPolicy } from "../settings/tokenTypes";
import type { Settings } from "./config";

const SUFFIX = "-preview";

/** Returns the name of the team that the workflows act as. */
export function teamName(repository: string): string {
  // In an allow policy "." is a wildcard.
  const name = repository.replace(/^.*\//, "").replaceAll(".", "-");
  // The name of a team has at most 100 characters, and so has that of a repository.
  return `${name.slice(0, 100 - SUFFIX.length)}${SUFFIX}`;
}

/**
 * Builds the allow policies of an organization: the workflows are granted a token of the team. A rule has one value, so
 * each subject needs a policy.
 *
 * @returns the policies. Each requires the repository's ID, since "." in the repository's name would be a wildcard.
 */
export function allowPolicies(
  organization: string,
  { repository, repositoryId, subjects }: Settings,
): AuthPolicy[] {
  return subjects.map((sub) => ({
    decision: "allow",
    tokenType: "team",
    teamName: teamName(repository),
    rules: { aud: `urn:pulumi:org:${organization}`, repository_id: repositoryId, sub },
  }));
}

/**
 * Creates the team that the workflows act as. It can read these stacks, open these environments and, for a preview with a refresh,
 * read the organization's OIDC issuers with their policies, which only admins can by default:
 * https://www.pulumi.com/docs/administration/reference/rbac-scopes/org-settings/
 */
export function createTeam(
  organization: string,
  { repository, stacks, environments }: Settings,
  provider: pulumiservice.Provider,
): void {
  const name = teamName(repository);
  // The service makes the user who creates a team a member of it. Without that member here, every preview would show a change.
  const { username } = pulumiservice.getCurrentUserOutput({ provider });
  const team = new pulumiservice.Team(
    organization,
    { organizationName: organization, teamType: "pulumi", name, members: [username] },
    // Otherwise, an update by another administrator would replace that member.
    { provider, ignoreChanges: ["members"] },
  );
  const ofTeam = { provider, dependsOn: team };
  for (const stack of stacks.filter((it) => it.organization === organization)) {
    const [, project = "", stackName = ""] = stack.stack.split("/");
    const permission = pulumiservice.TeamStackPermissionScope.Read;
    new pulumiservice.TeamStackPermission(
      stack.stack,
      { organization, project, stack: stackName, team: name, permission },
      ofTeam,
    );
  }

  for (const path of environments.filter((it) => it.startsWith(`${organization}/`))) {
    const [, project = "", environment = ""] = path.split("/");
    const permission = pulumiservice.EnvironmentPermission.Open;
    new pulumiservice.TeamEnvironmentPermission(
      path,
      { organization, project, environment, team: name, permission },
      ofTeam,
    );
  }

  const role = new pulumiservice.OrganizationRole(
    organization,
    {
      organizationName: organization,
      name,
      permissions: {
        __type: "PermissionDescriptorAllow",
        permissions: ["auth_policies:read", "oidc_issuers:read"],
      },
    },
    { provider },
  );
  new pulumiservice.TeamRoleAssignment(
    organization,
    { organizationName: organization, teamName: name, roleId: role.roleId },
    ofTeam,
  );
}
