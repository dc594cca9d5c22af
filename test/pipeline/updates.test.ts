// renovate.json: when an update is proposed, and that it changes every place of a version at once.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { ROOT, read } from "../support/project";

interface Manager {
  managerFilePatterns: string[];
  matchStrings: string[];
  depNameTemplate: string;
}

interface Renovate {
  minimumReleaseAge: string;
  packageRules: { groupName: string; matchPackageNames: string[] }[];
  customManagers: Manager[];
}

const RENOVATE: Renovate = JSON.parse(read(".github/renovate.json"));

/** Some of the files with the version; any other one is found by its content. */
const PINNED = [
  ...["settings/access.ts", "docs/configuration.md", ".ci/pulumi-cli"],
  ...["deploy", "drift", "preview"].map((name) => `.github/workflows/${name}.yml`),
  ...["deployment", "drift-detection", "pulumi-operator"].map((name) => `examples/${name}.yaml`),
];

/** What no one edits by hand. */
const EXCLUDED = ["node_modules", ".git", "package-lock.json"];

test("a release is 7 days old before its update is proposed", () => {
  assert.equal(RENOVATE.minimumReleaseAge, "7 days");
});

test("one update changes every place of the Pulumi CLI's version; what is left says with which one something was tried", () => {
  const [manager, ...others] = RENOVATE.customManagers;
  assert.ok(manager);
  assert.deepEqual(others, []);
  const group = RENOVATE.packageRules.filter(({ matchPackageNames }) =>
    matchPackageNames.includes(manager.depNameTemplate),
  );
  assert.deepEqual(
    group.map(({ groupName }) => groupName),
    ["Pulumi CLI"],
  );

  const places: { path: string; version: string }[] = [];
  const updated = [...filesOf(ROOT)].map(([path, content]) => {
    const { versions, text } = update(manager, path, content, "9.9.9");
    places.push(...versions.map((version) => ({ path, version })));
    return { path, text };
  });
  const [version, ...different] = new Set(places.map((it) => it.version));
  assert.ok(version);
  assert.deepEqual(different, [], JSON.stringify(places, undefined, 2));

  const paths = new Set(places.map(({ path }) => path));
  for (const pinned of PINNED) assert.ok(paths.has(pinned), pinned);

  for (const { path, text } of updated) {
    const remaining: string[] = text.split("\n").filter((line) => line.includes(version));
    for (const line of remaining) {
      const isProse = path.endsWith(".md") && !line.replaceAll(`CLI ${version}`, "").includes(version);
      assert.ok(isProse || path === "CHANGELOG.md", `${path}: ${line}`);
    }
  }
});

/** Changes a file as an update does, and returns the versions that it replaces. */
function update(manager: Manager, path: string, content: string, newVersion: string) {
  const versions: string[] = [];
  let text = content;
  if (manager.managerFilePatterns.some((pattern) => isMatch(pattern, path))) {
    for (const expression of manager.matchStrings) {
      text = text.replaceAll(RegExp(expression, "g"), (place, ...rest) => {
        const { currentValue }: { currentValue: string } = rest.at(-1);
        versions.push(currentValue);
        return place.replace(currentValue, newVersion);
      });
    }
  }
  return { versions, text };
}

/** Returns whether a pattern of `managerFilePatterns`, here a regular expression between slashes, matches a path. */
function isMatch(pattern: string, path: string): boolean {
  const [, expression] = /^\/(.+)\/$/.exec(pattern) ?? [];
  return RegExp(expression ?? assert.fail(`${pattern} is not a regular expression`)).test(path);
}

/** Returns the text of each file of the repository by its path. */
function filesOf(directory: string, prefix = ""): Map<string, string> {
  const files = new Map<string, string>();
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    if (EXCLUDED.includes(entry.name)) continue;
    const path = join(directory, entry.name);
    const name = `${prefix}${entry.name}`;
    if (entry.isDirectory()) {
      for (const [child, content] of filesOf(path, `${name}/`)) files.set(child, content);
    } else if (entry.isFile()) {
      files.set(name, readFileSync(path, "utf8"));
    }
  }
  return files;
}
