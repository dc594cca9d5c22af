// The commands of docs/import.md, on Pulumi's engine.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { emptyStack, succeeded } from "./engineStack";
import { missingCli } from "./pulumiCli";

test("docs/import.md imports an issuer and a service account", { skip: missingCli }, async (t) => {
  const serviceAccounts = ["default/pulumi-service-account"];
  const { simulation, cli, directory, up } = await emptyStack(t, {}, { serviceAccounts });
  const { url } = simulation.issuer;
  const { id } = await simulation.pulumiCloud.register({ organization: "acme", name: "by hand", url });

  const page = await readFile(join(__dirname, "..", "docs", "import.md"), "utf8");
  const [, commands = ""] = /```bash\n(.*?)```/s.exec(page) ?? [];
  succeeded(await cli.run(directory, "bash", "-ec", commands.replace("ORGANIZATION/ISSUER_ID", id)));
  succeeded(await up());
  assert.deepEqual(simulation.existing().pulumiCloud, [id]);
  assert.equal(simulation.pulumiCloud.exchanges.at(-1)?.status, 200);
});
