// The pages about workloads name only settings that the program has.

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
  assert.match(message, /audienceRule.*is a setting of an entry/, "the program reports the keys of an entry otherwise");
  // The setting that creates the admission policies comes with them.
  assert.deepEqual(unknown, ["injectToken"]);
});

/** Returns the keys at every level of a value. */
function keysOf(value: unknown): string[] {
  if (Array.isArray(value)) return value.flatMap(keysOf);
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, nested]) => [key, ...keysOf(nested)]);
}
