// Where a stack or a component is deployed, and that it stays there.

import * as pulumi from "@pulumi/pulumi";
import { userError } from "./settings/userError";

/** Where a stack or a component is deployed. */
export interface Place {
  pulumiApiUrl: string;
  organization?: pulumi.Input<string>;
  clusterName?: string;
  /** `true` or `false`: a created cluster has another issuer, or is deleted. */
  createCluster?: string;
  /** The cluster's OIDC issuer, `https://…`. */
  issuerUrl?: pulumi.Input<string> | undefined;
}

/** What the Stash of each value is named after. */
const STASH_NAMES: Record<string, string> = {
  pulumiApiUrl: "url",
  organization: "organization",
  clusterName: "cluster-name",
  createCluster: "create-cluster",
  issuerUrl: "issuer-url",
};

/**
 * Keeps the place where a stack or a component was first deployed, and requires that it is still there. Everything that must
 * not change at another place depends on the result.
 *
 * A move cannot be undone: if one resource fails at the new place, both places have an issuer with the same policies, and
 * the way back deletes what both have, such as a live service account.
 *
 * @param name of the resources, such as that of the provider of Pulumi Cloud.
 * @param place its values are known in a preview, except outputs of resources that are still to be created.
 * @param component the name of the component. Without it, the whole stack stays.
 * @returns what to pass as `dependsOn`. It fails, with what to do, if a value differs from the first one.
 */
export function stayWhereDeployed(
  name: string,
  place: Place,
  component?: string,
  options?: pulumi.CustomResourceOptions,
): pulumi.Input<pulumi.Resource>[] {
  const unmoved: pulumi.Output<pulumi.Resource>[] = [];
  for (const [setting, current] of Object.entries(place)) {
    if (current === undefined) continue;
    // The output of a Stash remains its first input. A changed input would only be an update in every preview.
    // One after the other: an update that stops must not keep a first value of the other place.
    const stash = new pulumi.Stash(
      `${name}.${STASH_NAMES[setting]}`,
      { input: current },
      { ...options, dependsOn: [...unmoved], ignoreChanges: ["input"] },
    );
    // Each value is compared separately: an unknown one must not hide that another one has changed.
    const compared = pulumi.output({ current, first: stash.output }).apply(({ current, first }) => {
      // A Stash that this update does not create, such as with --target, has no output.
      const hasMoved = first !== undefined && first !== current;
      if (hasMoved) throw userError(moveMessage({ setting, current, first }, component));
      return stash;
    });
    unmoved.push(compared);
  }
  return unmoved;
}

interface Move {
  setting: string;
  current: string;
  first: string;
}

function moveMessage({ setting, current, first }: Move, component: string | undefined): string {
  // `pulumi destroy` does not run the program, which would stop a token of another Pulumi Cloud.
  const restored = setting === "pulumiApiUrl" ? `restore it, log in to ${first}` : "restore it";
  const difference = `  ${setting} = "${current}": deployed with "${first}"`;

  const [title, ...ways] = component
    ? [
        `PulumiCloudAccess "${component}" stays where it was deployed. None of its resources was changed.`,
        "  To stay, restore the previous value.",
        `  To move, ${restored}, remove the component from the program, and run \`pulumi up\`. Then add it again with the ` +
          "new value. For a whole stack, run `pulumi destroy` instead.",
      ]
    : [
        "This stack stays where it was deployed. Nothing was changed.",
        "  To stay, restore the previous value.",
        `  To move, ${restored}, and run \`pulumi destroy\`. Then deploy the stack with the new value.`,
        "  To have both, restore it, and create another stack with the new value.",
      ];
  // A stack looks it up, and has no setting for it.
  const isLookedUp = !component && setting === "issuerUrl";
  const cause = isLookedUp
    ? ["  The AWS account or region is another one, or the cluster was deleted and created again.", ""]
    : [];
  return [title, "", difference, "", ...cause, ...ways, ""].join("\n");
}
