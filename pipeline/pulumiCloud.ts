// The Pulumi Cloud side: the allow policies for GitHub's issuer, and the team that the workflows act as.

import * as pulumiservice from "@pulumi/pulumiservice";
import type { AllowPolicy } from "../oidcIssuer";
import { StackPermission } from "../settings/teams";
import { createTeams } from "../team";
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
): AllowPolicy[] {
  return subjects.map((sub) => ({
    decision: "allow",
    tokenType: "team",
    teamName: teamName(repository),
    rules: { aud: `urn:pulumi:org:${organization}`, repository_id: repositoryId, sub },
  }));
}

/**
 * Creates the team that the workflows act as. It can read these stacks and, for a refresh, the organization's OIDC issuers and
 * teams: https://www.pulumi.com/docs/administration/reference/rbac-scopes/org-settings/
 */
export function createTeam(
  organization: string,
  { repository, stacks }: Settings,
  provider: pulumiservice.Provider,
): void {
  const name = teamName(repository);
  const readable = stacks
    .filter((stack) => stack.organization === organization)
    .map(({ stack }) => ({ stack: stack.replace(/^.*?\//, ""), permission: StackPermission.Read }));
  const teams = [{ name, create: true, stacks: readable, environments: [] }];
  const created = createTeams(organization, { organization, teams }, { provider });

  const role = new pulumiservice.OrganizationRole(
    organization,
    {
      organizationName: organization,
      name,
      permissions: {
        __type: "PermissionDescriptorAllow",
        permissions: ["auth_policies:read", "oidc_issuers:read", "team:read"],
      },
    },
    { provider },
  );
  const assignment = { organizationName: organization, teamName: name, roleId: role.roleId };
  const dependsOn = created.flatMap(({ team }) => team ?? []);
  new pulumiservice.TeamRoleAssignment(organization, assignment, { provider, dependsOn });
}
