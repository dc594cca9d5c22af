// The pages, comments, and messages name only files and headings that exist. A copy without some of the parts keeps this test.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { test } from "node:test";
import { filesWith, ROOT, read } from "../support/project";

/** The address of this project, which is also that of the template of a copy. */
const REPOSITORY = "https://github.com/OWNER/eks-pulumi-oidc";

/** What the commands of docs/copy.md remove, beside tests. */
const REMOVABLE = /^(component|pipeline|policy|simulator|examples\/(component|fleet|guardrails))(\/|$)/;

interface Link {
  page: string;
  /** The path of a file or directory from the root of the project. */
  path: string;
  heading?: string;
  isAbsolute: boolean;
}

const LINKS = filesWith(/\.md$/).flatMap((page) => {
  const targets = [...withoutCode(read(page)).matchAll(/\]\(([^)\s]+)\)/g)].map(([, target = ""]) => target);
  return targets.flatMap((target) => linkOf(page, target) ?? []);
});

test("every link leads to a file, and to a heading in it", () => {
  assert.ok(LINKS.length >= 100);
  const dead = LINKS.filter(({ path, heading, isAbsolute }) => {
    const [part] = REMOVABLE.exec(path) ?? [];
    if (part && isAbsolute && !existsSync(join(ROOT, part))) return false;
    if (!existsSync(join(ROOT, path))) return true;
    return heading !== undefined && !headingsOf(path).includes(heading);
  });
  assert.deepEqual(dead, []);
});

test("pages that a copy keeps link to what it can remove by its address on GitHub", () => {
  const kept = LINKS.filter(({ page }) => !REMOVABLE.test(page));
  const relative = kept.filter(({ path, isAbsolute }) => REMOVABLE.test(path) && !isAbsolute);
  assert.deepEqual(relative, []);
});

test("comments and messages name pages that exist", () => {
  const named = filesWith(/\.(ts|cjs|sh|ya?ml)$/).flatMap((path) => {
    return [...read(path).matchAll(/\bdocs\/[\w/-]+\.md\b/g)].map(([page]) => ({ page, path }));
  });
  assert.ok(named.length >= 10);
  const missing = named.filter(({ page }) => !existsSync(join(ROOT, page)));
  assert.deepEqual(missing, []);
});

/** Returns a link to this project, or undefined for one to anything else. */
function linkOf(page: string, target: string): Link | undefined {
  const [address = "", heading] = target.split("#");
  const [, absolute] = address.match(`^${REPOSITORY}/(?:blob|tree)/main/(.*)$`) ?? [];
  if (absolute !== undefined) return { page, path: absolute, heading, isAbsolute: true };
  if (address === REPOSITORY) return { page, path: "README.md", heading, isAbsolute: true };
  if (/^https?:/.test(address)) return undefined;
  const path = address === "" ? page : normalize(join(dirname(page), address));
  return { page, path, heading, isAbsolute: false };
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
