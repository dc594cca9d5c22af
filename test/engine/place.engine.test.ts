// A stack and a component stay where they were deployed: in their Pulumi Cloud, organization, and cluster.

import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { isDeepStrictEqual } from "node:util";
import { type ClusterIssuer, startIssuer } from "../../simulator/emulators/issuer";
import { changes, errorsIn, failed, resourcesOf, succeeded } from "../support/engineOutcome";
import { emptyStack, type Stack } from "../support/engineStack";
import { missingCli, type Outcome } from "../support/pulumiCli";

const DEPLOYER = { namespace: "default", name: "deployer", tokenType: "organization", awsRole: "none" };
const DRIFT = { ...DEPLOYER, name: "drift" };
const OTHER_CLOUD = "https://pulumi.example.com";

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

// The parts of each test depend on those before them.
describe("on Pulumi's engine", { skip: missingCli }, () => {
  test("a stack stays where it was deployed", async (t) => {
    const settings = { userLogin: "", serviceAccounts: [DEPLOYER], createOidcProvider: true };
    const stack = await emptyStack(t, { ...settings, organization: "acmee" });
    const { simulation, cli, pulumi, set, up } = stack;
    const preview = () => pulumi("preview");
    const title = /error: This stack stays where it was deployed/;

    await t.test("in its organization, until it is destroyed, even if its first update failed", async (t) => {
      const issuers = simulation.resources["pulumiservice:index:OidcIssuer"] ?? assert.fail();
      const create = t.mock.method(issuers, "create", () => assert.fail("404 API error: Not Found"));
      failed(await up(), /404 API error/);
      create.mock.restore();

      await set("organization", "acme");
      const message = /organization = "acme": deployed with "acmee".*To move, .*run `pulumi destroy`/s;
      assert.deepEqual(await changedByStopped(stack, [preview, up], title, message), []);
      succeeded(await pulumi("destroy", "--yes"));
      succeeded(await up());
      assert.match(simulation.existing().pulumiCloud.join(), /^acme\/[^,]*$/);
    });

    await t.test("in its Pulumi Cloud, whose login its removal requires", async () => {
      await set("serviceAccounts", [DRIFT]);
      await set("pulumiApiUrl", OTHER_CLOUD);
      // A token beside this state is for the default Pulumi Cloud otherwise.
      cli.environment.PULUMI_API = OTHER_CLOUD;
      const message =
        /pulumiApiUrl = "https:\/\/pulumi\.example\.com": deployed with "https:\/\/api\.pulumi\.com".*log in to https:\/\/api\.pulumi\.com/s;
      assert.deepEqual(await changedByStopped(stack, [preview, up], title, message), []);
      delete cli.environment.PULUMI_API;
      await set("pulumiApiUrl", "");
    });

    await t.test("on its cluster, whatever options an update has and the AWS account contains", async (t) => {
      const { url } = await startOtherIssuer(t);
      // As for a cluster of the same name in another AWS account.
      const getCluster = simulation.calls["aws:eks/getCluster:getCluster"] ?? assert.fail();
      const { answer } = getCluster;
      const identities = [{ oidcs: [{ issuer: url }] }];
      t.mock.method(getCluster, "answer", (inputs: object) => ({ ...answer(inputs), identities }));

      const urls = `issuerUrl = "${url}": deployed with "${simulation.issuer.url}"`;
      const message = RegExp(`${urls.replaceAll(/[.?]/g, "\\$&")}.*The AWS account is another one`, "s");
      const created = "**:ConfigMap::access.default.drift.pulumi-token-exchange";
      const options = [["--continue-on-error"], ["--refresh"], ["--target", created], ["--exclude", created]];
      const commands = [preview, ...options.map((option) => () => up(...option))];
      assert.deepEqual(await changedByStopped(stack, commands, title, message), []);
    });

    await t.test("quietly, once the settings are restored", async () => {
      await set("serviceAccounts", [DEPLOYER]);
      succeeded(await pulumi("preview", "--expect-no-changes"));
    });

    await t.test("unless its Pulumi Cloud has another name, as docs/troubleshooting.md says", async () => {
      cli.environment.PULUMI_API = OTHER_CLOUD;
      await set("pulumiApiUrl", OTHER_CLOUD);
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

  test("a component stays where it was deployed, and its caller's Kubernetes provider does not", async (t) => {
    const stack = await emptyStack(t);
    const { simulation, cli, directory, pulumi, up } = stack;
    await writeFile(join(directory, "index.ts"), PROGRAM);
    const { issuer } = simulation;
    const otherIssuer = await startOtherIssuer(t);
    cli.environment.ISSUER_URL = issuer.url;
    succeeded(await up());
    const deployed = simulation.existing();

    cli.environment.ISSUER_URL = otherIssuer.url;
    const changed = await changedByStopped(
      stack,
      [() => pulumi("preview"), up],
      /error: PulumiCloudAccess "access" stays where it was deployed\. None of its resources was changed\./,
      /issuerUrl = .*: deployed with .*remove the component from the program/s,
    );
    // Nothing that the component creates.
    assert.deepEqual(changed, [
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

/**
 * Requires that each command fails with one error that contains these messages, and changes nothing that exists.
 *
 * @returns the resources whose state has changed, sorted, such as `pulumi:providers:kubernetes own`.
 */
async function changedByStopped(
  stack: Stack,
  commands: (() => Promise<Outcome>)[],
  ...messages: RegExp[]
): Promise<string[]> {
  const { simulation } = stack;
  const existing = simulation.existing();
  const before = await stateOf(stack);
  for (const command of commands) {
    const screen = failed(await command(), ...messages);
    assert.equal(errorsIn(screen), 1, screen);
    assert.deepEqual(simulation.existing(), existing);
  }
  const after = await stateOf(stack);
  const urns = Object.keys({ ...before, ...after });
  const changed = urns.filter((urn) => !isDeepStrictEqual(before[urn], after[urn]));
  return changed.map((urn) => urn.split("::").slice(2).join(" ")).sort();
}

/** Returns the resources in the state by their URN, without what a refresh changes, such as times. */
async function stateOf({ pulumi }: Stack) {
  const resources = await resourcesOf(pulumi);
  return Object.fromEntries(resources.map(({ urn, inputs, outputs }) => [urn, { inputs, outputs }]));
}
