// A stack and a component stay where they were deployed: in their Pulumi Cloud, organization, and cluster.

import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { isDeepStrictEqual } from "node:util";
import { type ClusterIssuer, startIssuer } from "../../simulator/emulators/issuer";
import type { Simulation } from "../../simulator/emulators/simulation";
import { changes, errorsIn, failed, resourcesOf, succeeded } from "../support/engineOutcome";
import { emptyStack, type Stack } from "../support/engineStack";
import { missingCli, type Outcome } from "../support/pulumiCli";

const DEPLOYER = { namespace: "default", name: "deployer", tokenType: "organization", awsRole: "none" };
const DRIFT = { ...DEPLOYER, name: "drift" };

/** The program with a component and a Kubernetes provider of its own. Without ISSUER_URL, it has no component. */
const PROGRAM = `
import { Provider } from "@pulumi/kubernetes/provider";
import { PulumiCloudAccess } from "./pulumiCloudAccess";

const { ISSUER_URL: issuerUrl } = process.env;
const serviceAccounts = [${JSON.stringify(DEPLOYER)} as const];
const args = { organization: "acme", issuerName: "own", serviceAccounts };
if (issuerUrl) {
  const cluster = new Provider("own", { kubeconfig: "{}", clusterIdentifier: issuerUrl });
  new PulumiCloudAccess("access", { ...args, issuerUrl }, { providers: [cluster] });
}
`;

describe("on Pulumi's engine", { skip: missingCli }, () => {
  test("a stack stays where it was deployed", async (t) => {
    const settings = { userLogin: "", serviceAccounts: [DEPLOYER], createOidcProvider: true };
    const stack = await emptyStack(t, settings);
    const { simulation, cli, pulumi, set, up } = stack;
    succeeded(await up());
    const deployed = simulation.existing();
    const state = await stateOf(stack);

    /** Changes the settings, adds and removes something, runs commands that must stop, and restores the settings. */
    async function assertStops(settings: Record<string, string>, message: RegExp, commands: Command[]) {
      const previous = {
        organization: "acme",
        clusterName: "my-cluster",
        pulumiApiUrl: "",
        createCluster: "",
        createOidcProvider: "true",
      };
      for (const [key, value] of Object.entries(settings)) await set(key, value);
      await set("serviceAccounts", [DRIFT]);
      try {
        for (const command of commands) {
          const screen = failed(await command(), message, /error: This stack stays where it was deployed/);
          assert.equal(errorsIn(screen), 1, screen);
          assert.deepEqual(simulation.existing(), deployed);
          assert.deepEqual(await stateOf(stack), state);
        }
      } finally {
        await set("serviceAccounts", [DEPLOYER]);
        for (const key of Object.keys(settings)) await set(key, previous[key as keyof typeof previous]);
      }
    }
    type Command = () => Promise<Outcome>;
    const preview = () => pulumi("preview");

    await t.test("in its organization", async () => {
      const message = /organization = "other": deployed with "acme".*run `pulumi destroy`/s;
      await assertStops({ organization: "other" }, message, [preview, up]);
    });

    await t.test("in its Pulumi Cloud, whose login its removal requires", async () => {
      const url = "https://pulumi.example.com";
      const message =
        /pulumiApiUrl = "https:\/\/pulumi\.example\.com": deployed with "https:\/\/api\.pulumi\.com".*log in to https:\/\/api\.pulumi\.com/s;
      // A token beside this state is for the default Pulumi Cloud otherwise.
      cli.environment.PULUMI_API = url;
      await assertStops({ pulumiApiUrl: url }, message, [preview, up]);
      delete cli.environment.PULUMI_API;
    });

    await t.test("on its cluster, before another one is created", async () => {
      const message =
        /clusterName = "other-cluster": deployed with "my-cluster"\s+createCluster = true: deployed with false/;
      const settings = { clusterName: "other-cluster", createCluster: "true", createOidcProvider: "" };
      await assertStops(settings, message, [preview, up]);
    });

    await t.test(
      "on its cluster, whatever options an update has and whatever the AWS account has",
      async () => {
        const { url } = await startOtherIssuer(t);
        const restore = useOtherIssuer(simulation, url);
        const urls = `issuerUrl = "${url}": deployed with "${simulation.issuer.url}"`;
        const message = RegExp(`${urls.replaceAll(/[.?]/g, "\\$&")}.*The AWS account is another one`, "s");
        const created = "**:ConfigMap::access.default.drift.pulumi-token-exchange";
        await assertStops({}, message, [
          preview,
          () => up("--continue-on-error"),
          () => up("--refresh"),
          () => up("--target", created),
          () => up("--exclude", created),
        ]);
        restore();
      },
    );

    await t.test("quietly, once the settings are restored", async () => {
      succeeded(await pulumi("preview", "--expect-no-changes"));
    });

    await t.test("unless its Pulumi Cloud has another name, as docs/troubleshooting.md says", async () => {
      cli.environment.PULUMI_API = "https://pulumi.example.com";
      await set("pulumiApiUrl", "https://pulumi.example.com");
      assert.deepEqual(changes(await up("--replace", "**pulumi:index:Stash::*.url")), [
        "access.default.deployer replaced",
        "access.default.deployer.pulumi-token-exchange updated",
        "access.oidc-issuer.url replaced",
        "pulumi-cloud updated",
        "pulumi-cloud.url replaced",
      ]);
      succeeded(await pulumi("preview", "--expect-no-changes"));
    });

    await t.test("until everything else is destroyed", async () => {
      const { screen } = succeeded(await pulumi("destroy", "--yes", "--skip-preview"));
      const types = [...screen.matchAll(/^ \S+ +(\S+) +\S+ deleted/gm)].map(([, type = ""]) => type);
      const afterFirst = types.slice(types.indexOf("pulumi:index:Stash"));
      // What the component's Stashes do not depend on: the cluster's.
      const allowed =
        /^pulumi:(index:Stash|providers:.*|pulumi:Stack)$|:(PulumiCloudAccess|OpenIdConnectProvider)$/;
      assert.deepEqual(
        afterFirst.filter((type) => !allowed.test(type)),
        [],
        screen,
      );
      assert.equal(afterFirst.filter((type) => type === "pulumi:index:Stash").length, 4, screen);
    });
  });

  test("a stack that failed before its issuer existed is moved as its message says", async (t) => {
    const stack = await emptyStack(t, { userLogin: "", serviceAccounts: [DEPLOYER], organization: "acmee" });
    const { simulation, pulumi, set, up } = stack;
    const issuers = simulation.resources["pulumiservice:index:OidcIssuer"] ?? assert.fail();
    const { create } = issuers;
    t.mock.method(issuers, "create", async (name: string, inputs: { organization: string }) => {
      if (inputs.organization === "acmee") throw new Error("404 API error: Not Found");
      return create(name, inputs);
    });
    failed(await up(), /404 API error/);
    await set("organization", "acme");
    failed(await up(), /organization = "acme": deployed with "acmee".*To move, .*run `pulumi destroy`/s);

    succeeded(await pulumi("destroy", "--yes"));
    succeeded(await up());
    assert.match(simulation.existing().pulumiCloud.join(), /^acme\/[^,]*$/);
  });

  test("a component stays where it was deployed, and its caller's Kubernetes provider does not", async (t) => {
    const stack = await emptyStack(t);
    const { simulation, cli, directory, pulumi, up } = stack;
    await writeFile(join(directory, "index.ts"), PROGRAM);
    const { issuer } = simulation;
    const otherIssuer = await startOtherIssuer(t);
    cli.environment.ISSUER_URL = issuer.url;
    succeeded(await up());
    const deployed = simulation.existing();
    const state = await stateOf(stack);

    cli.environment.ISSUER_URL = otherIssuer.url;
    const created = "**:ConfigMap::access.default.deployer.pulumi-token-exchange";
    const commands = [
      () => pulumi("preview"),
      up,
      () => up("--continue-on-error"),
      () => up("--refresh"),
      () => up("--target", created),
      () => up("--exclude", created),
    ];
    for (const command of commands) {
      const screen = failed(
        await command(),
        /error: PulumiCloudAccess "access" stays where it was deployed\. None of its resources was changed\./,
        /issuerUrl = .*: deployed with .*remove the component from the program/s,
      );
      assert.equal(errorsIn(screen), 1, screen);
    }
    assert.deepEqual(simulation.existing(), deployed);
    // The caller's provider and the component itself have changed, and nothing that the component creates.
    const after = await stateOf(stack);
    const changed = Object.keys(after).filter((urn) => !isDeepStrictEqual(after[urn], state[urn]));
    assert.deepEqual(changed.map((urn) => urn.split("::").slice(2).join(" ")).sort(), [
      "eks-pulumi-oidc:index:PulumiCloudAccess access",
      "pulumi:providers:kubernetes own",
    ]);

    cli.environment.ISSUER_URL = issuer.url;
    const restored = changes(await up());
    assert.deepEqual(
      restored.filter((change) => !/^(own|access) updated$/.test(change)),
      [],
    );
    assert.deepEqual(simulation.existing(), deployed);

    // As the message says.
    cli.environment.ISSUER_URL = "";
    succeeded(await up());
    assert.deepEqual(simulation.existing().pulumiCloud, []);
    cli.environment.ISSUER_URL = otherIssuer.url;
    failed(await up(), /no allow policy|has no OIDC issuer|invalid/);
    assert.deepEqual(
      simulation.pulumiCloud.list().map(({ registration }) => registration.url),
      [otherIssuer.url],
    );
  });
});

/** Starts the issuer of another cluster. */
async function startOtherIssuer(t: TestContext): Promise<ClusterIssuer> {
  const issuer = await startIssuer();
  t.after(issuer.close);
  return issuer;
}

/** Lets every cluster have another issuer, as one of the same name in another AWS account does. */
function useOtherIssuer({ calls }: Simulation, url: string): () => void {
  const getCluster = calls["aws:eks/getCluster:getCluster"] ?? assert.fail();
  const { answer } = getCluster;
  getCluster.answer = (inputs) => ({
    ...answer(inputs),
    identities: [{ oidcs: [{ issuer: url }] }],
  });
  return () => {
    getCluster.answer = answer;
  };
}

/** Returns the resources in the state by their URN, without what a refresh changes, such as times. */
async function stateOf({ pulumi }: Stack) {
  const resources = await resourcesOf(pulumi);
  return Object.fromEntries(resources.map(({ urn, inputs, outputs }) => [urn, { inputs, outputs }]));
}
