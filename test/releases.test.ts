// The version in the changelog, in the package, and in the pages is one number, and fits the tags.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { packageManifest } from "./componentPlugin";

const ROOT = join(__dirname, "..");
const CHANGELOG = read("CHANGELOG.md");

test("the newest version of the changelog is that of the package", () => {
  const [newest] = versionsOf(CHANGELOG);
  assert.equal(packageManifest().version, newest);
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

test("every tag has a section in the changelog, in its order, and the tag of this commit is the newest version", (t) => {
  const { status, stdout } = git("tag", "--list", "v*.*.*", "--sort=-version:refname");
  if (status !== 0) return t.skip("this is not a clone");

  assert.deepEqual(
    problemsOfTags(tagsIn(stdout), tagsIn(git("tag", "--points-at", "HEAD").stdout), CHANGELOG),
    [],
  );
});

test("a tag without a section, of a version that is not the newest, or in another order is a problem", () => {
  const changelog = "## Unreleased\n\n## 0.2.0\n\n## 0.1.0\n";
  // Between the commit that prepares a version and its tag, the newest tag is that of the version before.
  for (const tags of [[], ["v0.1.0"], ["v0.2.0", "v0.1.0"]])
    assert.deepEqual(problemsOfTags(tags, [], changelog), []);
  assert.deepEqual(problemsOfTags(["v0.2.0"], ["v0.2.0"], changelog), []);

  assert.match(problemsOfTags(["v0.3.0", "v0.2.0"], [], changelog).join(), /v0\.3\.0 has no section/);
  assert.match(problemsOfTags(["v0.1.0"], ["v0.1.0"], changelog).join(), /v0\.1\.0 .* is 0\.2\.0/);
  assert.match(problemsOfTags(["v0.2.0", "v0.1.0"], [], "## 0.1.0\n## 0.2.0\n").join(), /order/);
});

/**
 * Returns what is wrong with the tags.
 *
 * @param tags of the repository, the newest first.
 * @param ofCommit the tags of the commit that is checked out.
 */
function problemsOfTags(tags: string[], ofCommit: string[], changelog: string): string[] {
  const versions = versionsOf(changelog);
  const [newest] = versions;
  const missing = tags
    .filter((tag) => !versions.includes(tag.slice(1)))
    .map((tag) => `${tag} has no section`);
  const older = ofCommit
    .filter((tag) => tag !== `v${newest}`)
    .map((tag) => `${tag} is at a commit whose version is ${newest}`);
  const listed = versions.filter((version) => tags.includes(`v${version}`)).map((version) => `v${version}`);
  const known = tags.filter((tag) => listed.includes(tag));
  const order = listed.join() === known.join() ? [] : ["the changelog has another order than the tags"];
  return [...missing, ...older, ...order];
}

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

function read(file: string): string {
  return readFileSync(join(ROOT, file), "utf8");
}
