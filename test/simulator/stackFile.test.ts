// Which stack file the simulator reads, and which it rejects. stackFile.engine.test.ts compares the settings with those of the engine.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { after, test } from "node:test";
import { findStack, readStackFile, SAMPLE } from "../../simulator/stackFile";
import { read } from "../support/project";
import { temporaryDirectory } from "../support/temporaryDirectory";

const PROJECT = "name: p\nruntime: nodejs\n";
const directory = temporaryDirectory({ after });

/** Reads a project with this stack file. */
function readFiles(stackFile: string, project = PROJECT) {
  writeFileSync(join(directory, "Pulumi.yaml"), project);
  writeFileSync(join(directory, "Pulumi.dev.yaml"), stackFile);
  return readStackFile(directory, join(directory, "Pulumi.dev.yaml"));
}

test("passes a word instead of an encrypted value, and the keys of settings that contain one", () => {
  const { config, secretKeys } = readFiles(
    "config: {p:issuerName: {secure: AAA}, list: [{name: a, teamName: {secure: AAA}}], aws:region: b}",
  );
  const list = '[{"name":"a","teamName":"secret"}]';
  assert.deepEqual(config, { "p:issuerName": "secret", "p:list": list, "aws:region": "b" });
  assert.deepEqual(secretKeys, ["p:issuerName", "p:list"]);
});

test("finds a setting or an encrypted value in it, or as much of its path as the stack file has", () => {
  const list = "config:\n  aws:region: a\n  p:list:\n    - name: a\n      rules:\n        sub: b\n    - {}";
  const { positionOf } = readFiles(`${list}\n  other:\n    - name: a\n      teamName:\n        secure: AAA`);
  for (const [path, line] of [
    [["aws:region"], 2],
    [["list", 0, "rules"], 5],
    [["list", 0, "rules", "sub"], 6],
    [["list", 1, "name"], 7],
    [["other"], 11],
  ] as const) {
    assert.equal(positionOf([...path]), `Pulumi.dev.yaml:${line}`);
  }
  assert.equal(positionOf(["missing"]), undefined);
});

test("names the environments that the stack file imports, in every form", () => {
  for (const form of ["[a/b@3, {c/d: {merge: false}}]", "{imports: [a/b@3, c/d], values: {e: f}}"]) {
    assert.deepEqual(readFiles(`environment: ${form}`).environments, ["a/b@3", "c/d"], form);
  }
});

for (const [what, stackFile, message, project] of [
  ["a setting at the top level, which Pulumi ignores", "serviceAccounts: []", /ignores serviceAccounts here/],
  ["settings that are no map", "config: hello", /config must contain KEY: VALUE$/],
  [
    "a setting in two spellings, one of which is an older form",
    "config:\n  image: a\n  # again\n  p:config:image: a",
    /: image \(line 2\) and p:config:image \(line 4\) are the same setting, /,
  ],
  [
    "a Pulumi.yaml without a name",
    "",
    /^Pulumi\.yaml is invalid: it must contain the project's name$/,
    "a: b",
  ],
  ["settings in Pulumi.yaml", "", /^Pulumi\.yaml has config, /, `${PROJECT}config: {a: b}`],
  [
    "an account's ID with a leading zero",
    "config:\n  key: 0777",
    /^Pulumi\.dev\.yaml:2: .* 0777 .* Quote it, /,
  ],
  [
    "a key twice, without its value",
    "config:\n  a:b: secret\n  a:b: secret",
    /^Pulumi\.dev\.yaml:3: Map keys must be unique$/,
  ],
  [
    "an element beside its list",
    "config:\n  list:\n    - a: b\n   - a: c",
    /^Pulumi\.dev\.yaml:4: this "- " is not aligned /,
  ],
] satisfies [string, string, RegExp, string?][]) {
  test(`rejects ${what}`, () => {
    assert.throws(() => readFiles(stackFile, project), { message });
  });
}

test("without --stack, finds the only stack apart from an unchanged template, or asks which one", (t) => {
  const files = temporaryDirectory(t);
  const write = (name: string, text: string) => writeFileSync(join(files, name), text);
  const find = (name?: string) => basename(findStack(files, name));
  const template =
    "config:\n  clusterName: sample-cluster\n  serviceAccounts:\n    - tokenType: personal\n      userLogin: sample-login\n";
  assert.equal(findStack(files), SAMPLE);
  write("Pulumi.dev.yaml", `# clusterName: own\n${template}`);
  assert.equal(findStack(files), SAMPLE);
  for (const [from, to] of [
    ["sample-cluster", "own"],
    ["sample-login", "alice"],
    ["\n$", "\n    - tokenType: organization\n"],
  ] as const) {
    write("Pulumi.dev.yaml", template.replace(new RegExp(from), to));
    assert.equal(find(), "Pulumi.dev.yaml");
  }
  write("Pulumi.prod.yaml", "");
  const list = "Stacks in this directory: dev, prod. To choose one: npm start -- --stack NAME";
  assert.throws(() => find(), { message: `This project has several stacks. ${list}` });
  assert.throws(() => find("other"), { message: `Pulumi.other.yaml does not exist. ${list}` });
  assert.equal(find("acme/prod"), "Pulumi.prod.yaml");
  write("Pulumi.old.yml", "");
  assert.throws(() => find(), { message: "Pulumi ignores Pulumi.old.yml. Rename it to Pulumi.old.yaml." });
});

test("knows the template's Pulumi.dev.yaml, also as `pulumi new` writes it", {
  skip: !read("Pulumi.dev.yaml").includes("sample-login") && "Pulumi.dev.yaml is not the template's",
}, (t) => {
  const files = temporaryDirectory(t);
  for (const text of [
    read("Pulumi.dev.yaml"),
    read("Pulumi.dev.yaml").replaceAll(/^ {2}(\w+):/gm, "  own:$1:"),
  ]) {
    writeFileSync(join(files, "Pulumi.dev.yaml"), text);
    assert.equal(findStack(files), SAMPLE);
  }
});
