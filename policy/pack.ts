// The guardrails as a policy pack of Pulumi's engine, which asks them in its own process: https://www.pulumi.com/docs/insights/policy/

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { PolicyPack, type ResourceValidationPolicy, type StackValidationPolicy } from "@pulumi/policy";
import { AnalyzerService } from "@pulumi/pulumi/proto/analyzer_grpc_pb";
import { requireValid } from "./configuration";
import { policies } from "./index";
import type { Resource, Rule } from "./rule";
import { ask } from "./runRules";
import type { Fields } from "./values";

const TAGS = ["oidc", "kubernetes", "access-tokens"];
const REPOSITORY = "https://github.com/OWNER/eks-pulumi-oidc";

/** What the engine has asked about, by URN. */
const program = new Map<string, Resource>();

/** For each guardrail, its settings and its level. */
let configuration: Fields = {};

/** Serves the guardrails to the engine, until it ends the process. */
export function serve(): void {
  readConfiguration();
  new PolicyPack("pulumi-oidc-guardrails", {
    displayName: "Guardrails for Pulumi access tokens by OIDC",
    readme: readFileSync(join(__dirname, "README.md"), "utf8"),
    provider: "Pulumi Cloud",
    tags: TAGS,
    repository: REPOSITORY,
    policies: policies.map((rule) => (rule.isAskedAtEnd ? stackPolicy(rule) : resourcePolicy(rule))),
  });
}

/** Reads and checks the configuration. The SDK drops the names that no guardrail has: only the engine's request has them. */
function readConfiguration(): void {
  const { requestDeserialize } = AnalyzerService.configure;
  AnalyzerService.configure.requestDeserialize = (bytes) => {
    const request = requestDeserialize(bytes);
    const map = request.getPolicyconfigMap();
    // Where the SDK reads it, it answers the engine with an error.
    request.getPolicyconfigMap = () => {
      const given: Fields = {};
      map.forEach((it, name) => void Object.assign(given, { [name]: it.getProperties()?.toJavaScript() }));
      requireValid(policies, given);
      configuration = given;
      return map;
    };
    return request;
  };
}

function resourcePolicy(rule: Rule): ResourceValidationPolicy {
  return {
    ...metadataOf(rule),
    async validateResource({ urn, type, name, props, opts: { ignoreChanges }, provider }, report) {
      const resource: Resource = { urn, type, name, inputs: await plain(props), ignoreChanges };
      if (provider && !program.has(provider.urn)) {
        resource.unaskedProvider = { type: provider.type, inputs: await plain(provider.props) };
      }
      program.set(urn, resource);
      for (const message of ask(rule, resource, configuration)) report(message);
    },
  };
}

function stackPolicy(rule: Rule): StackValidationPolicy {
  return {
    ...metadataOf(rule),
    async validateStack({ resources }, report) {
      for (const { urn, props } of resources) {
        const asked = program.get(urn);
        if (!asked) continue;
        const resource = { ...asked, outputs: await plain(props) };
        for (const message of ask(rule, resource, configuration)) report(message, urn);
      }
    },
  };
}

function metadataOf({ name, displayName, description, level, remediation, settings }: Rule) {
  return {
    name,
    displayName,
    description,
    severity: level === "mandatory" ? ("critical" as const) : ("medium" as const),
    tags: TAGS,
    url: `${REPOSITORY}/blob/main/docs/policy.md#${name}`,
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
