// The Pulumi CLI in the pod of examples/token-check.yaml.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type ExamplesStack, podOf, startExamplesStack } from "../support/examples";
import { runPodSpecWithCli } from "../support/podSpec";
import { missingCli } from "../support/pulumiCli";

describe("the Pulumi CLI in the pod of token-check.yaml", { skip: missingCli }, () => {
  let stack: ExamplesStack;
  before(async () => {
    stack = await startExamplesStack({ runPod: runPodSpecWithCli });
  });
  after(() => stack.simulation.close());

  test("prints the owner of the token", async () => {
    assert.equal(await stack.runPodOf("token-check.yaml", {}), "acme");
  });

  test("fails when the exchange is denied", async () => {
    const { pulumiCloud } = stack.simulation;
    const [issuer = assert.fail()] = pulumiCloud.list();
    await pulumiCloud.update(issuer.id, { policies: [] });
    const { command } = podOf("token-check.yaml").container;
    const log = await stack.runPodOf("token-check.yaml", {
      command: ["bash", "-c", '"$@" || echo "exit code $?"', "bash", ...command],
    });
    await pulumiCloud.update(issuer.id, issuer.registration);
    assert.match(log, /denied the token exchange/);
    assert.match(log, /^exit code [1-9]/m);
  });
});
