// Publishes the guardrails of policy/, and applies them to stacks: a stack of this program for the organization, by an admin in a clone.
// A published version can't change: after a change of policy/, also change the version in policy/package.json.

import { join } from "node:path";
import * as pulumi from "@pulumi/pulumi";
import * as pulumiservice from "@pulumi/pulumiservice";
import { policies } from "../../policy/index";
import { version } from "../../policy/package.json";
import { displayNameOf } from "../../policy/rule";

const organization = pulumi.getOrganization();

const pack = new pulumiservice.PolicyPack("guardrails", {
  organization,
  name: "pulumi-oidc-guardrails",
  versionTag: version,
  sourcePath: join(__dirname, "..", "..", "policy"),
  // Pulumi Cloud checks a group's config by these. The CLI would read them from the pack.
  policies: policies.map((rule) => ({
    name: rule.name,
    displayName: displayNameOf(rule),
    description: rule.description,
    enforcementLevel: rule.level,
    configSchema: rule.settings && { properties: rule.settings },
  })),
});

new pulumiservice.PolicyGroup("clusters", {
  organizationName: organization,
  name: "clusters",
  mode: "preventative",
  stacks: [{ name: "dev", routingProject: "eks-pulumi-oidc" }], // EDIT
  // What Pulumi.STACK.policy.json has.
  policyPacks: [{ name: pack.name, versionTag: pack.versionTag, config: { limits: { issuers: [] } } }], // EDIT
});
