// docs/configuration.md, the documented interfaces, and the defaults of the program say the same.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import ts from "typescript";
import { parse } from "yaml";
import { parseConfig } from "../config";

/** One setting, as its interface documents it, or as a row of the page does. */
interface Setting {
  name: string;
  type: string;
  default: string;
  description: string;
}

const INTERFACES = {
  "The stack": [
    ["cluster.ts", "ClusterSettings"],
    ["config.ts", "UserSettings"],
    ["settings.ts", "AccessSettings"],
  ],
  "An entry of `serviceAccounts`": [
    ["settings.ts", "ServiceAccount"],
    ["accessToken.ts", "TokenSettings"],
  ],
} as const;

for (const [heading, interfaces] of Object.entries(INTERFACES)) {
  test(`docs/configuration.md describes every setting as its interface does: ${heading}`, () => {
    const declared = interfaces.flatMap(([file, name]) => declaredSettings(file, name));
    const described = rowsBelow(read("docs/configuration.md"), heading);
    assert.ok(declared.length > 0);
    assert.deepEqual(byName(described), byName(declared));
  });
}

test("the defaults in the interfaces are those of the program", () => {
  const { cluster, access } = configOf({ clusterName: "CLUSTER_NAME", userLogin: "a" });
  const [{ namespace, name, tokenType, userLogin, ...account } = assert.fail()] = access.serviceAccounts;
  const { serviceAccounts, organization, ...shared } = access;
  const { clusterName, aws, ...created } = cluster;
  const documented = Object.values(INTERFACES).flatMap((interfaces) =>
    interfaces.flatMap(([file, interfaceName]) => declaredSettings(file, interfaceName)),
  );
  for (const [key, value] of Object.entries({ ...account, ...shared, ...created })) {
    const setting = documented.find((it) => it.name === key) ?? assert.fail(key);
    const text = typeof value === "string" ? value : JSON.stringify(value);
    const expected = {
      tokenExpirationSeconds: "maxExpirationSeconds",
      tokenAudience: "urn:pulumi:org:ORGANIZATION",
    }[key];
    assert.equal(setting.default.split("; ")[0], expected ?? text, key);
  }
});

test("the README names the edition of each token type as its doc comment does", () => {
  const members = [...read("accessToken.ts").matchAll(/\/\*\* (.*) \*\/\n +\w+: "(\w+)",/g)];
  assert.equal(members.length, 4);
  const [, section = ""] = read("README.md").split("\n## Which token\n");
  for (const [, comment = "", tokenType = ""] of members) {
    const [, edition, former] = /Requires .*?(\w+) edition, formerly (.*)\./.exec(comment) ?? [];
    const [, , named] = section.split(`\n| \`${tokenType}\` |`)[1]?.split("|", 3) ?? [];
    assert.equal(named?.trim(), edition ? `${edition} (${former})` : "every edition", tokenType);
  }
});

test("the README's complete stack file is valid", () => {
  const [, indented = ""] = /```yaml\n( +config:\n.*?)```/s.exec(read("README.md")) ?? [];
  const { config }: { config: Record<string, unknown> } = parse(indented);
  const texts = Object.entries(config).map(([key, value]): [string, string] => [
    key.includes(":") ? key : `project:${key}`,
    typeof value === "string" ? value : JSON.stringify(value),
  ]);
  const values = Object.fromEntries(texts);
  const { config: parsed, problems } = parseConfig({
    values,
    secretKeys: [],
    project: "project",
    organization: "acme",
  });
  assert.deepEqual(problems, []);
  assert.equal(parsed?.access.serviceAccounts.length, 2);
});

/** Returns the documented properties of an interface. A default stands at the end of the comment. */
function declaredSettings(file: string, name: string): Setting[] {
  const source = ts.createSourceFile(file, read(file), ts.ScriptTarget.Latest, true);
  const found = source.statements.filter(ts.isInterfaceDeclaration).find((it) => it.name.text === name);
  const properties = (found ?? assert.fail(`${file} has no ${name}`)).members.filter(ts.isPropertySignature);
  return properties.map((property) => {
    const comments = ts.getJSDocCommentsAndTags(property).filter(ts.isJSDoc);
    const comment = String(comments[0]?.comment ?? assert.fail(`${name}.${property.name.getText()}`));
    const [description = "", value] = comment.replaceAll(/\s+/g, " ").split(/ Default(?: of a stack)?: /);
    return {
      name: property.name.getText(),
      type: typeOf(property.type?.getText() ?? ""),
      default: value?.replace(/\.$/, "") ?? "",
      description,
    };
  });
}

/** Returns the type as users know it from YAML. */
function typeOf(declared: string): string {
  const type = declared.replaceAll(/pulumi\.Input<(\w+)>/g, "$1");
  if (type === "number") return "integer";
  if (type === "string[]") return "list of strings";
  if (type === "ServiceAccount[]") return "list of objects";
  if (type.startsWith("Record<")) return "object";
  return /^[A-Z]/.test(type) ? "string" : type;
}

/** Returns the rows of all tables between a heading and the next one of its level. */
function rowsBelow(page: string, heading: string): Setting[] {
  const [, section = assert.fail(`no heading ${heading}`)] = page.split(`\n## ${heading}\n`);
  const [own = ""] = section.split("\n## ");
  const rows = own.matchAll(/^\| `(\w+)` \| (.*?) \| (.*?) ?\| (.*) \|$/gm);
  return [...rows].map(([, name = "", type = "", value = "", description = ""]) => {
    return { name, type, default: plain(value), description: plain(description) };
  });
}

function plain(markdown: string): string {
  return markdown.replaceAll("`", "").replaceAll(/\[(.*?)\]\(.*?\)/g, "$1");
}

function byName(settings: Setting[]): Setting[] {
  return settings.toSorted((a, b) => (a.name < b.name ? -1 : 1));
}

function configOf(values: Record<string, string>) {
  const own = Object.entries(values).map(([key, value]) => [`project:${key}`, value]);
  const raw = { values: Object.fromEntries(own), secretKeys: [], project: "project", organization: "acme" };
  return parseConfig(raw).config ?? assert.fail();
}

function read(file: string): string {
  return readFileSync(join(__dirname, "..", file), "utf8");
}
