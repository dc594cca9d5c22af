// The configuration of the pipeline, checked as the configuration of the stacks is.

import * as v from "valibot";
import { clusterEntries } from "../cluster";
import { encryptedSettings, invalidConfiguration, ownValues, readRawConfig } from "../config";
import { kubernetesName, policyArn, policyArns, rolePath } from "../settings";
import { check, flag, list, settings, string, unknownSettings } from "../validation";

const createOrExisting = v.optional(v.picklist(["create", "existing"], "must be create or existing"), "create");

const stackEntries = {
  stack: string(/^[\w-]+\/[\w.-]+\/[\w.-]+$/, "must be ORGANIZATION/PROJECT/STACK"),
  clusterName: clusterEntries.clusterName,
  region: string(/^[a-z]{2}(-[a-z]+)+-\d$/, "must be an AWS region, such as us-west-2"),
  namespaces: v.optional(v.pipe(list(kubernetesName), v.nonEmpty("must not be empty")), ["default"]),
};

const entries = {
  repository: string(/^[\w-]+\/[\w.-]+$/, "must be OWNER/NAME"),
  subjectPrefix: string(/^repo:[\w-]+(@\d+)?\/[\w.-]+(@\d+)?$/, "must be the prefix that GitHub reports"),
  stacks: v.pipe(
    list(settings(stackEntries)),
    v.nonEmpty("must not be empty"),
    v.checkItems(({ stack }, at, all) => all.findIndex((it) => stack === it.stack) === at, "must not be listed twice"),
  ),
  githubOidcProvider: createOrExisting,
  githubIssuer: createOrExisting,
  rolePolicyArns: v.optional(policyArns, []),
  permissionsBoundaryArn: v.optional(policyArn),
  rolePath: v.optional(rolePath, "/"),
  createOidcProvider: v.optional(flag, false),
};

const schema = v.pipe(
  settings(entries),
  v.transform((given) => ({
    ...given,
    stacks: given.stacks.map((it) => ({ ...it, organization: it.stack.replace(/\/.*/, "") })),
  })),
);

/** The settings that are not strings. */
const JSON_KEYS = ["stacks", "rolePolicyArns", "createOidcProvider"];

export type Settings = v.InferOutput<typeof schema>;

/**
 * Reads the configuration of the current stack.
 *
 * @returns the settings with every default filled in.
 * @throws pulumi.RunError that lists every problem.
 */
export function readSettings(): Settings {
  const raw = readRawConfig();
  const given = ownValues(raw, JSON_KEYS);
  const stacks = Array.isArray(given.stacks) ? given.stacks : [];
  const { settings: checked, problems } = check(schema, given);
  const all = [
    ...encryptedSettings(raw),
    ...unknownSettings(given, [], Object.keys(entries)),
    ...stacks.flatMap((it, index) => unknownSettings(it, ["stacks", index], Object.keys(stackEntries))),
    ...problems,
  ];
  if (checked && all.length === 0) return checked;
  throw invalidConfiguration(all);
}
