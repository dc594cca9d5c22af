// The configuration of the pipeline, with the schemas and the error messages of the stacks.

import * as v from "valibot";
import { ownValues, readRawConfig, toProblem, unknownKeys } from "../config";
import { inOrder, invalidConfiguration } from "../problems";
import { accountSettings, list, object, parseJson, stackSettings, string } from "../settings";

const createOrExisting = v.optional(v.picklist(["create", "existing"], 'must be "create" or "existing"'), "create");

const EXAMPLE = '[{"stack":"ORGANIZATION/PROJECT/STACK"}]';
const stack = v.object(
  {
    stack: string(/^[\w-]+\/[\w.-]+\/[\w.-]+$/, "must be ORGANIZATION/PROJECT/STACK"),
    clusterName: stackSettings.clusterName,
    region: string(/^[a-z]{2,}(-[a-z]+)+-\d+$/, "must be an AWS region, such as us-west-2"),
    namespaces: v.optional(v.pipe(list(accountSettings.namespace), v.nonEmpty("must not be empty")), ["default"]),
  },
  "required",
);
const withOrganization = (it: v.InferOutput<typeof stack>) => ({ ...it, organization: it.stack.replace(/\/.*/, "") });
const stacks = list(v.pipe(object, stack, v.transform(withOrganization)), EXAMPLE);

const { permissionsBoundaryArn, rolePath, createOidcProvider, pulumiApiUrl } = stackSettings;
// In a condition, "*", "?", and "$" would be wildcards and variables.
const tagKey = string(/^[\p{L}\p{N} _.:/=+@-]{1,128}$/u, "must be the key of a tag in AWS");
const schema = v.object(
  {
    repository: string(/^[\w-]+\/[\w.-]+$/, "must be OWNER/NAME"),
    subjectPrefix: string(/^repo:[\w-]+(@\d+)?\/[\w.-]+(@\d+)?$/, "must be the prefix that GitHub reports"),
    stacks: v.pipe(
      v.optional(stacks, []),
      v.nonEmpty(`must name a stack, such as ${EXAMPLE}`),
      v.checkItems(
        (it, at, all) => all.findIndex(({ stack }) => stack === it.stack) === at,
        "must not be listed twice",
      ),
    ),
    githubOidcProvider: createOrExisting,
    githubIssuer: createOrExisting,
    rolePolicyArns: accountSettings.rolePolicyArns,
    permissionsBoundaryArn,
    ownPermissionsBoundaryArn: permissionsBoundaryArn,
    rolePath,
    tagKeys: v.optional(list(tagKey), []),
    createOidcProvider,
    podIdentity: createOidcProvider,
    pulumiApiUrl,
  },
  "required",
);

export type Settings = v.InferOutput<typeof schema>;

/**
 * Reads the configuration of the current stack.
 *
 * @returns the settings with every default filled in.
 * @throws pulumi.RunError that lists every problem with the command that fixes it.
 */
export function readSettings(): Settings {
  // The organization of this stack is not a setting.
  const { organization, ...given } = ownValues(readRawConfig());
  const { success, output, issues = [] } = v.safeParse(schema, given);
  const entries = [parseJson(given.stacks)].flat();
  const problems = [
    ...issues.map((issue) => toProblem(issue)),
    ...unknownKeys(given, Object.keys(schema.entries)),
    ...entries.flatMap((entry, index) => unknownKeys(entry, Object.keys(stack.entries), "stacks", index)),
  ];
  if (success && problems.length === 0) return output;
  throw invalidConfiguration(inOrder(problems));
}
