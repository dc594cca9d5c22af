// The version in the changelog, in the package, and in the pages is one number, and fits the tags.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { ROOT, read } from "../support/project";

const VERSIONS = [...read("CHANGELOG.md").matchAll(/^## \[?(\d+\.\d+\.\d+)\b/gm)].map(
  ([, version]) => version,
);

test("the package, every page, and every program name the newest version of the changelog", () => {
  assert.equal(JSON.parse(read("component/package.json")).version, VERSIONS[0]);
  const { stdout } = run("grep", "-roE", "/component@v[0-9A-Za-z.-]+", "README.md", "docs", "examples");
  const printed = stdout.trim().split("\n");
  assert.ok(printed.length > 1);
  for (const line of printed) assert.ok(line.endsWith(`@v${VERSIONS[0]}`), line);
});

test("every tag has a section in the changelog, and the tag of this commit is the newest version", (t) => {
  const { status, stdout } = run("git", "tag", "--list", "v*.*.*");
  if (status !== 0) return t.skip("this is not a clone");

  const versions = VERSIONS.map((version) => `v${version}`);
  for (const tag of tagsIn(stdout)) assert.ok(versions.includes(tag), `${tag} has no section`);
  for (const tag of tagsIn(run("git", "tag", "--points-at", "HEAD").stdout)) assert.equal(tag, versions[0]);
});

function run(program: string, ...args: string[]) {
  return spawnSync(program, args, { cwd: ROOT, encoding: "utf8" });
}

function tagsIn(stdout: string): string[] {
  return stdout.split("\n").filter((tag) => /^v\d+\.\d+\.\d+$/.test(tag));
}
