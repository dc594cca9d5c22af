// The version in the changelog, in the package, and in the pages is one number, and fits the tags.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { ROOT, read } from "../support/project";

const CHANGELOG = read("CHANGELOG.md");

test("the newest version of the changelog is that of the package", () => {
  const [newest] = versionsOf(CHANGELOG);
  assert.equal(JSON.parse(read("component/package.json")).version, newest);
});

test("every page and program names the newest version of the package", () => {
  const [newest] = versionsOf(CHANGELOG);
  const printed = ["README.md", ...filesIn("docs"), ...filesIn("examples")].flatMap((file) => {
    const tags = read(file).matchAll(/\/component@v([\w.-]+)/g);
    return [...tags].map(([, version]) => ({ file, version }));
  });
  assert.ok(printed.length > 1);
  for (const { file, version } of printed) assert.equal(version, newest, file);
});

test("every tag has a section in the changelog, and the tag of this commit is the newest version", (t) => {
  const { status, stdout } = git("tag", "--list", "v*.*.*");
  if (status !== 0) return t.skip("this is not a clone");

  const versions = versionsOf(CHANGELOG).map((version) => `v${version}`);
  for (const tag of tagsIn(stdout)) assert.ok(versions.includes(tag), `${tag} has no section`);
  for (const tag of tagsIn(git("tag", "--points-at", "HEAD").stdout)) assert.equal(tag, versions[0]);
});

/** Returns the versions that have a section, in its order. */
function versionsOf(changelog: string): string[] {
  return [...changelog.matchAll(/^## \[?(\d+\.\d+\.\d+)\b/gm)].map(([, version = ""]) => version);
}

function git(...args: string[]) {
  return spawnSync("git", args, { cwd: ROOT, encoding: "utf8" });
}

function tagsIn(stdout: string): string[] {
  return stdout.split("\n").filter((tag) => /^v\d+\.\d+\.\d+$/.test(tag));
}

function filesIn(directory: string): string[] {
  const entries = readdirSync(join(ROOT, directory), { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(ROOT.length + 1));
}
