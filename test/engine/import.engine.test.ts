// The commands of docs/import.md, on Pulumi's engine.

import assert from "node:assert/strict";
import { test } from "node:test";
import { succeeded } from "../support/engineOutcome";
import { emptyStack } from "../support/engineStack";
import { codeIn, read } from "../support/project";
import { missingCli } from "../support/pulumiCli";

test("docs/import.md imports an issuer and a service account", { skip: missingCli }, async (t) => {
  const serviceAccounts = ["default/pulumi-service-account"];
  const { simulation, cli, directory, up } = await emptyStack(t, {}, { serviceAccounts });
  const { url } = simulation.issuer;
  const { id } = await simulation.pulumiCloud.register({ organization: "acme", name: "by hand", url });

  const [commands = ""] = codeIn(read("docs/import.md"), "bash");
  succeeded(await cli.run(directory, "bash", "-ec", commands.replace("ORGANIZATION/ISSUER_ID", id)));
  succeeded(await up());
  assert.deepEqual(simulation.existing().pulumiCloud, [id]);
  assert.equal(simulation.pulumiCloud.exchanges.at(-1)?.status, 200);
});
