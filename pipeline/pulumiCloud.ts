// Pulumi Cloud's side: GitHub as an OIDC issuer, its allow policies, and the team that previews act as.

import * as pulumiservice from "@pulumi/pulumiservice";
import { getThumbprints } from "../oidcIssuer";
import type { Settings } from "./config";
import { subjects } from "./github";

type AuthPolicy = pulumiservice.types.input.AuthPolicyDefinitionArgs;

/** Whose access token a preview gets: the team's, or the user's in an edition that has no teams. */
export function previewToken({ repository, previewUserLogin: userLogin }: Settings) {
  // In an allow policy "." is a wildcard.
  const teamName = `${repository.replace(/^.*\//, "").replaceAll(".", "-")}-preview`;
  return userLogin
    ? { tokenType: "personal" as const, userLogin, scope: `user:${userLogin}` }
    : { tokenType: "team" as const, teamName, scope: `team:${teamName}` };
}

/**
 * Builds the allow policies of an organization: previews get a token that can read, deployments one that can administer
 * the organization, since only its admins can register the clusters' issuers.
 *
 * @returns the policies. Each names the repository's ID, since "." in the repository's name would be a wildcard.
 */
export function authPolicies(organization: string, repositoryId: string, settings: Settings): AuthPolicy[] {
  const { scope: _, ...token } = previewToken(settings);
  const { preview, deploy } = subjects(settings.subjectPrefix);
  const rules = (sub: string) => ({
    aud: `urn:pulumi:org:${organization}`,
    repository_id: repositoryId,
    sub,
  });
  return [
    ...preview.map((sub): AuthPolicy => ({ decision: "allow", ...token, rules: rules(sub) })),
    { decision: "allow", tokenType: "organization", authorizedPermissions: ["admin"], rules: rules(deploy) },
  ];
}

/** Creates the team that previews act as. It can read the stacks of the organization and, for a refresh, its issuers. */
export function createTeam(
  organizationName: string,
  teamName: string,
  stacks: Settings["stacks"],
  opts: { provider: pulumiservice.Provider },
): void {
  const team = new pulumiservice.Team(
    organizationName,
    { organizationName, teamType: "pulumi", name: teamName, members: [] },
    // The service makes its creator a member.
    { ...opts, ignoreChanges: ["members"] },
  );
  const afterTeam = { ...opts, dependsOn: team };
  const permissions = ["auth_policies:read", "oidc_issuers:read"];
  const role = new pulumiservice.OrganizationRole(
    organizationName,
    {
      organizationName,
      name: `${teamName}-issuers`,
      permissions: { __type: "PermissionDescriptorAllow", permissions },
    },
    opts,
  );
  new pulumiservice.TeamRoleAssignment(
    organizationName,
    { organizationName, teamName, roleId: role.roleId },
    afterTeam,
  );
  for (const { stack } of stacks) {
    const [organization = "", project = "", name = ""] = stack.split("/");
    if (organization !== organizationName) continue;
    const permission = pulumiservice.TeamStackPermissionScope.Read;
    new pulumiservice.TeamStackPermission(
      stack,
      { organization, project, stack: name, team: teamName, permission },
      afterTeam,
    );
  }
}

/** Registers GitHub as an OIDC issuer of the organization, with these policies and no others. */
export async function createIssuer(
  organization: string,
  policies: AuthPolicy[],
  { githubIssuerUrl: url, thumbprints }: Settings,
  opts: { provider: pulumiservice.Provider },
): Promise<void> {
  const { values } = await getThumbprints(thumbprints, url);
  new pulumiservice.OidcIssuer(
    organization,
    {
      organization,
      name: "github",
      url,
      maxExpirationSeconds: 3600,
      policies,
      ...(values && { thumbprints: values }),
    },
    {
      ...opts,
      deleteBeforeReplace: true,
      // They are only a fallback, and GitHub's certificate rotates: what is read counts for the creation.
      ignoreChanges: thumbprints.length > 0 ? [] : ["thumbprints"],
    },
  );
}
