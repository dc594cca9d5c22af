// Who gets what, as one line for each service account, which a preview compares by its key. The lines describe what is registered,
// so that a changed program shows in them. Only the longest lifetime, the image, and the URL of Pulumi Cloud come from the settings.

import * as pulumi from "@pulumi/pulumi";
import { DEFAULT_IMAGE, DEFAULT_MAX_EXPIRATION_SECONDS } from "./access";
import { type AwsRole, defaultAudience } from "./account";
import { DEFAULT_API_URL } from "./names";
import { AUDIENCE_RULE, type AuthPolicy, NAME_RULE, NAMESPACE_RULE } from "./tokenTypes";

/** What is registered for one service account. */
export interface Registered {
  namespace: string;
  name: string;
  policy: AuthPolicy;
  /** The files of its ConfigMap, which say what its exchange requests. */
  request: { tokenScope: pulumi.Input<string>; tokenExpirationSeconds: pulumi.Input<string> };
  role?: RolePermissions | undefined;
  injectToken: boolean;
}

/** What a role may do, and how pods receive it. */
export interface RolePermissions {
  awsRole: Exclude<AwsRole, "none">;
  policyArns: pulumi.Input<string>[];
  permissionsBoundary?: pulumi.Input<string> | undefined;
}

/** What all service accounts have in common. */
export interface Common {
  organization: pulumi.Input<string>;
  issuerUrl: pulumi.Input<string>;
  maxExpirationSeconds: number;
  image: string;
  pulumiApiUrl: string;
}

/**
 * Returns what a service account is granted, such as
 * `team:platform, 3600 s, IAM role by IRSA (policy arn:aws:iam::aws:policy/ReadOnlyAccess)`: its access token, the role that its pods
 * get, and all else that grants something and is not the default. While it is denied, the line is `suspended (…)`.
 *
 * @returns with `known after the update` for what a preview does not know, so that it shows the rest.
 */
export async function grantLineOf(registered: Registered, common: Common): Promise<string> {
  const { policy, request, role, injectToken } = registered;
  const seconds = await textOf(request.tokenExpirationSeconds);
  const { maxExpirationSeconds } = common;
  // Anyone who has the ID token can request another lifetime.
  const isLonger = maxExpirationSeconds !== DEFAULT_MAX_EXPIRATION_SECONDS;
  const parts = [
    await ownerOf(policy, request.tokenScope),
    isLonger ? `${seconds} s of at most ${maxExpirationSeconds} s` : `${seconds} s`,
    ...(await rulesOf(registered, common)),
    ...(role ? [await roleOf(role)] : []),
    ...(injectToken ? ["injected into its pods"] : []),
  ];
  const line = parts.join(", ");
  return policy.decision === "deny" ? `suspended (${line})` : line;
}

/** Returns what decides, for all service accounts, who grants a token and what runs with it. */
export async function commonLineOf({ issuerUrl, image, pulumiApiUrl }: Common): Promise<string> {
  const parts = [
    `issuer ${await textOf(issuerUrl)}`,
    ...(pulumiApiUrl === DEFAULT_API_URL ? [] : [`Pulumi Cloud ${pulumiApiUrl}`]),
    ...(image === DEFAULT_IMAGE ? [] : [`image ${image}`]),
  ];
  return parts.join(", ");
}

async function ownerOf(policy: AuthPolicy, scope: pulumi.Input<string>): Promise<string> {
  const { tokenType, userLogin = "", teamName = "", runnerID = "", roleID, authorizedPermissions } = policy;
  switch (tokenType) {
    case "personal":
      return `user:${await textOf(userLogin)}`;
    case "team":
      return `team:${await textOf(teamName)}`;
    case "runner":
      return `${await textOf(scope)} (ID ${await textOf(runnerID)})`;
    case "organization":
      if (roleID !== undefined) return `organization (role ${await textOf(roleID)})`;
      return authorizedPermissions ? `organization (${authorizedPermissions.join(", ")})` : "organization";
  }
}

/** Returns what an ID token must be besides the service account's own one with the default audience, or need not be. */
async function rulesOf({ namespace, name, policy }: Registered, { organization }: Common): Promise<string[]> {
  const {
    [NAMESPACE_RULE]: ofNamespace,
    [NAME_RULE]: ofName,
    [AUDIENCE_RULE]: audience,
    ...others
  } = policy.rules;
  const isOwn = ofNamespace === namespace && ofName === name;
  const further = Object.entries(isOwn ? others : { ...policy.rules, [AUDIENCE_RULE]: undefined });
  const rules = further.flatMap(([claim, pattern]) => {
    return pattern === undefined ? [] : [textOf(pattern).then((text) => `only with ${claim} = ${text}`)];
  });
  return [
    ...(isOwn ? [] : ["not limited to this service account"]),
    ...(await audienceOf(audience, organization)),
    ...(await Promise.all(rules)),
  ];
}

async function audienceOf(
  audience: pulumi.Input<string> | undefined,
  organization: pulumi.Input<string>,
): Promise<string[]> {
  if (audience === undefined) return ["for any audience"];
  const text = await textOf(audience);
  return text === (await textOf(defaultAudience(organization))) ? [] : [`audience ${text}`];
}

/** How pods receive a role, as AWS calls it. */
const SOURCES: Record<RolePermissions["awsRole"], string> = {
  irsa: "IRSA",
  "pod-identity": "EKS Pod Identity",
};

async function roleOf({ awsRole, policyArns, permissionsBoundary }: RolePermissions): Promise<string> {
  const arns = await Promise.all(policyArns.map(textOf));
  const policies =
    arns.length > 0 ? [`${arns.length === 1 ? "policy" : "policies"} ${arns.join(" and ")}`] : [];
  const boundary = permissionsBoundary === undefined ? [] : [`boundary ${await textOf(permissionsBoundary)}`];
  const details = [...policies, ...boundary];
  const role = `IAM role by ${SOURCES[awsRole]}`;
  return details.length > 0 ? `${role} (${details.join(", ")})` : role;
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
