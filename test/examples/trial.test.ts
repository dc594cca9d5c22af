// What the program of examples/trial does to a cluster that is in use.

import assert from "node:assert/strict";
import { test } from "node:test";
import { runProgram } from "../core/program";

const SETTINGS = {
  name: "trial",
  issuerUrl: "https://oidc.example/id/A",
  pulumiApiUrl: "https://api.pulumi.com",
  image: "pulumi/pulumi-base:3.274.1",
  audienceRule: true,
  removed: false,
  grant: { tokenType: "organization" },
};

function runTrial(settings: object) {
  const program = require.resolve("../../examples/trial");
  delete require.cache[program];
  return runProgram(async () => require(program), { ...SETTINGS, ...settings });
}

test("the trial uses the named context of the kubeconfig, and adopts nothing that exists there", async () => {
  const { registered } = await runTrial({ context: "dev" });
  const [provider] = registered.filter(({ type }) => type === "pulumi:providers:kubernetes");
  const { context, upsertExistingObjects } = provider?.inputs ?? {};
  assert.deepEqual([context, upsertExistingObjects], ["dev", "false"]);
});

test("the trial requires a context: the current one can be that of any cluster", async () => {
  await assert.rejects(runTrial({}), /Missing required configuration variable 'project:context'/);
});
