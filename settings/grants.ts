// Who gets what, as one line for each service account, which a preview compares by its key.

import * as pulumi from "@pulumi/pulumi";
import { type CompleteSettings, DEFAULT_MAX_EXPIRATION_SECONDS } from "./access";
import { type Account, defaultAudience } from "./account";

/**
 * Returns what a service account is granted, such as `team:platform, 3600 s, role by irsa (arn:aws:iam::aws:policy/ReadOnlyAccess)`:
 * its access token, whose role its pods get, and each setting that grants something and has not its default.
 *
 * @returns with `known after the update` for what a preview does not know, so that it shows the rest.
 */
export async function grantLineOf(account: Account, access: CompleteSettings): Promise<string> {
  const { maxExpirationSeconds, audienceRule } = access;
  const { tokenExpirationSeconds: seconds, policyRules, awsRole, injectToken } = account;
  const [audience, organization] = [await textOf(account.tokenAudience), await textOf(access.organization)];
  const rules = Object.entries(policyRules).map(async ([claim, pattern]) => {
    return `only with ${claim} = ${await textOf(pattern)}`;
  });
  // Anyone who has the ID token can request another lifetime.
  const isLonger = maxExpirationSeconds !== DEFAULT_MAX_EXPIRATION_SECONDS;
  const parts = [
    await ownerOf(account),
    isLonger ? `${seconds} s of at most ${maxExpirationSeconds} s` : `${seconds} s`,
    audience === defaultAudience(organization) ? "" : `audience ${audience}`,
    audienceRule ? "" : "for any audience",
    ...(await Promise.all(rules)),
    awsRole === "none" ? "" : await roleOf(account, access),
    injectToken ? "injected into its pods" : "",
  ];
  return parts.filter(Boolean).join(", ");
}

async function ownerOf(account: Account): Promise<string> {
  const { userLogin = "", teamName = "", runnerName = "", runnerId = "", organizationRoleId } = account;
  switch (account.tokenType) {
    case "personal":
      return `user:${await textOf(userLogin)}`;
    case "team":
      return `team:${await textOf(teamName)}`;
    case "runner":
      return `runner:${await textOf(runnerName)} (ID ${await textOf(runnerId)})`;
    case "organization":
      if (organizationRoleId !== undefined) return `organization (role ${await textOf(organizationRoleId)})`;
      return account.organizationAdmin ? "organization (admin)" : "organization";
  }
}

async function roleOf(
  { awsRole, rolePolicyArns }: Account,
  { permissionsBoundaryArn }: CompleteSettings,
): Promise<string> {
  const policies = rolePolicyArns.length > 0 ? ` (${rolePolicyArns.join(", ")})` : "";
  const boundary =
    permissionsBoundaryArn === undefined ? "" : ` within ${await textOf(permissionsBoundaryArn)}`;
  return `role by ${awsRole}${policies}${boundary}`;
}

/** Returns a string that is an output, too, as far as it is known. */
async function textOf(value: pulumi.Input<string>): Promise<string> {
  let text = "known after the update";
  const output = pulumi.output(value).apply((known) => {
    text = known;
  });
  // It also resolves if the value is unknown, when `apply` does not run.
  await pulumi.isSecret(output);
  return text;
}
