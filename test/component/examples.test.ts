// The programs in examples/component/ have arguments that the component accepts. Those in TypeScript are deployed in
// package.engine.test.ts.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";
import * as pulumi from "@pulumi/pulumi";
import { unknown } from "@pulumi/pulumi/output";
import { parse } from "yaml";
import { checkOutputs, type PulumiCloudAccessArgs } from "../../pulumiCloudAccess";
import { declarationsOf } from "../support/declarations";
import { codeIn, ROOT, read } from "../support/project";

test("the pages print lines of the programs in TypeScript", () => {
  const printed = { "docs/component.md": "typescript", "docs/many-clusters.md": "many-clusters" };
  for (const [page, directory] of Object.entries(printed)) {
    const [block = assert.fail(page)] = codeIn(read(page), "typescript");
    assert.ok(read(`examples/component/${directory}/index.ts`).includes(block), page);
  }
});

test("in every program, only another cluster replaces what is on it", () => {
  const programs = [
    "typescript/index.ts",
    "many-clusters/index.ts",
    "python/__main__.py",
    "yaml/Pulumi.yaml",
  ];
  const files = [...programs, "existing-cluster/Pulumi.yaml"].map((file) =>
    read(`examples/component/${file}`),
  );
  for (const program of [...files, ...codeIn(read("docs/other-clusters.md"), "typescript")]) {
    assert.match(program, /\bcluster_?identifier\b/i);
  }
});

test("the program in YAML has valid arguments, and reads outputs that exist", async () => {
  const { type, properties, options } = programInYaml("yaml").resources.access;
  assert.equal(type, "eks-pulumi-oidc:PulumiCloudAccess");
  await assertValid(properties);
  assert.deepEqual(options.dependsOn, [reference("namespace")]);
  assert.deepEqual(
    unknownOutputs(read("examples/component/yaml/Pulumi.yaml"), (name) => name),
    [],
  );
});

test("the program for an existing cluster has valid arguments, with the list of its stack file", async () => {
  const { config, resources, variables } = programInYaml("existing-cluster");
  // The engine rejects any other list, and the component the entries that are not valid.
  assert.deepEqual(config.serviceAccounts, { type: "array", items: { type: "object" } });
  const stackFile = parse(read("examples/component/existing-cluster/Pulumi.dev.yaml"));
  assert.deepEqual(Object.keys(stackFile.config).sort(), ["aws:region", ...Object.keys(config)]);

  const { properties, options } = resources.access;
  assert.equal(properties.serviceAccounts, reference("serviceAccounts"));
  await assertValid({ ...properties, serviceAccounts: stackFile.config.serviceAccounts });
  assert.deepEqual(options, { providers: [reference("kubernetes")] });

  const known = ["pulumi", ...Object.keys({ ...config, ...resources, ...variables })];
  const text = read("examples/component/existing-cluster/Pulumi.yaml");
  const used = [...text.matchAll(/\$\{(\w+)/g)].map(([, name = ""]) => name);
  assert.deepEqual(
    used.filter((name) => !known.includes(name)),
    [],
  );
});

const python = pythonMissing();
test("the program in Python has the arguments of the one in YAML", { skip: python }, () => {
  const file = "examples/component/python/__main__.py";
  const { properties } = programInYaml("yaml").resources.access;
  assert.deepEqual(pythonArguments(file), [asInPython(properties)]);
  assert.deepEqual(unknownOutputs(read(file), snakeCase), []);
});

function programInYaml(directory: string) {
  return parse(read(`examples/component/${directory}/Pulumi.yaml`));
}

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

/** Returns the properties of `serviceAccounts[…]` that a program reads, and that do not exist. */
function unknownOutputs(program: string, nameOf: (name: string) => string): string[] {
  const known = declarationsOf("ServiceAccountAccess").map(({ name }) => nameOf(name));
  const read = [...program.matchAll(/access\.(\w+)\["team-a\/deployer"\]\.(\w+)/g)];
  assert.ok(read.length > 0);
  const isKnown = ([, output = "", name = ""]: string[]) =>
    output === nameOf("serviceAccounts") && known.includes(name);
  return read.filter((found) => !isKnown(found)).map(([text]) => text);
}

// Prints the keywords of each call of PulumiCloudAccess: literals, lists, calls with keywords, members of enumerations as
// "Type.MEMBER", and any other expression as "…".
const READ_ARGUMENTS = `
import ast, json, sys

def value(node):
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.List):
        return [value(element) for element in node.elts]
    if isinstance(node, ast.Call) and node.keywords:
        return {keyword.arg: value(keyword.value) for keyword in node.keywords if keyword.arg != "opts"}
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute):
        return f"{node.value.attr}.{node.attr}"
    return "…"

program = ast.parse(open(sys.argv[1]).read())
calls = [node for node in ast.walk(program) if isinstance(node, ast.Call)]
print(json.dumps([value(call) for call in calls if ast.unparse(call.func).endswith(".PulumiCloudAccess")]))
`;

function pythonMissing(): string | false {
  try {
    execFileSync("python3", ["-c", "import ast; ast.unparse"]);
    return false;
  } catch {
    return "python3 3.9 or later is not on PATH";
  }
}

function pythonArguments(file: string): unknown {
  return JSON.parse(execFileSync("python3", ["-c", READ_ARGUMENTS, join(ROOT, file)], { encoding: "utf8" }));
}

/** Returns arguments of YAML as `READ_ARGUMENTS` prints those of Python. */
function asInPython(value: unknown, name = ""): unknown {
  if (typeof value === "string" && value.startsWith("${")) return "…";
  if (name === "tokenType" || name === "awsRole") {
    return `${name.replace(/^./, (first) => first.toUpperCase())}.${String(value).toUpperCase()}`;
  }
  if (Array.isArray(value)) return value.map((element) => asInPython(element));
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value);
  return Object.fromEntries(entries.map(([key, element]) => [snakeCase(key), asInPython(element, key)]));
}

function snakeCase(name: string): string {
  return name.replaceAll(/(?<=[a-z])[A-Z]/g, (letter) => `_${letter}`).toLowerCase();
}
