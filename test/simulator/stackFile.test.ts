// Which stack file the simulator reads, and which it rejects. stackFile.engine.test.ts compares the settings with those of the engine.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { findStack, readStackFile, SAMPLE } from "../../simulator/stackFile";
import { temporaryDirectory } from "../support/temporaryDirectory";

const directory = temporaryDirectory({ after });

/** Reads a project with this stack file, and `config:` of Pulumi.yaml in its third line. */
function readFiles(stackFile: string, projectConfig = "{}") {
  writeFileSync(join(directory, "Pulumi.yaml"), `name: p\nruntime: nodejs\nconfig: ${projectConfig}\n`);
  writeFileSync(join(directory, "Pulumi.dev.yaml"), stackFile);
  return readStackFile(directory, findStack(directory, "acme/dev"));
}

test("passes a word instead of an encrypted value, and names the environments that a stack imports", () => {
  const config = "{p:issuerName: {secure: AAA}, list: [{name: a, teamName: {secure: AAA}}], aws:region: b}";
  const { positionOf: _, ...stackFile } = readFiles(
    `config: ${config}\nenvironment: [a/b@3, {c/d: {merge: false}}]`,
  );
  assert.deepEqual(stackFile, {
    name: "dev",
    project: "p",
    config: { "p:issuerName": "secret", "p:list": '[{"name":"a","teamName":"secret"}]', "aws:region": "b" },
    secretKeys: ["p:issuerName", "p:list"],
    environments: ["a/b@3", "c/d"],
  });
});

test("adds the settings of Pulumi.yaml that the stack file does not have", () => {
  const { config, positionOf } = readFiles(
    "config: {p:a: stack}",
    "{a: project, short: 1, aws:region: b, p:typed: {default: 3}, fixed: {value: 2}, pulumi:tags: {value: {k: v}}}",
  );
  assert.deepEqual(config, {
    "p:a": "stack",
    "p:short": "1",
    "aws:region": "b",
    "p:typed": "3",
    "p:fixed": "2",
    "pulumi:tags": '{"k":"v"}',
  });
  assert.deepEqual([positionOf(["a"]), positionOf(["typed"])], ["Pulumi.dev.yaml:1", "Pulumi.yaml:3"]);
});

test("rejects a stack without a setting that Pulumi.yaml requires", () => {
  assert.throws(
    () => readFiles("config: {}", "{a: {type: string}}"),
    /^Error: Pulumi\.yaml:3: Pulumi requires a /,
  );
});

const REJECTED: [what: string, stackFile: string, message: string][] = [
  ["a setting at the top level", "config: {}\na: []", "2: Pulumi ignores a. "],
  [
    "a setting in two spellings",
    "config:\n  a: b\n  p:config:a: b",
    "3: p:config:a is set in two spellings, ",
  ],
  ["a key twice", "config:\n  a:b: secret\n  a:b: secret", "3: Invalid YAML, here or "],
];
for (const [what, stackFile, message] of REJECTED) {
  test(`rejects ${what}`, () => {
    const hasMessage = (error: Error) => error.message.startsWith(`Pulumi.dev.yaml:${message}`);
    assert.throws(() => readFiles(stackFile), hasMessage);
  });
}

test("finds the only stack of a project that names a cluster, the sample, or asks which one", (t) => {
  const project = temporaryDirectory(t);
  const write = (file: string, content: string) => writeFileSync(join(project, file), content);
  write("Pulumi.dev.yaml", "config:\n  cluster-tokens:clusterName: sample-cluster\n");
  assert.equal(findStack(project), SAMPLE);
  write("Pulumi.dev.yaml", "# Not sample-cluster\nconfig:\n  clusterName: sample-cluster-eu\n");
  assert.equal(findStack(project), join(project, "Pulumi.dev.yaml"));
  write("Pulumi.dev.yaml", "[");
  assert.equal(findStack(project), join(project, "Pulumi.dev.yaml"));
  write("Pulumi.prod.yaml", "");
  assert.equal(findStack(project, "acme/prod"), join(project, "Pulumi.prod.yaml"));
  assert.throws(() => findStack(project), /several stacks\. Stacks in this directory: dev, prod\. /);
  assert.throws(() => findStack(project, "staging"), /^Error: Pulumi\.staging\.yaml does not exist\. /);
  write("Pulumi.other.yml", "");
  assert.throws(() => findStack(project), /Rename it to Pulumi\.other\.yaml\.$/);
});
