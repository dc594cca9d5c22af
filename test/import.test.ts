// The commands of docs/import.md, on Pulumi's engine.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { startSimulation } from "../simulator/simulation";
import { serveProvider } from "./provider";
import { createProject, missingCli, openCli } from "./pulumiCli";

test("docs/import.md takes over an issuer and a service account", { skip: missingCli }, async (t) => {
  const simulation = await startSimulation({
    region: "us-west-2",
    cluster: { name: "my-cluster", hasOidcProvider: true },
    serviceAccounts: ["default/pulumi-service-account"],
  });
  t.after(simulation.close);
  const cli = await openCli(await serveProvider(() => simulation));
  t.after(cli.remove);
  const settings = { clusterName: "my-cluster", userLogin: "alice", organization: "acme" };
  const directory = await createProject(cli, { "aws:region": "us-west-2", ...settings });
  const { url } = simulation.issuer;
  const { id } = await simulation.pulumiCloud.register({ organization: "acme", name: "by hand", url });

  const page = await readFile(join(__dirname, "..", "docs", "import.md"), "utf8");
  const [, commands = ""] = /```bash\n(.*?)```/s.exec(page) ?? [];
  const script = `set -e\n${commands.replace("ORGANIZATION/ISSUER_ID", id)}`;
  const imported = await cli.run(directory, "bash", "-c", script);
  assert.equal(imported.exitCode, 0, imported.screen);
  const updated = await cli.pulumi(directory, "up", "--yes", "--skip-preview");
  assert.equal(updated.exitCode, 0, updated.screen);
  assert.deepEqual(simulation.existing().pulumiCloud, [id]);
  assert.equal(simulation.pulumiCloud.exchanges.at(-1)?.status, 200);
});
