// The teams of the emulated Pulumi Cloud, with what each may do.

import { type ResourceKind, storedKind } from "./emulator";

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

export interface Teams {
  resources: Record<string, ResourceKind>;
  /** Returns each team, such as `acme/platform`, and each permission, such as `acme/platform: stack app/prod 102`. */
  existing(): string[];
}

/** The user whose access token the program has. */
const CREATOR = "admin";

export function startTeams(): Teams {
  const teams = new Map<string, TeamInputs>();
  const permissions = new Map<string, PermissionInputs>();

  function requireTeam(id: string): void {
    if (!teams.has(id)) throw new Error(`404 API error: Not Found: Team '${id}' not found`);
  }

  // pulumi/pulumi-pulumiservice, provider/pkg/resources/team.go.
  const team = storedKind(teams, ({ organizationName, name }) => {
    const id = `${organizationName}/${name}`;
    // Assumed: the service's part of the message.
    const exists = "409 API error: Conflict: the team exists already";
    if (teams.has(id)) throw new Error(`error creating team '${name}': failed to create team: ${exists}`);
    return id;
  });
  const withCreator: ResourceKind = {
    ...team,
    // The service adds who creates a team: https://github.com/pulumi/pulumi-pulumiservice/issues/278
    create: (name, inputs) => team.create(name, { ...inputs, members: [CREATOR] }),
    delete(id) {
      requireTeam(id);
      teams.delete(id);
      for (const [permissionId, { organization, team }] of permissions) {
        if (id === `${organization}/${team}`) permissions.delete(permissionId);
      }
    },
  };

  /**
   * A stack or an environment has one permission of a team. Its ID says nothing of the level: whatever is created last is in
   * force, and the deletion of an earlier one takes it away.
   */
  function permissionKind(idOf: (inputs: PermissionInputs) => string): ResourceKind {
    const stored = storedKind(permissions, (inputs) => {
      requireTeam(`${inputs.organization}/${inputs.team}`);
      return idOf(inputs);
    });
    return {
      ...stored,
      delete(id) {
        const { organization, team } = permissions.get(id) ?? {};
        requireTeam(`${organization}/${team}`);
        permissions.delete(id);
      },
    };
  }

  return {
    existing: () => [
      ...teams.keys(),
      ...[...permissions.values()].map(({ organization, team, project, stack, environment, permission }) => {
        const target = stack ? `stack ${project}/${stack}` : `environment ${project}/${environment}`;
        return `${organization}/${team}: ${target} ${permission}`;
      }),
    ],
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
  };
}
