// The component PulumiCloudAccess in programs that have their own cluster, on Pulumi's engine.

import assert from "node:assert/strict";
import { symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { EXCHANGED, type Resource, resourcesOf, statuses, succeeded } from "../support/engineOutcome";
import { delayNamespaces, type Stack, stackOfProgram } from "../support/engineStack";
import { ROOT } from "../support/project";
import { missingCli } from "../support/pulumiCli";

/** What each program begins with. */
const CLUSTER = `
import * as aws from "@pulumi/aws";
import * as eks from "@pulumi/eks";
import * as kubernetes from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import * as pulumiservice from "@pulumi/pulumiservice";
import { PulumiCloudAccess } from "${ROOT}/pulumiCloudAccess";

const cluster = new eks.Cluster("own", { name: "own", createOidcProvider: true });
const kubernetesProvider = new kubernetes.Provider("own", { kubeconfig: cluster.kubeconfigJson });
const access = {
  organization: "acme",
  issuerName: "own",
  issuerUrl: cluster.oidcProviderUrl,
  oidcProviderArn: cluster.oidcProviderArn.apply(String),
};
const deployer = { namespace: "team-a", name: "deployer", tokenType: "personal", userLogin: "alice" } as const;
const drift = { namespace: "team-b", name: "drift", tokenType: "team", teamName: "platform" } as const;
`;

describe("PulumiCloudAccess in a program with its own cluster", { skip: missingCli }, () => {
  test("exists twice in one program, with the providers of the caller", async (t) => {
    const { simulation, pulumi, up } = await stackOf(
      t,
      `
      const providers = [
        kubernetesProvider,
        new aws.Provider("own", { region: "eu-central-1" }),
        new pulumiservice.Provider("own", { apiUrl: "https://pulumi.example.com" }),
      ];
      new PulumiCloudAccess("one", { ...access, serviceAccounts: [deployer] }, { providers });
      const serviceAccounts = [drift];
      const other = { ...access, organization: "other", serviceAccounts, createNamespaces: ["team-b"] };
      new PulumiCloudAccess("two", other, { provider: kubernetesProvider, protect: true });
      `,
    );
    succeeded(await up());
    assert.deepEqual(statuses(simulation), [...EXCHANGED, ...EXCHANGED]);
    succeeded(await pulumi("preview", "--expect-no-changes"));

    const resources = await resourcesOf(pulumi);
    const one = resources.filter(({ urn }) => /::one[.:]?[^:]*$/.test(urn));
    const two = resources.filter(({ urn }) => /::two[.:]?[^:]*$/.test(urn));
    assert.deepEqual(providersOf(one), ["aws own", "kubernetes own", "pulumiservice own"]);
    assert.deepEqual(providersOf(two), [
      "aws default",
      "kubernetes own",
      "pulumi default",
      "pulumiservice two.oidc-issuer",
    ]);
    assert.ok(two.every(({ protect }) => protect === true));
    assert.ok(one.every(({ protect }) => !protect));
    // Everything is in one of the two components, or is what the program has created itself.
    const own = ["pulumi:", "eks:"];
    const others = resources.filter((it) => !one.includes(it) && !two.includes(it));
    assert.deepEqual(
      others.map(({ type }) => type).filter((type) => !own.some((prefix) => type.startsWith(prefix))),
      ["aws:iam/openIdConnectProvider:OpenIdConnectProvider"],
    );
    for (const { urn, type, parent = "" } of [...one, ...two]) {
      const isComponent = type === "eks-pulumi-oidc:index:PulumiCloudAccess";
      assert.match(parent, isComponent ? /:pulumi:Stack::/ : /\beks-pulumi-oidc:index:\w+::(one|two)\b/, urn);
    }

    const [component] = one.filter(({ type }) => type === "eks-pulumi-oidc:index:PulumiCloudAccess");
    assert.equal(component?.inputs?.issuerName, "own");
    assert.deepEqual(Object.keys(component?.outputs ?? {}).sort(), ["oidcIssuerId", "serviceAccounts"]);
    assert.deepEqual(Object.keys(component?.outputs?.serviceAccounts ?? {}), ["team-a/deployer"]);
  });

  test("can have names that differ in one character, and a new name with an alias replaces nothing", async (t) => {
    const program = (name: string, aliases: string) => `
      const [one, two] = ["a", "b"].map((name) => ({ ...drift, namespace: "default", name }));
      const options = { providers: [kubernetesProvider] };
      const args = { ...access, injectToken: true };
      new PulumiCloudAccess("${name}", { ...args, serviceAccounts: [one] }, { ...options, aliases: ${aliases} });
      new PulumiCloudAccess("team-a", { ...args, organization: "other", serviceAccounts: [two] }, options);
    `;
    const { pulumi, up, directory } = await stackOf(t, program("TeamAccess", "[]"));
    succeeded(await up());

    await writeFile(join(directory, "index.ts"), CLUSTER + program("team.a", '[{ name: "TeamAccess" }]'));
    const { stdout } = succeeded(await pulumi("preview", "--json"));
    const { steps }: { steps: { op: string; urn: string }[] } = JSON.parse(stdout);
    assert.deepEqual(
      steps.filter(({ op }) => op !== "same" && op !== "update"),
      [],
    );
    succeeded(await up());
    succeeded(await pulumi("preview", "--expect-no-changes"));
  });

  test("waits with everything for what the program names in dependsOn, such as its own namespace", async (t) => {
    const stack = await stackOf(
      t,
      `
      const metadata = { name: "team-a" };
      const namespace = new kubernetes.core.v1.Namespace("team-a", { metadata }, { provider: kubernetesProvider });
      const options = { providers: [kubernetesProvider], dependsOn: [namespace] };
      new PulumiCloudAccess("access", { ...access, serviceAccounts: [deployer] }, options);
      `,
    );
    delayNamespaces(t, stack.simulation);
    succeeded(await stack.up());

    // The state lists resources in the order in which they were created.
    const urns = (await resourcesOf(stack.pulumi)).map(({ urn }) => urn);
    const namespace = urns.findIndex((urn) => urn.endsWith("Namespace::team-a"));
    const [first = 0, ...others] = urns.flatMap((urn, index) => {
      return urn.includes("PulumiCloudAccess$") ? [index] : [];
    });
    assert.ok(namespace > 0 && namespace < first && others.length > 3);
  });
});

/** Creates a stack of a program that continues after its cluster. */
function stackOf(t: TestContext, program: string): Promise<Stack> {
  return stackOfProgram(t, { "index.ts": CLUSTER + program }, async (directory) => {
    await symlink(join(ROOT, "node_modules"), join(directory, "node_modules"));
    return [];
  });
}

/** Returns `PACKAGE NAME` of each provider that resources use. */
function providersOf(resources: Resource[]): string[] {
  const used = resources.flatMap(({ provider }) => (provider ? [provider] : []));
  const names = used.map((provider) => {
    const [, packageName, name] = /pulumi:providers:(\w+)::(.*?)(?:_[\d_]+)?::/.exec(provider) ?? [];
    return `${packageName} ${name}`;
  });
  return [...new Set(names)].sort();
}
