// Which stack file the simulator reads, and how. stackFile.engine.test.ts compares the values with those of the engine.

import assert from "node:assert/strict";
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { findStack, readStackFile, SAMPLE, TEMPLATE_SETTINGS } from "../../simulator/stackFile";
import { temporaryDirectory } from "../support/temporaryDirectory";

/** Scalars that Pulumi's engine passes as another value than the `yaml` package reads, or as another than JavaScript has. */
const QUOTED = `
  0777 007 08 +12 -0 1_000 0_7 -_7 ._5 0b101 0B1 0o7 +0o7 0x1F 0X1F
  1.50 1.0 .5 1. 1e3 1_e3 1e_3 1e400 .inf -.INF .nan
  9007199254740993 18446744073709551616 2001-01-01 2001-1-1 2001-12-14t21:59:43.10-05:00
`
  .trim()
  .split(/\s+/);

const directory = temporaryDirectory({ after });
before(() => writeFile(join(directory, "Pulumi.yaml"), "name: p\nruntime: nodejs\n"));

/** Returns the configuration of a stack file with these lines. */
async function settings(...lines: string[]): Promise<Record<string, string>> {
  await writeFile(join(directory, "Pulumi.dev.yaml"), ["config:", ...lines, ""].join("\n"));
  const stack = findStack(directory, "dev") ?? assert.fail();
  return readStackFile(directory, stack).config;
}

test("passes the other scalars as the engine does", async () => {
  for (const scalar of "yes off y tRue 1:30 1.2.3 _1 0xg 0b1-2 12ab e3 << inf".split(" ")) {
    assert.deepEqual(await settings(`  key: ${scalar}`), { "p:key": scalar });
  }
  for (const number of ["0", "-12", "20010101", "1.5", "-0.1", "9007199254740991", "1e-7"]) {
    assert.deepEqual(await settings(`  key: ${number}`), { "p:key": number });
  }
  for (const [scalar, setting] of Object.entries({
    True: "true",
    FALSE: "false",
    null: "",
    "~": "",
    "": "",
  })) {
    assert.deepEqual(await settings(`  key: ${scalar}`), { "p:key": setting });
  }
});

test("passes lists and objects as JSON", async () => {
  const given = await settings(
    "  list: [777, '0777', yes, ~, 1.5]",
    '  object: {8: 10, quoted: "010", text: 1:30}',
    "  shared: &shared {a: 1}",
    "  merged: {<<: *shared, b: 3}",
    "  aws:assumeRoles: [{roleArn: 8}]",
  );
  assert.deepEqual(given, {
    "p:list": '[777,"0777","yes",null,1.5]',
    "p:object": '{"8":10,"quoted":"010","text":"1:30"}',
    "p:shared": '{"a":1}',
    "p:merged": '{"a":1,"b":3}',
    "aws:assumeRoles": '[{"roleArn":8}]',
  });
});

test("asks for quotes around what the engine could pass as another value, with the line", async () => {
  for (const scalar of QUOTED) {
    const message = (line: number) =>
      `Failed to read Pulumi.dev.yaml: line ${line}: Pulumi could read ${scalar} as another value. Quote it, or write a plain decimal number.`;
    await assert.rejects(settings(`  key: ${scalar}`), { message: message(2) });
    await assert.rejects(settings("  list:", `    - ${scalar}`), { message: message(3) });
    await assert.rejects(settings("  object:", `    ${scalar}: a`), { message: message(3) });
    assert.deepEqual(await settings(`  key: "${scalar}"`), { "p:key": scalar });
  }
});

test("passes a word instead of an encrypted value, and the keys of settings that contain one, as the engine does", async () => {
  await writeFile(
    join(directory, "Pulumi.dev.yaml"),
    "config: {p:issuerName: {secure: AAA}, list: [{name: a, teamName: {secure: AAA}}], aws:region: b}",
  );
  assert.deepEqual(readStackFile(directory, findStack(directory, "dev") ?? assert.fail()), {
    project: "p",
    config: { "p:issuerName": "secret", "p:list": '[{"name":"a","teamName":"secret"}]', "aws:region": "b" },
    secretKeys: ["p:issuerName", "p:list"],
    environments: [],
  });
});

test("names the environments that the stack file imports, in every form", async () => {
  const forms = ["[a/b@3, {c/d: {merge: false}}]", "{imports: [a/b@3, c/d], values: {e: f}}"];
  for (const form of forms) {
    await writeFile(join(directory, "Pulumi.dev.yaml"), `environment: ${form}\nconfig: {a: b}`);
    const { environments } = readStackFile(directory, findStack(directory, "dev") ?? assert.fail());
    assert.equal(environments.map((name) => name.split("@")[0]).join(), "a/b,c/d", form);
  }
});

describe("config in Pulumi.yaml", () => {
  const withProject = async (project: string, ...lines: string[]) => {
    await writeFile(join(directory, "Pulumi.yaml"), `name: p\nruntime: nodejs\n${project}\n`);
    return settings(...lines);
  };
  after(() => writeFile(join(directory, "Pulumi.yaml"), "name: p\nruntime: nodejs\n"));

  test("is below the stack file, as values and as declarations", async () => {
    const project =
      "config: {a: 1, p:b: {default: x}, c: {type: object, default: {d: [true]}}, aws:region: {value: us-east-1}, e: 2}";
    assert.deepEqual(await withProject(project, "  e: 3", "  p:b: ''"), {
      "p:a": "1",
      "p:b": "",
      "p:c": '{"d":[true]}',
      "aws:region": "us-east-1",
      "p:e": "3",
    });
  });

  test("requires a setting that it declares without a value", async () => {
    const project = "config: {userLogin: {description: yours}}";
    await assert.rejects(withProject(project, "  a: 1"), {
      message: "Pulumi.yaml requires p:userLogin, which is not set in Pulumi.dev.yaml.",
    });
    assert.deepEqual(await withProject(project, "  userLogin: alice"), { "p:userLogin": "alice" });
  });

  test("does not change the sample, or what counts as an unchanged Pulumi.dev.yaml", async () => {
    await withProject("config: {userLogin: alice, organization: acme}");
    await writeFile(join(directory, "Pulumi.dev.yaml"), JSON.stringify({ config: TEMPLATE_SETTINGS }));
    assert.equal(findStack(directory, undefined), undefined);
    assert.equal(readStackFile(directory, SAMPLE).config["p:userLogin"], undefined);
  });
});

test("rejects a setting at the top level, which the engine ignores", async () => {
  await writeFile(join(directory, "Pulumi.dev.yaml"), "serviceAccounts: []\n");
  const message =
    'Pulumi.dev.yaml is invalid: Pulumi ignores serviceAccounts here. Settings belong under "config:".';
  assert.throws(() => readStackFile(directory, findStack(directory, "dev") ?? assert.fail()), { message });
});

for (const [what, line] of [
  ["a key twice", "  a: 1\n  a: 2"],
  ["a tag that is not known", "  a: !mine 1"],
  ["a tag that the engine ignores", "  a: ! 0777"],
  ["a tag that changes a string", "  a: !!binary aGk="],
  ["a tag that changes a list", "  a: !!omap [b: 1]"],
  ["a tag that changes an object", "  a: !!set {b}"],
  ["a list that does not end", "  a: [1"],
] as const) {
  test(`rejects ${what}`, async () => {
    await assert.rejects(settings(line), /Failed to read Pulumi\.dev\.yaml: line \d: /);
  });
}

test("without --stack, finds the only stack, no stack, or asks which one", async (t) => {
  const project = temporaryDirectory(t);
  const find = (name?: string) => findStack(project, name)?.name;
  assert.equal(find(), undefined);
  assert.throws(
    () => find("prod"),
    /Pulumi\.prod\.yaml does not exist\. To add it: pulumi config set KEY VALUE$/,
  );

  await writeFile(join(project, "Pulumi.prod.yaml"), "");
  assert.deepEqual([find(), find("prod")], ["prod", "prod"]);
  await writeFile(join(project, "Pulumi.dev.yaml"), "");
  const list = "Stacks in this directory: dev, prod. To choose one: npm start -- --stack NAME";
  assert.throws(() => find(), { message: `This project has several stacks. ${list}` });
  assert.throws(() => find("staging"), { message: `Pulumi.staging.yaml does not exist. ${list}` });
  assert.equal(find("dev"), "dev");
});

test("without --stack, passes over a Pulumi.dev.yaml that has the settings of the template only", async (t) => {
  const project = temporaryDirectory(t);
  await writeFile(join(project, "Pulumi.yaml"), "name: p\nruntime: nodejs\n");
  const write = (stack: string, config: object) =>
    writeFile(join(project, `Pulumi.${stack}.yaml`), JSON.stringify({ config }));
  const find = (name?: string) => findStack(project, name)?.name;

  await write("dev", TEMPLATE_SETTINGS);
  assert.deepEqual([find(), find("dev")], [undefined, "dev"]);
  // `pulumi new` writes the name of the project in front of the keys, and keeps what has no answer.
  const { clusterName, userLogin, ...aws } = TEMPLATE_SETTINGS;
  await write("dev", { ...aws, "p:clusterName": clusterName, "p:userLogin": userLogin });
  assert.equal(find(), undefined);
  await write("prod", {});
  assert.equal(find(), "prod");
  await rm(join(project, "Pulumi.prod.yaml"));

  for (const changed of [
    { clusterName: "own" },
    { organization: "acme" },
    { "aws:region": { secure: "A" } },
  ]) {
    await write("dev", { ...TEMPLATE_SETTINGS, ...changed });
    assert.equal(find(), "dev", JSON.stringify(changed));
  }
  await write("dev", TEMPLATE_SETTINGS);
  await writeFile(join(project, "Pulumi.staging.yaml"), "");
  assert.equal(find(), "staging");
  await writeFile(join(project, "Pulumi.prod.yaml"), "");
  assert.throws(() => find(), /several stacks\. Stacks in this directory: dev, prod, staging\./);
});
