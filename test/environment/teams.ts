// The teams and custom roles of the emulated Pulumi Cloud, with what each may do.

import { type Emulator, type ResourceKind, storedKind } from "./emulator";

interface TeamInputs {
  organizationName: string;
  name: string;
  members?: string[];
}

/** For a stack or an environment of Pulumi ESC. */
interface PermissionInputs {
  organization: string;
  team: string;
  project: string;
  stack?: string;
  environment?: string;
  permission: number | string;
}

interface RoleInputs {
  organizationName: string;
  name: string;
  /** With a condition, for one environment; else, for the whole organization. */
  permissions:
    | { permissions: string[] }
    | { condition: { right: { identity: string } }; subNode: { permissions: string[] } };
}

export interface Teams extends Emulator {
  /**
   * Returns each team, such as `acme/platform`, each permission, such as `acme/platform: stack app/prod 102`, and each role with
   * what it is for, such as `acme role reader: environment app/prod environment:read`.
   */
  existing(): string[];
  /** Returns the members of a team such as `acme/platform`; undefined if it does not exist. */
  membersOf(id: string): string[] | undefined;
  /** Adds a member in Pulumi Cloud, as people do. */
  addMember(id: string, login: string): void;
}

/** The user whose access token the program has. */
export const CREATOR = "admin";

/** Starts without any team. */
export function startTeams(): Teams {
  const teams = new Map<string, TeamInputs>();
  const permissions = new Map<string, PermissionInputs>();
  const roles = new Map<string, RoleInputs>();

  function find(id: string): TeamInputs {
    const team = teams.get(id);
    if (!team) throw new Error(`404 API error: Not Found: Team '${id}' not found`);
    return team;
  }

  const withMembers = (team: TeamInputs, ...logins: string[]): TeamInputs => {
    return { ...team, members: [...new Set([...(team.members ?? []), ...logins])].sort() };
  };

  // pulumi/pulumi-pulumiservice, provider/pkg/resources/team.go.
  const team = storedKind(teams, ({ organizationName, name }) => {
    const id = `${organizationName}/${name}`;
    // The text is that of https://github.com/pulumi/pulumi-pulumiservice/issues/73.
    const exists = `409 API error: Conflict: Team with name "${name}" already exists`;
    if (teams.has(id)) throw new Error(`error creating team '${name}': failed to create team: ${exists}`);
    return id;
  });
  const withCreator: ResourceKind = {
    ...team,
    // The service adds who creates a team: https://github.com/pulumi/pulumi-pulumiservice/issues/278
    create: (name, inputs: TeamInputs) => team.create(name, withMembers(inputs, CREATOR)),
  };

  /**
   * A stack or an environment has one permission of a team. Its ID says nothing of the level: whatever is created last is in
   * force, and the deletion of an earlier one takes it away.
   */
  const permissionKind = (idOf: (inputs: PermissionInputs) => string) =>
    storedKind(permissions, (inputs) => {
      find(`${inputs.organization}/${inputs.team}`);
      return idOf(inputs);
    });

  return {
    existing: () => [
      ...teams.keys(),
      ...[...permissions.values()].map(({ organization, team, project, stack, environment, permission }) => {
        const target = stack ? `stack ${project}/${stack}` : `environment ${project}/${environment}`;
        return `${organization}/${team}: ${target} ${permission}`;
      }),
      ...[...roles.values()].map(({ organizationName, name, permissions }) => {
        const target =
          "condition" in permissions ? `environment ${permissions.condition.right.identity}` : "organization";
        const allow = "condition" in permissions ? permissions.subNode : permissions;
        return `${organizationName} role ${name}: ${target} ${allow.permissions.join(" ")}`;
      }),
    ],
    membersOf: (id) => teams.get(id)?.members,
    addMember: (id, login) => void teams.set(id, withMembers(find(id), login)),
    resources: {
      "pulumiservice:index:Team": withCreator,
      // provider/pkg/resources/organization_role.go: the service chooses the ID.
      "pulumiservice:index:OrganizationRole": storedKind(
        roles,
        ({ organizationName }) => `${organizationName}/role-${roles.size + 1}`,
        (id, inputs) => ({ ...inputs, roleId: id.split("/")[1] }),
      ),
      // provider/pkg/resources/team_stack_perm.go and team_environment_perm.go.
      "pulumiservice:index:TeamStackPermission": permissionKind(
        ({ organization, project, stack, team }) => `${organization}/${project}/${stack}/${team}`,
      ),
      "pulumiservice:index:TeamEnvironmentPermission": permissionKind(
        ({ organization, team, project, environment }) => `${organization}/${team}/${project}+${environment}`,
      ),
    },
    calls: {
      // provider/pkg/functions/role_permissions.go and environment.go. The emulated ID of an environment is its name.
      "pulumiservice:index:getEnvironment": {
        answer: ({ projectName, name }: { projectName: string; name: string }) => {
          return { projectName, name, environmentId: `${projectName}/${name}` };
        },
      },
      "pulumiservice:index:buildEnvironmentScopedPermissions": {
        answer: ({ environmentId, permissions }: { environmentId: string; permissions: string[] }) => ({
          permissions: {
            __type: "PermissionDescriptorCondition",
            condition: {
              __type: "PermissionExpressionEqual",
              left: { __type: "PermissionExpressionEnvironment" },
              right: { __type: "PermissionLiteralExpressionEnvironment", identity: environmentId },
            },
            subNode: { __type: "PermissionDescriptorAllow", permissions },
          },
        }),
      },
      // provider/pkg/functions/current_user.go.
      "pulumiservice:index:getCurrentUser": {
        answer: () => ({ username: CREATOR, name: "", email: "", avatarUrl: "" }),
      },
    },
  };
}
