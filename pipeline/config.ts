// The configuration of the pipeline: its settings, and how they are read.

import * as v from "valibot";
import { clusterEntries } from "../settings/cluster";
import { loginProblems } from "../settings/login";
import {
  apiUrl,
  DEFAULT_API_URL,
  kubernetesName,
  ORGANIZATION_NAME,
  PROJECT_PATH,
  rolePath,
} from "../settings/names";
import type { Problem } from "../settings/problems";
import { invalidConfiguration, projectValues, readRawConfig, withEncrypted } from "../settings/raw";
import {
  booleanSchema,
  check,
  duplicates,
  type Incomplete,
  listSchema,
  schemasOf,
  settingsSchema,
  stringSchema,
} from "../settings/validation";

/** A stack that the workflows preview. */
interface StackSettings {
  /** The stack, as ORGANIZATION/PROJECT/STACK. */
  stack: string;
  /** Directory of its program in the repository. Default: `.`. */
  directory?: string;
  /** Name of its EKS cluster. Leave it out if the cluster is in another AWS account, which has a separate pipeline stack. */
  clusterName?: string;
  /** AWS region of the cluster. Required with `clusterName`. */
  region?: string;
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
  /** Create what the workflows need in Pulumi Cloud. Only one pipeline stack does. Default: `true`. */
  pulumiCloud?: boolean;
  /**
   * Environments that the previews open, and those that they import, as ORGANIZATION/PROJECT/ENVIRONMENT. Anyone who can push a
   * branch can read them. Default: `[]`.
   */
  environments?: string[];
  /** IAM OIDC provider of GitHub in the account: create it, or use the `existing` one. Default: `create`. */
  githubOidcProvider?: "create" | "existing";
  /** OIDC issuer of GitHub in the organization: create it, or output the policies for the `existing` one. Default: `create`. */
  githubIssuer?: "create" | "existing";
  /**
   * Let the workflows read the stacks' namespaces by the access policy AmazonEKSViewPolicy, which includes the logs of pods. With
   * `false`, apply role.yaml in each namespace. Default: `true`.
   */
  viewPolicy?: boolean;
  /** The rolePath of the stacks. Default: `/`. */
  rolePath?: string;
  /**
   * URL of Pulumi Cloud. Change it if yours is self-hosted. Your login must be for it, and a deployed pipeline stack keeps it.
   * Default: `https://api.pulumi.com`.
   */
  pulumiApiUrl?: string;
}

/** The settings with every default filled in, and what follows from them. */
export type Settings = v.InferOutput<typeof schema>;

/** The issuer of GitHub's ID tokens. GHE.com has a different one, and an enterprise can have its own. */
export const ISSUER_URL = "https://token.actions.githubusercontent.com";

const createOrExisting = v.picklist(["create", "existing"], "must be create or existing");

/** Returns a schema for the full name of a stack or an environment. */
function inOrganization(what: string) {
  return stringSchema(
    new RegExp(`^${ORGANIZATION_NAME}/${PROJECT_PATH}$`),
    `must be ORGANIZATION/PROJECT/${what}`,
  );
}

const previewedStackEntries = schemasOf<StackSettings>()({
  stack: inOrganization("STACK"),
  directory: v.optional(stringSchema(/^[\w.-]+(\/[\w.-]+)*$/, "must be a directory of the repository"), "."),
  clusterName: v.optional(clusterEntries.clusterName),
  region: v.optional(stringSchema(/^[a-z]{2,}(-[a-z]+)+-\d+$/, "must be an AWS region, such as us-west-2")),
  namespaces: v.optional(v.pipe(listSchema(kubernetesName), v.nonEmpty("must not be empty")), ["default"]),
});

const previewedStackSchema = v.pipe(
  settingsSchema(previewedStackEntries),
  v.transform((stack) => ({ ...stack, organization: stack.stack.replace(/\/.*/, "") })),
);

const pipelineEntries = schemasOf<PipelineSettings>()({
  repository: stringSchema(/^[\w-]+\/[\w.-]+$/, "must be OWNER/NAME"),
  repositoryId: stringSchema(/^[1-9]\d*$/, "must be the number that GitHub reports"),
  subjectPrefix: stringSchema(
    /^repo:[\w-]+(@\d+)?\/[\w.-]+(@\d+)?$/,
    "must be the prefix that GitHub reports",
  ),
  stacks: v.pipe(listSchema(previewedStackSchema), v.nonEmpty("must not be empty")),
  pulumiCloud: v.optional(booleanSchema, true),
  environments: v.optional(listSchema(inOrganization("ENVIRONMENT")), []),
  githubOidcProvider: v.optional(createOrExisting, "create"),
  githubIssuer: v.optional(createOrExisting, "create"),
  viewPolicy: v.optional(booleanSchema, true),
  rolePath: v.optional(rolePath, "/"),
  pulumiApiUrl: v.optional(apiUrl, DEFAULT_API_URL),
});

const schema = v.pipe(
  settingsSchema(pipelineEntries),
  v.transform(({ subjectPrefix, ...others }) => ({
    ...others,
    // The `sub` claims that are trusted: preview.yml runs for pull requests, drift.yml for the branch main.
    subjects: [`${subjectPrefix}:pull_request`, `${subjectPrefix}:ref:refs/heads/main`],
  })),
);

/**
 * Reads the configuration of the current stack.
 *
 * @returns the settings with every default filled in, and what follows from them.
 * @throws pulumi.RunError that lists every problem.
 */
export function readSettings(): Settings {
  const raw = readRawConfig();
  const given = projectValues(raw, pipelineEntries);
  const { settings: valid, problems } = check(schema, given, rules);

  const all = [...withEncrypted(problems, raw), ...(valid ? loginProblems(valid.pulumiApiUrl) : [])];
  if (!valid || all.length > 0) throw invalidConfiguration(all);
  return valid;
}

/** Returns the problems of settings that are valid by themselves, but not together. */
function rules({ stacks = [] }: Incomplete<Settings>): Problem[] {
  const names = stacks.map((it) => it?.stack);
  const withoutRegion = stacks.flatMap((stack, index): Problem[] => {
    if (!stack?.clusterName || stack.region) return [];
    return [{ path: ["stacks", index, "region"], reason: "required with clusterName" }];
  });
  return [...withoutRegion, ...duplicates(names, (index) => ["stacks", index, "stack"])];
}
