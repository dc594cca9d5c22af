// The teams of the emulated Pulumi Cloud, with their members and what each may do.

import { type Emulator, type ResourceKind, storedKind } from "../../simulator/emulators/emulator";

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

export interface Teams extends Emulator {
  /** Returns each team, such as `acme/platform`, and each permission, such as `acme/platform: stack app/prod 102`. */
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
    ],
    membersOf: (id) => teams.get(id)?.members,
    addMember: (id, login) => void teams.set(id, withMembers(find(id), login)),
    resources: {
      "pulumiservice:index:Team": withCreator,
      // provider/pkg/resources/team_stack_perm.go and team_environment_perm.go.
      "pulumiservice:index:TeamStackPermission": permissionKind(
        ({ organization, project, stack, team }) => `${organization}/${project}/${stack}/${team}`,
      ),
      "pulumiservice:index:TeamEnvironmentPermission": permissionKind(
        ({ organization, team, project, environment }) => `${organization}/${team}/${project}+${environment}`,
      ),
    },
    calls: {
      // provider/pkg/functions/current_user.go.
      "pulumiservice:index:getCurrentUser": {
        answer: () => ({ username: CREATOR, name: "", email: "", avatarUrl: "" }),
      },
    },
  };
}
