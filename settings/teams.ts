// What teams in Pulumi Cloud may do, and which of them the stack creates.

import * as v from "valibot";
import { PROJECT_PATH } from "./names";
import type { Path, Problem } from "./problems";
import { teamNameSchema } from "./tokenTypes";
import {
  booleanSchema,
  duplicates,
  type Incomplete,
  listSchema,
  schemasOf,
  settingsSchema,
  stringSchema,
} from "./validation";

/** What a team may do with a stack. */
export const StackPermission = {
  /** Read the stack. */
  Read: "read",
  /** Read and update the stack. */
  Edit: "edit",
  /** Read, update, and delete the stack, and manage who has access to it. */
  Admin: "admin",
} as const;
export type StackPermission = (typeof StackPermission)[keyof typeof StackPermission];

/** What a team may do with an environment of Pulumi ESC. */
export const EnvironmentPermission = {
  /** Read the definition of the environment. */
  Read: "read",
  /** Open the environment, which shows its values. */
  Open: "open",
  /** Open and change the environment. */
  Write: "write",
  /** Open, change, and delete the environment, and manage who has access to it. */
  Admin: "admin",
} as const;
export type EnvironmentPermission = (typeof EnvironmentPermission)[keyof typeof EnvironmentPermission];

/** The permission of a team for one stack. */
export interface TeamStack {
  /** Stack of the organization, as PROJECT/STACK. */
  stack: string;
  /** What the team may do: `read`, `edit`, or `admin`. */
  permission: StackPermission;
}

/** The permission of a team for one environment. */
export interface TeamEnvironment {
  /** Environment of Pulumi ESC, as PROJECT/NAME. */
  environment: string;
  /** What the team may do: `read`, `open`, `write`, or `admin`. */
  permission: EnvironmentPermission;
}

/** A team in Pulumi Cloud, and what it may do. */
export interface Team {
  /** Name of the team, which is the `teamName` of an entry. */
  name: string;
  /** Create the team. Set it to `false` for one that exists: its members stay as they are either way. Default: `true`. */
  create?: boolean;
  /** Stacks that the team may use. Each must exist. Default: `[]`. */
  stacks?: TeamStack[];
  /** Environments that the team may use. Each must exist. Default: `[]`. */
  environments?: TeamEnvironment[];
}

const PATH = new RegExp(`^${PROJECT_PATH}$`);

const stackEntries = schemasOf<TeamStack>()({
  stack: stringSchema(PATH, "must be PROJECT/STACK"),
  permission: v.picklist(Object.values(StackPermission), "must be read, edit, or admin"),
});

const environmentEntries = schemasOf<TeamEnvironment>()({
  environment: stringSchema(PATH, "must be PROJECT/NAME"),
  permission: v.picklist(Object.values(EnvironmentPermission), "must be read, open, write, or admin"),
});

const teamEntries = schemasOf<Team>()({
  name: teamNameSchema,
  create: v.optional(booleanSchema, true),
  stacks: v.optional(listSchema(settingsSchema(stackEntries)), []),
  environments: v.optional(listSchema(settingsSchema(environmentEntries)), []),
});

/** A schema for the list of teams. */
export const teamList = listSchema(settingsSchema(teamEntries));

/**
 * Returns the problems of teams that are valid by themselves, but not together.
 *
 * @param teamNames of the entries; undefined if not all of them are known.
 */
export function teamProblems(teams: (Incomplete<Team> | undefined)[] = [], teamNames?: unknown[]): Problem[] {
  const inTeams = teams.flatMap((team, index): Problem[] => {
    const path: Path = ["teams", index];
    const isUnused = team?.name !== undefined && teamNames && !teamNames.includes(team.name);
    const unused = {
      path: [...path, "name"],
      value: team?.name,
      reason: "no entry of serviceAccounts has this teamName",
    };
    const stacks = team?.stacks?.map((it) => it?.stack) ?? [];
    const environments = team?.environments?.map((it) => it?.environment) ?? [];
    // Of an element with an invalid permission, the list is missing.
    const isWithoutPermissions =
      team?.create === false && team.stacks?.length === 0 && team.environments?.length === 0;
    const withoutEffect = {
      path: [...path, "create"],
      value: false,
      reason:
        "does nothing without stacks or environments. If the team needs no permissions, remove it from the list",
    };
    return [
      ...(isUnused ? [unused] : []),
      ...(isWithoutPermissions ? [withoutEffect] : []),
      ...duplicates(stacks, (at) => [...path, "stacks", at, "stack"]),
      ...duplicates(environments, (at) => [...path, "environments", at, "environment"]),
    ];
  });
  const names = teams.map((team) => team?.name);
  return [...inTeams, ...duplicates(names, (index) => ["teams", index, "name"])];
}
