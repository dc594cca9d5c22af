// The programs in examples/component/ have arguments that the component accepts. Those in TypeScript are deployed in
// package.engine.test.ts.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import * as pulumi from "@pulumi/pulumi";
import { parse } from "yaml";
import { PulumiCloudAccess, type PulumiCloudAccessArgs } from "../../pulumiCloudAccess";
import { declarationsOf } from "../support/declarations";
import { codeIn, ROOT, read } from "../support/project";

const [TYPESCRIPT, MANY, PYTHON, YAML, EXISTING] = [
  "typescript/index.ts",
  "many-clusters/index.ts",
  "python/__main__.py",
  "yaml/Pulumi.yaml",
  "existing-cluster/Pulumi.yaml",
].map((file) => read(`examples/component/${file}`)) as [string, string, string, string, string];

test("the pages print lines of the programs in TypeScript", () => {
  for (const [page, program] of [
    ["docs/component.md", TYPESCRIPT],
    ["docs/clusters.md", MANY],
  ] as const) {
    const [block = assert.fail(page)] = codeIn(read(page), "typescript");
    assert.ok(program.includes(block), page);
  }
});

test("in every program, only another cluster replaces what is on it", () => {
  // The first is an excerpt of the program for several clusters.
  const [, ...others] = codeIn(read("docs/clusters.md"), "typescript");
  for (const program of [TYPESCRIPT, MANY, PYTHON, YAML, EXISTING, ...others]) {
    assert.match(program, /\bcluster_?identifier\b/i);
  }
});

test("the package, every page, and every program name the newest version of the changelog", () => {
  const [, newest = assert.fail()] = /^## (\d+\.\d+\.\d+)\b/m.exec(read("CHANGELOG.md")) ?? [];
  assert.equal(JSON.parse(read("component/package.json")).version, newest);
  const args = ["-rhoE", "/component@v[0-9A-Za-z.-]+", "README.md", "docs", "examples"];
  const { stdout } = spawnSync("grep", args, { cwd: ROOT, encoding: "utf8" });
  const named = stdout.trim().split("\n");
  assert.ok(named.length > 1);
  assert.deepEqual([...new Set(named)], [`/component@v${newest}`]);
});

test("each program names the packages that it imports, in TypeScript with the versions of this project", () => {
  const { dependencies: tested } = JSON.parse(read("package.json"));
  for (const [directory, program] of [
    ["typescript", TYPESCRIPT],
    ["many-clusters", MANY],
  ] as const) {
    const { dependencies } = JSON.parse(read(`examples/component/${directory}/package.json`));
    const imported = [...program.matchAll(/from "(@pulumi\/\w+)"/g)].map(([, name = ""]) => [
      name,
      tested[name],
    ]);
    assert.deepEqual(dependencies, Object.fromEntries(imported));
  }
  const required = [...read("examples/component/python/requirements.txt").matchAll(/^[\w-]+/gm)];
  const imported = PYTHON.matchAll(/^import (pulumi\w*)/gm);
  assert.deepEqual(
    required.map(([name]) => name),
    [...imported].map(([, name = ""]) => name.replaceAll("_", "-")),
  );
});

const OUTPUT = /access\.(\w+)\["team-a\/deployer"\]\.(\w+)/;

test("the program in YAML has valid arguments, and reads an output that exists", () => {
  const { type, properties, options } = parse(YAML).resources.access;
  assert.equal(type, "eks-pulumi-oidc:PulumiCloudAccess");
  assertValid(properties);
  assert.match(String(options.dependsOn), /^\$\{namespace\}$/);
  const [, output, name] = OUTPUT.exec(YAML) ?? [];
  assert.equal(output, "serviceAccounts");
  assert.ok(declarationsOf("ServiceAccountOutputs").some((declaration) => declaration.name === name));
});

test("the program for an existing cluster has valid arguments, with the list of its stack file", () => {
  const { config, resources, variables } = parse(EXISTING);
  // The engine rejects any other list, and the component the entries that are not valid.
  assert.deepEqual(config.serviceAccounts, { type: "array", items: { type: "object" } });
  const stackFile = parse(read("examples/component/existing-cluster/Pulumi.dev.yaml"));
  assert.deepEqual(Object.keys(stackFile.config).sort(), ["aws:region", ...Object.keys(config)]);

  const { properties, options } = resources.access;
  assert.match(properties.serviceAccounts, /^\$\{serviceAccounts\}$/);
  assertValid({ ...properties, serviceAccounts: stackFile.config.serviceAccounts });
  assert.match(String(options.providers), /^\$\{kubernetes\}$/);

  const known = ["pulumi", ...Object.keys({ ...config, ...resources, ...variables })];
  for (const [, name = ""] of EXISTING.matchAll(/\$\{(\w+)/g)) assert.ok(known.includes(name), name);
});

test("the program in Python has the arguments of the one in YAML, and reads the same output", () => {
  const [, inYaml = assert.fail()] = /:PulumiCloudAccess\n.*?properties:(.*?)options:/s.exec(YAML) ?? [];
  const expected = inYaml.matchAll(/(\w+): *(?:\$\{)?(?:pulumi\.)?([\w.-]*)/g);
  const [, inPython = assert.fail()] = /\.PulumiCloudAccess\((.*?)^ {4}#/ms.exec(PYTHON) ?? [];
  const given = inPython.matchAll(
    /(\w+)="?(?:eks_pulumi_oidc\.(?:TokenType|AwsRole|StackPermission)\.)?([\w.-]*)/g,
  );
  assert.deepEqual(
    [...given].map(([, key, value = ""]) => `${key}=${value.toLowerCase()}`),
    [...expected].map(([, key, value]) => snakeCase(`${key}=${value}`)),
  );
  assert.ok(PYTHON.includes(snakeCase(OUTPUT.exec(YAML)?.[0] ?? assert.fail())));
});

test("the program in Python is Python", (t) => {
  const { error, status, stderr } = spawnSync("python3", ["-c", "import ast; ast.parse(open(0).read())"], {
    input: PYTHON,
  });
  if (error) return t.skip("python3 is not on PATH");
  assert.equal(status, 0, String(stderr));
});

/** Requires that the component would accept the arguments of a program in YAML, which has the Kubernetes provider. */
function assertValid(args: object): void {
  // What refers to something is an output.
  const withOutputs: PulumiCloudAccessArgs = JSON.parse(JSON.stringify(args), (_, value) =>
    String(value).startsWith("${") ? pulumi.output(value) : value,
  );
  const message =
    /\(1 problem\).*\n {2}providers: this resource option must contain the Kubernetes provider/s;
  assert.throws(() => new PulumiCloudAccess("access", withOutputs), { message });
}

function snakeCase(name: string): string {
  return name.replaceAll(/(?<=[a-z])[A-Z]/g, (letter) => `_${letter}`).toLowerCase();
}
