// The schema of stack files, which editors read.

import assert from "node:assert/strict";
import { test } from "node:test";
import Ajv from "ajv";
import { parse } from "yaml";
import { EXAMPLES, exampleOf } from "../support/examples";
import { codeIn, read } from "../support/project";
import { stackSchema } from "../support/stackFileSchema";

const isStackFile = new Ajv({ strictTypes: false }).compile(JSON.parse(read("settings/stack.schema.json")));

test("the schema is that of the code; `npm run docs` writes it", () => {
  assert.deepEqual(JSON.parse(read("settings/stack.schema.json")), JSON.parse(stackSchema()));
});

test("accepts the stack files that name it, and the entry of every manifest", () => {
  const complete = codeIn(read("README.md"), "yaml").find((block) => /^config:/m.test(block)) ?? "";
  for (const file of [read("Pulumi.dev.yaml"), complete]) {
    assert.equal(file.split("\n")[0], "# yaml-language-server: $schema=settings/stack.schema.json");
    assert.ok(isStackFile(parse(file)), JSON.stringify(isStackFile.errors));
  }
  const serviceAccounts = EXAMPLES.map((name) => exampleOf(name).entry);
  const asWritten = { createCluster: "true", "aws:region": "us-west-2", "project:clusterName": "prod" };
  assert.ok(isStackFile({ config: { serviceAccounts, ...asWritten } }), JSON.stringify(isStackFile.errors));
});

test("rejects unknown names, other types, and values that a setting by itself cannot have", () => {
  const entry = { namespace: "ci", name: "app", tokenType: "organization" };
  const changes = [{ nmae: "a" }, { namespace: undefined }, { tokenType: "teams" }, { runJob: 1 }];
  const configs = [{ clustername: "a" }, { image: "a b" }];
  for (const config of [...configs, ...changes.map((it) => ({ serviceAccounts: [{ ...entry, ...it }] }))]) {
    assert.equal(isStackFile(JSON.parse(JSON.stringify({ config }))), false, JSON.stringify(config));
  }
});
