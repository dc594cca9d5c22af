// The settings are declared in three places: `Pulumi.yaml`, `config.ts` and the README's table say the same of them.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { parse } from "yaml";
import { declaredSettings } from "../config";

/** Those of the project: `pulumi new` adds some of its own. */
function declared<Declared>(): [string, Declared][] {
  const { config }: { config: Record<string, Declared> } = parse(read("Pulumi.yaml"));
  return Object.entries(config).filter(([key]) => !key.startsWith("pulumi:"));
}

test("Pulumi.yaml declares the settings of config.ts in their order, with their defaults and descriptions", () => {
  assert.deepEqual(
    declared<object>().map(([key, setting]) => ({ key, ...setting })),
    declaredSettings.map(({ key, description = "", default: value = "" }) => ({
      key,
      description: description.replaceAll("`", ""),
      default: value,
    })),
  );
});

test("Pulumi.yaml gives each setting a default and none a type: the engine would stop at the first wrong value", () => {
  for (const [key, setting] of declared<object>()) {
    assert.deepEqual(Object.keys(setting).sort(), ["default", "description"], key);
  }
});

test("the README's table lists the settings of config.ts in their order, with their defaults and descriptions", () => {
  const section = read("README.md").split("\n## Settings\n")[1]?.split("\n## ")[0] ?? "";
  // The first table: a key alone in its cell, and in backquotes.
  const [table = ""] = /(^\|.*\n)+/m.exec(section) ?? [];
  const rows = [...table.matchAll(/^\| `(\w+)` \| (.*?) ?\| (.*) \|$/gm)];
  assert.deepEqual(
    rows.map(([, key, value, description]) => ({ key, description, default: value })),
    declaredSettings.map(({ key, description, default: value }) => ({
      key,
      description,
      default: cell(value),
    })),
  );
});

test("what the example stack sets is what the template asks for, and no more", (t) => {
  const { template }: { template?: { config: Record<string, object> } } = parse(read("Pulumi.yaml"));
  const { config }: { config: Record<string, string> } = parse(read("Pulumi.dev.yaml"));
  // The CLI writes keys with the project's name, and `pulumi new` drops the template.
  if (!template || !("clusterName" in config)) return t.skip("the stack is a user's own by now");
  assert.deepEqual(Object.keys(config), Object.keys(template.config));
});

function cell(value: unknown): string {
  if (value === undefined || value === "") return "";
  return `\`${typeof value === "string" ? value : JSON.stringify(value)}\``;
}

function read(file: string): string {
  return readFileSync(join(__dirname, "..", file), "utf8");
}
