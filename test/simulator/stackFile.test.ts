// Which stack file the simulator reads, and how. stackFile.engine.test.ts compares the values with those of the engine.

import assert from "node:assert/strict";
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, test } from "node:test";
import { findStack, readStackFile, SAMPLE, TEMPLATE_SETTINGS } from "../../simulator/stackFile";
import { temporaryDirectory } from "../support/temporaryDirectory";

const PROJECT = "name: p\nruntime: nodejs\n";

/** Scalars that Pulumi's engine passes as another value than the `yaml` package reads, or as another than JavaScript has. */
const QUOTED = `
  0777 007 08 +12 -0 1_000 0_7 -_7 ._5 0b101 0B1 0o7 +0o7 0x1F 0X1F
  1.50 1.0 .5 1. 1e3 1_e3 1e_3 1e400 .inf -.INF .nan
  9007199254740993 18446744073709551616 2001-01-01 2001-1-1 2001-12-14t21:59:43.10-05:00
`
  .trim()
  .split(/\s+/);

const directory = temporaryDirectory({ after });

/** Reads a project with this stack file. */
async function readFiles(stackFile: string, project = PROJECT) {
  await writeFile(join(directory, "Pulumi.yaml"), project);
  await writeFile(join(directory, "Pulumi.dev.yaml"), stackFile);
  return readStackFile(directory, findStack(directory, "dev") ?? assert.fail());
}

/** Returns the settings of a stack file with these lines below `config:`. */
async function settings(...lines: string[]): Promise<Record<string, string>> {
  return (await readFiles(["config:", ...lines, ""].join("\n"))).config;
}

test("passes scalars as the engine does", async () => {
  const same =
    "yes off y tRue 1:30 1.2.3 _1 0xg 0b1-2 12ab e3 << inf 0 -12 20010101 1.5 -0.1 9007199254740991 1e-7";
  const others = { True: "true", FALSE: "false", null: "", "~": "", "": "" };
  const cases = [...same.split(" ").map((scalar) => [scalar, scalar]), ...Object.entries(others)];
  for (const [scalar, setting] of cases) {
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
  const config = "{p:issuerName: {secure: AAA}, list: [{name: a, teamName: {secure: AAA}}], aws:region: b}";
  assert.deepEqual(await readFiles(`config: ${config}`), {
    project: "p",
    config: { "p:issuerName": "secret", "p:list": '[{"name":"a","teamName":"secret"}]', "aws:region": "b" },
    secretKeys: ["p:issuerName", "p:list"],
    environments: [],
  });
});

test("names the environments that the stack file imports, in every form", async () => {
  for (const form of ["[a/b@3, {c/d: {merge: false}}]", "{imports: [a/b@3, c/d], values: {e: f}}"]) {
    const { environments } = await readFiles(`environment: ${form}\nconfig: {a: b}`);
    assert.equal(environments.map((name) => name.split("@")[0]).join(), "a/b,c/d", form);
  }
});

test("puts config in Pulumi.yaml below the stack file, as values and as declarations", async () => {
  const project =
    "config: {a: 1, p:b: {default: x}, c: {type: object, default: {d: [true]}}, aws:region: {value: us-east-1}, e: 2}";
  assert.deepEqual((await readFiles("config: {e: 3, p:b: ''}", PROJECT + project)).config, {
    "p:a": "1",
    "p:b": "",
    "p:c": '{"d":[true]}',
    "aws:region": "us-east-1",
    "p:e": "3",
  });
});

test("requires a setting that Pulumi.yaml declares without a value", async () => {
  const project = `${PROJECT}config: {userLogin: {description: yours}}`;
  await assert.rejects(readFiles("config: {a: 1}", project), {
    message: "Pulumi.yaml requires p:userLogin, which is not set in Pulumi.dev.yaml.",
  });
  const { config } = await readFiles("config: {userLogin: alice}", project);
  assert.deepEqual(config, { "p:userLogin": "alice" });
});

test("reads the sample without config in Pulumi.yaml, which also changes no Pulumi.dev.yaml of the template", async () => {
  const project = `${PROJECT}config: {userLogin: alice, organization: acme}`;
  await readFiles(JSON.stringify({ config: TEMPLATE_SETTINGS }), project);
  assert.equal(findStack(directory, undefined), undefined);
  assert.equal(readStackFile(directory, SAMPLE).config["p:userLogin"], undefined);
});

test("rejects a setting at the top level, which the engine ignores", async () => {
  const message =
    'Pulumi.dev.yaml is invalid: Pulumi ignores serviceAccounts here. Settings belong under "config:".';
  await assert.rejects(readFiles("serviceAccounts: []\n"), { message });
});

test("rejects a key twice, an open list, and tags that are unknown, ignored, or change a value", async () => {
  const tagged = ["!mine 1", "! 0777", "!!binary aGk=", "!!omap [b: 1]", "!!set {b}"];
  for (const value of ["1\n  a: 2", "[1", ...tagged]) {
    await assert.rejects(settings(`  a: ${value}`), /Failed to read Pulumi\.dev\.yaml: line \d: /, value);
  }
});

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
  await writeFile(join(project, "Pulumi.yaml"), PROJECT);
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

  const changes = [{ clusterName: "own" }, { organization: "acme" }, { "aws:region": { secure: "A" } }];
  for (const changed of changes) {
    await write("dev", { ...TEMPLATE_SETTINGS, ...changed });
    assert.equal(find(), "dev", JSON.stringify(changed));
  }
});
