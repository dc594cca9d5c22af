// The schema of stack files, which editors read.

import assert from "node:assert/strict";
import { test } from "node:test";
import { parse } from "yaml";
import { stackSchema } from "../stackFileSchema";
import { codeIn, read } from "../support/project";

const SCHEMA = JSON.parse(read("settings/stack.schema.json"));

test("the schema is that of the code; `npm run docs` writes it", () => {
  assert.deepEqual(SCHEMA, JSON.parse(stackSchema()));
});

test("the stack files of the template and of the README name it, and it has their settings and no others", () => {
  const { config } = SCHEMA.properties;
  const entry = config.properties.serviceAccounts.anyOf[0].items;
  assert.deepEqual([config.additionalProperties, entry.additionalProperties], [false, false]);
  const complete = codeIn(read("README.md"), "yaml").find((block) => /^config:/m.test(block)) ?? "";
  for (const file of [read("Pulumi.dev.yaml"), complete]) {
    assert.equal(file.split("\n")[0], "# yaml-language-server: $schema=settings/stack.schema.json");
    const { serviceAccounts, ...settings } = parse(file).config;
    for (const name of Object.keys(settings))
      assert.ok(name in config.properties || name.includes(":"), name);
    for (const name of Object.keys(serviceAccounts[0])) assert.ok(name in entry.properties, name);
  }
});
