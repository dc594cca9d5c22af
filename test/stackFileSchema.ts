// The JSON Schema of stack files, for editors: what the schema of each setting checks by itself, with the descriptions of the
// interfaces. The program checks the rest.

import { toJsonSchema } from "@valibot/to-json-schema";
import * as v from "valibot";
import { settingsEntries } from "../settings/access";
import { clusterEntries } from "../settings/cluster";
import { declarationsOf } from "./support/declarations";

/** A JSON Schema, as far as this module reads it. */
interface Schema {
  properties?: Record<string, Schema>;
  items?: Schema;
  [keyword: string]: unknown;
}

/** Returns the schema of a stack file as JSON. */
export function stackSchema(): string {
  const entries = v.object({ ...clusterEntries, ...settingsEntries });
  const converted = toJsonSchema(entries, { typeMode: "output", errorMode: "ignore" });
  const { $schema, properties }: Schema = JSON.parse(
    JSON.stringify(converted, (key, value) => {
      // Editors would insert every default. The descriptions have them.
      if (key === "default") return undefined;
      // A schema that depends on the value is a reference.
      const id = /(?<=^#\/\$defs\/)\w+$/.exec(value?.$ref)?.[0];
      return id ? converted.$defs?.[id] : value;
    }),
  );
  // A name with a colon is that of another package, or has the name of the project in front.
  const settings = described({ properties }, ["ClusterSettings", "Settings"]);
  const config = { ...settings, patternProperties: { ":": {} } };
  return JSON.stringify({ $schema, properties: { config } }, null, 2);
}

/** Returns the schema of an object, with the descriptions of its settings. It accepts no other settings. */
function described({ properties = {}, ...schema }: Schema, interfaces: string[]): Schema {
  const settings = interfaces.flatMap(declarationsOf).map(({ name, type, comment }) => {
    const setting = { ...properties[name] };
    const [element] = /^[A-Z]\w+(?=\[\]$)/.exec(type) ?? [];
    if (element && setting.items) setting.items = described(setting.items, [element]);
    const description = comment.replaceAll(/\s+/g, " ");
    if (setting.type === "string") return [name, { description, anyOf: [setting] }];
    // `pulumi config set` writes lists and flags as strings.
    return [name, { description, anyOf: [setting, { type: ["string", "null"] }] }];
  });
  return { ...schema, type: "object", properties: Object.fromEntries(settings), additionalProperties: false };
}
