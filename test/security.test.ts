// docs/testing.md names the tests behind each threat of SECURITY.md: both pages have the same threats, and each test exists.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

const ROOT = join(__dirname, "..");

test("every test that docs/testing.md names exists under that name", () => {
  const page = readFileSync(join(ROOT, "docs", "testing.md"), "utf8").replaceAll(/\s+/g, " ");
  const named = [...page.matchAll(/`([\w/-]+)`: ((?:"[^"]+"(?:, )?)+)/g)].flatMap(([, file, names = ""]) =>
    [...names.matchAll(/"[^"]+"/g)].map(([name]) => ({ file, name })),
  );

  assert.ok(named.length >= 15, `docs/testing.md names only ${named.length} tests`);
  for (const { file, name } of named) {
    const path = join(__dirname, `${file}.test.ts`);
    assert.ok(existsSync(path), `docs/testing.md names ${file}.test.ts, which does not exist`);
    const source = readFileSync(path, "utf8");
    assert.ok(source.includes(`(${name}`), `${file}.test.ts has no test ${name}`);
  }
});

test("docs/testing.md names tests for every threat in SECURITY.md", () => {
  const threats = numberedRows("SECURITY.md", "Threats and mitigations");
  const tested = numberedRows(join("docs", "testing.md"), "Threats");

  assert.ok(threats.length > 0);
  assert.deepEqual(tested, threats);
});

/** Returns the numbers in the first column of the table of a section. */
function numberedRows(page: string, heading: string): number[] {
  const text = readFileSync(join(ROOT, page), "utf8");
  const [, section = assert.fail(`${page} has no section "${heading}"`)] = text.split(`\n## ${heading}\n`);
  const [table = ""] = section.split("\n## ");
  return [...table.matchAll(/^\| (\d+) \|/gm)].map(([, number]) => Number(number));
}
