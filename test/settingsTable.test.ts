// Pulumi.yaml and the README describe the settings that the program accepts.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import * as v from "valibot";
import { parse } from "yaml";
import { accountSettings, stackSettings, tokenSettings } from "../settings";

const { name, ...account } = accountSettings;
const SETTINGS: Record<string, v.GenericSchema> = {
  ...stackSettings,
  ...account,
  serviceAccountName: name,
  ...tokenSettings,
};

// `pulumi new` adds more keys.
const { config }: { config: object } = parse(read("Pulumi.yaml"));
const declared: [string, { description: string; default: unknown }][] = Object.entries(config).filter(
  ([key]) => !key.startsWith("pulumi:"),
);

test("Pulumi.yaml declares the settings with a description, the program's default, and no type, which stops the engine", () => {
  assert.deepEqual(declared.map(([key]) => key).sort(), Object.keys(SETTINGS).sort());
  for (const [key, setting] of declared) {
    assert.deepEqual(Object.keys(setting).sort(), ["default", "description"], key);
    assert.match(setting.description, /^[A-Z].*[^.]$/, key);
    // An empty string counts as unset.
    const parsed = v.safeParse(SETTINGS[key] ?? v.never(), undefined);
    assert.deepEqual(setting.default, (parsed.success ? parsed.output : undefined) ?? "", key);
  }
});

test("the README's tables list the settings of Pulumi.yaml with their defaults and descriptions", () => {
  const tables = read("README.md").match(/^\| key \| default \| meaning \|\n(\|.*\n)+/gm) ?? [];
  const rows = tables.join("").matchAll(/^\| `(\w+)` \| (.*?) ?\| (.*) \|$/gm);
  const described = [...rows].map(([, key, value, meaning = ""]) => [key, value, meaning.replaceAll("`", "")]);
  const expected = declared.map(([key, setting]) => [key, cell(setting.default), setting.description]);
  assert.deepEqual(described.sort(), expected.sort());
});

function cell(value: unknown): string {
  if (value === "") return "";
  return `\`${typeof value === "string" ? value : JSON.stringify(value)}\``;
}

function read(file: string): string {
  return readFileSync(join(__dirname, "..", file), "utf8");
}
