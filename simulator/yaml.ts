// Reads YAML as Pulumi does, with the line of each value.

import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { type Document, isMap, isNode, isScalar, LineCounter, parseDocument, type Scalar, visit } from "yaml";

/** The keys and indexes that lead to a value. */
export type Path = (string | number)[];

/**
 * Reads a file.
 *
 * @returns its content, and a function that returns the line of a value, or of as much of its path as the file has.
 * @throws Error for a missing file, and with the line for invalid YAML and for a value that Pulumi could read as another one.
 */
export function readYaml(path: string): { content: unknown; lineOf(path: Path): number } {
  const source = readFileSync(path, "utf8");
  const lineCounter = new LineCounter();
  const lineAt = (position = 0) => lineCounter.linePos(position).line;
  // Merge keys as in Pulumi. Pretty errors would repeat the line, which can contain an encrypted value.
  const document = parseDocument(source, { schema: "core", merge: true, lineCounter, prettyErrors: false });
  const fail = (position: number | undefined, message: string) => {
    throw new Error(`${basename(path)}:${lineAt(position)}: ${message}`);
  };
  for (const { pos, code } of document.errors) {
    const [name] = /^(-+|[\w.:-]+(?=:\s))/.exec(source.slice(pos[0]).trimStart()) ?? ["this line"];
    const reason = `${code.toLowerCase().replaceAll("_", " ")} at ${name}`;
    fail(
      pos[0],
      `Invalid YAML: ${reason}. Compare its indentation, colons, and quotes with the lines around it.`,
    );
  }
  visit(document, {
    Scalar(_key, node) {
      if (!isReadDifferently(node)) return;
      fail(
        node.range?.[0],
        `Pulumi could read ${node.source} as another value. Quote it, or write a plain number.`,
      );
    },
    Alias(_key, node) {
      if (node.resolve(document)) return;
      fail(
        node.range?.[0],
        `*${node.source} has no anchor &${node.source} above it. Quote it if it is a string.`,
      );
    },
  });
  return { content: document.toJS(), lineOf: (steps) => lineAt(positionIn(document, steps)) };
}

/** Returns the position of the last step of a path that a document has. */
function positionIn(document: Document, path: Path): number {
  const parent = document.getIn(path.slice(0, -1), true);
  const pair =
    isMap(parent) && parent.items.find(({ key }) => isScalar(key) && String(key.value) === path.at(-1));
  const node = pair ? pair.key : document.getIn(path, true);
  if (isNode(node)) return node.range?.[0] ?? 0;
  return path.length > 1 ? positionIn(document, path.slice(0, -1)) : 0;
}

/**
 * Returns whether Pulumi could read a scalar as another value, such as an account's ID with a leading zero: a date, or a number that
 * JavaScript would write differently. Go's yaml.v3 also reads those of YAML 1.1.
 */
function isReadDifferently({ type, source = "", value }: Scalar): boolean {
  if (type !== "PLAIN" || !/\d/.test(source)) return false;
  const isNumber = !Number.isNaN(Number(source.replaceAll("_", "").replace(/^[-+]/, "")));
  return isNumber ? typeof value !== "number" || String(value) !== source : /^\d{4}-\d\d?-\d/.test(source);
}
