// The rules as a policy pack of Pulumi's engine, which asks them in its own process: https://www.pulumi.com/docs/insights/policy/

import {
  PolicyPack,
  type PolicyResource,
  type ResourceValidationArgs,
  type ResourceValidationPolicy,
  type StackValidationPolicy,
} from "@pulumi/policy";
import { policies } from "./index";
import { Program, type Resource } from "./program";
import { checkResource, checkStack, type ResourceRule, type Rule, type StackRule } from "./rule";
import type { Fields } from "./values";

/** Serves the rules to the engine, until it ends the process. */
export function serve(): void {
  const program = new Program();
  new PolicyPack("eks-pulumi-oidc", {
    policies: policies.map((rule) => {
      return "checkResource" in rule ? resourcePolicy(rule, program) : stackPolicy(rule, program);
    }),
  });
}

function resourcePolicy(rule: ResourceRule, program: Program): ResourceValidationPolicy {
  return {
    ...policyOf(rule),
    validateResource(args, report) {
      const resource = received(args, program);
      for (const { message } of checkResource(rule, resource, args.getConfig())) report(message);
    },
  };
}

function stackPolicy(rule: StackRule, program: Program): StackValidationPolicy {
  return {
    ...policyOf(rule),
    validateStack({ resources, getConfig }, report) {
      for (const it of resources) addOutputs(it, program);
      for (const { message, resource } of checkStack(rule, program, getConfig()))
        report(message, resource?.urn);
    },
  };
}

function policyOf({ name, description, level, configuration }: Rule) {
  return {
    name,
    description,
    enforcementLevel: level,
    ...(configuration && { configSchema: { properties: configuration } }),
  };
}

/** Returns the resource that the engine asks a rule about. */
function received(
  { urn, type, name, props, opts, provider }: ResourceValidationArgs,
  program: Program,
): Resource {
  // Not every provider is asked about, such as one that an update with --target leaves out.
  if (provider && !program.find(provider.urn)) {
    program.add({
      urn: provider.urn,
      type: provider.type,
      name: provider.name,
      inputs: plain(provider.props),
    });
  }
  return program.add({
    urn,
    type,
    name,
    inputs: plain(props),
    parent: opts.parent,
    provider: provider?.urn,
    ignoreChanges: opts.ignoreChanges,
  });
}

/** Adds what only the end of a preview or an update knows. */
function addOutputs({ urn, props, propertyDependencies }: PolicyResource, program: Program): void {
  const resource = program.find(urn);
  if (!resource) return;
  resource.outputs = plain(props);
  resource.propertyDependencies = Object.fromEntries(
    Object.entries(propertyDependencies).map(([input, sources]) => [input, sources.map((it) => it.urn)]),
  );
}

/**
 * Returns values without the proxy of the SDK, which would end a rule at the first one that is not known yet, as an advisory:
 * https://github.com/pulumi/pulumi-policy/blob/main/sdk/nodejs/policy/proxy.ts
 */
function plain(props: Record<string, unknown>): Fields {
  return (props.__getSpecialProxyTarget ?? props) as Fields;
}
