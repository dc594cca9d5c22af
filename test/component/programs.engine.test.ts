// The component PulumiCloudAccess in a program that has its own cluster, on Pulumi's engine.

import assert from "node:assert/strict";
import { symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { EXCHANGED, newStatuses, type Resource, resourcesOf, succeeded } from "../support/engineOutcome";
import { stackOfProgram } from "../support/engineStack";
import { ROOT } from "../support/project";
import { missingCli } from "../support/pulumiCli";

const COMPONENT = "eks-pulumi-oidc:index:PulumiCloudAccess";

/** Returns a program with two components, whose names differ only in case. */
const programOf = (one: string, aliases = "[]") => `
import * as aws from "@pulumi/aws";
import * as eks from "@pulumi/eks";
import * as kubernetes from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import * as pulumiservice from "@pulumi/pulumiservice";
import { PulumiCloudAccess } from "${ROOT}/pulumiCloudAccess";

const cluster = new eks.Cluster("own", { name: "own", createOidcProvider: true });
const provider = new kubernetes.Provider("own", { kubeconfig: cluster.kubeconfigJson });
const namespace = new kubernetes.core.v1.Namespace("team-a", { metadata: { name: "team-a" } }, { provider });
const access = {
  organization: "acme",
  issuerName: "own",
  issuerUrl: cluster.oidcProviderUrl,
  oidcProviderArn: cluster.oidcProviderArn.apply(String),
  injectToken: true,
};
const deployer = { namespace: "team-a", name: "deployer", tokenType: "personal", userLogin: "alice" } as const;
const drift = { namespace: "team-b", name: "drift", tokenType: "team", teamName: "platform" } as const;

const providers = [
  provider,
  new aws.Provider("own", { region: "eu-central-1" }),
  new pulumiservice.Provider("own", { apiUrl: "https://pulumi.example.com" }),
];
const ofOne = { providers, dependsOn: [namespace], aliases: ${aliases} };
new PulumiCloudAccess("${one}", { ...access, serviceAccounts: [deployer] }, ofOne);
const other = { ...access, organization: "other", serviceAccounts: [drift], createNamespaces: ["team-b"] };
new PulumiCloudAccess("two-a", other, { provider, protect: true });
`;

test("PulumiCloudAccess exists twice in a program with its own cluster", { skip: missingCli }, async (t) => {
  const { simulation, directory, pulumi, up } = await stackOfProgram(t, { "index.ts": programOf("Two-A") });
  await symlink(join(ROOT, "node_modules"), join(directory, "node_modules"));
  const namespaces = simulation.resources["kubernetes:core/v1:Namespace"] ?? assert.fail();
  const { create } = namespaces;
  // It takes longer than what does not wait for it.
  t.mock.method(namespaces, "create", (name: string, inputs: object) =>
    sleep(3000).then(() => create(name, inputs)),
  );
  succeeded(await up());
  assert.deepEqual(newStatuses(simulation), [...EXCHANGED, ...EXCHANGED]);
  succeeded(await pulumi("preview", "--expect-no-changes"));

  // In the order in which they were created.
  const resources = await resourcesOf(pulumi);
  const one = resources.filter(({ urn }) => /::Two-A[.:]?[^:]*$/.test(urn));
  const two = resources.filter(({ urn }) => /::two-a[.:]?[^:]*$/.test(urn));

  await t.test("with the providers of the caller, and protected on request", () => {
    assert.deepEqual(providersOf(one), ["aws own", "kubernetes own", "pulumiservice own"]);
    assert.deepEqual(providersOf(two), [
      "aws default",
      "kubernetes own",
      "pulumi default",
      "pulumiservice two-a.oidc-issuer",
    ]);
    assert.ok(two.every(({ protect }) => protect === true));
    assert.ok(one.every(({ protect }) => !protect));
  });

  await t.test("with everything in one of the two, or created by the program itself", () => {
    const others = resources.filter((resource) => !one.includes(resource) && !two.includes(resource));
    assert.deepEqual(
      others
        .map(({ type }) => type)
        .filter((type) => !/^(pulumi|eks):/.test(type))
        .sort(),
      ["aws:iam/openIdConnectProvider:OpenIdConnectProvider", "kubernetes:core/v1:Namespace"],
    );
    for (const { urn, type, parent = "" } of [...one, ...two]) {
      const expected =
        type === COMPONENT ? /:pulumi:Stack::/ : /\beks-pulumi-oidc:index:\w+::(Two-A|two-a)\b/;
      assert.match(parent, expected, urn);
    }
  });

  await t.test("with its arguments and outputs in the state", () => {
    const { inputs, outputs } = one.find(({ type }) => type === COMPONENT) ?? {};
    assert.equal(inputs?.issuerName, "own");
    assert.deepEqual(Object.keys(outputs ?? {}).sort(), ["oidcIssuerId", "serviceAccounts"]);
    assert.deepEqual(Object.keys(outputs?.serviceAccounts ?? {}), ["team-a/deployer"]);
  });

  await t.test("of which one waits with everything for the namespace that it depends on", () => {
    const namespace = resources.findIndex(({ urn }) => urn.endsWith("Namespace::team-a"));
    const inOne = one.filter(({ type }) => type !== COMPONENT).map((resource) => resources.indexOf(resource));
    assert.ok(inOne.length > 3 && Math.min(...inOne) > namespace);
  });

  await t.test("and a new name with an alias replaces nothing", async () => {
    await writeFile(join(directory, "index.ts"), programOf("one", '[{ name: "Two-A" }]'));
    succeeded(await pulumi("preview", "--expect-no-changes"));
  });
});

/** Returns `PACKAGE NAME` of each provider that resources use. */
function providersOf(resources: Resource[]): string[] {
  const used = resources.flatMap(({ provider }) => provider?.match(/pulumi:providers:(.*)::/)?.[1] ?? []);
  return [...new Set(used.map((name) => name.replace("::", " ").replace(/_[\d_]+$/, "")))].sort();
}
