// JSON Schemas of stack files, for editors: what the program's schemas check of each setting, with the descriptions of the
// interfaces. They do not check rules between settings, what a function checks, JSON in a string, and names with another
// project in front.

import assert from "node:assert/strict";
import { toJsonSchema } from "@valibot/to-json-schema";
import * as v from "valibot";
import { awsSchema, clusterEntries } from "../../cluster";
import { pulumiCloudSchema } from "../../config";
import { accessEntries } from "../../settings/access";
import { TOKEN_TYPES, userLogin } from "../../settings/tokenTypes";
import { STACK_FILE_KEYS } from "../../simulator/stackFile";
import { declarationsOf, meaningAndDefault } from "./declarations";

/** A JSON Schema, as far as this module reads it. */
interface Schema {
  type?: string | string[];
  pattern?: string;
  enum?: unknown[];
  properties?: Record<string, Schema>;
  items?: Schema;
  allOf?: Schema[];
  [keyword: string]: unknown;
}

/** Returns the schema of the stack's file as JSON. */
export function stackSchema(): string {
  const entries = { ...clusterEntries, userLogin: v.optional(userLogin), ...accessEntries };
  const settings = settingsOf(v.object(entries), ["ClusterSettings", "UserSettings", "AccessSettings"]);
  const account = settings.serviceAccounts?.items ?? assert.fail();
  const types = Object.entries(TOKEN_TYPES).filter(([, { requires }]) => requires.length > 0);
  account.allOf = types.map(([tokenType, { requires }]) => ({
    if: { properties: { tokenType: { const: tokenType } }, required: ["tokenType"] },
    // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema.
    then: { required: requires },
  }));

  const ofProviders = { ...convert(awsSchema).properties, ...convert(pulumiCloudSchema).properties };
  for (const [key, setting] of Object.entries(ofProviders)) {
    settings[key] = setting.type ? asText(setting) : setting;
  }
  return fileSchema("eks-pulumi-oidc", settings);
}

/** Returns the schemas of a project's settings, which these interfaces declare, by their names. */
export function settingsOf(schema: v.GenericSchema, interfaces: string[]): Record<string, Schema> {
  return propertiesOf(convert(schema), interfaces, asText);
}

/** Valibot's `never`. */
const NEVER = { not: {} };

/** An object without an encrypted value at any depth. */
const PLAINTEXT = { $ref: "#/definitions/plaintext" };

/** Returns the schema of a stack file as JSON. The name of the project can be in front of each of its settings. */
export function fileSchema(project: string, properties: Record<string, Schema>): string {
  const names = Object.keys(properties).filter((name) => !name.includes(":"));
  const patternProperties: Record<string, Schema> = {};
  for (const name of names) {
    patternProperties[`^[^:]+:${name}$`] = { $ref: `#/properties/config/properties/${name}` };
  }
  patternProperties[`^${project}:(?!(${names.join("|")})$)`] = NEVER;
  // Of another provider, or of a project with another name.
  patternProperties[":"] = {};

  const description =
    "The settings of the stack. The name of the project can be in front, as in `PROJECT:KEY`.";
  const config = { description, type: "object", properties, patternProperties, additionalProperties: NEVER };
  const schema = {
    $schema: "http://json-schema.org/draft-07/schema#",
    type: "object",
    properties: { ...Object.fromEntries(STACK_FILE_KEYS.map((key) => [key, {}])), config },
    additionalProperties: NEVER,
    definitions: {
      plaintext: { properties: { secure: NEVER }, additionalProperties: PLAINTEXT, items: PLAINTEXT },
    },
  };
  // Editors do not offer a key whose schema is false.
  return `${JSON.stringify(schema, (_, value) => (value?.not ? false : value), 2)}\n`;
}

/**
 * Returns the schemas of settings by their names, with their descriptions.
 *
 * @param schema of an object with these settings.
 * @param interfaces that declare them.
 * @param place what else is valid where they are.
 */
function propertiesOf(
  schema: Schema,
  interfaces: string[],
  place = (setting: Schema) => setting,
): Record<string, Schema> {
  const declarations = interfaces.flatMap(declarationsOf);
  const properties = declarations.map(({ name, type, required, comment }) => {
    const setting = schema.properties?.[name] ?? assert.fail(`no schema of ${name}`);
    const element = /^([A-Z]\w+)\[\]$/.exec(type)?.[1];
    if (element && setting.items) {
      const elements = propertiesOf(setting.items, [element]);
      setting.items = { ...setting.items, properties: elements, additionalProperties: NEVER };
    }
    if (setting.type === "object") setting.allOf = [PLAINTEXT];
    if (setting.type !== "string") setting.patternErrorMessage = `must have the type ${setting.type}`;

    const isRequired = required && meaningAndDefault(comment)[1] === "";
    const placed = isRequired ? place(setting) : orEmpty(place(setting));
    return [name, { description: comment.replaceAll(/\s+/g, " "), ...placed }];
  });
  return Object.fromEntries(properties);
}

/** How a string begins that the program reads as JSON. */
const JSON_TEXT: Record<string, string> = {
  boolean: "^(true|false)$",
  integer: "^[1-9]\\d*$",
  array: "^\\s*\\[",
  object: "^\\s*\\{",
};

/** The engine passes each value of `config` as a string. The program reads those that are not strings as JSON. */
function asText(setting: Schema): Schema {
  const type = String(setting.type);
  if (type === "string") return { ...setting, type: ["string", "number", "boolean"] };
  return { ...setting, type: [type, "string"], pattern: JSON_TEXT[type] ?? assert.fail(type) };
}

/** In YAML, `null` and `""` count as not given. */
function orEmpty({ type = [], allOf, ...setting }: Schema): Schema {
  const checks = allOf?.map((check) =>
    check.pattern ? { ...check, pattern: `^$|${check.pattern}` } : check,
  );
  const values = setting.enum && { enum: [...setting.enum, null, ""] };
  const pattern = setting.pattern ? `^$|${setting.pattern}` : "^$";
  return {
    type: [...new Set([...[type].flat(), "string", "null"])],
    ...setting,
    ...(values ?? { pattern }),
    ...(checks && { allOf: checks }),
  };
}

/** Returns the JSON Schema of what a schema of Valibot checks last, such as the list in a string of JSON. */
function convert(schema: v.GenericSchema): Schema {
  const { $schema, $defs, ...converted } = toJsonSchema(schema, {
    typeMode: "output",
    // What JSON Schema does not have, such as v.check, is left out.
    errorMode: "ignore",
    overrideAction: ({ valibotAction, jsonSchema }) => {
      if (valibotAction.type !== "regex") return undefined;
      const { requirement, message } = valibotAction as v.RegexAction<string, string>;
      const check = { pattern: requirement.source, patternErrorMessage: message };
      const isFirst = jsonSchema.pattern === check.pattern;
      return isFirst ? { ...jsonSchema, ...check } : { ...jsonSchema, allOf: [check] };
    },
  });
  const definitions = JSON.parse(JSON.stringify({ ...$defs }));
  return JSON.parse(JSON.stringify(converted), (keyword, value) => {
    // Editors would insert every default. The descriptions have them.
    if (keyword === "default") return undefined;
    // Only a definition could have its own description.
    return value?.$ref
      ? { ...value, ...definitions[value.$ref.replace("#/$defs/", "")], $ref: undefined }
      : value;
  });
}
