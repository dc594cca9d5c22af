// What the organization acme has in the emulated Pulumi Cloud besides issuers: custom roles, environments, and lists for its admins.

import { randomUUID } from "node:crypto";
import type { PulumiCloud } from "../../simulator/emulators/pulumiCloud";
import type { Reply } from "../../simulator/emulators/server";

/** A custom role as a request contains it: PermissionDescriptorBase in provider/pkg/cloud/spec.json of pulumi/pulumi-pulumiservice. */
interface Role {
  name: string;
  details: { condition: { right: { identity: string } }; subNode: { permissions: string[] } };
}

export type Organization = ReturnType<typeof startOrganization>;

/** Starts without roles and environments. */
export function startOrganization() {
  const roles = new Map<string, Role>();
  /** Its ID is its path. */
  const environments = new Set<string>();
  /** For the emulated Pulumi Cloud, which reads it at each exchange. */
  const roleIds: string[] = [];
  const rejected: string[] = [];

  return {
    roleIds,
    /** From now on, rejects requests, such as `POST /api/orgs/acme/roles`. */
    rejects: (...calls: string[]) => void rejected.push(...calls),
    /** Returns the names of what exists. */
    existing: () => [...environments, ...[...roles.values()].map(({ name }) => name)],

    /** Opens an environment with a role. Assumed (open-only): `environment:open` is enough. */
    open(endpoint: string, roleID = ""): object | undefined {
      const [, path = ""] = /^POST \/api\/esc\/environments\/acme\/(.+)\/open$/.exec(endpoint) ?? [];
      const { condition, subNode } = roles.get(roleID)?.details ?? {};
      const isOpened =
        condition?.right.identity === path && subNode?.permissions.includes("environment:open");
      return environments.has(path) && isOpened ? { id: randomUUID() } : undefined;
    },

    /** Answers an admin. @returns undefined for an unknown endpoint or object. */
    answer(cloud: Pick<PulumiCloud, "exchanges">, call: string, body: unknown): Reply | undefined {
      const [method, url = ""] = call.split(" ");
      const [path = ""] = url.split("?");
      const [, role = ""] = /^\/api\/orgs\/acme\/roles\/(.+)$/.exec(path) ?? [];
      const [, environment = ""] = /^\/api\/esc\/environments\/acme\/(\w[\w-]*\/\w+)/.exec(path) ?? [];
      if (rejected.includes(`${method} ${path}`)) {
        return { status: 403, body: { code: 403, message: "Forbidden: rejected" } };
      }
      switch (`${method} ${path}`) {
        case "POST /api/orgs/acme/roles": {
          const id = randomUUID();
          roles.set(id, body as Role);
          roleIds.push(id);
          return { status: 200, body: { id } };
        }
        case `DELETE /api/orgs/acme/roles/${role}`:
          roleIds.splice(roleIds.indexOf(role), 1);
          return roles.delete(role) ? { status: 204 } : undefined;
        case "POST /api/esc/environments/acme": {
          const { project, name } = body as { project: string; name: string };
          environments.add(`${project}/${name}`);
          return { status: 200 };
        }
        case `GET /api/esc/environments/acme/${environment}/metadata`:
          return environments.has(environment) ? { status: 200, body: { id: environment } } : undefined;
        case `DELETE /api/esc/environments/acme/${environment}`:
          return environments.delete(environment) ? { status: 204 } : undefined;
        // Assumed (token-list): exchanged tokens are not in it.
        case "GET /api/user/tokens":
          return { status: 200, body: { tokens: [{ id: "token-1" }] } };
        // Assumed (audit-granted, audit-denied): denied exchanges only, without the service account.
        case "GET /api/orgs/acme/auditlogs/v2": {
          const denied = cloud.exchanges.filter(({ status }) => status !== 200);
          const auditLogEvents = denied.map(() => ({ event: "token-exchange", authFailure: true }));
          return { status: 200, body: { auditLogEvents } };
        }
      }
      return undefined;
    },
  };
}
