// The configuration of the pipeline: its settings, and how they are read.

import * as v from "valibot";
import { clusterEntries } from "../cluster";
import { apiUrl, kubernetesName, policyArn, rolePath } from "../settings/access";
import { loginProblems } from "../settings/login";
import { invalidConfiguration, projectValues, readRawConfig, withEncrypted } from "../settings/raw";
import { check, duplicates, list, schemasOf, settings, string } from "../settings/validation";

/** A stack that the workflows preview. */
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
  /** ID of the repository: `gh api repos/OWNER/NAME --jq .id`. A repository that takes over the name has another one. */
  repositoryId: string;
  /**
   * Start of the sub claim of the repository's ID tokens:
   * `gh api repos/OWNER/NAME/actions/oidc/customization/sub --jq .sub_claim_prefix`.
   */
  subjectPrefix: string;
  /** Stacks that the workflows preview. */
  stacks: StackSettings[];
  /** IAM OIDC provider of GitHub in the account: create it, or use the `existing` one. Default: `create`. */
  githubOidcProvider?: "create" | "existing";
  /** OIDC issuer of GitHub in the organization: create it, or leave the `existing` one to policies.sh. Default: `create`. */
  githubIssuer?: "create" | "existing";
  /** Permissions boundary of the workflows' role. Default: none. */
  ownPermissionsBoundaryArn?: string;
  /** The rolePath of the stacks. Default: `/`. */
  rolePath?: string;
  /**
   * URL of Pulumi Cloud. Change it if yours is self-hosted. Your login must be for it, and a deployed stack keeps it.
   * Default: `https://api.pulumi.com`.
   */
  pulumiApiUrl?: string;
}

/** The settings with every default filled in. */
export type Settings = ReturnType<typeof withOrganizations>;

const createOrExisting = v.picklist(["create", "existing"], "must be create or existing");

const stackEntries = schemasOf<StackSettings>()({
  stack: string(/^[\w-]+\/[\w.-]+\/[\w.-]+$/, "must be ORGANIZATION/PROJECT/STACK"),
  clusterName: clusterEntries.clusterName,
  region: string(/^[a-z]{2,}(-[a-z]+)+-\d+$/, "must be an AWS region, such as us-west-2"),
  namespaces: v.optional(v.pipe(list(kubernetesName), v.nonEmpty("must not be empty")), ["default"]),
});

export const pipelineEntries = schemasOf<PipelineSettings>()({
  repository: string(/^[\w-]+\/[\w.-]+$/, "must be OWNER/NAME"),
  repositoryId: string(/^[1-9]\d*$/, "must be the number that GitHub reports"),
  subjectPrefix: string(/^repo:[\w-]+(@\d+)?\/[\w.-]+(@\d+)?$/, "must be the prefix that GitHub reports"),
  stacks: v.pipe(list(settings(stackEntries)), v.nonEmpty("must not be empty")),
  githubOidcProvider: v.optional(createOrExisting, "create"),
  githubIssuer: v.optional(createOrExisting, "create"),
  ownPermissionsBoundaryArn: v.optional(policyArn),
  rolePath: v.optional(rolePath, "/"),
  pulumiApiUrl: v.optional(apiUrl, "https://api.pulumi.com"),
});

const schema = settings(pipelineEntries);
type CheckedSettings = v.InferOutput<typeof schema>;

/** The settings that are not strings. */
const JSON_KEYS = ["stacks"];

/**
 * Reads the configuration of the current stack.
 *
 * @returns the settings with every default filled in.
 * @throws pulumi.RunError that lists every problem.
 */
export function readSettings(): Settings {
  const raw = readRawConfig();
  const given = projectValues(raw, JSON_KEYS);
  const { settings: checked, problems } = check(schema, given, ({ stacks: valid = [] }) => {
    const names = valid.map((it) => it?.stack);
    return duplicates(names, (index) => ["stacks", index, "stack"]);
  });

  const all = [...withEncrypted(problems, raw), ...(checked ? loginProblems(checked.pulumiApiUrl) : [])];
  if (checked && all.length === 0) return withOrganizations(checked);
  throw invalidConfiguration(all);
}

/** Returns the settings, and the organization of each stack. */
function withOrganizations({ stacks, ...rest }: CheckedSettings) {
  return {
    ...rest,
    stacks: stacks.map((it) => ({ ...it, organization: it.stack.replace(/\/.*/, "") })),
  };
}
