// The Pulumi teams of an organization, and what each may do. A team is what a workload's token acts as. Teams belong to the organization
// and not to a cluster, so this program has one stack, in that organization. Deploy it before the access stacks, whose entries name them.
//
// - Members: Pulumi Cloud adds the user who creates a team, so list yourself in each stage, or each preview shows a change.
//   Members that someone adds in Pulumi Cloud are taken out by the next `pulumi up --refresh`: list them here instead.
// - Permissions: a stack and an environment must exist before a team gets a permission on it. In a directory without a Pulumi.yaml,
//   create those that are missing by `pulumi stack init acme/app/dev` and `pulumi env init acme/shop/dev`.
// - `pulumi destroy` deletes the teams and the roles. Their service accounts are then denied.
//
// According to Pulumi, roles supersede these two kinds of permissions. But a team can have a role only if the organization has
// custom roles.

import * as pulumi from "@pulumi/pulumi";
import * as pulumiservice from "@pulumi/pulumiservice";

/** People who belong to every team of the stage, such as the deployers. They can do whatever any of those teams can. */
const MEMBERS = {
  dev: ["my-login"],
  staging: ["my-login"],
  prod: ["my-login"],
};

interface Workload {
  /** The name of the team without its stage. */
  team: string;
  /** The end of the team's name. */
  stage: keyof typeof MEMBERS;
  project: string;
  /** The stacks of the project that the team may update, by default the one with the name of the stage. */
  stacks?: string[];
  /** The environments of the project that the team may open, by default none. */
  environments?: string[];
  /** More people in this team, such as the workload's developers, who can do what it may. */
  members?: string[];
  /**
   * Stop it, such as in an incident, until you remove this line: the team has no permissions. Its tokens can still do what every
   * member may.
   */
  suspended?: boolean;
}

/**
 * EDIT: a line for each workload and stage. So a token of one stage cannot use another stage, apart from what your organization grants
 * every member. A workload on several clusters needs a stack for each.
 */
const WORKLOADS: Workload[] = [
  { team: "team-a", stage: "dev", project: "app" },
  { team: "team-a", stage: "staging", project: "app" },
  { team: "team-a", stage: "prod", project: "app", stacks: ["prod-us", "prod-eu"] },
  { team: "team-b", stage: "dev", project: "shop", environments: ["dev"] },
  { team: "team-b", stage: "staging", project: "shop", environments: ["staging"] },
  { team: "team-b", stage: "prod", project: "shop", environments: ["prod"] },
];

/**
 * The environments that External Secrets reads, each by a token with a separate role. The entry of its service account has the ID
 * of the role, `tokenType: organization`, and no other organization setting. Requires an organization with custom roles.
 */
const EXTERNAL_SECRETS: { project: string; environment: string }[] = [
  // { project: "shop", environment: "prod" },
];

const organization = pulumi.getOrganization();

const teams = WORKLOADS.map(({ team, stage }) => `${team}-${stage}`);
// An allow policy reads some other characters as patterns. Pulumi Cloud does not distinguish names by their case.
const invalid = teams.filter(
  (name, index) => !/^[a-z0-9-]{1,100}$/.test(name) || teams.indexOf(name) !== index,
);
if (invalid.length > 0) {
  throw new pulumi.RunError(
    `Invalid names of teams: ${invalid.join(", ")}. Use lowercase letters, digits, and hyphens, and each name once.`,
  );
}

for (const {
  team,
  stage,
  project,
  stacks = [stage],
  environments = [],
  members = [],
  suspended,
} of WORKLOADS) {
  const name = `${team}-${stage}`;
  const created = new pulumiservice.Team(name, {
    organizationName: organization,
    teamType: "pulumi",
    name,
    members: [...new Set([...MEMBERS[stage], ...members])],
  });
  if (suspended) continue;
  const teamInProject = { organization, team: name, project };
  for (const stack of stacks) {
    new pulumiservice.TeamStackPermission(
      `${name}.${stack}`,
      { ...teamInProject, stack, permission: pulumiservice.TeamStackPermissionScope.Edit },
      // Both permissions have the same ID, so deleting the old one last would revoke the new one.
      { dependsOn: created, deleteBeforeReplace: true },
    );
  }
  for (const environment of environments) {
    new pulumiservice.TeamEnvironmentPermission(
      `${name}.${environment}`,
      { ...teamInProject, environment, permission: pulumiservice.EnvironmentPermission.Open },
      { dependsOn: created },
    );
  }
}

/** The IDs of the roles, for `organizationRoleId`. A replaced role has another one. */
export const externalSecretsRoles = Object.fromEntries(
  EXTERNAL_SECRETS.map(({ project, environment }) => {
    const { environmentId } = pulumiservice.getEnvironmentOutput({
      organizationName: organization,
      projectName: project,
      name: environment,
    });
    const { permissions } = pulumiservice.buildEnvironmentScopedPermissionsOutput({
      environmentId,
      permissions: ["environment:read", "environment:open"],
    });
    // It says all that a token with it may do.
    const role = new pulumiservice.OrganizationRole(`external-secrets-${project}-${environment}`, {
      organizationName: organization,
      name: `external-secrets-${project}-${environment}`,
      permissions,
    });
    return [`${project}/${environment}`, role.roleId];
  }),
);
