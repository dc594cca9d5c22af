// The guardrails about drift: changes that the program ignores, and what others add, which a preview does not show.

import { isOfCluster } from "./clusters";
import { isOfServiceAccounts } from "./roles";
import type { Resource, Rule } from "./rule";
import { at, fieldsOf, isUnknown, textOf } from "./values";

/** Paths such as `policies[0].rules`, or `["url"]`. */
const GUARDED = /^\W*(\*|(policies|url|jwks|maxExpiration(Seconds)?|assumeRolePolicy(Document)?)\b)/;

export const notIgnored: Rule = {
  name: "not-ignored",
  description:
    "Changes of a cluster's issuer, its allow policies, and its roles' trust policies are not ignored.",
  level: "mandatory",
  check(resource, { clusters, report }) {
    const ignored = resource.ignoreChanges?.filter((it) => GUARDED.test(it)) ?? [];
    if (ignored.length === 0) return;
    if (!isOfCluster(resource, clusters) && !isOfServiceAccounts(resource, clusters)) return;
    report(`It ignores changes of ${textOf(ignored)} instead of undoing what others change.`);
  },
};

/** The annotations by which a service account gets an identity of AWS, Google Cloud, or Azure. */
const IDENTITIES =
  /^(eks\.amazonaws\.com\/role-arn|iam\.amazonaws\.com\/role|iam\.gke\.io\/gcp-service-account|azure\.workload\.identity\/(client|tenant)-id)$/;

/** What the ConfigMap of a token exchange contains. */
const SCRIPT = "exchange-token.sh";

export const besideTheProgram: Rule = {
  name: "beside-the-program",
  description: "No one else adds files to an exchange's ConfigMap, or an identity to a service account.",
  level: "advisory",
  // Only outputs have what exists.
  isAskedAtEnd: true,
  check(resource, { report }) {
    const { type, inputs } = resource;
    const isExchange = SCRIPT in fieldsOf(inputs.data) && type === "kubernetes:core/v1:ConfigMap";
    const files = isExchange ? ["data", "binaryData"].flatMap((it) => addedTo(resource, it)) : [];
    if (files.length > 0) report(`It also has the files ${textOf(files)}.`);
    if (type !== "kubernetes:core/v1:ServiceAccount") return;
    const identities = addedTo(resource, "metadata", "annotations").filter((it) => IDENTITIES.test(it));
    if (identities.length > 0) report(`It also has the annotations ${textOf(identities)}.`);
  },
};

/** Returns the keys of an object that the program does not set; none if that is not known yet. */
function addedTo({ inputs, outputs }: Resource, ...path: string[]): string[] {
  if (isUnknown(inputs[path[0] ?? ""])) return [];
  return Object.keys(fieldsOf(at(outputs, ...path))).filter((it) => !(it in fieldsOf(at(inputs, ...path))));
}
