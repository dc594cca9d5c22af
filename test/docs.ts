// Writes the tables of docs/configuration.md: `npm run docs`. A comment above each table names its interfaces.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Declaration, declarationsOf, meaningAndDefault } from "./declarations";

const PAGE = join(__dirname, "..", "docs", "configuration.md");

/** How the page names the types that are not the same in YAML. */
const TYPES: Record<string, string> = {
  number: "integer",
  ServiceAccount: "object",
  TokenType: "string",
  AwsRole: "string",
};

const page = readFileSync(PAGE, "utf8");
const tables = page.replaceAll(
  /(<!-- generated from ([\w, ]+) -->\n).*?(<!-- end -->)/gs,
  (_, start: string, interfaces: string, end: string) => {
    return `${start}\n${tableOf(interfaces.split(", ").flatMap(declarationsOf))}\n${end}`;
  },
);
writeFileSync(PAGE, tables);

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
