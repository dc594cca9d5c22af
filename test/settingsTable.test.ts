// Pulumi.yaml and the README describe the settings that the program accepts.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import * as v from "valibot";
import { parse } from "yaml";
import { accountSettings, type Setting, stackSettings, tokenSettings } from "../settings";

const { name, ...account } = accountSettings;
const SETTINGS: Record<string, Setting> = {
  ...stackSettings,
  ...account,
  serviceAccountName: name,
  ...tokenSettings,
};

/** Returns what Pulumi.yaml declares; `pulumi new` adds more keys. */
function declared(): [string, { description: string; default: unknown }][] {
  const { config }: { config: Record<string, never> } = parse(read("Pulumi.yaml"));
  return Object.entries(config).filter(([key]) => !key.startsWith("pulumi:"));
}

test("Pulumi.yaml declares every setting, and no other", () => {
  const keys = declared().map(([key]) => key);
  assert.deepEqual(keys.toSorted(), Object.keys(SETTINGS).toSorted());
});

test("Pulumi.yaml gives every setting a description and the program's default, and no type, which stops the engine", () => {
  for (const [key, setting] of declared()) {
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
  const described = [...rows].map(([, key = "", value, text = ""]) => [key, value, text.replaceAll("`", "")]);
  assert.deepEqual(
    described.toSorted(),
    declared()
      .map(([key, setting]) => [key, cell(setting.default), setting.description])
      .toSorted(),
  );
});

test("the example stack has exactly the settings that the template asks for", (t) => {
  const { template }: { template?: { config: Record<string, object> } } = parse(read("Pulumi.yaml"));
  const { config }: { config: Record<string, string> } = parse(read("Pulumi.dev.yaml"));
  // The CLI writes keys with the project's name, and `pulumi new` drops the template.
  if (!template || !("clusterName" in config)) return t.skip("the stack is a user's own by now");
  assert.deepEqual(Object.keys(config), Object.keys(template.config));
});

function cell(value: unknown): string {
  if (value === "") return "";
  return `\`${typeof value === "string" ? value : JSON.stringify(value)}\``;
}

function read(file: string): string {
  return readFileSync(join(__dirname, "..", file), "utf8");
}
