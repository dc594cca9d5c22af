// Reads the teams in Pulumi Cloud of a component: those that it creates, and those of its service accounts.

import type { Team } from "./components";
import { type Found, isSameName, organizationOf, resourceOf } from "./foundResources";
import type { PlannedResource } from "./plan";
import { type Fields, fieldsIn, isOpaque, readFields, textOf, type Value, valueAt, without } from "./values";

const TEAM = /^pulumiservice:(index|api\/teams):Team$/;
const STACK_PERMISSION = "pulumiservice:index:TeamStackPermission";
const ENVIRONMENT_PERMISSION = "pulumiservice:index:TeamEnvironmentPermission";

/** What a component creates. */
const OF_COMPONENT = ["pulumiservice:index:Team", STACK_PERMISSION, ENVIRONMENT_PERMISSION];

/** What the provider adds to a team, and its members, whom people change. */
const NOT_COMPARED = ["displayName", "description", "members"];

export function isTeam({ type }: { type: string }): boolean {
  return TEAM.test(type);
}

/** Returns whether a resource in a component is a team of its organization, or a permission of one. */
export function isForTeam(found: Found, settings: Fields): boolean {
  const [own, organization] = [valueAt(settings, "organization"), organizationOf(found.inputs)];
  const isSame = isSameName(organization, own) && isOpaque(organization) === isOpaque(own);
  return isSame && OF_COMPONENT.includes(found.type) && typeof teamOf(found) === "string";
}

/**
 * Returns the teams that the component has resources of, and those of its service accounts.
 *
 * @param inside the resources of the component for which `isForTeam` is true.
 * @param outside the resources of the rest of the program, without those for another Pulumi Cloud.
 */
export function readTeams(
  inside: Found[],
  outside: Found[],
  settings: Fields,
  entries: Fields[],
  deleted: DeletedTeam[],
): Team[] {
  const organization = valueAt(settings, "organization");
  const all = [...inside, ...outside].filter(({ type, inputs }) => {
    return type.startsWith("pulumiservice:") && isSameName(organizationOf(inputs), organization);
  });
  const named = [
    ...entries.map((entry) => valueAt(entry, "teamName")),
    ...fieldsIn(valueAt(settings, "teams")).map((team) => valueAt(team, "name")),
  ];
  const names = [...inside.map(teamOf), ...named].filter((name) => typeof name === "string");
  return [...new Set(names)].map((name) => {
    const ofTeam = all.filter((it) => isSameName(teamOf(it), name));
    const own = inside.filter((it) => teamOf(it) === name);
    return {
      name,
      inputs: ofTeam.find(isTeam)?.inputs,
      isDeleted: deleted.some((it) => isSameName(it.name, name) && isSameName(it.organization, organization)),
      permissions: permissionsIn(ofTeam),
      created: single(own.filter(isTeam).map(({ inputs }) => without(inputs, ...NOT_COMPARED))),
      granted: Object.fromEntries(
        [...permissionsIn(own)].map(([subject, all]) => [subject, single(all) ?? null]),
      ),
      others: ofTeam
        .filter((it) => !TEAM.test(it.type) && !permissionSubject(it))
        .map((it) => resourceOf(it)),
    };
  });
}

export interface DeletedTeam {
  organization: Value | undefined;
  name: Value | undefined;
}

/** Returns the teams that the update deletes in Pulumi Cloud. The flag of the state decides whether one is retained. */
export function deletedTeams(resources: PlannedResource[]): DeletedTeam[] {
  const isDeleted = ({ type, deployed, planned, isReplaced }: PlannedResource) =>
    TEAM.test(type) && deployed?.retainOnDelete === false && (planned === undefined || isReplaced);
  return resources.filter(isDeleted).map(({ deployed }) => {
    const inputs = readFields(deployed?.inputs);
    return { organization: organizationOf(inputs), name: valueAt(inputs, "name") };
  });
}

function teamOf({ type, inputs }: Found): Value | undefined {
  const keys = TEAM.test(type) ? ["name"] : ["team", "teamName"];
  return keys.map((key) => valueAt(inputs, key)).find(Boolean);
}

/** Returns the permissions by what they are for. Several resources can grant one. */
function permissionsIn(ofTeam: Found[]): Map<string, Value[]> {
  const permissions = new Map<string, Value[]>();
  for (const it of ofTeam) {
    const subject = permissionSubject(it);
    if (subject) permissions.set(subject, [...(permissions.get(subject) ?? []), permissionOf(it)]);
  }
  return permissions;
}

/** Returns the only element of a list, or the list. */
function single(values: Value[]): Value | undefined {
  return values.length > 1 ? values : values[0];
}

function permissionSubject({ type, inputs }: Found): string | undefined {
  const [project, stack, environment] = ["project", "stack", "environment"].map((key) =>
    textOf(valueAt(inputs, key)),
  );
  if (type === STACK_PERMISSION) return `stack ${project}/${stack}`;
  return type === ENVIRONMENT_PERMISSION ? `environment ${project}/${environment}` : undefined;
}

/** The values of `TeamStackPermission`: provider/pkg/resources/team_stack_perm.go of pulumi/pulumi-pulumiservice. */
const STACK_PERMISSIONS: Record<string, string> = { 101: "read", 102: "edit", 103: "admin" };

function permissionOf({ type, inputs }: Found): Value {
  const permission = valueAt(inputs, "permission") ?? null;
  return (type === STACK_PERMISSION && STACK_PERMISSIONS[textOf(permission)]) || permission;
}
