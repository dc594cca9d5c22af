// The guardrails as a policy pack of Pulumi's engine, which asks them in its own process: https://www.pulumi.com/docs/insights/policy/

import { PolicyPack, type ResourceValidationPolicy, type StackValidationPolicy } from "@pulumi/policy";
import { AnalyzerService } from "@pulumi/pulumi/proto/analyzer_grpc_pb";
import { requireValid } from "./configuration";
import { policies } from "./index";
import { ask, type Resource, type Rule } from "./rule";
import type { Fields } from "./values";

const PAGE = "https://github.com/OWNER/eks-pulumi-oidc/blob/main/docs/policy.md#the-guardrails";

/** What the engine has asked about, by URN. */
const program = new Map<string, Resource>();

/** Serves the guardrails to the engine, until it ends the process. */
export function serve(): void {
  checkConfiguration();
  new PolicyPack("pulumi-oidc-guardrails", {
    policies: policies.map((rule) => (rule.isAskedAtEnd ? stackPolicy(rule) : resourcePolicy(rule))),
  });
}

/** Checks the configuration. The SDK drops the names that no guardrail has: only the engine's request has them. */
function checkConfiguration(): void {
  const { requestDeserialize } = AnalyzerService.configure;
  AnalyzerService.configure.requestDeserialize = (bytes) => {
    const request = requestDeserialize(bytes);
    const map = request.getPolicyconfigMap();
    // Where the SDK reads it, it answers the engine with an error.
    request.getPolicyconfigMap = () => {
      const given: Fields = {};
      map.forEach((it, name) => void Object.assign(given, { [name]: it.getProperties()?.toJavaScript() }));
      requireValid(policies, given);
      return map;
    };
    return request;
  };
}

function resourcePolicy(rule: Rule): ResourceValidationPolicy {
  return {
    ...metadataOf(rule),
    async validateResource({ urn, type, name, props, opts: { ignoreChanges }, provider, getConfig }, report) {
      const resource: Resource = { urn, type, name, inputs: await plain(props), ignoreChanges };
      if (provider && !program.has(provider.urn)) {
        resource.unaskedProvider = { type: provider.type, inputs: await plain(provider.props) };
      }
      program.set(urn, resource);
      for (const message of ask(rule, resource, [...program.values()], getConfig())) report(message);
    },
  };
}

function stackPolicy(rule: Rule): StackValidationPolicy {
  return {
    ...metadataOf(rule),
    async validateStack({ resources, getConfig }, report) {
      for (const { urn, props, propertyDependencies } of resources) {
        const of = Object.entries(propertyDependencies).map(([key, all]) => [key, all.map((it) => it.urn)]);
        const known = { outputs: await plain(props), propertyDependencies: Object.fromEntries(of) };
        Object.assign(program.get(urn) ?? {}, known);
      }
      const asked = [...program.values()];
      for (const resource of asked) {
        for (const message of ask(rule, resource, asked, getConfig())) report(message, resource.urn);
      }
    },
  };
}

function metadataOf({ name, description, level, severity, remediation, settings }: Rule) {
  return {
    name,
    description,
    severity,
    url: PAGE,
    enforcementLevel: level,
    remediationSteps: remediation,
    ...(settings && { configSchema: { properties: settings } }),
  };
}

/**
 * Returns values without the proxy of the SDK, which would end a guardrail at the first one that is not known yet, as an advisory, and
 * assets as their text: https://github.com/pulumi/pulumi-policy/blob/main/sdk/nodejs/policy/proxy.ts
 */
async function plain(props: Record<string, unknown>): Promise<Fields> {
  const values = Object.entries(props.__getSpecialProxyTarget ?? props);
  const entries = values.map(async ([name, value]) => {
    const { text } = Object(value);
    return [name, text instanceof Promise ? await text : value];
  });
  return Object.fromEntries(await Promise.all(entries));
}
