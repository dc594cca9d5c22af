// The Pulumi CLI in the pods of examples/deployment.yaml and examples/scheduled-update.yaml.

import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { succeeded } from "../support/engineOutcome";
import { emptyStack } from "../support/engineStack";
import { type ExamplesStack, podOf, startExamplesStack } from "../support/examples";
import { runPodSpecWithCli } from "../support/podSpec";
import { missingCli } from "../support/pulumiCli";

const FILE = "deployment.yaml";

// With the files that contain an access token.
const WHOAMI = ["bash", "-c", 'pulumi whoami || true; ! grep -rlE "pul-[0-9a-f]{8}" "$HOME"'];

describe("the Pulumi CLI in the pod of deployment.yaml", { skip: missingCli }, () => {
  let stack: ExamplesStack;
  before(async () => {
    stack = await startExamplesStack({ runPod: runPodSpecWithCli });
  });
  after(() => stack.simulation.close());

  test("receives a token from the credential helper, and does not store it", async () => {
    const { exchanges } = stack.simulation.pulumiCloud;
    const before = exchanges.length;
    assert.equal(await stack.runPodOf(FILE, { command: WHOAMI }), "acme");
    assert.deepEqual(exchanges.slice(before), [{ status: 200, reason: "team token, scope team:apps" }]);
  });

  test("prints the denial of the credential helper", async () => {
    const metadata = { namespace: "apps", name: "deployer-pulumi-token-exchange" };
    const data = { ...stack.createdFor(FILE).settings, tokenScope: "team:other" };
    const configMaps = stack.simulation.resources["kubernetes:core/v1:ConfigMap"];
    await configMaps?.update("apps/deployer-pulumi-token-exchange", { metadata, data });
    const log = await stack.runPodOf(FILE, { command: WHOAMI });
    assert.match(log, /denied the token exchange/);
    assert.match(log, /team, scope team:other/);
    assert.match(log, /exit status 77$/m);
  });
});

test("the CLI in scheduled-update.yaml finishes what it is creating when its pod is deleted", {
  skip: missingCli,
}, async (t) => {
  const { simulation, cli, directory, pulumi } = await emptyStack(t);
  const roles = simulation.resources["aws:iam/role:Role"] ?? assert.fail("no roles");
  const create = roles.create.bind(roles);
  const creation = t.mock.method(roles, "create", async (...args: Parameters<typeof create>) => {
    await writeFile(join(directory, "creating"), "");
    await setTimeout(3000);
    return create(...args);
  });

  const script = podOf("scheduled-update.yaml").container.command.at(-1) ?? "";
  const update = script.replace(/^git clone .*^pulumi install$/ms, "");
  assert.notEqual(update, script);
  // Twice: at a second SIGTERM, the CLI ends at once.
  const deletePod = `while [[ ! -e creating ]]; do sleep 0.1; done; kill -s TERM $$; sleep 1; kill -s TERM $$`;
  const outcome = await cli.run(
    directory,
    "bash",
    "-euc",
    `STACK=dev TIME_LIMIT=30; (${deletePod}) & ${update}`,
  );

  assert.match(outcome.screen, /SIGTERM received; cancelling/);
  assert.notEqual(outcome.exitCode, 0);
  const { deployment } = JSON.parse((await pulumi("stack", "export")).stdout);
  const created = deployment.resources.map(({ type }: { type: string }) => type);
  assert.ok(created.includes("aws:iam/role:Role"), outcome.screen);
  assert.ok(!created.includes("kubernetes:batch/v1:Job"), "an operation was started after the signal");
  assert.equal(deployment.pending_operations, undefined);

  succeeded(await pulumi("up", "--yes", "--skip-preview"));
  assert.equal(creation.mock.callCount(), 1);
});
