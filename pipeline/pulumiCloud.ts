// The Pulumi Cloud side: GitHub as an OIDC issuer, its allow policies, and the team that previews act as.

import * as pulumi from "@pulumi/pulumi";
import * as pulumiservice from "@pulumi/pulumiservice";
import { readThumbprints } from "../oidcIssuer";
import type { Settings } from "./config";
import { ISSUER_URL, subjects } from "./github";

export type AuthPolicy = pulumiservice.types.input.AuthPolicyDefinitionArgs;

/** Returns the name of the team that previews act as. */
export function teamName(repository: string): string {
  // In an allow policy "." is a wildcard.
  return `${repository.replace(/^.*\//, "").replaceAll(".", "-")}-preview`;
}

/**
 * Builds the allow policies of an organization: previews are granted a token of the team, deployments one that can
 * administer the organization, since only its admins can register the clusters' issuers.
 *
 * @returns the policies. Each requires the repository's ID, since "." in the repository's name would be a wildcard.
 */
export function allowPolicies(organization: string, repositoryId: string, settings: Settings): AuthPolicy[] {
  const { preview, deploy } = subjects(settings.subjectPrefix);
  const team = { tokenType: "team", teamName: teamName(settings.repository) } as const;
  const rules = (sub: string) => ({
    aud: `urn:pulumi:org:${organization}`,
    repository_id: repositoryId,
    sub,
  });
  return [
    ...preview.map((sub): AuthPolicy => ({ decision: "allow", ...team, rules: rules(sub) })),
    { decision: "allow", tokenType: "organization", authorizedPermissions: ["admin"], rules: rules(deploy) },
  ];
}

/** Creates the team that previews act as. It can read these stacks and, for a refresh, the organization's OIDC issuers. */
export function createTeam(
  organization: string,
  { repository, stacks }: Settings,
  provider: pulumiservice.Provider,
): void {
  const name = teamName(repository);
  const team = new pulumiservice.Team(
    organization,
    { organizationName: organization, teamType: "pulumi", name, members: [] },
    // The service adds its creator as a member.
    { provider, ignoreChanges: ["members"] },
  );
  const role = new pulumiservice.OrganizationRole(
    organization,
    {
      organizationName: organization,
      name: `${name}-issuers`,
      permissions: {
        __type: "PermissionDescriptorAllow",
        permissions: ["auth_policies:read", "oidc_issuers:read"],
      },
    },
    { provider },
  );
  const assignment = { organizationName: organization, teamName: name, roleId: role.roleId };
  new pulumiservice.TeamRoleAssignment(organization, assignment, { provider, dependsOn: team });

  const permission = pulumiservice.TeamStackPermissionScope.Read;
  for (const { stack: path } of stacks.filter((stack) => stack.organization === organization)) {
    const [, project = "", stack = ""] = path.split("/");
    const args = { organization, project, stack, team: name, permission };
    new pulumiservice.TeamStackPermission(path, args, { provider, dependsOn: team });
  }
}

/** Registers GitHub as an OIDC issuer of the organization, with these policies and no others. */
export function createIssuer(
  organization: string,
  policies: AuthPolicy[],
  provider: pulumiservice.Provider,
): void {
  const thumbprints = pulumi.output(ISSUER_URL).apply(readThumbprints);
  new pulumiservice.OidcIssuer(
    organization,
    { organization, name: "github", url: ISSUER_URL, maxExpirationSeconds: 3600, policies, thumbprints },
    // Only a fallback, and GitHub's certificate rotates: the value is used only at creation.
    { provider, ignoreChanges: ["thumbprints"] },
  );
}
