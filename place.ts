// Where a stack or a component is deployed, and that it stays there.

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
 * Keeps the place where a stack or a component was first deployed, and requires that it is still there. Everything that must
 * not change at another place depends on the result.
 *
 * A move cannot be undone: if one resource fails at the new place, both places have an issuer with the same policies, and
 * the way back deletes what both have, such as a live service account.
 *
 * Pulumi bills each Stash. There are two for a stack and two for a component, so four in this project's stack: one for the
 * URL, which can be accepted anew, and one for all other values. The output of a Stash never changes, so to merge them would
 * forget the first values, and a value that is added to the place later needs a separate Stash.
 *
 * @param name of the resources, such as that of the provider of Pulumi Cloud.
 * @param place its values are known in a preview, except outputs of resources that are still to be created.
 * @param componentName if only a component stays. Without it, the whole stack does.
 * @returns what to pass as `dependsOn`. It fails, with what to do, if a value differs from the first one.
 */
export function stayWhereDeployed(
  name: string,
  { pulumiApiUrl, ...others }: Place,
  componentName?: string,
  options?: pulumi.CustomResourceOptions,
): Promise<pulumi.Resource>[] {
  const urlStash = keepFirst(`${name}.url`, pulumiApiUrl, options);
  const firstUrl = { pulumiApiUrl: urlStash.output };
  const comparedUrl = requireSame(urlStash, { pulumiApiUrl }, firstUrl, componentName);

  const values = Object.fromEntries(Object.entries(others).filter(([, value]) => value !== undefined));
  if (Object.keys(values).length === 0) return [comparedUrl];
  // Only then: an update that stops must not keep a first value of the other place.
  const placeStash = keepFirst(`${name}.place`, values, { ...options, dependsOn: comparedUrl });
  return [comparedUrl, requireSame(placeStash, values, placeStash.output, componentName)];
}

function keepFirst(name: string, input: unknown, options?: pulumi.CustomResourceOptions): pulumi.Stash {
  // The output of a Stash remains its first input. A changed one would only be an update in every preview.
  return new pulumi.Stash(name, { input }, { ...options, ignoreChanges: ["input"] });
}

/**
 * Compares the values of a place with the first ones.
 *
 * @param stash that keeps the first values.
 * @returns the Stash. It fails with every value that differs from the first one, as far as they are known. Not an output: the SDK
 *   would look through the whole component for unknown values, for each resource that depends on it.
 */
async function requireSame(
  stash: pulumi.Stash,
  values: Record<string, pulumi.Input<unknown>>,
  firstValues: pulumi.Input<Record<string, unknown> | undefined>,
  componentName: string | undefined,
): Promise<pulumi.Resource> {
  const moves = new Map<string, Move>();
  // Each value by itself: one that a preview does not know must not hide that another one has changed.
  const comparisons = Object.entries(values).map(([setting, value]) =>
    pulumi.output({ value, firstValues }).apply(({ value: current, firstValues }) => {
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

/** Returns what has changed where no setting of the stack has: of what it looks up. */
function causes(moved: string[]): string[] {
  if (moved.includes("region")) {
    return ["  Without aws:region, the region is that of AWS_REGION or of the AWS profile.", ""];
  }
  if (!moved.includes("issuerUrl")) return [];
  return ["  The AWS account is another one, or the cluster was deleted and created again.", ""];
}
