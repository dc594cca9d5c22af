// The teams that are created in Pulumi Cloud, and what each may do: the stacks and the environments that it has access to.

import type * as pulumi from "@pulumi/pulumi";
import * as pulumiservice from "@pulumi/pulumiservice";
import type { Access } from "./settings/access";

const { Read, Edit, Admin } = pulumiservice.TeamStackPermissionScope;
const STACK_PERMISSIONS = { read: Read, edit: Edit, admin: Admin };

/** A team that exists once these resources do. Its name is a plain string, so that nothing depends on it by a property. */
export interface CreatedTeam {
  name: string;
  team: pulumi.Resource;
  /** What a service account that acts as the team waits for. */
  permissions: pulumi.Resource[];
}

/**
 * Creates teams in Pulumi Cloud, with their permissions. Its members are left to the service, which adds who creates a team,
 * and to anyone who manages them there.
 *
 * @param prefix of the resources' names.
 * @param options with the provider of Pulumi Cloud.
 * @returns the teams in the same order.
 */
export function createTeams(
  prefix: string,
  { organization, teams }: { organization: pulumi.Input<string>; teams: Access["createTeams"] },
  options: pulumi.CustomResourceOptions,
): CreatedTeam[] {
  return teams.map(({ name, stacks, environments }) => {
    const team = new pulumiservice.Team(
      `${prefix}.${name}`,
      { organizationName: organization, teamType: "pulumi", name },
      { ...options, ignoreChanges: ["members"] },
    );

    const ofTeam: pulumi.CustomResourceOptions = {
      ...options,
      dependsOn: team,
      // A deleted team has no permissions.
      deletedWith: team,
      // Another permission has the same ID. Deleted after it is created, the previous one would take it away.
      deleteBeforeReplace: true,
    };
    const stackPermissions = stacks.map(({ stack: path, permission }) => {
      const [project = "", stack = ""] = path.split("/");
      return new pulumiservice.TeamStackPermission(
        `${prefix}.${name}.${path}`,
        { organization, team: name, project, stack, permission: STACK_PERMISSIONS[permission] },
        ofTeam,
      );
    });
    const environmentPermissions = environments.map(({ environment: path, permission }) => {
      const [project = "", environment = ""] = path.split("/");
      return new pulumiservice.TeamEnvironmentPermission(
        `${prefix}.${name}.${path}`,
        { organization, team: name, project, environment, permission },
        ofTeam,
      );
    });
    return { name, team, permissions: [...stackPermissions, ...environmentPermissions] };
  });
}
