// The simulator reads Pulumi.yaml and a stack file as Pulumi's engine does, or asks for quotes.

import assert from "node:assert/strict";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { parse, stringify } from "yaml";
import { readStackFile } from "../../simulator/stackFile";
import { succeeded } from "../support/engineOutcome";
import { missingCli, openCli } from "../support/pulumiCli";

const NUMBERS = [
  ..."0 7 12 010 1_0 0_7 _1 0b1 0B10 0o7 0x1F 0_x1F _0x1F 0xg".split(" "),
  ..."1.5 1. 1.2.3 1e3 1E3 1.5e-3 1e_3 9007199254740993 2001-1-1 2001-12-14t2".split(" "),
];

/** Scalars that other versions of YAML read as something else, and those that look like a number or a date. */
const SCALARS = [
  ...["", ..."yes off y True tRue null ~ << inf 1:30 1e-7 1e21 '0777'".split(" ")],
  ...["", "-", "+", "."].flatMap((sign) => NUMBERS.map((number) => sign + number)),
  ...["_", "a", "-", ".5", "_5", "e5", "+1", "-1"].flatMap((end) => NUMBERS.map((number) => number + end)),
];

/** What `config:` in Pulumi.yaml can contain. */
const DECLARED = parse(`{
  string: a, integer: 12, boolean: true, list: [1, b, { c: null }],
  "p:qualified": d, "p:config:old": j, "aws:region": us-east-1, "aws:profile": { value: e },
  typed: { type: string, default: f }, number: { default: 1.5 }, value: { value: i },
  object: { type: object, default: { g: [true] }, description: h },
  own: project, empty: { type: string, default: project }, absent: project
}`);

test("the engine passes the settings of a project and of a stack as the simulator does", {
  skip: missingCli,
}, async (t) => {
  const cli = openCli("");
  t.after(cli.remove);
  const directory = join(cli.directory, "scalars");
  await mkdir(directory);
  const source = { name: "dev", file: join(directory, "Pulumi.dev.yaml") };
  const writeProject = (config = {}) =>
    writeFile(join(directory, "Pulumi.yaml"), stringify({ name: "p", runtime: "nodejs", config }));
  await writeProject();
  await cli.pulumi(directory, "stack", "init", "dev");
  const encryption = await readFile(source.file, "utf8");

  async function simulated(settings: string[]): Promise<Record<string, string>> {
    await writeFile(source.file, [encryption, "config:", ...settings.map((it) => `  ${it}`), ""].join("\n"));
    return readStackFile(directory, source).config;
  }
  async function passed(): Promise<Record<string, string>> {
    const { stdout } = succeeded(await cli.pulumi(directory, "config", "--json"));
    const settings: Record<string, { value: string }> = JSON.parse(stdout);
    return Object.fromEntries(Object.entries(settings).map(([key, { value }]) => [key, value]));
  }

  const read: string[] = [];
  for (const scalar of SCALARS) {
    // An error asks for quotes.
    const isRead = await simulated([`key: ${scalar}`]).then(Boolean, () => false);
    if (isRead) read.push(`key${read.length}: ${scalar}`);
  }
  assert.ok(read.length > 50);
  const expected = await simulated(read);
  assert.deepEqual(await passed(), expected);

  // The settings of the project, in every form, below those of the stack.
  await writeProject(DECLARED);
  const config = await simulated(["own: stack", "empty: ''", "absent: ~"]);
  assert.ok(Object.keys(config).length > 10);
  assert.deepEqual(await passed(), config);
});
