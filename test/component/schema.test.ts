// The schema of the package says the same as the interfaces of the program.

import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { Analyzer } from "@pulumi/pulumi/provider/experimental/analyzer";
import ts from "typescript";
import { type Declaration, declarationsOf } from "../support/declarations";
import { ROOT } from "../support/project";
import { generatedSchema, type Property, packageManifest } from "./plugin";

const NAME = "eks-pulumi-oidc:index";

test("the schema has every argument, with the description, the type, and the necessity of its interface", async () => {
  const { resources, types } = await generatedSchema();
  const component = resources[`${NAME}:PulumiCloudAccess`] ?? assert.fail();
  const args = declarationsOf("PulumiCloudAccessArgs");
  assert.deepEqual(shapeOf(component.inputProperties, component.requiredInputs), byName(args));

  for (const name of ["ServiceAccount", "ServiceAccountAccess"]) {
    const { properties = {}, required = [] } = types[`${NAME}:${name}`] ?? assert.fail(name);
    assert.deepEqual(shapeOf(properties, required), byName(declarationsOf(name)), name);
  }
});

test("the schema has the outputs of the component, and no other property of it", async () => {
  const { properties, description } =
    (await generatedSchema()).resources[`${NAME}:PulumiCloudAccess`] ?? assert.fail();
  assert.deepEqual(Object.keys(properties).sort(), ["oidcIssuerId", "serviceAccounts"]);
  for (const { description } of Object.values(properties)) assert.match(description ?? "", /^\w.*\.$/);
  assert.match(description ?? "", /^Lets the service accounts/);
  assert.equal(
    properties.serviceAccounts?.additionalProperties?.$ref,
    `#/types/${NAME}:ServiceAccountAccess`,
  );
});

test("the schema has an enumeration for each type of token and of role, with a description for each value", async () => {
  const { types } = await generatedSchema();
  const values = (name: string) =>
    (types[`${NAME}:${name}`]?.enum ?? assert.fail(name)).map(({ value }) => value);
  assert.deepEqual(values("TokenType"), ["personal", "organization", "team", "runner"]);
  assert.deepEqual(values("AwsRole"), ["irsa", "pod-identity", "none"]);
  for (const member of Object.values(types).flatMap((type) => type.enum ?? [])) {
    assert.match(member.description ?? "", /\.$/, member.name);
  }
});

/** What names resources, decides which exist, or is not worth it. */
const PLAIN = [
  ...["namespace", "name", "tokenType", "awsRole", "rolePolicyArns", "serviceAccounts", "createNamespaces"],
  ...["organizationAdmin", "audienceRule", "createServiceAccount", "runJob", "injectToken"],
  ...["maxExpirationSeconds", "tokenExpirationSeconds", "jobPodSpec", "command", "pulumiApiUrl"],
  // A plain object, whose values can be outputs.
  "policyRules",
];

test("only jobPodSpec can be anything, and the schema says which arguments are plain", async () => {
  const { resources, types } = await generatedSchema();
  const { inputProperties = {}, properties = {} } = resources[`${NAME}:PulumiCloudAccess`] ?? {};
  const named = Object.entries({ ...inputProperties, ...types[`${NAME}:ServiceAccount`]?.properties });
  assert.deepEqual(
    [...named, ...Object.entries(properties)]
      .filter(([, it]) => JSON.stringify(it).includes("#/Any"))
      .map(([name]) => name),
    ["jobPodSpec"],
  );
  const plain = named.filter(([, property]) => property.plain).map(([name]) => name);
  assert.deepEqual(plain.sort(), PLAIN.toSorted());
  const { policyRules } = types[`${NAME}:ServiceAccount`]?.properties ?? {};
  assert.deepEqual(policyRules?.additionalProperties, { type: "string" });
});

test("Pulumi's analyzer finds a description of every type, and reads no types of a provider", () => {
  const analyzer = new Analyzer(
    join(ROOT, "component"),
    "eks-pulumi-oidc",
    packageManifest(),
    new Set(["PulumiCloudAccess"]),
  );
  const { typeDefinitions } = analyzer.analyze();
  assert.ok(Object.keys(typeDefinitions).length >= 4);
  for (const { name, description } of Object.values(typeDefinitions))
    assert.match(description ?? "", /\.$/, name);

  // With the types of the providers, the analyzer takes 8 seconds and 800 MB, in every preview.
  const config = ts.readConfigFile(join(ROOT, "component", "tsconfig.json"), ts.sys.readFile).config;
  const { fileNames, options } = ts.parseJsonConfigFileContent(config, ts.sys, join(ROOT, "component"));
  const files = ts.createProgram(fileNames, options).getSourceFiles();
  const fromPackages = files.map(({ fileName }) => /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(fileName)?.[1]);
  assert.deepEqual([...new Set(fromPackages)].filter(Boolean).sort(), ["@pulumi/pulumi", "typescript"]);
});

/** Returns the properties of a type in the schema as their interface would declare them. */
function shapeOf(properties: Record<string, Property>, required: string[]): Declaration[] {
  const shapes = Object.entries(properties).map(([name, property]) => {
    const { description: comment = "" } = property;
    return { name, type: typeOf(property), required: required.includes(name), comment };
  });
  return byName(shapes);
}

function typeOf({ type, $ref, items, additionalProperties }: Property): string {
  if ($ref === "pulumi.json#/Any") return "any";
  if ($ref) return $ref.split(":").at(-1) ?? "";
  if (items) return `${typeOf(items)}[]`;
  if (additionalProperties) return `Record<string, ${typeOf(additionalProperties)}>`;
  return String(type);
}

function byName(shapes: Declaration[]): Declaration[] {
  return shapes.toSorted((a, b) => (a.name < b.name ? -1 : 1));
}
