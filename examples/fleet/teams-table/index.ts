// What ../teams/Pulumi.yaml does for one workload, from a table: for each workload and stage a team, which may update one stack and
// open one environment. Its header says what applies to members and permissions.

import * as pulumi from "@pulumi/pulumi";
import * as pulumiservice from "@pulumi/pulumiservice";

/** Who can do what the teams of a stage may: who deploys, and everyone else who needs these stacks. */
const MEMBERS = {
  dev: ["my-login"], // EDIT
  prod: ["my-login"], // EDIT
};

/** The workloads: the name of the team without its stage, and the project of its stacks and environments, which have a stage's name. */
const WORKLOADS = [
  { team: "team-a", project: "app" }, // EDIT
  { team: "team-b", project: "shop" }, // EDIT
];

const organization = pulumi.getOrganization();

for (const [stage, members] of Object.entries(MEMBERS)) {
  for (const { team, project } of WORKLOADS) {
    const name = `${team}-${stage}`;
    const created = new pulumiservice.Team(name, {
      organizationName: organization,
      teamType: "pulumi",
      name,
      members,
    });
    new pulumiservice.TeamStackPermission(
      name,
      {
        organization,
        team: name,
        project,
        stack: stage,
        permission: pulumiservice.TeamStackPermissionScope.Edit,
      },
      // Both permissions have the same ID, so deleting the old one last would revoke the new one.
      { dependsOn: created, deleteBeforeReplace: true },
    );
    new pulumiservice.TeamEnvironmentPermission(
      name,
      {
        organization,
        team: name,
        project,
        environment: stage,
        permission: pulumiservice.EnvironmentPermission.Open,
      },
      { dependsOn: created },
    );
  }
}
