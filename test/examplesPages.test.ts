// The pages about workloads: they name only settings that the program has, and all exit codes of the exchange script.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { EXAMPLES, exampleOf } from "./examples";
import { messageOf, start } from "./stack";

const PAGES = [
  "SECURITY.md",
  ...["how-it-works", "import", "troubleshooting", "workloads"].map((name) => `docs/${name}.md`),
];

/** Names of other programs, in the form of a setting. */
const NO_SETTINGS = [
  "activeDeadlineSeconds",
  "apiUrl",
  "destroyOnFinalize",
  "envRefs",
  "securityProfile",
  "tokenExchangePod",
  "volumeMount",
];

test("the pages name only settings that exist", async (t) => {
  const named = PAGES.flatMap((page) => {
    const text = readFileSync(join(__dirname, "..", page), "utf8");
    return [...text.matchAll(/`([a-z]+(?:[A-Z][a-z]*)+)(?:: [^`]*)?`/g)].map(([, name = ""]) => name);
  });
  assert.ok(named.includes("serviceAccounts"));

  const ofManifests = EXAMPLES.flatMap((file) => keysOf(exampleOf(file).manifests));
  const others = [...NO_SETTINGS, ...ofManifests];
  const settings = [...new Set(named)].filter((name) => !others.includes(name));
  assert.ok(settings.length >= 10);

  // The program reports every key that it does not know.
  const message = await messageOf(await start(t), Object.fromEntries(settings.map((name) => [name, "x"])));
  const unknown = [...message.matchAll(/^ *(\w+).*: unknown setting/gm)].map(([, name]) => name);
  assert.match(
    message,
    /audienceRule.*is a setting of an entry/,
    "the program reports the keys of an entry otherwise",
  );
  assert.deepEqual(unknown, []);
});

test("docs/troubleshooting.md lists the exit codes of the exchange script", () => {
  const read = (...path: string[]) => readFileSync(join(__dirname, "..", ...path), "utf8");
  const [, table = ""] = read("docs", "troubleshooting.md").split("\n### Exit codes\n");
  const [section = ""] = table.split("\n### ");
  const listed = [...section.matchAll(/^\| (\d+) \|/gm)].map(([, code]) => code);

  // Those of sysexits.h, in the comment at the beginning of the script.
  const [, codes = ""] = read("scripts", "exchange-token.sh").split("Exit codes, before the command's own:");
  const [comment = ""] = codes.split(/\n(?!#)/);
  const documented = [...comment.matchAll(/^# +(6[4-9]|7[0-8]) /gm)].map(([, code]) => code);
  assert.ok(documented.length >= 6);
  assert.deepEqual(listed, documented);
});

/** Returns the keys at every level of a value. */
function keysOf(value: unknown): string[] {
  if (Array.isArray(value)) return value.flatMap(keysOf);
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, nested]) => [key, ...keysOf(nested)]);
}
