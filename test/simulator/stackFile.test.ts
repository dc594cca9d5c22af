// Which stack file the simulator reads, and which it rejects. stackFile.engine.test.ts compares the settings with those of the engine.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { findStack, readStackFile, SAMPLE } from "../../simulator/stackFile";
import { temporaryDirectory } from "../support/temporaryDirectory";

const directory = temporaryDirectory({ after });

/** Reads a project with this stack file. */
function readFiles(stackFile: string) {
  writeFileSync(join(directory, "Pulumi.yaml"), "name: p\nruntime: nodejs\n");
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

test("finds a setting, or as much of its path as the stack file has", () => {
  const { positionOf } = readFiles(
    "config:\n  aws:region: a\n  p:list:\n    - name: a\n      rules:\n        sub: b\n    - {}",
  );
  assert.equal(positionOf(["aws:region"]), "Pulumi.dev.yaml:2");
  assert.equal(positionOf(["list", 0, "rules", "sub"]), "Pulumi.dev.yaml:6");
  assert.equal(positionOf(["list", 1, "name"]), "Pulumi.dev.yaml:7");
  assert.equal(positionOf(["other"]), undefined);
});

for (const [what, stackFile, message] of [
  ["a setting at the top level, which Pulumi ignores", "config: {}\na: []", "2: Pulumi ignores a. "],
  ["something else than settings", "config: hello", "1: config must contain KEY: VALUE"],
  [
    "a setting in two spellings, one of which is an older form",
    "config:\n  image: a\n  other: b\n  p:config:image: a",
    "2: image and p:config:image are the same setting, ",
  ],
  ["an account's ID that would become another number", "config:\n  key: 012", "2: Pulumi could read 012 as "],
  // Not the line, which can contain an encrypted value.
  ["a key twice", "config:\n  a:b: secret\n  a:b: secret", "3: Invalid YAML: duplicate key at a:b. "],
  [
    "an element to the left of its list",
    "config:\n  list:\n    - a: b\n   - a: c",
    "4: Invalid YAML: block as implicit key at -. ",
  ],
  [
    "an element to the right of its list",
    "config:\n  list:\n    - a: b\n     - a: c\n",
    "4: Invalid YAML: bad indent at -. ",
  ],
  ["several documents", "config: {}\n---\nconfig: {}\n", "2: Invalid YAML: multiple docs at ---. "],
  ["an alias without an anchor", "config:\n  a:\n    - *b", "3: *b has no anchor &b above it"],
] as const) {
  test(`rejects ${what}`, () => {
    assert.throws(
      () => readFiles(stackFile),
      (error: Error) => error.message.startsWith(`Pulumi.dev.yaml:${message}`) || assert.fail(error.message),
    );
  });
}

/** Pulumi.dev.yaml after `pulumi new`, without its comments. */
const TEMPLATE = `config:
  aws:region: us-west-2
  cluster-tokens:clusterName: sample-cluster
  cluster-tokens:serviceAccounts:
    - name: pulumi-service-account
      namespace: default
      tokenType: personal
      userLogin: sample-login
`;

test("finds the only stack of a project but an unchanged template, the sample, or asks which one", (t) => {
  const project = temporaryDirectory(t);
  const write = (file: string, content: string) => writeFileSync(join(project, file), content);
  write("Pulumi.dev.yaml", TEMPLATE);
  assert.equal(findStack(project), SAMPLE);
  for (const changed of [
    TEMPLATE.replace("personal", "persnal"),
    `${TEMPLATE}environment: [shared]\n`,
    "[",
  ]) {
    write("Pulumi.dev.yaml", changed);
    assert.equal(findStack(project), join(project, "Pulumi.dev.yaml"), changed);
  }
  write("Pulumi.prod.yaml", "");
  assert.equal(findStack(project, "acme/prod"), join(project, "Pulumi.prod.yaml"));
  assert.throws(() => findStack(project), /several stacks\. Stacks in this directory: dev, prod\. /);
  assert.throws(() => findStack(project, "staging"), /^Error: Pulumi\.staging\.yaml does not exist\. /);
  write("Pulumi.other.yml", "");
  assert.throws(() => findStack(project), /Rename it to Pulumi\.other\.yaml\.$/);
});
