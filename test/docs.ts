// Writes the tables of settings and outputs in docs/: `npm run docs`. A comment above each table names its interfaces.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Declaration, declarationsOf, meaningAndDefault } from "./declarations";

const PAGES = ["configuration.md", "component.md"];

/** How the page names the types that are not the same in YAML. */
const TYPES: Record<string, string> = {
  number: "integer",
  ServiceAccount: "object",
  TokenType: "string",
  AwsRole: "string",
};

for (const page of PAGES) {
  const path = join(__dirname, "..", "docs", page);
  const text = readFileSync(path, "utf8").replaceAll(
    /(<!-- generated from ([\w, ]+) -->\n).*?(<!-- end -->)/gs,
    (_, start: string, interfaces: string, end: string) => {
      return `${start}\n${tableOf(interfaces.split(", ").flatMap(declarationsOf))}\n${end}`;
    },
  );
  writeFileSync(path, text);
}

function tableOf(properties: Declaration[]): string {
  const rows = properties.map(({ name, type, comment }) => {
    const [meaning, defaultValue] = meaningAndDefault(comment);
    return { name: `\`${name}\``, type: typeOf(type), default: defaultValue, meaning };
  });
  const columns = (["name", "type", "default", "meaning"] as const).filter((column) => {
    return rows.some((row) => row[column] !== "");
  });

  const lines = [columns, columns.map(() => "---"), ...rows.map((row) => columns.map((it) => row[it]))];
  return lines.map((cells) => `| ${cells.join(" | ")} |\n`).join("");
}

function typeOf(type: string): string {
  if (type.endsWith("[]")) return `list of ${typeOf(type.slice(0, -2))}s`;
  if (type.startsWith("Record<")) return "object";
  return TYPES[type] ?? type;
}
