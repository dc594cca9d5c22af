// The configuration of the pipeline: its settings, and how they are read.

import * as v from "valibot";
import { clusterEntries } from "../cluster";
import { apiUrl, kubernetesName, policyArn, policyArns, rolePath } from "../settings/access";
import { loginProblems } from "../settings/login";
import { invalidConfiguration, projectValues, readRawConfig, withEncrypted } from "../settings/raw";
import {
  check,
  flag,
  list,
  type Problem,
  schemasOf,
  settings,
  string,
  unknownSettings,
} from "../settings/validation";

/** A stack that the workflows deploy. */
interface StackSettings {
  /** The stack, as ORGANIZATION/PROJECT/STACK. */
  stack: string;
  /** Name of its EKS cluster. All clusters are in one AWS account. */
  clusterName: string;
  /** AWS region of the cluster. */
  region: string;
  /** Namespaces of the stack's service accounts. Default: `["default"]`. */
  namespaces?: string[];
}

/** What the administrator decides about the workflows. */
interface PipelineSettings {
  /** GitHub repository, as OWNER/NAME. */
  repository: string;
  /** Start of the sub claim of the repository's ID tokens, as step 1 prints it. */
  subjectPrefix: string;
  /** Stacks that the workflows deploy. */
  stacks: StackSettings[];
  /**
   * Reviewers of each deployment, as in step 1: logins, or teams as ORGANIZATION/TEAM. With none, they are not checked.
   * Default: `[]`.
   */
  reviewers?: string[];
  /** IAM OIDC provider of GitHub in the account: create it, or use the `existing` one. Default: `create`. */
  githubOidcProvider?: "create" | "existing";
  /** OIDC issuer of GitHub in the organization: create it, or leave the `existing` one to policies.sh. Default: `create`. */
  githubIssuer?: "create" | "existing";
  /** The rolePolicyArns of all stacks. The deploy role can attach only these policies. Default: `[]`. */
  rolePolicyArns?: string[];
  /** The permissionsBoundaryArn of the stacks. The deploy role cannot create a role without it. Default: none. */
  permissionsBoundaryArn?: string;
  /**
   * Permissions boundary of the two roles of the workflows. It can be the same policy, if it allows what they do.
   * Default: none.
   */
  ownPermissionsBoundaryArn?: string;
  /** The rolePath of the stacks. Default: `/`. */
  rolePath?: string;
  /** Keys of the stacks' `aws:defaultTags`. The deploy role can set only these tags. Default: `[]`. */
  tagKeys?: string[];
  /** Let the deploy role create the clusters' IAM OIDC providers. Default: `false`. */
  createOidcProvider?: boolean;
  /** Let the deploy role associate roles with service accounts, for awsRole `pod-identity` in a stack. Default: `false`. */
  podIdentity?: boolean;
  /**
   * URL of Pulumi Cloud. Change it if yours is self-hosted. Your login must be for it, and a deployed stack keeps it.
   * Default: `https://api.pulumi.com`.
   */
  pulumiApiUrl?: string;
}

/** The settings with every default filled in. */
export type Settings = ReturnType<typeof withOrganizations>;

const createOrExisting = v.picklist(["create", "existing"], "must be create or existing");

// Letters, digits, and these characters are what AWS allows. "*", "?", and "$" would be wildcards and variables.
const tagKey = string(/^[\p{L}\p{N} _.:/=+@-]{1,128}$/u, "must be the key of a tag in AWS");

const reviewer = string(/^[\w-]+(\/[\w.-]+)?$/, "must be a login, or a team as ORGANIZATION/TEAM");

const stackEntries = schemasOf<StackSettings>()({
  stack: string(/^[\w-]+\/[\w.-]+\/[\w.-]+$/, "must be ORGANIZATION/PROJECT/STACK"),
  clusterName: clusterEntries.clusterName,
  region: string(/^[a-z]{2,}(-[a-z]+)+-\d+$/, "must be an AWS region, such as us-west-2"),
  namespaces: v.optional(v.pipe(list(kubernetesName), v.nonEmpty("must not be empty")), ["default"]),
});

export const pipelineEntries = schemasOf<PipelineSettings>()({
  repository: string(/^[\w-]+\/[\w.-]+$/, "must be OWNER/NAME"),
  subjectPrefix: string(/^repo:[\w-]+(@\d+)?\/[\w.-]+(@\d+)?$/, "must be the prefix that GitHub reports"),
  stacks: v.pipe(list(settings(stackEntries)), v.nonEmpty("must not be empty")),
  reviewers: v.optional(list(reviewer), []),
  githubOidcProvider: v.optional(createOrExisting, "create"),
  githubIssuer: v.optional(createOrExisting, "create"),
  rolePolicyArns: v.optional(policyArns, []),
  permissionsBoundaryArn: v.optional(policyArn),
  ownPermissionsBoundaryArn: v.optional(policyArn),
  rolePath: v.optional(rolePath, "/"),
  tagKeys: v.optional(list(tagKey), []),
  createOidcProvider: v.optional(flag, false),
  podIdentity: v.optional(flag, false),
  pulumiApiUrl: v.optional(apiUrl, "https://api.pulumi.com"),
});

const schema = settings(pipelineEntries);
type CheckedSettings = v.InferOutput<typeof schema>;

/** The settings that are not strings. */
const JSON_KEYS = ["stacks", "reviewers", "rolePolicyArns", "tagKeys", "createOidcProvider", "podIdentity"];

/**
 * Reads the configuration of the current stack.
 *
 * @returns the settings with every default filled in.
 * @throws pulumi.RunError that lists every problem.
 */
export function readSettings(): Settings {
  const raw = readRawConfig();
  const given = projectValues(raw, JSON_KEYS);
  const stacks = Array.isArray(given.stacks) ? given.stacks : [];
  const { settings: checked, problems } = check(schema, given, ({ stacks: valid = [] }) => {
    return duplicates(valid.map((it) => it?.stack));
  });

  const found = [
    ...unknownSettings(given, [], Object.keys(pipelineEntries)),
    ...stacks.flatMap((stack, index) => unknownSettings(stack, ["stacks", index], Object.keys(stackEntries))),
    ...problems,
  ];
  const all = [...withEncrypted(found, raw), ...(checked ? loginProblems(checked.pulumiApiUrl) : [])];
  if (checked && all.length === 0) return withOrganizations(checked);
  throw invalidConfiguration(all);
}

/** Returns a problem for each stack that is listed before. */
function duplicates(stacks: (string | undefined)[]): Problem[] {
  return stacks.flatMap((stack, index): Problem[] => {
    if (!stack || stacks.indexOf(stack) === index) return [];
    return [{ path: ["stacks", index, "stack"], value: stack, reason: "must not be listed twice" }];
  });
}

/** Returns the settings, and the organization of each stack. */
function withOrganizations({ stacks, ...rest }: CheckedSettings) {
  return {
    ...rest,
    stacks: stacks.map((it) => ({ ...it, organization: it.stack.replace(/\/.*/, "") })),
  };
}
