// The configuration of the pipeline, with the schemas and the error messages of the stacks.

import * as v from "valibot";
import { ownValues, readRawConfig } from "../config";
import { encrypted, invalidConfiguration, remove, replace } from "../problems";
import { accountSettings, list, stackSettings, string } from "../settings";

const createOrExisting = v.optional(v.picklist(["create", "existing"], 'must be "create" or "existing"'), "create");

const stack = v.pipe(
  v.strictObject(
    {
      stack: string(/^[\w-]+\/[\w.-]+\/[\w.-]+$/, "must be ORGANIZATION/PROJECT/STACK"),
      clusterName: stackSettings.clusterName,
      region: string(/^[a-z]{2}(-[a-z]+)+-\d$/, "must be an AWS region, such as us-west-2"),
      namespaces: v.optional(v.pipe(list(accountSettings.namespace), v.nonEmpty("must not be empty")), ["default"]),
    },
    "must be an object",
  ),
  v.transform((entry) => ({ ...entry, organization: entry.stack.replace(/\/.*/, "") })),
);

const STACKS = '[{"stack":"ORGANIZATION/PROJECT/STACK"}]';

const schema = v.strictObject({
  repository: string(/^[\w-]+\/[\w.-]+$/, "must be OWNER/NAME"),
  subjectPrefix: string(/^repo:[\w-]+(@\d+)?\/[\w.-]+(@\d+)?$/, "must be the prefix that GitHub reports"),
  stacks: v.pipe(list(stack, STACKS), v.nonEmpty(`must name a stack, such as ${STACKS}`)),
  githubOidcProvider: createOrExisting,
  githubIssuer: createOrExisting,
  rolePolicyArns: accountSettings.rolePolicyArns,
  permissionsBoundaryArn: stackSettings.permissionsBoundaryArn,
  rolePath: stackSettings.rolePath,
  createOidcProvider: stackSettings.createOidcProvider,
});

export type Settings = v.InferOutput<typeof schema>;

/**
 * Reads the configuration of the current stack.
 *
 * @returns the settings with every default filled in.
 * @throws pulumi.RunError that lists every problem with the command that fixes it.
 */
export function readSettings(): Settings {
  const { given, secrets } = ownValues(readRawConfig());
  // The organization of this stack is not a setting.
  delete given.organization;
  const { success, output, issues = [] } = v.safeParse(schema, given);
  const others = issues.filter(({ path }) => !secrets.includes(String(path?.[0].key)));
  if (success && secrets.length === 0) return output;
  const reason = "must not be encrypted: it is stored in plaintext";
  throw invalidConfiguration([...secrets.map((key) => ({ ...encrypted(key), reason })), ...others.map(toProblem)]);
}

function toProblem(issue: v.BaseIssue<unknown>) {
  const path = (v.getDotPath(issue) ?? "").replace(/\.(\d+)/g, "[$1]");
  if (issue.expected === "never") return remove(path, undefined, "unknown setting");
  if (issue.type === "check_items") return remove(path, undefined, issue.message);
  const isMissing = issue.input === undefined && path !== "stacks";
  return replace(path, issue.input, isMissing ? "required" : issue.message);
}
