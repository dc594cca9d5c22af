// The Pulumi CLI in the pod of examples/deployment.yaml, on the emulated cluster.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type ExamplesStack, podOf, startExamplesStack } from "./examples";
import { missingCli } from "./pulumiCli";

const FILE = "deployment.yaml";
const WHOAMI = ["bash", "-c", 'pulumi whoami || true; find "$PULUMI_HOME" -name credentials.json'];

describe("the Pulumi CLI in the pod of deployment.yaml", { skip: missingCli }, () => {
  let stack: ExamplesStack;
  before(async () => {
    stack = await startExamplesStack();
  });
  after(() => stack.simulation.close());

  test("receives a token from the credential helper, and does not store it", async () => {
    const { exchanges } = stack.simulation.pulumiCloud;
    const before = exchanges.length;
    assert.equal(await stack.runPodOf(FILE, { command: WHOAMI }), "acme");
    assert.deepEqual(exchanges.slice(before), [{ status: 200, reason: "team token, scope team:apps" }]);
  });

  test("prints the denial of the credential helper", async () => {
    const [scope] = structuredClone(podOf(FILE).container.env);
    assert.ok(scope);
    const env = [...podOf(FILE).container.env, { ...scope, name: "PULUMI_TOKEN_SCOPE", value: "team:other" }];
    const log = await stack.runPodOf(FILE, { command: WHOAMI, env });
    assert.match(log, /denied the token exchange/);
    assert.match(log, /team, scope team:other/);
    assert.match(log, /exit status 77$/m);
  });
});
