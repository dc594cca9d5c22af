// The programs in examples/component/ have arguments that the component accepts. Those in TypeScript run in
// package.engine.test.ts.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import * as pulumi from "@pulumi/pulumi";
import { parse } from "yaml";
import { PulumiCloudAccess, type PulumiCloudAccessArgs } from "../../pulumiCloudAccess";
import { codeIn, ROOT, read } from "../support/project";

const [TYPESCRIPT, PYTHON, YAML, KIND, EXISTING] = [
  "typescript/index.ts",
  "python/__main__.py",
  "yaml/Pulumi.yaml",
  "kind/Pulumi.yaml",
  "existing-cluster/Pulumi.yaml",
].map((file) => read(`examples/component/${file}`)) as [string, string, string, string, string];

test("docs/component.md prints lines of the program in TypeScript", () => {
  const [block = assert.fail()] = codeIn(read("docs/component.md"), "typescript");
  assert.ok(TYPESCRIPT.includes(block));
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

test("the programs in YAML have valid arguments", () => {
  for (const program of [YAML, KIND]) {
    const { type, properties } = parse(program).resources.access;
    assert.equal(type, "eks-pulumi-oidc:PulumiCloudAccess");
    assertValid(properties);
  }
});

test("the program for an existing cluster has valid arguments, with the list of its stack file", () => {
  const { config, resources, variables } = parse(EXISTING);
  // The engine rejects any other list, and the component the entries that are not valid.
  assert.deepEqual(config.serviceAccounts, { type: "array", items: { type: "object" } });
  const stackFile = parse(read("examples/component/existing-cluster/Pulumi.dev.yaml"));
  assert.deepEqual(Object.keys(stackFile.config).sort(), ["aws:region", ...Object.keys(config)]);

  const { properties } = resources.access;
  assertValid({ ...properties, serviceAccounts: stackFile.config.serviceAccounts });

  const known = ["pulumi", ...Object.keys({ ...config, ...resources, ...variables })];
  for (const [, name = ""] of EXISTING.matchAll(/\$\{(\w+)/g)) assert.ok(known.includes(name), name);
});

// Those for several clusters are in package.engine.test.ts.
test("the programs identify their cluster by its issuer, so that a renewed endpoint replaces nothing", () => {
  for (const program of [TYPESCRIPT, PYTHON, YAML, KIND, EXISTING]) {
    const [, identifier = assert.fail()] = /cluster_?identifier[:=] ?([^\s,]+)/i.exec(program) ?? [];
    const [, issuerUrl] = /issuer_?url[:=] ?([^\s,]+)/i.exec(program) ?? [];
    assert.equal(identifier, issuerUrl);
  }
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
