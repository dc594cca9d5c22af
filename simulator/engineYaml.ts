// YAML as Pulumi's engine reads it, with Go's yaml.v3: https://github.com/go-yaml/yaml/blob/v3/resolve.go
//
// Its scalars are those of YAML 1.2's core schema, except for numbers: `0777` is 511, and `1_000` is 1000. A setting that is
// read otherwise would be checked for another team than the one that is deployed.

import { type Document, isNode, LineCounter, parseDocument, type ScalarTag, type Tags, visit } from "yaml";

/**
 * Parses a YAML document.
 *
 * @throws Error for invalid YAML, and for a scalar that neither the engine nor this function passes on as it is written: a
 *   date, an integer that JavaScript cannot represent, a number that is infinite or not a number, and a value with a tag.
 */
export function parseEngineYaml(text: string): unknown {
  const lineCounter = new LineCounter();
  const document = parseDocument(text, {
    merge: true,
    customTags: (tags) => [DATE, NUMBER, ...withoutNumbers(tags)],
    lineCounter,
    // They would repeat the line, which can contain an encrypted value.
    prettyErrors: false,
  });
  // A warning is about a tag that is not known here.
  const problems = [...document.errors, ...document.warnings];
  const [problem] = problems.map(({ pos: [position], message }) => ({ position, message }));
  const found = problem ?? unsupportedTag(document);
  if (!found) return document.toJS();
  throw new Error(`line ${lineCounter.linePos(found.position).line}: ${found.message}`);
}

/** The tags with which a value is the one that is written. */
const FAITHFUL_TAGS = ["tag:yaml.org,2002:str", "tag:yaml.org,2002:seq", "tag:yaml.org,2002:map"];

/** Returns the first tag with which the engine could read another value: it ignores `!`, and decodes `!!binary`. */
function unsupportedTag(document: Document): { position: number; message: string } | undefined {
  let found: { position: number; message: string } | undefined;
  visit(document, {
    Node(_key, node) {
      if (!isNode(node) || !("tag" in node) || !node.tag || FAITHFUL_TAGS.includes(node.tag))
        return undefined;
      const tag = node.tag.replace("tag:yaml.org,2002:", "!!");
      const position = node.range?.[0] ?? 0;
      found = { position, message: `the tag ${tag} is not supported. Remove it from the value. ${QUOTE}` };
      return visit.BREAK;
    },
  });
  return found;
}

const QUOTE = "Quote it: Pulumi would pass another value than the one in the file.";

/** The engine passes such a date with a time and a time zone. */
const DATE: ScalarTag = {
  tag: "tag:yaml.org,2002:timestamp",
  default: true,
  test: /^\d{4}-\d{1,2}-\d{1,2}([Tt ]\d{1,2}:.*)?$/,
  resolve(source, onError) {
    onError(`${source} is a date in YAML. ${QUOTE}`);
    return source;
  },
};

const NUMBER: ScalarTag = {
  tag: "tag:yaml.org,2002:int",
  default: true,
  test: /^[-+.0-9]/,
  resolve(source, onError) {
    if (/^[-+]?\.inf$|^\.nan$/i.test(source)) onError(`${source} is not a number that JSON has. ${QUOTE}`);
    const integer = integerOf(source);
    if (integer === undefined) return floatOf(source) ?? source;

    const limit = 2n ** 53n;
    if (integer > limit || integer < -limit) onError(`${source} is too large for a number. ${QUOTE}`);
    return Number(integer);
  },
};

function withoutNumbers(tags: Tags): Tags {
  return tags.filter((tag) => typeof tag === "string" || !/:(int|float)$/.test(tag.tag));
}

/** Returns an integer; undefined for any other scalar. */
function integerOf(source: string): bigint | undefined {
  if (source.startsWith(".")) return undefined;
  const [, sign, digits = ""] = /^([-+]?)(.*)$/.exec(source.replaceAll("_", "")) ?? [];
  // JavaScript has these prefixes in lowercase or uppercase, as Go does, but no octal number that begins with 0 only.
  const octal = /^0[0-7]+$/.test(digits) ? digits.replace("0", "0o") : digits;
  const isDecimal = /^(0|[1-9][0-9]*)$/.test(octal);
  const hasPrefix = /^0(b[01]+|o[0-7]+|x[0-9a-f]+)$/i.test(octal);
  if (!isDecimal && !hasPrefix) return undefined;
  return sign === "-" ? -BigInt(octal) : BigInt(octal);
}

/** Returns a number with a fraction or an exponent, or with digits that are not octal, such as 08. */
function floatOf(source: string): number | undefined {
  // Behind a leading dot, Go allows underscores between digits only.
  if (source.startsWith(".") && /(?<!\d)_|_(?!\d)/.test(source)) return undefined;
  const digits = source.replaceAll("_", "");
  if (!/^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)(e[-+]?[0-9]+)?$/i.test(digits)) return undefined;
  const number = Number(digits);
  return Number.isFinite(number) ? number : undefined;
}
