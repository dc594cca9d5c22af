// The AWS provider's configuration of a stack: what the AWS CLI gets of it, and what keeps a deployment in the right account.

import { Region } from "@pulumi/aws/types/enums";
import { distance } from "fastest-levenshtein";
import * as v from "valibot";
import type { Path, Problem } from "./problems";
import { settingsSchema } from "./validation";

const UNSUPPORTED =
  "is not supported by `aws eks get-token`, which signs in to the cluster; use the environment, aws:profile, or one role in " +
  "aws:assumeRoles with no settings but roleArn, sessionName, and duration";
const unsupported = v.optional(v.never(UNSUPPORTED));

/**
 * The one role to assume. `aws eks get-token` cannot pass on its other settings, such as `externalId`. The session of that command
 * has its own name and duration.
 */
const assumedRole = settingsSchema(
  { roleArn: v.string(UNSUPPORTED), sessionName: v.optional(v.unknown()), duration: v.optional(v.unknown()) },
  { unknown: () => UNSUPPORTED },
);

const DEFAULT_TAGS = 'must be an object with tags, such as {"tags":{"team":"ops"}}';
const ACCOUNT_IDS = 'must be a list of AWS account IDs, such as ["123456789012"]';
const ACCOUNT_ID = "must be an AWS account ID: 12 digits, in quotes";

const acceptedAwsEntries = {
  // Also one that is newer than this project.
  "aws:region": v.optional(
    v.pipe(
      v.string(),
      v.regex(/^[a-z0-9-]*$/, "must be the name of an AWS region, such as us-west-2"),
      v.check(
        (region) => intendedRegion(region) === undefined,
        ({ input }) => `is not a region; did you mean "${intendedRegion(input)}"?`,
      ),
    ),
  ),
  "aws:profile": v.optional(v.string()),
  "aws:assumeRoles": v.optional(
    v.pipe(
      v.string(),
      v.parseJson(undefined, UNSUPPORTED),
      v.array(assumedRole, UNSUPPORTED),
      v.maxLength(1, UNSUPPORTED),
    ),
    "[]",
  ),
  "aws:allowedAccountIds": v.optional(
    v.pipe(
      v.string(),
      v.parseJson(undefined, ACCOUNT_IDS),
      v.array(v.pipe(v.unknown(), v.transform(String), v.regex(/^\d{12}$/, ACCOUNT_ID)), ACCOUNT_IDS),
    ),
  ),
  // Without `tags`, the provider tags nothing.
  "aws:defaultTags": v.optional(
    v.pipe(
      v.string(),
      v.parseJson(undefined, DEFAULT_TAGS),
      v.object({ tags: v.record(v.string(), v.unknown(), DEFAULT_TAGS) }, DEFAULT_TAGS),
    ),
  ),
};

const awsEntries = {
  ...acceptedAwsEntries,
  "aws:assumeRoleWithWebIdentity": unsupported,
  "aws:accessKey": unsupported,
  "aws:secretKey": unsupported,
  "aws:token": unsupported,
  "aws:sharedCredentialsFiles": unsupported,
  "aws:sharedConfigFiles": unsupported,
};

/** The keys of the AWS provider's configuration whose values the program reads. */
export const AWS_KEYS = Object.keys(acceptedAwsEntries);

/**
 * Reads the AWS provider's configuration, a string for each `aws:KEY`, into options of the AWS CLI, and the accounts that a
 * deployment is limited to. An option that is not set is undefined: the AWS CLI then reads it from the environment.
 */
export const awsSchema = v.pipe(
  v.object(awsEntries),
  v.transform((aws) => ({
    options: {
      region: aws["aws:region"],
      profile: aws["aws:profile"],
      "role-arn": aws["aws:assumeRoles"][0]?.roleArn,
    },
    accountIds: aws["aws:allowedAccountIds"],
  })),
);

export type AwsOptions = v.InferOutput<typeof awsSchema>["options"];

/** Returns a problem for each ARN that is of none of these accounts: IAM finds a policy only in the role's own account. */
export function foreignArns(
  arns: { path: Path; arn: unknown }[],
  accountIds: string[] | undefined,
): Problem[] {
  if (!accountIds) return [];
  return arns.flatMap(({ path, arn }): Problem[] => {
    const [, account] = /^arn:[^:]*:iam::([^:]*):/.exec(String(arn)) ?? [];
    // Policies of AWS itself have the account `aws`.
    if (account === undefined || account === "aws" || accountIds.includes(account)) return [];
    const reason = `is of account ${account}, but aws:allowedAccountIds has only ${accountIds.join(", ")}`;
    return [{ path, value: arn, reason }];
  });
}

/** Those of the SDK, which can be older than a region. */
const REGIONS: string[] = Object.values(Region);

/**
 * Returns the known region from which an unknown one differs by one typing error: a character too many, missing, or wrong, or two
 * that are swapped. A new region has a new number, or the code of another country.
 */
function intendedRegion(region: string): string | undefined {
  const withoutNumber = (name: string) => name.replace(/-\d$/, "");
  const countryOf = (name: string) => name.slice(0, 2);
  const sorted = (name: string) => [...name].sort().join("");
  if (REGIONS.some((known) => withoutNumber(known) === withoutNumber(region))) return undefined;
  return REGIONS.filter((known) => countryOf(known) === countryOf(region)).find((known) => {
    const edits = distance(known, region);
    return edits === 1 || (edits === 2 && sorted(known) === sorted(region));
  });
}
