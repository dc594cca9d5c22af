// The programs in examples/component/ have arguments that the component accepts. Those in TypeScript are deployed in
// package.engine.test.ts.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import * as pulumi from "@pulumi/pulumi";
import { unknown } from "@pulumi/pulumi/output";
import { parse } from "yaml";
import { checkOutputs, type PulumiCloudAccessArgs } from "../../pulumiCloudAccess";
import { declarationsOf } from "../support/declarations";
import { codeIn, read } from "../support/project";

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
    ["docs/many-clusters.md", MANY],
  ] as const) {
    const [block = assert.fail(page)] = codeIn(read(page), "typescript");
    assert.ok(program.includes(block), page);
  }
});

test("in every program, only another cluster replaces what is on it", () => {
  const others = codeIn(read("docs/other-clusters.md"), "typescript");
  for (const program of [TYPESCRIPT, MANY, PYTHON, YAML, EXISTING, ...others]) {
    assert.match(program, /\bcluster_?identifier\b/i);
  }
});

test("the program in YAML has valid arguments, and reads outputs that exist", async () => {
  const { type, properties, options } = parse(YAML).resources.access;
  assert.equal(type, "eks-pulumi-oidc:PulumiCloudAccess");
  await assertValid(properties);
  assert.deepEqual(options.dependsOn, [reference("namespace")]);
  assertOutputsExist(YAML, (name) => name);
});

test("the program for an existing cluster has valid arguments, with the list of its stack file", async () => {
  const { config, resources, variables } = parse(EXISTING);
  // The engine rejects any other list, and the component the entries that are not valid.
  assert.deepEqual(config.serviceAccounts, { type: "array", items: { type: "object" } });
  const stackFile = parse(read("examples/component/existing-cluster/Pulumi.dev.yaml"));
  assert.deepEqual(Object.keys(stackFile.config).sort(), ["aws:region", ...Object.keys(config)]);

  const { properties, options } = resources.access;
  assert.equal(properties.serviceAccounts, reference("serviceAccounts"));
  await assertValid({ ...properties, serviceAccounts: stackFile.config.serviceAccounts });
  assert.deepEqual(options, { providers: [reference("kubernetes")] });

  const known = ["pulumi", ...Object.keys({ ...config, ...resources, ...variables })];
  for (const [, name = ""] of EXISTING.matchAll(/\$\{(\w+)/g)) assert.ok(known.includes(name), name);
});

test("the program in Python has the arguments of the one in YAML", () => {
  const call = /\.PulumiCloudAccess\(\n(.*?)^ {4}#/ms.exec(PYTHON)?.[1] ?? assert.fail();
  const inPython = [...call.matchAll(/(\w+)=(?:"(.*?)"|\w+\.(TokenType|AwsRole)\.(\w+))?/g)];
  assert.deepEqual(
    inPython.map(([, key, text, type, member]) => [key, text ?? (type && `${type}.${member}`)]),
    keysOf(parse(YAML).resources.access.properties),
  );
  assertOutputsExist(PYTHON, snakeCase);
});

test("the program in Python is Python", (t) => {
  const { error, status, stderr } = spawnSync("python3", ["-c", "import ast; ast.parse(open(0).read())"], {
    input: PYTHON,
  });
  if (error) return t.skip("python3 is not on PATH");
  assert.equal(status, 0, String(stderr));
});

/** Returns a reference as YAML programs write it. */
function reference(code: string): string {
  return `\${${code}}`;
}

/** Requires that the component would accept the arguments of a program in YAML, which has the Kubernetes provider. */
async function assertValid(args: object): Promise<void> {
  const message =
    /\(1 problem\).*\n {2}providers: this resource option must contain the Kubernetes provider/s;
  await assert.rejects(checkOutputs("access", withOutputs(args) as PulumiCloudAccessArgs), { message });
}

/** Returns a copy in which strings of YAML that refer to something are outputs, which a preview may not know. */
function withOutputs(value: unknown): unknown {
  if (typeof value === "string" && value.startsWith("${")) return pulumi.output(unknown);
  if (Array.isArray(value)) return value.map(withOutputs);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, element]) => [key, withOutputs(element)]));
}

/** Requires that the properties of `serviceAccounts[…]` exist that a program reads. */
function assertOutputsExist(program: string, nameOf: (name: string) => string): void {
  const known = declarationsOf("ServiceAccountAccess").map(({ name }) => nameOf(name));
  const reads = [...program.matchAll(/access\.(\w+)\["team-a\/deployer"\]\.(\w+)/g)];
  assert.ok(reads.length > 0);
  for (const [text, output, name = ""] of reads) {
    assert.ok(output === nameOf("serviceAccounts") && known.includes(name), text);
  }
}

/** Returns the keys of arguments in YAML in their order, each with its value as Python writes it, unless that refers to something. */
function keysOf(args: object): [key: string, value: string | undefined][] {
  return Object.entries(args).flatMap(([key, value]) => {
    if (Array.isArray(value)) return [[snakeCase(key), undefined], ...value.flatMap(keysOf)];
    if (value.startsWith("${")) return [[snakeCase(key), undefined]];
    const isEnumeration = key === "tokenType" || key === "awsRole";
    const type = key.replace(/^./, (first) => first.toUpperCase());
    return [[snakeCase(key), isEnumeration ? `${type}.${value.toUpperCase()}` : value]];
  });
}

function snakeCase(name: string): string {
  return name.replaceAll(/(?<=[a-z])[A-Z]/g, (letter) => `_${letter}`).toLowerCase();
}
