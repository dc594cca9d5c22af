// Where a stack or a component was first deployed, and that it stays there.

import * as pulumi from "@pulumi/pulumi";
import { userError } from "./settings/userError";

/** Where a stack or a component is deployed. */
export interface Place {
  pulumiApiUrl: string;
  organization?: pulumi.Input<string>;
  clusterName?: string;
  /** Changing it would create another cluster, or delete the created one. */
  createCluster?: boolean;
  /** AWS region of the cluster. Changing it would replace a created cluster. */
  region?: string;
  /** The cluster's OIDC issuer, `https://…`. */
  issuerUrl?: pulumi.Input<string> | undefined;
}

/**
 * Keeps where a stack or a component was first deployed, and requires that it still is there. Everything that must not change
 * elsewhere depends on the result.
 *
 * A move cannot be undone: if one resource fails at the new place, both places have an issuer with the same policies, and
 * the way back deletes what both have, such as a live service account.
 *
 * Pulumi bills each Stash, so one keeps all values. To accept other values, the Stash has to be replaced: docs/troubleshooting.md.
 *
 * @param name of the Stash.
 * @param place its values are known in a preview, except outputs of resources that are still to be created.
 * @param componentName if only a component stays. Without it, the whole stack does.
 * @returns what to pass as `dependsOn`. It fails, with what to do, if a value differs from the first one.
 */
export function requireFirstPlace(
  name: string,
  place: Place,
  componentName?: string,
  options?: pulumi.CustomResourceOptions,
): Promise<pulumi.Resource>[] {
  const input = Object.fromEntries(Object.entries(place).filter(([, value]) => value !== undefined));
  // The output of a Stash remains its first input. A changed one would only be an update in every preview.
  const stash = new pulumi.Stash(name, { input }, { ...options, ignoreChanges: ["input"] });
  return [requireSame(stash, input, componentName)];
}

/**
 * Compares values with the first ones, each by itself: one that a preview does not know must not hide that another one differs.
 *
 * @returns the Stash. It fails with every value that differs from the first one, as far as they are known. Not an output: the SDK
 *   would look through the whole component for unknown values, for each resource that depends on it.
 */
async function requireSame(
  stash: pulumi.Stash,
  values: Record<string, pulumi.Input<unknown>>,
  componentName: string | undefined,
): Promise<pulumi.Resource> {
  const moves = new Map<string, Move>();
  const comparisons = Object.entries(values).map(([setting, value]) =>
    pulumi.all([value, stash.output]).apply(([current, firstValues]) => {
      // A Stash that this update does not create, such as with --target, has no output.
      const first = firstValues?.[setting];
      if (first !== undefined && first !== current) moves.set(setting, { setting, current, first });
    }),
  );
  await Promise.all(comparisons.map(settled));
  const inOrder = Object.keys(values).flatMap((setting) => moves.get(setting) ?? []);
  if (inOrder.length > 0) throw userError(moveMessage(inOrder, componentName));
  return stash;
}
/** Resolves once an output does, even if its value is unknown, when `apply` does not run. */
async function settled(output: pulumi.Output<unknown>): Promise<void> {
  await pulumi.isSecret(output);
}

interface Move {
  setting: string;
  current: unknown;
  first: unknown;
}

function moveMessage(moves: Move[], componentName: string | undefined): string {
  const differences = moves.map(({ setting, current, first }) => {
    return `  ${setting} = ${JSON.stringify(current)}: deployed with ${JSON.stringify(first)}`;
  });
  const moved = moves.map(({ setting }) => setting);
  // `pulumi destroy` does not run the program, which would stop a token of another Pulumi Cloud.
  const url = moves.find(({ setting }) => setting === "pulumiApiUrl")?.first;
  const undone = url === undefined ? "undo the change" : `undo the change, log in to ${url}`;
  const renamed = moved.join() === "pulumiApiUrl" ? [RENAMED] : [];
  const isGone = moved.includes("issuerUrl") || moved.includes("clusterName");
  // https://www.pulumi.com/registry/packages/kubernetes/installation-configuration/
  const unreachable = "with PULUMI_K8S_DELETE_UNREACHABLE=true in the environment";

  const lines = componentName
    ? [
        `PulumiCloudAccess "${componentName}" stays where it was first deployed, even if that update failed. ` +
          "None of its resources was changed.",
        "",
        ...differences,
        "",
        "  To stay, undo the change.",
        ...renamed,
        `  To move, ${undone}, remove the component from the program, and run \`pulumi up\`. Then add it again with the ` +
          "change. For a whole stack, run `pulumi destroy` instead.",
        ...(isGone ? [`  If its cluster no longer exists, run that command ${unreachable}.`] : []),
      ]
    : [
        "This stack stays where it was first deployed, even if that update failed. Nothing was changed.",
        "",
        ...differences,
        "",
        ...causes(moved),
        "  To stay, undo the change.",
        ...renamed,
        `  To move, ${undone}, and run \`pulumi destroy\`. Then deploy the stack with the change.`,
        ...(isGone
          ? [`  If its cluster no longer exists, run \`pulumi destroy\` ${unreachable}, and undo nothing.`]
          : []),
        "  What stays on the cluster and in the AWS account cannot be created there again: remove createNamespaces and " +
          "createOidcProvider before you deploy to the same ones.",
        "  To have both, undo the change, and create another stack with it.",
      ];
  return [...lines, ""].join("\n");
}

const RENAMED =
  '  If only the name of your self-hosted Pulumi Cloud has changed, see "A renamed Pulumi Cloud" in docs/troubleshooting.md.';

/** Returns what has changed where no setting of the stack has: of what it looks up. */
function causes(moved: string[]): string[] {
  if (moved.includes("region")) {
    return ["  Without aws:region, the region is that of AWS_REGION or of the AWS profile.", ""];
  }
  if (!moved.includes("issuerUrl")) return [];
  return ["  The AWS account is another one, or the cluster was deleted and created again.", ""];
}
