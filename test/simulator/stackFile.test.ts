// Which stack file the simulator reads, and which it rejects. stackFile.engine.test.ts compares the settings with those of the engine.

import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, test } from "node:test";
import { findStack, readStackFile, SAMPLE, TEMPLATE_STACK } from "../../simulator/stackFile";
import { temporaryDirectory } from "../support/temporaryDirectory";

const MINIMAL = "name: p\nruntime: nodejs\n";

const directory = temporaryDirectory({ after });

/** Reads a project with this stack file. */
async function readFiles(stackFile: string, project = MINIMAL) {
  await writeFile(join(directory, "Pulumi.yaml"), project);
  await writeFile(join(directory, "Pulumi.dev.yaml"), stackFile);
  return readStackFile(directory, findStack(directory, "dev") ?? assert.fail());
}

test("passes a word instead of an encrypted value, and the keys of settings that contain one", async () => {
  const config = "{p:issuerName: {secure: AAA}, list: [{name: a, teamName: {secure: AAA}}], aws:region: b}";
  const { positionOf: _, ...stackFile } = await readFiles(`config: ${config}`);
  assert.deepEqual(stackFile, {
    project: "p",
    config: { "p:issuerName": "secret", "p:list": '[{"name":"a","teamName":"secret"}]', "aws:region": "b" },
    secretKeys: ["p:issuerName", "p:list"],
    environments: [],
  });
});

test("finds a setting, or as much of its path as the stack file has", async () => {
  const list = "config:\n  aws:region: a\n  p:list:\n    - name: a\n      rules:\n        sub: b\n    - {}";
  const { positionOf } = await readFiles(list);
  const find = (...path: (string | number)[]) => positionOf(path);
  assert.equal(find("aws:region"), "Pulumi.dev.yaml:2");
  assert.equal(find("list", 0, "rules", "sub"), "Pulumi.dev.yaml:6");
  assert.equal(find("list", 1, "name"), "Pulumi.dev.yaml:7");
  assert.equal(find("other"), undefined);
});

test("finds an encrypted value in a list at its own line", async () => {
  const list = "config:\n  list:\n    - name: a\n      teamName:\n        secure: AAA\n    - name: b";
  const { positionOf } = await readFiles(list);
  assert.deepEqual(
    [positionOf(["list"]), positionOf(["list", 1])],
    ["Pulumi.dev.yaml:5", "Pulumi.dev.yaml:6"],
  );
});

test("names the environments that the stack file imports, in every form", async () => {
  for (const form of ["[a/b@3, {c/d: {merge: false}}]", "{imports: [a/b@3, c/d], values: {e: f}}"]) {
    const { environments } = await readFiles(`environment: ${form}\nconfig: {a: b}`);
    assert.deepEqual(environments, ["a/b@3", "c/d"], form);
  }
});

const QUOTE = "as another value. Quote it, or write a plain decimal number.";
const NOT_ALIGNED = 'This "- " is not aligned with the list that it belongs to.';
const AT_RANDOM = "are the same setting, and Pulumi picks one of them at random. Remove one.";
for (const [what, stackFile, message, project] of [
  [
    "a setting at the top level, which Pulumi ignores",
    "serviceAccounts: []",
    'Pulumi.dev.yaml is invalid: Pulumi ignores serviceAccounts here. Settings belong under "config:".',
  ],
  [
    "a setting in two spellings, one of which is an older form",
    "config:\n  image: a\n  other: b\n  # again\n  p:config:image: a",
    `Pulumi.dev.yaml is invalid: image (line 2) and p:config:image (line 5) ${AT_RANDOM}`,
  ],
  [
    "a Pulumi.yaml without the name of a project",
    "config: {a: 1}",
    "Pulumi.yaml is invalid: it must contain the project's name",
    "runtime: nodejs",
  ],
  [
    "a number that Pulumi could read as another one",
    "config:\n  key: 0777",
    `Pulumi.dev.yaml:2: Pulumi could read 0777 ${QUOTE}`,
  ],
  [
    "a key twice, without the line, which can contain an encrypted value",
    "config:\n  a:b: secret\n  a:b: secret",
    "Pulumi.dev.yaml:3: Map keys must be unique",
  ],
  [
    "an element to the left of its list",
    "config:\n  list:\n    - a: b\n   - a: c",
    `Pulumi.dev.yaml:4: ${NOT_ALIGNED} A block sequence may not be used as an implicit map key`,
  ],
  [
    "an element to the right of its list",
    "config:\n  list:\n    - a: b\n     - a: c\n",
    `Pulumi.dev.yaml:4: ${NOT_ALIGNED} All sequence items must start at the same column`,
  ],
  [
    "a colon without a space",
    "config:\n  list:\n    - a: b\n      c:d\n      e: f",
    "Pulumi.dev.yaml:4: A colon must be followed by a space. Implicit keys need to be on a single line",
  ],
  [
    "a string that is not closed, where it begins",
    'config:\n  a: b\n  c: "d\n  list:\n    - e\n',
    'Pulumi.dev.yaml:3: Missing closing "quote',
  ],
] satisfies [string, string, string, string?][]) {
  test(`rejects ${what}`, async () => {
    await assert.rejects(readFiles(stackFile, project), { message });
  });
}

test("without --stack, finds the only stack, no stack, or asks which one", async (t) => {
  const project = temporaryDirectory(t);
  await writeFile(join(project, "Pulumi.yaml"), MINIMAL);
  const find = (name?: string) => findStack(project, name)?.name;
  assert.equal(find(), undefined);
  assert.throws(
    () => find("prod"),
    /^Error: Pulumi\.prod\.yaml does not exist\. To add it: pulumi config set /,
  );

  await writeFile(join(project, "Pulumi.prod.yaml"), "");
  assert.equal(find(), "prod");
  await writeFile(join(project, "Pulumi.dev.yaml"), "");
  const list = "Stacks in this directory: dev, prod. To choose one: npm start -- --stack NAME";
  assert.throws(() => find(), { message: `This project has several stacks. ${list}` });
  assert.throws(() => find("staging"), { message: `Pulumi.staging.yaml does not exist. ${list}` });
  for (const name of ["dev", "acme/dev"]) {
    assert.equal(findStack(project, name)?.file, join(project, "Pulumi.dev.yaml"));
  }
});

test("names a stack file that Pulumi ignores", async (t) => {
  const project = temporaryDirectory(t);
  await writeFile(join(project, "Pulumi.yaml"), MINIMAL);
  await writeFile(join(project, "Pulumi.prod.yml"), "");
  const message = "Pulumi ignores Pulumi.prod.yml. Rename it to Pulumi.prod.yaml.";
  assert.throws(() => findStack(project, undefined), { message });
});

test("without --stack, passes over a Pulumi.dev.yaml that has the settings of the template only", async (t) => {
  const project = temporaryDirectory(t);
  // Which neither counts as a change of the template, nor belongs to the sample.
  await writeFile(join(project, "Pulumi.yaml"), `${MINIMAL}config: {image: a, organization: acme}`);
  const find = async (config: object, name?: string) => {
    await writeFile(join(project, "Pulumi.dev.yaml"), JSON.stringify({ config }));
    return findStack(project, name)?.name;
  };

  const { settings } = TEMPLATE_STACK;
  assert.equal(await find(settings), undefined);
  assert.equal(readStackFile(project, SAMPLE).config["p:image"], undefined);
  assert.equal(await find(settings, "dev"), "dev");
  // `pulumi new` writes the name of the project in front of the keys, sorts those of an entry, and keeps what has no answer.
  const { "aws:region": region, clusterName, serviceAccounts } = settings;
  const sorted = serviceAccounts.map((it) => Object.fromEntries(Object.entries(it).toSorted()));
  const written = { "aws:region": region, "p:clusterName": clusterName, "p:serviceAccounts": sorted };
  assert.equal(await find(written), undefined);
  for (const changed of [
    { clusterName: "own" },
    { organization: "acme" },
    { serviceAccounts: serviceAccounts.map((it) => ({ ...it, userLogin: "alice" })) },
    { "aws:region": { secure: "A" } },
  ]) {
    assert.equal(await find({ ...settings, ...changed }), "dev", JSON.stringify(changed));
  }

  await writeFile(join(project, "Pulumi.prod.yaml"), "");
  assert.equal(await find(settings), "prod");
});
