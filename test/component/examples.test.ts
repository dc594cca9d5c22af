// The programs in examples/component/ have the arguments that the schema describes. Those in TypeScript are deployed in
// package.engine.test.ts.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";
import { parse } from "yaml";
import { codeIn, ROOT, read } from "../support/project";
import { generatedSchema, type Property, type Schema } from "./plugin";

const NAME = "eks-pulumi-oidc:index";

/** An expression in the language of the program, such as an output. */
class Expression {
  constructor(readonly code: string) {}
}

test("the pages print lines of the programs in TypeScript", () => {
  const printed = { "docs/component.md": "typescript", "docs/many-clusters.md": "many-clusters" };
  for (const [page, directory] of Object.entries(printed)) {
    const [block = assert.fail(page)] = codeIn(read(page), "typescript");
    assert.ok(read(`examples/component/${directory}/index.ts`).includes(block), page);
  }
});

test("the program in YAML has valid arguments, and reads outputs that exist", async () => {
  const schema = await generatedSchema();
  const { access } = programInYaml("yaml").resources;
  assert.equal(access.type, "eks-pulumi-oidc:PulumiCloudAccess");
  assert.deepEqual(problemsOfArguments(access.properties, schema), []);
  assert.deepEqual(access.options.dependsOn, [reference("namespace")]);
  assert.deepEqual(
    unknownOutputs(read("examples/component/yaml/Pulumi.yaml"), schema, (name) => name),
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
  const { serviceAccounts } = stackFile.config;
  assert.deepEqual(problemsOfArguments({ ...properties, serviceAccounts }, await generatedSchema()), []);
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
test("the program in Python has the arguments of the one in YAML", { skip: python }, async () => {
  const file = "examples/component/python/__main__.py";
  const { properties } = programInYaml("yaml").resources.access;
  assert.deepEqual(pythonArguments(file), [asInPython(properties)]);
  assert.deepEqual(unknownOutputs(read(file), await generatedSchema(), snakeCase), []);
});

test("an argument that the schema does not have is a problem, as are a missing one, an unknown value, and an output", async () => {
  const entry = { namespace: "a", name: "b", tokenType: "teams", team_name: "c" };
  const args = {
    issuerUrl: "https://a",
    issuerName: reference("cluster.name"),
    maxExpirationSeconds: reference("cluster.seconds"),
    serviceAccounts: [entry],
  };
  assert.deepEqual(problemsOfArguments(args, await generatedSchema()), [
    "access.organization is missing",
    "access.maxExpirationSeconds must be a plain value",
    "access.serviceAccounts[0].team_name is unknown",
    "access.serviceAccounts[0].tokenType: teams is not one of personal, organization, team, runner",
  ]);
});

function programInYaml(directory: string) {
  return parse(read(`examples/component/${directory}/Pulumi.yaml`));
}

/** Returns a reference as YAML programs write it. */
function reference(code: string): string {
  return `\${${code}}`;
}

/** Returns what is wrong with the arguments of a program in YAML. */
function problemsOfArguments(args: object, schema: Schema): string[] {
  const { inputProperties, requiredInputs } = schema.resources[`${NAME}:PulumiCloudAccess`] ?? assert.fail();
  return problemsOf(inputProperties, requiredInputs, expressionsIn(args) as object, schema, "access");
}

function problemsOf(
  properties: Record<string, Property>,
  required: string[],
  values: object,
  schema: Schema,
  path: string,
): string[] {
  const missing = required
    .filter((name) => !Object.hasOwn(values, name))
    .map((name) => `${path}.${name} is missing`);
  const wrong = Object.entries(values).flatMap(([name, value]) => {
    const property = properties[name];
    return property
      ? problemsOfValue(property, value, schema, `${path}.${name}`)
      : [`${path}.${name} is unknown`];
  });
  return [...missing, ...wrong.sort()];
}

function problemsOfValue(property: Property, value: unknown, schema: Schema, path: string): string[] {
  if (value instanceof Expression) {
    return property.plain ? [`${path} must be a plain value`] : [];
  }
  const { items, $ref = "" } = property;
  if (items) {
    if (!Array.isArray(value)) return [`${path} must be a list`];
    return value.flatMap((element, index) => problemsOfValue(items, element, schema, `${path}[${index}]`));
  }
  const type = schema.types[$ref.replace("#/types/", "")];
  if (type?.enum) {
    const values = type.enum.map((member) => member.value);
    return values.includes(String(value)) ? [] : [`${path}: ${value} is not one of ${values.join(", ")}`];
  }
  if (type?.properties) {
    return problemsOf(type.properties, type.required ?? [], Object(value), schema, path);
  }
  return typeof value === property.type ? [] : [`${path} must be a ${property.type}`];
}

/** Returns a copy in which strings of YAML that refer to something are expressions. */
function expressionsIn(value: unknown): unknown {
  if (typeof value === "string" && value.startsWith("${")) return new Expression(value);
  if (Array.isArray(value)) return value.map(expressionsIn);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, element]) => [key, expressionsIn(element)]));
}

/** Returns the properties of `serviceAccounts[…]` that a program reads, and that do not exist. */
function unknownOutputs(program: string, { types }: Schema, nameOf: (name: string) => string): string[] {
  const known = Object.keys(types[`${NAME}:ServiceAccountAccess`]?.properties ?? {}).map(nameOf);
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
