// Writes what is generated from the code: `npm run docs`. In docs/, these are the tables of settings, outputs, and token types;
// a comment above each names its interfaces, or the list in settings/tokenTypes.ts. Editors read the schemas of stack files.

import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { TOKEN_TYPES } from "../settings/tokenTypes";
import { type Declaration, declarationsOf, meaningAndDefault } from "./support/declarations";
import { ROOT, read } from "./support/project";
import { stackSchema } from "./support/stackFileSchema";

/** How the page names the types that are not the same in YAML. */
const TYPES: Record<string, string> = {
  number: "integer",
  ServiceAccount: "object",
  any: "object",
  TokenType: "string",
  AwsRole: "string",
};

// A copy can be without the component, and without the pipeline.
for (const page of ["docs/configuration.md", "docs/component.md"].filter((it) =>
  existsSync(join(ROOT, it)),
)) {
  const text = read(page).replaceAll(
    /(<!-- generated from ([\w, ]+) -->\n).*?(<!-- end -->)/gs,
    (_, start: string, source: string, end: string) => {
      const rows = source === "TOKEN_TYPES" ? tokenTypes() : properties(source.split(", "));
      return `${start}\n${tableOf(rows)}\n${end}`;
    },
  );
  writeFileSync(join(ROOT, page), text);
}

writeFileSync(join(ROOT, "settings", "stack.schema.json"), stackSchema());
if (existsSync(join(ROOT, "pipeline"))) {
  const { pipelineSchema } = require("./pipeline/stackFileSchema");
  writeFileSync(join(ROOT, "pipeline", "stack.schema.json"), pipelineSchema());
}

/** The cells of a row, by the names of their columns. */
type Row = Record<string, string>;

function properties(interfaces: string[]): Row[] {
  return interfaces.flatMap(declarationsOf).map(({ name, type, comment }: Declaration) => {
    const [meaning, defaultValue] = meaningAndDefault(comment);
    return { name: `\`${name}\``, type: typeOf(type), default: defaultValue, meaning };
  });
}

function tokenTypes(): Row[] {
  const names = (settings: string[]) => settings.map((name) => `\`${name}\``).join(", ");
  return Object.entries(TOKEN_TYPES).map(([tokenType, { requires, accepts, defaultCommand, edition }]) => ({
    "`tokenType`": `\`${tokenType}\``,
    requires: names(requires),
    "also accepts": names(accepts),
    "default `command`": `\`${JSON.stringify(defaultCommand)}\``,
    "edition of Pulumi Cloud (formerly)": edition,
  }));
}

/** Returns a table without the columns that are empty in every row. */
function tableOf(rows: Row[]): string {
  const columns = Object.keys(rows[0] ?? {}).filter((column) => rows.some((row) => row[column] !== ""));
  const lines = [columns, columns.map(() => "---"), ...rows.map((row) => columns.map((it) => row[it]))];
  return lines.map((cells) => `| ${cells.join(" | ")} |\n`).join("");
}

function typeOf(type: string): string {
  if (type.endsWith("[]")) return `list of ${typeOf(type.slice(0, -2))}s`;
  if (type.startsWith("Record<")) return "object";
  return TYPES[type] ?? type;
}
