// What test/stackFile.test.ts expects is what Pulumi's engine answers.

import assert from "node:assert/strict";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { missingCli, openCli } from "./pulumiCli";
import { SCALARS, UNQUOTED } from "./scalars";

describe("the engine", { skip: missingCli }, () => {
  test("passes the scalars of a stack file as the simulator does", async (t) => {
    const cli = await openCli("");
    t.after(cli.remove);
    const directory = join(cli.directory, "scalars");
    await mkdir(directory);
    await writeFile(join(directory, "Pulumi.yaml"), "name: p\nruntime: nodejs\n");
    await cli.pulumi(directory, "stack", "init", "dev");
    const stackFile = join(directory, "Pulumi.dev.yaml");
    const encryption = await readFile(stackFile, "utf8");

    async function settings(scalars: string[]): Promise<(string | undefined)[] | undefined> {
      const lines = scalars.map((scalar, index) => `  key${index}: ${scalar}`);
      await writeFile(stackFile, [encryption, "config:", ...lines, ""].join("\n"));
      const { exitCode, stdout } = await cli.pulumi(directory, "config", "--json");
      if (exitCode !== 0) return undefined;
      const config: Record<string, { value: string }> = JSON.parse(stdout);
      return scalars.map((_, index) => config[`p:key${index}`]?.value);
    }
    assert.deepEqual(
      await settings(SCALARS.map(([scalar]) => scalar)),
      SCALARS.map(([, setting]) => setting),
    );
    for (const [scalar, setting] of UNQUOTED) {
      assert.deepEqual(await settings([scalar]), setting === undefined ? undefined : [setting], scalar);
    }
  });
});
