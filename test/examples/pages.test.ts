// The pages name only what exists: files, headings, exit codes, and what a Stack of the Pulumi Kubernetes Operator needs. Their
// stack files can be deployed.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { parse } from "yaml";
import {
  CONFIG_MAP_SUFFIX,
  CREDENTIAL_HELPER,
  tokenVolume,
  VOLUME_MOUNT,
} from "../../kubernetes/tokenVolume";
import { runExchange } from "../../simulator/emulators/pod";
import { all, up } from "../emulated/stack";
import { codeIn, filesWith, ROOT, read, sectionOf } from "../support/project";

/** What links begin with in files that are published elsewhere, such as those of the package. */
const REPOSITORY = "https://github.com/OWNER/eks-pulumi-oidc";

/** The commands of docs/copy.md remove these parts with their pages, which other pages still name. */
const removed = ["component", "pipeline"].filter((part) => !existsSync(join(ROOT, part)));
const skip = removed.length > 0 && `pages of the removed ${removed.join(" and ")} are still named`;

test("every link leads to a file, and to a heading in it", { skip }, () => {
  const links = filesWith(/\.md$/).flatMap((page) => {
    const targets = withoutCode(read(page))
      .replaceAll(`${REPOSITORY}#`, "/README.md#")
      .replaceAll(`${REPOSITORY}/blob/main/`, "/");
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

test("docs/troubleshooting.md lists the exit codes of the exchange script", () => {
  const section = sectionOf(read("docs/troubleshooting.md"), "## Exit codes");
  const listed = section.match(/(?<=^\| )\d+(?= \|)/gm);

  // In the comment at the beginning of the script.
  const documented = read("scripts/exchange-token.sh").match(/(?<=^# {3})\d\d(?= {2})/gm) ?? [];
  assert.ok(documented.length >= 6);
  assert.deepEqual(listed, documented);
});

test("examples/operator/mount.yaml mounts in a Stack what a pod of the settings in docs/operator.md needs", () => {
  const [settings = ""] = codeIn(read("docs/operator.md"), "yaml");
  const account = parse(settings).config.serviceAccounts[0].name;
  // As kubectl reads it: YAML 1.1, in which 0555 is octal.
  const { envRefs, workspaceTemplate } = parse(read("examples/operator/mount.yaml"), { version: "1.1" }).spec;
  const { name, value } = CREDENTIAL_HELPER;
  assert.deepEqual(envRefs, { [name]: { type: "Literal", literal: { value } } });
  assert.deepEqual(workspaceTemplate.spec.podTemplate.spec, {
    containers: [{ name: "pulumi", volumeMounts: [VOLUME_MOUNT] }],
    volumes: [tokenVolume(account + CONFIG_MAP_SUFFIX, "urn:pulumi:org:acme")],
  });
});

test("the stack file of docs/operator.md creates no role, and needs no IAM OIDC provider", async (t) => {
  const [file = ""] = codeIn(read("docs/operator.md"), "yaml");
  const cluster = { name: "my-cluster", hasOidcProvider: false };
  const options = { serviceAccounts: ["team-a/app"], runPod: runExchange, cluster };
  const stack = await up(t, parse(file).config, options);
  assert.deepEqual(all(stack, "Role"), []);
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
