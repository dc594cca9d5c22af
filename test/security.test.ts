// docs/testing.md names the tests behind each threat of SECURITY.md: both pages have the same threats, and each test exists.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { read, sectionOf } from "./project";

test("every test that docs/testing.md names exists under that name", () => {
  const page = read("docs/testing.md").replaceAll(/\s+/g, " ");
  const named = [...page.matchAll(/`([\w/-]+)`: ((?:"[^"]+"(?:, )?)+)/g)].flatMap(([, file, names = ""]) =>
    [...names.matchAll(/"[^"]+"/g)].map(([name]) => ({ file, name })),
  );

  assert.ok(named.length >= 15, `docs/testing.md names only ${named.length} tests`);
  for (const { file, name } of named) {
    assert.ok(existsSync(join(__dirname, `${file}.test.ts`)), `there is no ${file}.test.ts`);
    assert.ok(read(`test/${file}.test.ts`).includes(`(${name}`), `${file}.test.ts has no test ${name}`);
  }
});

test("docs/testing.md names tests for every threat in SECURITY.md", () => {
  const threats = numberedRows("SECURITY.md", "## Threats and mitigations");
  const tested = numberedRows("docs/testing.md", "## Threats");

  assert.ok(threats.length > 0);
  assert.deepEqual(tested, threats);
});

/** Returns the numbers in the first column of the table of a section. */
function numberedRows(page: string, heading: string): number[] {
  return [...sectionOf(read(page), heading).matchAll(/^\| (\d+) \|/gm)].map(([, number]) => Number(number));
}
