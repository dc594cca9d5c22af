// The guardrails about drift: changes that the program ignores, and what others add, which a preview does not show.

import { accountsOf, ISSUER, isOfCluster } from "./grants";
import { granteeOf, rolesShownBy } from "./roles";
import { list, type Resource, type Rule } from "./rule";
import { at, type Fields, fieldsOf, isUnknown, listOf, stringsOf, textOf } from "./values";

/** Paths such as `policies[0].rules`, or `["url"]`. */
const GUARDED = /^\W*(\*|(policies|url|jwks|maxExpiration(Seconds)?|assumeRolePolicy(Document)?)\b)/;

export const notIgnored: Rule = {
  name: "not-ignored",
  description:
    "Changes of a cluster issuer's URL, keys, policies, and limit, and of its roles' trust policies, are not ignored.",
  level: "mandatory",
  severity: "high",
  remediation: "Remove it from ignoreChanges.",
  check(resource, { program, report }) {
    const isIssuer = ISSUER.test(resource.type) && isOfCluster(`${resource.inputs.url}`, [resource]);
    const guarded = [...(isIssuer ? [resource] : []), ...rolesShownBy(resource, program)];
    for (const { name, ignoreChanges = [] } of guarded) {
      for (const path of ignoreChanges.filter((it) => GUARDED.test(it))) {
        report(`${name} ignores changes of ${textOf(path)} instead of undoing what others change.`);
      }
    }
  },
};

/** The annotations by which a service account gets an identity of AWS, Google Cloud, or Azure. */
const IDENTITIES =
  /^(eks\.amazonaws\.com\/role-arn|iam\.amazonaws\.com\/role|iam\.gke\.io\/gcp-service-account|azure\.workload\.identity\/(client|tenant)-id)$/;

export const besideTheProgram: Rule = {
  name: "beside-the-program",
  description:
    "No one adds files to a program's ConfigMaps, or identities to its service accounts, where a token is granted.",
  level: "advisory",
  severity: "medium",
  remediation: "Remove what was added, or add it to the program. An update does not remove it.",
  // Only outputs have what exists.
  isAskedAtEnd: true,
  check(resource, { program, report }) {
    if (!/^kubernetes:core\/v1:(ConfigMap|ServiceAccount)$/.test(resource.type)) return;
    const { namespace = "default", name } = fieldsOf(resource.inputs.metadata);
    const accounts = accountsOf(program).filter((it) => it.startsWith(`${namespace}/`));
    const files = ["data", "binaryData"].flatMap((it) => addedTo(resource, it));
    if (accounts.length > 0 && files.length > 0) report(`It also has the files ${textOf(files)}.`);
    const identities = addedTo(resource, "metadata", "annotations").filter((it) => IDENTITIES.test(it));
    if (!accounts.includes(`${namespace}/${name}`) || identities.length === 0) return;
    report(`It also has the annotations ${textOf(identities)}.`);
  },
};

/** Returns the keys of an object that the program does not set. */
function addedTo({ inputs, outputs }: Resource, ...path: string[]): string[] {
  const ofProgram = at(inputs, ...path);
  if (isUnknown(ofProgram)) return [];
  return Object.keys(fieldsOf(at(outputs, ...path))).filter((it) => !(it in fieldsOf(ofProgram)));
}

export const attachedPolicies: Rule = {
  name: "attached-policies",
  description: "A role of a service account with a token has no policies that others attach.",
  level: "advisory",
  severity: "medium",
  remediation: "Detach them, attach them in the program, or list them in the configuration.",
  settings: { allowed: list("What others can attach: ARNs of policies, or names of inline policies.") },
  isAskedAtEnd: true,
  check(role, { program, settings, report }) {
    if (!role.outputs || granteeOf(role, program) === undefined) return;
    const attached = program.filter((it) => isAttachedTo(role, it));
    const ofProgram = attached.flatMap(({ inputs, outputs = {} }) => [inputs, outputs].flatMap(namesIn));
    const known = [...ofProgram, ...policiesOf(role.inputs), ...stringsOf(settings.allowed), ""];
    const others = policiesOf(role.outputs).filter((it) => !known.includes(it));
    if (others.length > 0) report(`It also has the policies ${textOf(others)}.`, "allowed");
  },
};

/** Returns the ARNs and names of the policies of a role. */
function policiesOf({ managedPolicyArns, inlinePolicies, policies }: Fields): string[] {
  // aws-native has the inline ones in `policies`.
  const inline = [inlinePolicies, policies].flatMap((it) => listOf(it));
  const names = inline.map((it) => at(it, "name") ?? at(it, "policyName") ?? "");
  return [managedPolicyArns, names].flatMap(stringsOf);
}

/** Returns the ARNs and names of the policies that a resource attaches. */
function namesIn(fields: Fields): string[] {
  const keys = ["policyArn", "policyArns", "policyName", "policyNames", "name"];
  return keys.flatMap((it) => stringsOf(fields[it]));
}

/** Returns whether a resource attaches policies to a role: others can attach the same ones elsewhere. */
function isAttachedTo({ urn, outputs }: Resource, { type, inputs, propertyDependencies }: Resource): boolean {
  if (!/^aws(-native)?:iam\W.*polic/i.test(type)) return false;
  const inputsOfRoles = ["role", "roleName", "roles"];
  const sources = inputsOfRoles.flatMap((it) => propertyDependencies?.[it] ?? []);
  const names = inputsOfRoles.flatMap((it) => stringsOf(inputs[it]));
  return sources.includes(urn) || names.includes(`${outputs?.name}`);
}
