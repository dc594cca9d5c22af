// Teams in Pulumi Cloud: creates them, and grants what each may do with stacks and environments.

import * as pulumi from "@pulumi/pulumi";
import * as pulumiservice from "@pulumi/pulumiservice";
import * as v from "valibot";
import type { Access } from "./settings/access";
import { userLoginSchema } from "./settings/tokenTypes";

const { Read, Edit, Admin } = pulumiservice.TeamStackPermissionScope;
const STACK_PERMISSIONS = { read: Read, edit: Edit, admin: Admin };

/** A team, with the resources that it needs. Its name is a plain string, so that nothing depends on it by a property. */
export interface TeamResources {
  name: string;
  /** Undefined if the team exists already. */
  team: pulumi.Resource | undefined;
  /** What a service account that acts as the team waits for. */
  permissions: pulumi.Resource[];
}

/**
 * Creates teams in Pulumi Cloud, unless they exist already, and grants each its permissions. A team is never deleted, because
 * people add members to it. Its permissions are.
 *
 * @param prefix of the resources' names.
 * @param options with the provider of Pulumi Cloud.
 * @returns the teams in the same order.
 */
export function createTeams(
  prefix: string,
  { organization, teams }: { organization: pulumi.Input<string>; teams: Access["teams"] },
  options: pulumi.CustomResourceOptions & { provider: pulumi.ProviderResource },
): TeamResources[] {
  const members = teams.some(({ create }) => create) ? creator(organization, options.provider) : [];

  return teams.map(({ name, create, stacks, environments }) => {
    const team = create
      ? new pulumiservice.Team(
          `${prefix}.${name}`,
          { organizationName: organization, teamType: "pulumi", name, members },
          { ...options, retainOnDelete: true, ignoreChanges: ["members"] },
        )
      : undefined;

    const permissionOptions: pulumi.CustomResourceOptions = {
      ...options,
      ...(team && { dependsOn: team }),
      // Old and new permission have the same ID: deleting the old one last would revoke the new one.
      deleteBeforeReplace: true,
    };
    const stackPermissions = stacks.map(({ stack: path, permission }) => {
      const [project = "", stack = ""] = path.split("/");
      return new pulumiservice.TeamStackPermission(
        `${prefix}.${name}.${path}`,
        { organization, team: name, project, stack, permission: STACK_PERMISSIONS[permission] },
        permissionOptions,
      );
    });
    const environmentPermissions = environments.map(({ environment: path, permission }) => {
      const [project = "", environment = ""] = path.split("/");
      return new pulumiservice.TeamEnvironmentPermission(
        `${prefix}.${name}.${path}`,
        { organization, team: name, project, environment, permission },
        permissionOptions,
      );
    });
    return { name, team, permissions: [...stackPermissions, ...environmentPermissions] };
  });
}

/**
 * Returns the login of the user who runs the update, whom the service makes a member of a team that the user creates. The
 * provider compares members with this input, even if their changes are ignored: without it, the next update would take the
 * user out of the team. https://github.com/pulumi/pulumi-pulumiservice/blob/v1.3.0/provider/pkg/resources/team.go
 *
 * @returns an empty list in a preview, or if the access token is not a user's. It does not fail.
 */
function creator(
  organization: pulumi.Input<string>,
  provider: pulumi.ProviderResource,
): pulumi.Input<string[]> {
  if (pulumi.runtime.isDryRun()) return [];
  const login = pulumiservice.getCurrentUser({}, { provider }).then(
    ({ username }) => username,
    () => "",
  );
  return pulumi.output({ login, organization }).apply(({ login, organization }) => {
    // Other tokens have the name of the organization, or one such as `team-account:ID`. To add these would fail.
    // https://github.com/pulumi/pulumi/blob/v3.276.0/pkg/cmd/pulumi/whoami/whoami.go
    const isUser = v.is(userLoginSchema, login) && login !== organization;
    return isUser ? [login] : [];
  });
}
