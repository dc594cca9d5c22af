// Writes what is generated from the code: `npm run docs`. In docs/, these are the lists of settings and outputs, whose
// interfaces a comment above each names, and the guardrails of the policy pack. The program of a fleet has all but its settings
// from the one for an existing cluster.

import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { declarationsOf, meaningAndDefault } from "./support/declarations";
import { ROOT, read } from "./support/project";

const GENERATED = /(<!--generated:([\w,]+)-->\n).*?(<!--end-->)/gs;

const GENERATED_RULES =
  /(<!--generated:(mandatory-rules|advisory-rules|rule-settings)-->\n).*?(<!--end-->)/gs;

const EXISTING_CLUSTER = "examples/component/existing-cluster/Pulumi.yaml";
const FLEET = "examples/fleet/cluster/Main.yaml";

/** What both programs have before the arguments of the component, and after them. */
const SHARED = [/^variables:\n.*^ {2}access:\n/ms, /^ {4}options: \{ providers: .*/ms];

/** Returns the generated files by their paths. A copy can be without the component, and without the policy pack. */
export function generatedFiles(): Record<string, string> {
  const files: Record<string, string> = {};
  for (const page of ["docs/configuration.md", "docs/component.md", "docs/policy.md"]) {
    if (!existsSync(join(ROOT, page))) continue;
    files[page] = read(page)
      .replaceAll(GENERATED, (_, start: string, interfaces: string, end: string) => {
        return `${start}\n${listOf(interfaces.split(","))}\n${end}`;
      })
      .replaceAll(GENERATED_RULES, (_, start: string, what: string, end: string) => {
        const table = what === "rule-settings" ? listOfSettings() : listOfRules(what.split("-")[0] ?? "");
        return `${start}\n${table}\n${end}`;
      });
  }
  if (existsSync(join(ROOT, FLEET))) {
    const partOf = (shared: RegExp) => shared.exec(read(EXISTING_CLUSTER))?.[0] ?? "";
    files[FLEET] = SHARED.reduce((text, shared) => text.replace(shared, () => partOf(shared)), read(FLEET));
  }
  return files;
}

if (require.main === module) {
  for (const [path, content] of Object.entries(generatedFiles())) writeFileSync(join(ROOT, path), content);
}

/** Returns a list of the properties of interfaces. Outputs are not required, and have no defaults. */
function listOf(interfaces: string[]): string {
  const items = interfaces.flatMap((interfaceName) => {
    return declarationsOf(interfaceName).map(({ name, type, required, comment }) => {
      const [meaning, defaultValue] = meaningAndDefault(comment);
      const details = [typeOf(type)];
      if (defaultValue !== "") details.push(`default: ${defaultValue}`);
      else if (required && !interfaceName.endsWith("Outputs")) details.push("required");
      return `- **\`${name}\`** (${details.join(", ")}): ${meaning}\n`;
    });
  });
  return items.join("");
}

/** Returns a table of the guardrails of the policy pack that have a level. Their violations link to its lines. */
function listOfRules(level: string): string {
  const { policies }: typeof import("../policy/index") = require("../policy/index");
  const rules = policies.filter((rule) => rule.level === level);
  const rows = rules.map(({ name, description, settings = {} }) => {
    const names = Object.keys(settings).map((setting) => `[\`${setting}\`](#allow-more)`);
    return `| <a id="${name}"></a>\`${name}\` | ${description} | ${names.join(", ")} |\n`;
  });
  return `| guardrail | what is true | settings |\n| --- | --- | --- |\n${rows.join("")}`;
}

/** Returns a table of the settings of the guardrails. */
function listOfSettings(): string {
  const { policies }: typeof import("../policy/index") = require("../policy/index");
  const rows = policies.flatMap(({ name, settings = {} }) => {
    return Object.entries(settings).map(([setting, { default: value, description }]) => {
      return `| \`${name}\` | \`${setting}\` | \`${JSON.stringify(value)}\` | ${description} |\n`;
    });
  });
  return `| guardrail | setting | default | meaning |\n| --- | --- | --- | --- |\n${rows.join("")}`;
}

/** Returns a type as the page names it: in YAML, an enumeration is a string, and an interface an object. */
function typeOf(type: string): string {
  if (type.endsWith("[]")) return `list of ${typeOf(type.slice(0, -2))}s`;
  if (/^(TokenType|AwsRole)$/.test(type)) return "string";
  if (/^([A-Z]|any$)/.test(type)) return "object";
  return type === "number" ? "integer" : type;
}
