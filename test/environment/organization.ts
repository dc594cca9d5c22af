// What the organization acme has in the emulated Pulumi Cloud besides issuers: teams, custom roles, and environments.

import { randomUUID } from "node:crypto";
import type { Reply } from "../../simulator/pulumiCloud";

/** A custom role as a request contains it: PermissionDescriptorBase in provider/pkg/cloud/spec.json of pulumi/pulumi-pulumiservice. */
interface Role {
  name: string;
  details: { condition: { right: { identity: string } }; subNode: { permissions: string[] } };
}

export type Organization = ReturnType<typeof startOrganization>;

const NO_CONTENT = { status: 204 };

/** Starts an organization that is empty. */
export function startOrganization() {
  /** With their members. */
  const teams = new Map<string, Set<string>>();
  const roles = new Map<string, Role>();
  /** An environment's ID is its path. */
  const environments = new Set<string>();
  /** For the emulated Pulumi Cloud, which reads it at each exchange. */
  const roleIds: string[] = [];

  return {
    roleIds,
    /** Returns the names of what exists. */
    existing: () => [...environments, ...teams.keys(), ...[...roles.values()].map(({ name }) => name)],
    /** Returns the members of all teams. */
    members: () => [...teams.values()].flatMap((members) => [...members]),

    /** Opens an environment with a role. Assumed (open-only): `environment:open` is enough. */
    open(endpoint: string, roleID = ""): object | undefined {
      const [, path = ""] =
        /^POST \/api\/esc\/environments\/acme\/(.+)\/open\?duration=\w+$/.exec(endpoint) ?? [];
      const { condition, subNode } = roles.get(roleID)?.details ?? {};
      const isOpened =
        condition?.right.identity === path && subNode?.permissions.includes("environment:open");
      return environments.has(path) && isOpened ? { id: randomUUID() } : undefined;
    },

    /** Answers an admin. @returns undefined for an unknown endpoint or object. */
    answer(call: string, body: unknown): Reply | undefined {
      const [method, url = ""] = call.split(" ");
      const [path = ""] = url.split("?");
      const [, team = ""] = /^\/api\/orgs\/acme\/teams\/(.+)$/.exec(path) ?? [];
      const [, role = ""] = /^\/api\/orgs\/acme\/roles\/(.+)$/.exec(path) ?? [];
      const [, environment = ""] = /^\/api\/esc\/environments\/acme\/(\w[\w-]*\/\w+)/.exec(path) ?? [];
      const { name = "", project, member = "" } = body as Record<string, string>;
      switch (`${method} ${path}`) {
        case "GET /api/orgs/acme/teams":
          // As Go encodes an empty list.
          return { status: 200, body: { teams: teams.size === 0 ? null : [...teams.keys()].map(named) } };
        case "POST /api/orgs/acme/teams/pulumi":
          if (teams.has(name)) return conflict("Team with this name already exists");
          // The service adds who creates a team: https://github.com/pulumi/pulumi-pulumiservice/issues/278
          teams.set(name, new Set(["alice"]));
          return { status: 201, body: { kind: "pulumi", name } };
        case `PATCH /api/orgs/acme/teams/${team}`:
          return teams.get(team)?.delete(member) ? NO_CONTENT : undefined;
        case `DELETE /api/orgs/acme/teams/${team}`:
          return teams.delete(team) ? NO_CONTENT : undefined;
        case "GET /api/orgs/acme/roles":
          return { status: 200, body: { roles: [...roles].map(([id, it]) => ({ id, name: it.name })) } };
        case "POST /api/orgs/acme/roles": {
          if ([...roles.values()].some((it) => it.name === name)) return conflict("Role already exists");
          const id = randomUUID();
          roles.set(id, body as Role);
          roleIds.push(id);
          return { status: 200, body: { id } };
        }
        case `DELETE /api/orgs/acme/roles/${role}`:
          if (!url.endsWith("?force=true"))
            return { status: 400, body: { code: 400, message: "Bad Request: in use" } };
          roleIds.splice(roleIds.indexOf(role), 1);
          return roles.delete(role) ? NO_CONTENT : undefined;
        // Pages of one element.
        case "GET /api/esc/environments/acme": {
          const all = ["default/other", ...environments];
          const index = Number(new URLSearchParams(url.split("?")[1]).get("continuationToken"));
          const [ofProject, ofEnvironment] = all[index]?.split("/") ?? [];
          const environment = { id: all[index], project: ofProject, name: ofEnvironment };
          const next = index + 1 < all.length ? { nextToken: String(index + 1) } : {};
          return { status: 200, body: { environments: [environment], ...next } };
        }
        case "POST /api/esc/environments/acme":
          if (environments.has(`${project}/${name}`)) return conflict("environment already exists");
          environments.add(`${project}/${name}`);
          return { status: 200 };
        case `GET /api/esc/environments/acme/${environment}/metadata`:
          return environments.has(environment) ? { status: 200, body: { id: environment } } : undefined;
        case `DELETE /api/esc/environments/acme/${environment}`:
          return environments.delete(environment) ? { status: 200 } : undefined;
      }
      return undefined;
    },
  };
}

const named = (name: string) => ({ name });

function conflict(message: string): Reply {
  return { status: 409, body: { code: 409, message: `Conflict: ${message}` } };
}
