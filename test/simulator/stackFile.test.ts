// Which stack file the simulator reads, and how. stackFile.engine.test.ts compares the values with those of the engine.

import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, test } from "node:test";
import { findStack, readStackFile, SAMPLE, TEMPLATE_SETTINGS } from "../../simulator/stackFile";
import { temporaryDirectory } from "../support/temporaryDirectory";

const MINIMAL = "name: p\nruntime: nodejs\n";

const directory = temporaryDirectory({ after });

/** Reads a project with this stack file. */
async function readFiles(stackFile: string, project = "") {
  await writeFile(join(directory, "Pulumi.yaml"), MINIMAL + project);
  await writeFile(join(directory, "Pulumi.dev.yaml"), stackFile);
  return readStackFile(directory, findStack(directory, "dev") ?? assert.fail());
}

/** Returns the settings of a stack file with these lines below `config:`. */
async function settings(...lines: string[]): Promise<Record<string, string>> {
  return (await readFiles(["config:", ...lines, ""].join("\n"))).config;
}

test("passes scalars, lists, and objects as the engine does", async () => {
  const same = "yes tRue 1:30 1.2.3 _1 0xg 12ab << inf 0 -12 20010101 -0.1 9007199254740991 1e-7".split(" ");
  const expected: Record<string, string> = {
    ...Object.fromEntries(same.map((scalar) => [scalar, scalar])),
    ...{ True: "true", null: "", "~": "", "": "" },
    "[777, '0777', yes, ~, 1.5]": '[777,"0777","yes",null,1.5]',
    '{8: 10, quoted: "010", text: 1:30}': '{"8":10,"quoted":"010","text":"1:30"}',
    "{<<: {a: 1}, b: 3}": '{"a":1,"b":3}',
  };
  for (const [value, setting] of Object.entries(expected)) {
    const found = await settings(`  key: ${value}`, "  aws:region: b");
    assert.deepEqual(found, { "p:key": setting, "aws:region": "b" });
  }
});

test("asks for quotes around what the engine could pass as another value, with the line", async () => {
  const changed =
    "0777 08 +12 -0 1_000 -_7 ._5 0B1 0o7 0X1F 1.50 1. 1e3 1e_3 1e400 .inf .nan 9007199254740993";
  for (const scalar of [...changed.split(" "), "2001-1-1", "2001-12-14t21:59:43.10-05:00"]) {
    const message = (line: number) =>
      `Failed to read Pulumi.dev.yaml: line ${line}: Pulumi could read ${scalar} as another value. Quote it, or write a plain decimal number.`;
    await assert.rejects(settings(`  key: ${scalar}`), { message: message(2) });
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
    assert.deepEqual(environments, ["a/b@3", "c/d"], form);
  }
});

test("puts config in Pulumi.yaml below the stack file", async () => {
  const project =
    "config: {a: 1, p:b: {default: x}, c: {type: object, default: {d: [true]}}, aws:region: {value: us-east-1}, e: {}}";
  assert.deepEqual((await readFiles("config: {e: 3, p:b: ''}", project)).config, {
    "p:a": "1",
    "p:b": "",
    "p:c": '{"d":[true]}',
    "aws:region": "us-east-1",
    "p:e": "3",
  });
});

test("rejects one setting in two spellings, of which Pulumi picks one at random, with both lines", async () => {
  const message = (file: string, spellings: string) =>
    `${file} is invalid: ${spellings} are the same setting, and Pulumi picks one of them at random. Remove one.`;
  for (const [first, second] of [
    ["p:serviceAccounts", "serviceAccounts"],
    ["userLogin", "p:config:userLogin"],
    ["aws:region", "aws:config:region"],
  ]) {
    await assert.rejects(settings(`  ${first}: a`, "  other: b", "  # again", `  ${second}: a`), {
      message: message("Pulumi.dev.yaml", `${first} (line 2) and ${second} (line 5)`),
    });
  }
  await assert.rejects(readFiles("config: {a: 1}", "config:\n  p:b: 1\n  b: 1"), {
    message: message("Pulumi.yaml", "p:b (line 4) and b (line 5)"),
  });
});

test("rejects a Pulumi.yaml without the name of a project", async () => {
  await readFiles("config: {a: 1}");
  await writeFile(join(directory, "Pulumi.yaml"), "");
  assert.throws(() => readStackFile(directory, findStack(directory, "dev") ?? assert.fail()), {
    message: "Pulumi.yaml is invalid: it must contain the project's name",
  });
});

test("rejects settings at the top level, a key twice, an open list, and tags that could change a value", async () => {
  await assert.rejects(readFiles("serviceAccounts: []\n"), {
    message:
      'Pulumi.dev.yaml is invalid: Pulumi ignores serviceAccounts here. Settings belong under "config:".',
  });
  for (const value of ["1\n  a: 2", "[1", "!mine 1", "! 0777", "!!binary aGk="]) {
    // Without the line itself, which can contain an encrypted value.
    await assert.rejects(
      settings(`  a: ${value}`),
      /^Error: Failed to read Pulumi\.dev\.yaml: line \d: .*$/,
      value,
    );
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

test("finds the stack files in stackConfigDir", async (t) => {
  const project = temporaryDirectory(t);
  await writeFile(join(project, "Pulumi.yaml"), `${MINIMAL}stackConfigDir: stacks`);
  await mkdir(join(project, "stacks"));
  await writeFile(join(project, "stacks", "Pulumi.prod.yaml"), "config: {a: 1}");
  const found = findStack(project, undefined) ?? assert.fail("the sample would be simulated");
  assert.deepEqual(readStackFile(project, found).config, { "p:a": "1" });
});

test("without --stack, passes over a Pulumi.dev.yaml that has the settings of the template only", async (t) => {
  const project = temporaryDirectory(t);
  // Which neither counts as a change of the template, nor belongs to the sample.
  await writeFile(join(project, "Pulumi.yaml"), `${MINIMAL}config: {userLogin: alice, organization: acme}`);
  const find = async (config: object, name?: string) => {
    await writeFile(join(project, "Pulumi.dev.yaml"), JSON.stringify({ config }));
    return findStack(project, name)?.name;
  };

  assert.equal(await find(TEMPLATE_SETTINGS), undefined);
  assert.equal(readStackFile(project, SAMPLE).config["p:userLogin"], undefined);
  assert.equal(await find(TEMPLATE_SETTINGS, "dev"), "dev");
  // `pulumi new` writes the name of the project in front of the keys, and keeps what has no answer.
  const { clusterName, userLogin, ...aws } = TEMPLATE_SETTINGS;
  assert.equal(await find({ ...aws, "p:clusterName": clusterName, "p:userLogin": userLogin }), undefined);
  const secure = "A";
  for (const changed of [{ clusterName: "own" }, { organization: "acme" }, { "aws:region": { secure } }]) {
    assert.equal(await find({ ...TEMPLATE_SETTINGS, ...changed }), "dev", JSON.stringify(changed));
  }

  await writeFile(join(project, "Pulumi.prod.yaml"), "");
  assert.equal(await find(TEMPLATE_SETTINGS), "prod");
});
