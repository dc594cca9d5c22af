// The rules about what exists, as the last refresh has read it: https://www.pulumi.com/docs/iac/cli/commands/pulumi_preview/
//
// Only the outputs have it, which no rule about a resource receives.

import { ROLE } from "./aws";
import {
  ADMISSION_BINDING,
  ADMISSION_POLICY,
  CONFIG_MAP,
  IDENTITY_ANNOTATION,
  SERVICE_ACCOUNT,
} from "./kubernetes";
import { idOf, type Program, type Resource } from "./program";
import type { StackRule } from "./rule";
import { at, type Fields, fieldsOf, listOf, stringsOf, textOf, type Value } from "./values";

export const besideTheProgram: StackRule = {
  name: "beside-the-program",
  description: "No one has added to a component's objects outside the program.",
  // In a preview without a refresh, it is as old as the last one. drift.json makes it mandatory.
  level: "advisory",
  checkStack(program, report) {
    for (const resource of program.resources) {
      const { what, names } = addedTo(resource, program);
      if (names.length > 0) report(`It also has the ${what} ${names.map(textOf).join(", ")}.`, resource);
    }
  },
};

/** Returns what a resource has beside its inputs, if that can grant something. */
function addedTo(resource: Resource, program: Program): { what: string; names: string[] } {
  const { type, inputs, settings, account } = resource;
  const outputs: Fields = resource.outputs ?? {};
  if (!settings) return { what: "", names: [] };
  if (type === ROLE) return { what: "inline policy", names: inlinePolicies(resource, program) };
  if (type === CONFIG_MAP) {
    const files = ["data", "binaryData"].flatMap((it) => keysAddedTo(inputs[it], outputs[it]));
    return { what: "file", names: files };
  }
  if (type === SERVICE_ACCOUNT && account) {
    const [ofProgram, existing] = [inputs, outputs].map((it) => at(it, "metadata", "annotations"));
    const annotations = keysAddedTo(ofProgram, existing).filter((it) => IDENTITY_ANNOTATION.test(it));
    return { what: "annotation", names: annotations };
  }
  if (type === ADMISSION_POLICY || type === ADMISSION_BINDING) {
    return { what: "element", names: pathsAddedTo(inputs.spec, outputs.spec, "spec") };
  }
  return { what: "", names: [] };
}

/** Returns the names of the inline policies of a role that the program does not create. */
function inlinePolicies({ urn, outputs }: Resource, { resources }: Program): string[] {
  const ofProgram = resources
    .filter(
      (it) => it.type === "aws:iam/rolePolicy:RolePolicy" && it.propertyDependencies?.role?.includes(urn),
    )
    .flatMap((it) => stringsOf(it.outputs?.name));
  return listOf(outputs?.inlinePolicies)
    .flatMap((it) => stringsOf(at(it, "name")))
    .filter((name) => name !== "" && !ofProgram.includes(name));
}

function keysAddedTo(ofProgram: Value | undefined, existing: Value | undefined): string[] {
  return Object.keys(fieldsOf(existing)).filter((key) => !Object.hasOwn(fieldsOf(ofProgram), key));
}

/** What the API server adds to an admission policy: https://kubernetes.io/docs/reference/kubernetes-api/policy-resources/ */
const DEFAULTS: Fields = { matchPolicy: "Equivalent", scope: "*" };

function pathsAddedTo(ofProgram: Value | undefined, existing: Value | undefined, path: string): string[] {
  if (typeof existing !== "object" || existing === null) return [];
  const given = Object.entries(ofProgram ?? {});
  return Object.entries(existing).flatMap(([key, value]) => {
    const [, inProgram] = given.find(([name]) => name === key) ?? [];
    if (inProgram !== undefined) return pathsAddedTo(inProgram, value, `${path}.${key}`);
    const isEmpty = typeof value === "object" && Object.keys(value ?? {}).length === 0;
    return isEmpty || value === DEFAULTS[key] ? [] : [`${path}.${key}`];
  });
}

export const attachedPolicies: StackRule = {
  name: "attached-policies",
  description: "Others attach only the policies that this pack's configuration lists.",
  // roleName is an output, so that other programs attach policies.
  level: "advisory",
  configuration: { allowed: { type: "array", items: { type: "string" }, default: [] } },
  checkStack({ resources }, report, { allowed }) {
    // A program can attach a policy in several ways: other-role-policies reports those.
    const ofProgram = resources.flatMap((it) => stringsOf(it.inputs.policyArn ?? it.inputs.policyArns));
    for (const resource of resources) {
      const { type, account, outputs } = resource;
      if (type !== ROLE || !account) continue;
      const others = stringsOf(outputs?.managedPolicyArns).filter(
        (arn) => !ofProgram.includes(arn) && !stringsOf(allowed).includes(arn),
      );
      if (others.length > 0)
        report(`The role of ${idOf(account)} also has ${others.map(textOf).join(", ")}.`, resource);
    }
  },
};
