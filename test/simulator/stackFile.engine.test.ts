// The simulator reads a stack file as Pulumi's engine does, or asks for quotes.

import assert from "node:assert/strict";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { readStackFile } from "../../simulator/stackFile";
import { succeeded } from "../environment/engineOutcome";
import { missingCli, openCli } from "../environment/pulumiCli";

const NUMBERS =
  "0 7 12 010 1_0 0_7 _1 0b1 0o7 0x1F _0x1F 0xg 1.5 1. 1.2.3 1e3 1.5e-3 1e_3 9007199254740993 2001-1-1".split(
    " ",
  );

/** Values that other versions of YAML read as something else, and those that look like a number or a date. */
const VALUES = [
  "{8: 10, list: [777, '0777', yes, ~, 1.5], quoted: '010', text: 1:30, <<: {to: merge}}",
  ...["", ..."yes off y True tRue null ~ << inf 1:30 1e-7 1e21 '0777'".split(" ")],
  ...["", "-", "+", "."].flatMap((sign) => NUMBERS.map((number) => sign + number)),
  ...["_", "a", "-", ".5", "_5", "e5", "+1", "-1"].flatMap((end) => NUMBERS.map((number) => number + end)),
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
  async function simulated(settings: string[]): Promise<Record<string, string>> {
    await writeFile(file, [encryption, "config:", ...settings.map((it) => `  ${it}`), ""].join("\n"));
    return readStackFile(directory, file).config;
  }

  const read: string[] = [];
  for (const value of VALUES) {
    // An error asks for quotes.
    const isRead = await simulated([`key: ${value}`]).then(Boolean, () => false);
    if (isRead) read.push(`key${read.length}: ${value}`);
  }
  assert.ok(read.length > 50);
  const expected = await simulated(read);
  const { stdout } = succeeded(await cli.pulumi(directory, "config", "--json"));
  const entries = Object.entries<{ value: string }>(JSON.parse(stdout));
  const passed = entries.map(([key, { value }]) => [key, value]);
  assert.deepEqual(passed, Object.entries(expected).toSorted());
});
