// A stack stays where it was deployed: in its Pulumi Cloud, organization, and cluster. pulumiCloudAccess.test.ts has a component.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { changes, failed, resourcesOf, succeeded } from "../environment/engineOutcome";
import { emptyStack, type Stack } from "../environment/engineStack";
import { missingCli, type Outcome } from "../environment/pulumiCli";
import { eksIssuerUrl } from "../environment/simulation";

const DEPLOYER = { namespace: "default", name: "deployer", tokenType: "organization", awsRole: "none" };
const DRIFT = { ...DEPLOYER, name: "drift" };
const OTHER_CLOUD = "https://pulumi.example.com";

// The parts of each test depend on those before them.
describe("on Pulumi's engine", { skip: missingCli }, () => {
  test("a stack stays where it was deployed", async (t) => {
    const settings = { serviceAccounts: [DEPLOYER], createOidcProvider: true };
    const stack = await emptyStack(t, { ...settings, organization: "acmee" });
    const { simulation, cli, pulumi, set, up } = stack;
    const preview = () => pulumi("preview");
    const title = /error: This stack stays where it was first deployed/;

    await t.test("in its organization, until it is destroyed, even if its first update failed", async (t) => {
      const issuers = simulation.resources["pulumiservice:index:OidcIssuer"] ?? assert.fail();
      const create = t.mock.method(issuers, "create", () => assert.fail("404 API error: Not Found"));
      failed(await up(), /404 API error/);
      create.mock.restore();

      await set("organization", "acme");
      const message =
        /organization = "acme": deployed with "acmee".*To move, .*run `pulumi destroy`.*remove createNamespaces and/s;
      await stopped(stack, [preview, up], title, message);
      succeeded(await pulumi("destroy", "--yes"));
      // As the message says: the provider stays.
      assert.equal(simulation.existing().aws.length, 2);
      await set("createOidcProvider", false);
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
      await stopped(stack, [preview, up], title, message);
      delete cli.environment.PULUMI_API;
      await set("pulumiApiUrl", "");
    });

    await t.test("on its cluster, whatever options an update has and the AWS account contains", async (t) => {
      const url = eksIssuerUrl("us-west-2");
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
      await stopped(stack, commands, title, message);
    });

    await t.test("quietly, once the settings are restored", async () => {
      await set("serviceAccounts", [DEPLOYER]);
      succeeded(await pulumi("preview", "--expect-no-changes"));
    });

    await t.test("unless its Pulumi Cloud has another name, as docs/troubleshooting.md says", async () => {
      cli.environment.PULUMI_API = OTHER_CLOUD;
      await set("pulumiApiUrl", OTHER_CLOUD);
      assert.deepEqual(changes(await up("--replace", "**pulumi:index:Stash::*first-deployment")), [
        "access.default.deployer replaced",
        "access.default.deployer.pulumi-token-exchange updated",
        "access.first-deployment replaced",
        "first-deployment replaced",
        "pulumi-cloud updated",
      ]);
      succeeded(await pulumi("preview", "--expect-no-changes"));
    });
  });
});

/** Requires that each command fails with one error that contains these messages, and changes nothing, neither in the state. */
async function stopped(stack: Stack, commands: (() => Promise<Outcome>)[], ...messages: RegExp[]) {
  const { simulation } = stack;
  const existing = simulation.existing();
  const before = await stateOf(stack);
  for (const command of commands) {
    const screen = failed(await command(), ...messages);
    assert.equal(screen.split("Diagnostics:")[1]?.match(/error:/g)?.length, 1, screen);
    assert.deepEqual(simulation.existing(), existing);
  }
  assert.deepEqual(await stateOf(stack), before);
}

/** Returns the resources in the state by their URN, without what a refresh changes, such as times. */
async function stateOf({ pulumi }: Stack) {
  const resources = await resourcesOf(pulumi);
  return Object.fromEntries(resources.map(({ urn, inputs, outputs }) => [urn, { inputs, outputs }]));
}
