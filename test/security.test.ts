// SECURITY.md names the test behind each claim: every one of them has to exist.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

test("every test that SECURITY.md names exists under that name", () => {
  const text = readFileSync(join(__dirname, "..", "SECURITY.md"), "utf8").replaceAll(/\s+/g, " ");
  const named = [...text.matchAll(/`([\w-]+)`: ((?:"[^"]+"(?:, )?)+)/g)].flatMap(([, file, names = ""]) =>
    [...names.matchAll(/"[^"]+"/g)].map(([name]) => ({ file, name })),
  );

  assert.ok(named.length >= 15, `SECURITY.md names only ${named.length} tests`);
  for (const { file, name } of named) {
    const source = readFileSync(join(__dirname, `${file}.test.ts`), "utf8");
    assert.ok(source.includes(`(${name}`), `${file}.test.ts has no test ${name}`);
  }
});
