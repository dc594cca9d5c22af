// Links between the pages lead to files and headings that exist, and comments and messages name pages that exist.

import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { ROOT, read } from "../support/project";

/** Where pages outside of this project's files, such as a package's, link to. */
const REPOSITORY = "https://github.com/OWNER/eks-pulumi-oidc";

/** The README's commands remove these parts with their pages, but not what names those. */
const removed = ["component", "pipeline"].filter((part) => !existsSync(join(ROOT, part)));
const skip = removed.length > 0 && `pages of the removed ${removed.join(" and ")} are still named`;

/** The paths of the files with one of these ends, without those of packages. */
function filesWith(end: RegExp): string[] {
  const entries = readdirSync(ROOT, { withFileTypes: true });
  const paths = entries.flatMap((entry) => {
    if (entry.isFile()) return [entry.name];
    if (entry.name === "node_modules" || entry.name === ".git") return [];
    const below = readdirSync(join(ROOT, entry.name), { encoding: "utf8", recursive: true });
    return below.map((path) => join(entry.name, path));
  });
  return paths.filter((path) => end.test(path) && !path.includes("node_modules"));
}

test("every link leads to a file, and to a heading in it", { skip }, () => {
  const links = filesWith(/\.md$/).flatMap((page) => {
    const targets = withoutCode(read(page)).replaceAll(`${REPOSITORY}#`, "/README.md#");
    return [...targets.matchAll(/\]\((?!https?:)([^)\s]+)\)/g)].map(([, target = ""]) => ({ page, target }));
  });
  assert.ok(links.length >= 100);

  const dead = links.filter(({ page, target }) => {
    const [path = "", heading] = target.split("#");
    const file = path.startsWith("/") ? path.slice(1) : join(dirname(page), path);
    const linked = path === "" ? page : file;
    if (!existsSync(join(ROOT, linked))) return true;
    return heading !== undefined && !headingsOf(linked).includes(heading);
  });
  assert.deepEqual(dead, []);
});

test("comments and messages name pages that exist", { skip }, () => {
  const named = filesWith(/\.(ts|cjs|sh|ya?ml)$/).flatMap((path) => {
    return [...read(path).matchAll(/\bdocs\/[\w/-]+\.md\b/g)].map(([page]) => ({ page, path }));
  });
  assert.ok(named.length >= 10);
  const missing = named.filter(({ page }) => !existsSync(join(ROOT, page)));
  assert.deepEqual(missing, []);
});

/** Returns the anchors of a page's headings, as GitHub derives them. */
function headingsOf(page: string): string[] {
  return [...withoutCode(read(page)).matchAll(/^#+ (.*)$/gm)].map(([, heading = ""]) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\p{Letter}\p{Number} _-]/gu, "")
      .replaceAll(" ", "-"),
  );
}

function withoutCode(text: string): string {
  return text.replaceAll(/^ *```.*?^ *```$/gms, "");
}
