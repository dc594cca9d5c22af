// Links between the pages lead to files and headings that exist, and comments and messages name pages that exist.

import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { test } from "node:test";
import { ROOT, read } from "../support/project";

/** Where pages outside of this project's files, such as a package's, link to. */
const REPOSITORY = "https://github.com/OWNER/eks-pulumi-oidc";

const FILES = readdirSync(ROOT, { withFileTypes: true })
  .filter(({ name }) => name !== "node_modules" && name !== ".git")
  .flatMap((entry) => (entry.isFile() ? [entry.name] : filesIn(entry.name)));

const PAGES = FILES.filter((path) => path.endsWith(".md"));

test("every link leads to a file, and to a heading in it", () => {
  const links = PAGES.flatMap((page) => {
    const targets = withoutCode(read(page)).matchAll(/\]\(([^)\s]+)\)/g);
    return [...targets].map(([, target = ""]) => {
      return { page, target: target.replace(`${REPOSITORY}#`, "/README.md#") };
    });
  }).filter(({ target }) => !/^https?:/.test(target));
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

test("comments and messages name pages that exist", () => {
  const named = FILES.filter((path) => /\.(ts|cjs|sh|ya?ml)$/.test(path)).flatMap((path) => {
    return [...read(path).matchAll(/\bdocs\/[\w/-]+\.md\b/g)].map(([page]) => `${page} in ${path}`);
  });
  assert.ok(named.length >= 10);
  assert.deepEqual(
    named.filter((it) => !existsSync(join(ROOT, it.split(" ")[0] ?? ""))),
    [],
  );
});

/** Returns the paths of the files in a directory, without those of packages. */
function filesIn(directory: string): string[] {
  return readdirSync(join(ROOT, directory), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !entry.parentPath.includes("node_modules"))
    .map((entry) => relative(ROOT, join(entry.parentPath, entry.name)));
}

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
