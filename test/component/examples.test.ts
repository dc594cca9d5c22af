// The programs in examples/component/ have the arguments that the schema describes. docs/component.md prints one of them.
// The one in TypeScript is deployed in package.engine.test.ts.

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

test("docs/component.md prints examples/component/typescript/index.ts", () => {
  const [block] = codeIn(read("docs/component.md"), "typescript");
  assert.equal(block, read("examples/component/typescript/index.ts"));
});

test("the program in YAML has valid arguments, and reads an output that exists", async () => {
  const schema = await generatedSchema();
  const program = parse(read("examples/component/yaml/Pulumi.yaml"));
  const { type, properties, options } = program.resources.access;
  assert.equal(type, "eks-pulumi-oidc:PulumiCloudAccess");
  assert.deepEqual(
    problemsOf(argumentsOf(schema), expressionsIn(properties) as object, schema, "access"),
    [],
  );
  assert.deepEqual(options, {
    providers: [reference("kubernetes-provider")],
    dependsOn: [reference("namespace")],
  });
  assert.deepEqual(
    unknownOutputs(read("examples/component/yaml/Pulumi.yaml"), schema, (name) => name),
    [],
  );
});

const python = pythonMissing();
test("the program in Python has valid arguments, those of the one in YAML", { skip: python }, async () => {
  const schema = await generatedSchema();
  const call = pythonArguments("examples/component/python/__main__.py");
  const args = fromPython(call, argumentsOf(schema), schema) as Record<string, unknown>;
  assert.deepEqual(problemsOf(argumentsOf(schema), args, schema, "access"), []);
  assert.deepEqual(unknownOutputs(read("examples/component/python/__main__.py"), schema, snakeCase), []);

  const { properties } = parse(read("examples/component/yaml/Pulumi.yaml")).resources.access;
  assert.deepEqual(Object.keys(args).sort(), Object.keys(properties).sort());
  assert.deepEqual(withoutCode(args.serviceAccounts), withoutCode(expressionsIn(properties.serviceAccounts)));
});

test("an argument that the schema does not have is a problem, as are a missing one, an unknown value, and an output", async () => {
  const schema = await generatedSchema();
  const entry = { namespace: "a", name: "b", tokenType: "teams", team_name: "c" };
  const args = {
    issuerUrl: "https://a",
    issuerName: new Expression(reference("cluster.name")),
    maxExpirationSeconds: new Expression(reference("cluster.seconds")),
    serviceAccounts: [entry],
  };
  assert.deepEqual(problemsOf(argumentsOf(schema), args, schema, "access"), [
    "access.organization is missing",
    "access.maxExpirationSeconds must be a plain value",
    "access.serviceAccounts[0].team_name is unknown",
    "access.serviceAccounts[0].tokenType: teams is not one of personal, organization, team, runner",
  ]);
});

interface Properties {
  properties: Record<string, Property>;
  required: string[];
}

function argumentsOf({ resources }: Schema): Properties {
  const { inputProperties, requiredInputs } = resources[`${NAME}:PulumiCloudAccess`] ?? assert.fail();
  return { properties: inputProperties, required: requiredInputs };
}

/** Returns what is wrong with an object. */
function problemsOf(
  { properties, required }: Properties,
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
  const { items } = property;
  if (items) {
    if (!Array.isArray(value)) return [`${path} must be a list`];
    return value.flatMap((element, index) => problemsOfValue(items, element, schema, `${path}[${index}]`));
  }
  const type = typeOf(property, schema);
  if (type?.enum) {
    const values = type.enum.map((member) => member.value);
    return values.includes(String(value)) ? [] : [`${path}: ${value} is not one of ${values.join(", ")}`];
  }
  if (type?.properties) {
    const { properties, required = [] } = type;
    return problemsOf({ properties, required }, Object(value), schema, path);
  }
  return typeof value === property.type ? [] : [`${path} must be a ${property.type}`];
}

/** Returns a reference as YAML programs write it. */
function reference(code: string): string {
  return `\${${code}}`;
}

function typeOf({ $ref = "" }: Property, { types }: Schema) {
  return types[$ref.replace("#/types/", "")];
}

/** Returns a copy in which all expressions are the same, in every language. */
function withoutCode(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value, (key, element) => (key === "code" ? "" : element)));
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

// Prints the keywords of the call of PulumiCloudAccess: literals, lists, and calls with keywords; any other expression as
// {"code": …}.
const READ_ARGUMENTS = `
import ast, json, sys

def value(node):
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.List):
        return [value(element) for element in node.elts]
    if isinstance(node, ast.Call) and node.keywords:
        return {keyword.arg: value(keyword.value) for keyword in node.keywords if keyword.arg != "opts"}
    return {"code": ast.unparse(node)}

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

function pythonArguments(file: string): object {
  const calls = JSON.parse(
    execFileSync("python3", ["-c", READ_ARGUMENTS, join(ROOT, file)], { encoding: "utf8" }),
  );
  assert.equal(calls.length, 1);
  return calls[0];
}

/** Returns arguments by the names and with the values of the schema. */
function fromPython(value: unknown, { properties }: Properties, schema: Schema): unknown {
  const entries = Object.entries(Object(value)).map(([snake, element]) => {
    const name = Object.keys(properties).find((key) => snakeCase(key) === snake) ?? snake;
    return [name, valueFromPython(element, properties[name], schema)];
  });
  return Object.fromEntries(entries);
}

function valueFromPython(value: unknown, property: Property | undefined, schema: Schema): unknown {
  if (!property || typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map((element) => valueFromPython(element, property.items, schema));

  const type = typeOf(property, schema);
  const code = "code" in value ? String(value.code) : undefined;
  if (code && type?.enum) {
    const [, typeName, member] = /\.(\w+)\.(\w+)$/.exec(code) ?? [];
    const found = type.enum.find(({ name }) => snakeCase(name).toUpperCase() === member);
    return property.$ref?.endsWith(`:${typeName}`) ? (found?.value ?? code) : code;
  }
  if (code) return new Expression(code);
  return fromPython(value, { properties: type?.properties ?? {}, required: [] }, schema);
}

function snakeCase(name: string): string {
  return name.replaceAll(/(?<=[a-z])[A-Z]/g, (letter) => `_${letter}`).toLowerCase();
}
