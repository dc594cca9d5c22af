// The simulator reads a stack file as Pulumi's engine does.

import assert from "node:assert/strict";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { readStackFile } from "../../simulator/stackFile";
import { succeeded } from "../environment/engineOutcome";
import { missingCli, openCli } from "../environment/pulumiCli";

/** Values that versions of YAML could read differently. Numbers that they do, such as 0777, are not among them. */
const VALUES = [
  "{8: 10, list: [777, '0777', yes, ~, 1.5], quoted: '010', text: 1:30, <<: {to: merge}}",
  ...["", ..."yes off y True tRue null ~ << inf 1:30 1e-7 1e21 '0777' 0 -12 1.5 123456789012".split(" ")],
];

const skip = missingCli;
test("the engine passes the settings of a stack as the simulator does", { skip }, async (t) => {
  const cli = openCli("");
  t.after(cli.remove);
  const directory = join(cli.directory, "values");
  const file = join(directory, "Pulumi.dev.yaml");
  await mkdir(directory);
  const ofProject =
    "{short: 8, list: [1], p:typed: {type: string, default: b}, fixed: {value: a}, aws:region: {value: c}, key0: d}";
  await writeFile(join(directory, "Pulumi.yaml"), `name: p\nruntime: nodejs\nconfig: ${ofProject}\n`);
  succeeded(await cli.pulumi(directory, "stack", "init", "dev"));
  const encryption = await readFile(file, "utf8");
  const settings = VALUES.map((value, index) => `  key${index}: ${value}`);
  await writeFile(file, [encryption, "config:", ...settings, ""].join("\n"));
  const expected = readStackFile(directory, file).config;
  const { stdout } = succeeded(await cli.pulumi(directory, "config", "--json"));
  const entries = Object.entries<{ value: string }>(JSON.parse(stdout));
  const passed = entries.map(([key, { value }]) => [key, value]);
  assert.deepEqual(passed, Object.entries(expected).toSorted());
});
