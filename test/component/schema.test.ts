// The schema of the package says the same as the interfaces of the program.

import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
// What the SDK's host runs. Experimental, until the SDK exports how it generates a package's schema.
import { ComponentProvider, getPulumiComponents } from "@pulumi/pulumi/provider/experimental/provider";
import type { PackageSpec, Property } from "@pulumi/pulumi/provider/experimental/schema";
import ts from "typescript";
import { type Declaration, declarationsOf } from "../support/declarations";
import { ROOT } from "../support/project";

const PACKAGE = "eks-pulumi-oidc";
const NAME = `${PACKAGE}:index`;
const COMPONENT = join(ROOT, "component");

/** The schema from which Pulumi generates the SDKs of the package. */
const schema = new ComponentProvider({
  name: PACKAGE,
  dirname: COMPONENT,
  components: getPulumiComponents(require("../../component/index.ts")),
})
  .getSchema()
  .then((text): PackageSpec => JSON.parse(text));

test("the schema has every argument, with the description, the type, and the necessity of its interface", async () => {
  const { resources, types } = await schema;
  const { inputProperties, requiredInputs } = resources[`${NAME}:PulumiCloudAccess`] ?? {};
  assert.deepEqual(shapeOf(inputProperties, requiredInputs), byName(declarationsOf("PulumiCloudAccessArgs")));
  for (const name of ["ServiceAccount", "ServiceAccountOutputs"]) {
    const { properties, required } = types[`${NAME}:${name}`] ?? {};
    assert.deepEqual(shapeOf(properties, required), byName(declarationsOf(name)), name);
  }
});

test("Pulumi's analyzer reads no types of a provider", () => {
  // With those, it takes 8 seconds and 800 MB, in every preview.
  const { config } = ts.readConfigFile(join(COMPONENT, "tsconfig.json"), ts.sys.readFile);
  const { fileNames, options } = ts.parseJsonConfigFileContent(config, ts.sys, COMPONENT);
  const files = ts.createProgram(fileNames, options).getSourceFiles();
  const fromPackages = files.map(({ fileName }) => /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(fileName)?.[1]);
  assert.deepEqual([...new Set(fromPackages)].filter(Boolean).sort(), ["@pulumi/pulumi", "typescript"]);
});

/** Returns the properties of a type in the schema as their interface would declare them. */
function shapeOf(properties: Record<string, Property> = {}, required: string[] = []): Declaration[] {
  const shapes = Object.entries(properties).map(([name, property]) => {
    const { description: comment = "" } = property;
    return { name, type: typeOf(property), required: required.includes(name), comment };
  });
  return byName(shapes);
}

function typeOf(property: Property): string {
  const { items, additionalProperties } = property;
  if (items) return `${typeOf(items)}[]`;
  if (additionalProperties) return `Record<string, ${typeOf(additionalProperties)}>`;
  if ("type" in property) return property.type;
  return property.$ref === "pulumi.json#/Any" ? "any" : (property.$ref.split(":").at(-1) ?? "");
}

function byName(shapes: Declaration[]): Declaration[] {
  return shapes.toSorted((a, b) => (a.name < b.name ? -1 : 1));
}
