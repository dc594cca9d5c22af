// The guardrails as a policy pack of Pulumi's engine, which asks them in its own process: https://www.pulumi.com/docs/insights/policy/

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type Policies, type Policy, PolicyPack } from "@pulumi/policy";
import { AnalyzerService } from "@pulumi/pulumi/proto/analyzer_grpc_pb";
import { policies } from "./index";
import { displayNameOf, type Resource, type Rule } from "./rule";
import { ask, requireKnown } from "./runRules";
import type { Fields } from "./values";

const REPOSITORY = "https://github.com/OWNER/eks-pulumi-oidc";
const TAGS = ["oidc", "kubernetes", "access-tokens"];

/** What the engine has asked about, by URN. */
const program = new Map<string, Resource>();

/** For each guardrail, its settings and its level. */
let configuration: Fields = {};

/** Serves the guardrails to the engine, until it ends the process. */
export function serve(): void {
  const { requestDeserialize } = AnalyzerService.configure;
  // The SDK drops the names that no guardrail has: only the engine's request has them.
  AnalyzerService.configure.requestDeserialize = (bytes) => {
    const request = requestDeserialize(bytes);
    const map = request.getPolicyconfigMap();
    // Where the SDK reads it, it answers the engine with an error.
    request.getPolicyconfigMap = () => {
      const given: Fields = {};
      map.forEach((it, name) => void Object.assign(given, { [name]: it.getProperties()?.toJavaScript() }));
      requireKnown(given);
      configuration = given;
      return map;
    };
    return request;
  };
  new PolicyPack("pulumi-oidc-guardrails", {
    displayName: "Guardrails for Pulumi access tokens by OIDC",
    readme: readFileSync(join(__dirname, "README.md"), "utf8"),
    repository: REPOSITORY,
    tags: TAGS,
    policies: policies.map(policyOf),
  });
}

function policyOf(rule: Rule): Policies[number] {
  const { name, description, level, settings } = rule;
  const policy: Policy = {
    name,
    displayName: displayNameOf(rule),
    description,
    severity: level === "mandatory" ? "critical" : "medium",
    tags: TAGS,
    url: `${REPOSITORY}/blob/main/docs/policy.md#${name}`,
    enforcementLevel: level,
    configSchema: settings && { properties: settings },
  };
  if (rule.isAskedAtEnd) {
    return {
      ...policy,
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
  return {
    ...policy,
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
