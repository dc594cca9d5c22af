// The configuration of the pipeline. It accepts what the stacks accept, so that it shares their schemas and messages.

import { closest } from "fastest-levenshtein";
import * as v from "valibot";
import { ownValues, readRawConfig } from "../config";
import { invalidConfiguration, type Problem, remove, replace } from "../problems";
import { accountSettings, list, stackSettings, string, tokenSettings } from "../settings";

export type Settings = v.InferOutput<typeof schema>;

/**
 * Reads the configuration of the current stack.
 *
 * @returns the settings with every default filled in.
 * @throws pulumi.RunError that lists every problem with the command that fixes it.
 */
export function readSettings(): Settings {
  const { given, secrets } = ownValues(readRawConfig());
  delete given.organization;
  const { success, output, issues = [] } = v.safeParse(schema, given);
  const unknown = Object.keys(given).filter((key) => !(key in schema.entries));
  const problems = [
    ...issues.filter(({ path }) => !secrets.includes(String(path?.[0].key))).map(toProblem),
    ...unknown.map((key) =>
      remove(key, given[key], `unknown setting; did you mean "${closest(key, Object.keys(schema.entries))}"?`),
    ),
    ...secrets.map((key) => remove(key, undefined, "must not be encrypted: it is stored in plaintext anyway")),
  ];
  if (!success || problems.length > 0) throw invalidConfiguration(problems);
  return output;
}

const createOrExisting = v.optional(v.picklist(["create", "existing"], 'must be "create" or "existing"'), "create");

const stack = v.pipe(
  v.strictObject({
    stack: string(/^[\w-]+\/[\w.-]+\/[\w.-]+$/, "must be ORGANIZATION/PROJECT/STACK"),
    clusterName: stackSettings.clusterName,
    region: string(/^[a-z]{2}(-[a-z]+)+-\d$/, "must be an AWS region, such as us-west-2"),
    namespaces: v.optional(v.pipe(list(accountSettings.namespace), v.nonEmpty("must not be empty")), ["default"]),
  }),
  v.transform((entry) => ({ ...entry, organization: entry.stack.replace(/\/.*/, "") })),
);

const schema = v.object({
  repository: string(/^[\w-]+\/[\w.-]+$/, "must be OWNER/NAME"),
  subjectPrefix: string(/^repo:[\w-]+(@\d+)?\/[\w.-]+(@\d+)?$/, "must be the prefix that GitHub reports"),
  stacks: v.pipe(list(stack), v.nonEmpty("must not be empty")),
  githubOidcProvider: createOrExisting,
  githubIssuer: createOrExisting,
  githubIssuerUrl: v.optional(
    string(/^https:\/\/[\w.:-]+(\/[\w.-]+)*$/, "must be an https URL without a slash at its end"),
    "https://token.actions.githubusercontent.com",
  ),
  rolePolicyArns: accountSettings.rolePolicyArns,
  permissionsBoundaryArn: stackSettings.permissionsBoundaryArn,
  rolePath: stackSettings.rolePath,
  createOidcProvider: stackSettings.createOidcProvider,
  previewUserLogin: v.optional(tokenSettings.userLogin),
  thumbprints: stackSettings.thumbprints,
  pulumiApiUrl: stackSettings.pulumiApiUrl,
});

function toProblem({ path, input, message, expected }: v.BaseIssue<unknown>): Problem {
  const steps = path?.map(({ key }) => (typeof key === "number" ? `[${key}]` : `.${key}`)) ?? [];
  const setting = steps.join("").slice(1);
  if (expected === "never") return remove(setting, undefined, "unknown setting");
  const reason = input === undefined ? "required" : message;
  return setting === "stacks"
    ? replace(setting, input, reason, "ORGANIZATION/PROJECT/STACK", "[0].stack")
    : replace(setting, input, reason, "VALUE");
}
