// Writes what is generated from the code: `npm run docs`. In docs/, these are the tables of settings and outputs, whose
// interfaces a comment above each names, and the promises of the policy pack. Editors read the schema of stack files.

import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { stackSchema } from "./stackFileSchema";
import { declarationsOf, meaningAndDefault } from "./support/declarations";
import { ROOT, read } from "./support/project";

const GENERATED = /(<!-- generated from ([\w, ]+) -->\n).*?(<!-- end -->)/gs;

const GENERATED_RULES = /(<!-- generated from the (mandatory|advisory) rules -->\n).*?(<!-- end -->)/gs;

// A copy can be without the component, and without the policy pack.
const exists = (file: string) => existsSync(join(ROOT, file));
const write = (file: string, content: string) => writeFileSync(join(ROOT, file), content);

for (const page of ["docs/configuration.md", "docs/component.md"].filter(exists)) {
  const text = read(page).replaceAll(GENERATED, (_, start: string, interfaces: string, end: string) => {
    return `${start}\n${tableOf(interfaces.split(", "))}\n${end}`;
  });
  write(page, text);
}
if (exists("docs/policy.md")) {
  const text = read("docs/policy.md").replaceAll(
    GENERATED_RULES,
    (_, start: string, level: string, end: string) => {
      return `${start}\n${listOfRules(level)}\n${end}`;
    },
  );
  write("docs/policy.md", text);
}
write("settings/stack.schema.json", stackSchema());

/** Returns a table of the properties of interfaces, without a column that is empty: outputs have no defaults. */
function tableOf(interfaces: string[]): string {
  const rows = interfaces.flatMap(declarationsOf).map(({ name, type, comment }) => {
    const [meaning, defaultValue] = meaningAndDefault(comment);
    return { name: `\`${name}\``, type: typeOf(type), default: defaultValue, meaning };
  });
  const columns = (["name", "type", "default", "meaning"] as const).filter((column) => {
    return rows.some((row) => row[column] !== "");
  });
  const lines = [columns, columns.map(() => "---"), ...rows.map((row) => columns.map((it) => row[it]))];
  return lines.map((cells) => `| ${cells.join(" | ")} |\n`).join("");
}

/** Returns a list of the promises of the policy pack that have a level. */
function listOfRules(level: string): string {
  const { policies }: typeof import("../policy/index") = require("../policy/index");
  const rules = policies.filter((rule) => rule.level === level);
  return rules.map(({ name, description }) => `- **\`${name}\`**: ${description}\n`).join("");
}

/** Returns a type as the page names it: in YAML, an enumeration is a string, and an interface an object. */
function typeOf(type: string): string {
  if (type.endsWith("[]")) return `list of ${typeOf(type.slice(0, -2))}s`;
  if (/^(TokenType|AwsRole)$/.test(type)) return "string";
  if (/^([A-Z]|any$)/.test(type)) return "object";
  return type === "number" ? "integer" : type;
}
