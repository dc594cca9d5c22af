// What stands in several places is the same in all of them: generated files, versions, and the names of settings on pages.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { SETTINGS_FILES } from "../../kubernetes/tokenVolume";
import { DEFAULT_IMAGE } from "../../settings/access";
import { generatedFiles } from "../docs";
import { filesWith, ROOT, read } from "../support/project";

/** Fields of Pulumi Cloud's audit log, roles, and policies, which pages name. */
const FIELDS = [
  "githubLogin",
  "tokenInfo",
  "actorName",
  "actorUrn",
  "tokenName",
  "roleIds",
  "envVarMappings",
];

const MANIFEST = JSON.parse(read("package.json"));

test("the generated lists and the schema are those of the code; `npm run docs` writes them", () => {
  for (const [path, content] of Object.entries(generatedFiles())) {
    // Biome formats JSON.
    const [written, generated] = path.endsWith(".json")
      ? [JSON.parse(read(path)), JSON.parse(content)]
      : [read(path), content];
    assert.deepEqual(written, generated, path);
  }
});

test("every example has the versions of the SDKs that the project has", () => {
  for (const path of filesWith(/^examples\/.*\/package\.json$/)) {
    for (const [name, version] of Object.entries(JSON.parse(read(path)).dependencies)) {
      if (name in MANIFEST.dependencies)
        assert.equal(version, MANIFEST.dependencies[name], `${path}: ${name}`);
    }
  }
  for (const path of filesWith(/\/requirements\.txt$/)) {
    for (const [, name = "", version] of read(path).matchAll(/^(pulumi[\w-]*)==(.*)$/gm)) {
      const sdk = name === "pulumi" ? "@pulumi/pulumi" : name.replace("pulumi-", "@pulumi/");
      assert.equal(version, MANIFEST.dependencies[sdk], `${path}: ${name}`);
    }
  }
});

test("every image with the Pulumi CLI is the default of the Jobs, which is as new as Pulumi.yaml requires", () => {
  const [, required = ""] = /requiredPulumiVersion: ">=(\d+\.\d+)\./.exec(read("Pulumi.yaml")) ?? [];
  assert.ok(DEFAULT_IMAGE.includes(`:${required}.`), DEFAULT_IMAGE);
  for (const path of filesWith(/^(examples|docs)\/.*\.(yaml|ts|md)$/)) {
    for (const [image] of read(path).matchAll(/pulumi\/pulumi-base:[\w.]+(@sha256:\w+)?/g)) {
      assert.equal(image, DEFAULT_IMAGE, path);
    }
  }
});

test("the exchange script reads the files that the ConfigMap has", () => {
  const script = read("scripts/exchange-token.sh");
  const readFiles = [...script.matchAll(/^ {2}read_setting \w+ (\w+)$/gm)].map(([, file]) => file);
  const [, header = ""] = /which is one volume of the pod:\n#\n(.*?)\n#\n/s.exec(script) ?? [];
  const described = [...header.matchAll(/^# {3}(\w+) /gm)].map(([, file]) => file);
  assert.deepEqual([readFiles, described], [[...SETTINGS_FILES], ["token", ...SETTINGS_FILES]]);
});

// A copy can be without these parts, and still have the pages that name their settings.
const isComplete = ["component", "pipeline"].every((part) => existsSync(join(ROOT, part)));

test("a page names only settings, outputs, and fields that exist in the code or in an example", {
  skip: !isComplete && "parts of the project were removed",
}, () => {
  const code = filesWith(/^(?!docs\/|test\/).*\.(ts|sh|ya?ml|json|py|cjs|js)$/)
    .map(read)
    .join("\n");
  const words = new Set([...(code.match(/\w+/g) ?? []), ...FIELDS]);
  const unknown = filesWith(/\.md$/).flatMap((page) => {
    const names = read(page).match(/(?<=`)[a-z]+(?:[A-Z][a-z]+)+(?=[`:])/g) ?? [];
    return names.filter((name) => !words.has(name)).map((name) => `${page}: ${name}`);
  });
  assert.deepEqual(unknown, []);
});

test("imports go down only", () => {
  for (const [room, allowed] of Object.entries({
    ".": /^(?!simulator|policy|test)/,
    settings: /^(settings|kubernetes)\//,
    kubernetes: /^kubernetes\//,
    // An organization can publish the directory.
    policy: /^policy\//,
    simulator:
      /^(simulator|policy)\/|^index$|^settings\/(problems|account)$|^test\/core\/program$|^kubernetes\/plainObject$/,
  })) {
    const files = filesWith(/\.ts$/).filter((file) => dirname(file) === room);
    for (const file of files) {
      const imports = read(file).matchAll(/(?:from|require\(|import) ?"(\.[^"]*)"/g);
      for (const [, path = ""] of imports) assert.match(join(room, path), allowed, file);
    }
  }
});
