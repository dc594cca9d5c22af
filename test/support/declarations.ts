// Reads the documented interfaces of the program and of the pipeline: their settings and outputs.

import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import ts from "typescript";
import { ROOT } from "./project";

export interface Declaration {
  name: string;
  /** The type as declared, without `pulumi.Input` and `pulumi.Output`. */
  type: string;
  required: boolean;
  comment: string;
}

const INTERFACES = ["", "settings", "pipeline"]
  .map((directory) => join(ROOT, directory))
  .filter(existsSync)
  .flatMap((directory) => readdirSync(directory).map((file) => join(directory, file)))
  .filter((file) => file.endsWith(".ts"))
  .map((file) => ts.createSourceFile(file, readFileSync(file, "utf8"), ts.ScriptTarget.Latest, true))
  .flatMap(({ statements }) => statements.filter(ts.isInterfaceDeclaration));

/** Returns the properties of an interface: the required ones, those of the interface that it extends, and the others. */
export function declarationsOf(interfaceName: string): Declaration[] {
  const found = INTERFACES.find(({ name }) => name.text === interfaceName);
  const { members, heritageClauses = [] } = found ?? assert.fail(`no interface ${interfaceName}`);
  const own = members.filter(ts.isPropertySignature).map(declarationOf);
  const parents = heritageClauses.flatMap(({ types }) => types);
  const inherited = parents.flatMap((type) => declarationsOf(type.getText()));
  const isRequired = ({ required }: Declaration) => required;
  return [...own.filter(isRequired), ...inherited, ...own.filter((it) => !isRequired(it))];
}

function declarationOf(property: ts.PropertySignature): Declaration {
  const name = property.name.getText();
  const type = property.type?.getText().replaceAll(/pulumi\.(?:Input|Output)<(\w+)>/g, "$1") ?? "";
  const [documentation] = ts.getJSDocCommentsAndTags(property).filter(ts.isJSDoc);
  const comment = String(documentation?.comment ?? assert.fail(`${name} has no comment`));
  return { name, type, required: !property.questionToken, comment };
}

/** Returns what a comment says of a property, and the default at its end, which is empty if there is none. */
export function meaningAndDefault(comment: string): [meaning: string, defaultValue: string] {
  const [meaning = "", value = ""] = comment.replaceAll(/\s+/g, " ").split(/ Default(?: of a stack)?: /);
  return [meaning, value.replace(/\.$/, "")];
}
