// Settings whose values are known later: outputs are checked once they are known.

import * as pulumi from "@pulumi/pulumi";
import type * as v from "valibot";
import { accessEntries, issuerAudiences, type ValidSettings } from "./access";
import { accountEntries, pattern } from "./account";
import { type RoleCluster, roleClusterEntries } from "./cluster";
import type { Path, Problem } from "./problems";
import { checkOutputs, inputSchema, isLater } from "./validation";

/**
 * Returns valid settings whose outputs fail if they are invalid, once they are known.
 *
 * @param errorOf returns the error to fail with.
 */
export function withCheckedOutputs<Settings extends ValidSettings & RoleCluster>(
  settings: Settings,
  errorOf: (problem: Problem) => Error,
): Settings {
  const entries: v.ObjectEntries = { ...accessEntries, ...roleClusterEntries };
  const ofAccount: v.ObjectEntries = accountEntries;
  const serviceAccounts = settings.serviceAccounts.map((account, index) => {
    const path: Path = ["serviceAccounts", index];
    const policyRules = checkOutputs(
      account.policyRules,
      () => inputSchema(pattern),
      [...path, "policyRules"],
      errorOf,
    );
    return { ...checkOutputs(account, (key) => ofAccount[key], path, errorOf), policyRules };
  });
  const checked = checkOutputs({ ...settings, serviceAccounts }, (key) => entries[key], [], errorOf);
  return { ...checked, issuerUrl: otherThanAudiences(checked, errorOf) };
}

/** Returns the issuer, which fails if an audience is the same. Plain audiences stay plain, so that a preview shows them. */
function otherThanAudiences(
  { issuerUrl, serviceAccounts }: ValidSettings & RoleCluster,
  errorOf: (problem: Problem) => Error,
): pulumi.Input<string> {
  const audiences = serviceAccounts.map(({ tokenAudience }) => tokenAudience);
  if (![issuerUrl, ...audiences].some(isLater)) return issuerUrl;
  return pulumi.all([issuerUrl, pulumi.all(audiences)]).apply(([url, known]) => {
    const [problem] = issuerAudiences(
      known.map((tokenAudience) => ({ tokenAudience })),
      url,
    );
    if (problem) throw errorOf(problem);
    return url;
  });
}

/** What to write instead of an output, for settings that name resources or decide which exist. */
export const INSTEAD_OF_OUTPUTS = {
  namespace:
    "Write the name as a string. If the program creates the namespace, add it to dependsOn of this component",
  name: "Write the name as a string. If the program creates the service account, add it to dependsOn of this component",
  policyRules: "Only its values can be outputs",
  rolePolicyArns:
    "If the program creates the policy, attach it to roleName of the output serviceAccounts with a RolePolicyAttachment",
};
