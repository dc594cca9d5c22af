// The teams and custom roles of the emulated Pulumi Cloud, with what each may do.

import { type Emulator, storedKind } from "./emulator";

interface Team {
  organizationName: string;
  name: string;
  members?: string[];
}

/** For a stack or an environment of Pulumi ESC. */
type Permission = Record<
  "organization" | "team" | "project" | "stack" | "environment" | "permission",
  string
>;

interface Role {
  organizationName: string;
  name: string;
  /** Without an ID, for the whole organization. */
  permissions: { environmentId?: string; permissions: string[] };
}

/** The user whose access token the program has. */
export const CREATOR = "admin";

/** Starts without any team. */
export function startTeams() {
  const teams = new Map<string, Team>();
  const permissions = new Map<string, Permission>();
  const roles = new Map<string, Role>();

  const withMember = (team: Team, login: string): Team => {
    return { ...team, members: [...new Set([...(team.members ?? []), login])].sort() };
  };
  // pulumi/pulumi-pulumiservice, provider/pkg/resources/team.go.
  const team = storedKind(teams, ({ organizationName, name }) => `${organizationName}/${name}`);
  /**
   * A stack or an environment has one permission of a team. Its ID says nothing of the level: whatever is created last is in
   * force, and the deletion of an earlier one takes it away.
   */
  const permissionKind = (idOf: (inputs: Permission) => string) =>
    storedKind(permissions, (inputs) => {
      const id = `${inputs.organization}/${inputs.team}`;
      if (!teams.has(id)) throw new Error(`404 API error: Not Found: Team '${id}' not found`);
      return idOf(inputs);
    });

  const emulator: Emulator = {
    /**
     * Returns each team, such as `acme/platform`, each permission, such as `acme/platform: stack app/prod 102`, and each role with
     * what it is for, such as `acme role reader: environment app/prod environment:read`.
     */
    existing: () => [
      ...teams.keys(),
      ...[...permissions.values()].map(({ organization, team, project, stack, environment, permission }) => {
        const target = stack ? `stack ${project}/${stack}` : `environment ${project}/${environment}`;
        return `${organization}/${team}: ${target} ${permission}`;
      }),
      ...[...roles.values()].map(({ organizationName, name, permissions }) => {
        const { environmentId, permissions: allowed } = permissions;
        const target = environmentId ? `environment ${environmentId}` : "organization";
        return `${organizationName} role ${name}: ${target} ${allowed.join(" ")}`;
      }),
    ],
    resources: {
      "pulumiservice:index:Team": {
        ...team,
        // The service adds who creates a team: https://github.com/pulumi/pulumi-pulumiservice/issues/278
        create: (name, inputs: Team) => team.create(name, withMember(inputs, CREATOR)),
      },
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
      // provider/pkg/functions/environment.go and role_permissions.go. The emulated ID of an environment is its name, and a descriptor
      // is its arguments.
      "pulumiservice:index:getEnvironment": {
        answer: ({ projectName, name }: { projectName: string; name: string }) => {
          return { environmentId: `${projectName}/${name}` };
        },
      },
      "pulumiservice:index:buildEnvironmentScopedPermissions": {
        answer: (permissions) => ({ permissions }),
      },
      // provider/pkg/functions/current_user.go.
      "pulumiservice:index:getCurrentUser": { answer: () => ({ username: CREATOR }) },
    },
  };
  return {
    ...emulator,
    /** Returns the members of a team such as `acme/platform`; undefined if it does not exist. */
    membersOf: (id: string) => teams.get(id)?.members,
    /** Adds a member in Pulumi Cloud, as people do. */
    addMember(id: string, login: string) {
      const team = teams.get(id);
      if (team) teams.set(id, withMember(team, login));
    },
  };
}
