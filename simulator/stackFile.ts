// The stack to simulate, with its configuration as the engine passes it to the program.

import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { type Document, isMap, isNode, isScalar, LineCounter, parseDocument, type Scalar, visit } from "yaml";
import { isObject } from "../kubernetes/plainObject";

export interface StackFile {
  /** Of the stack. */
  name: string;
  project: string;
  /** A string for each `project:key`, JSON for lists and objects. */
  config: Record<string, string>;
  /** The keys of what is encrypted or contains an encrypted value. The program rejects those that it reads. */
  secretKeys: string[];
  /** The ESC environments that it imports, which the simulation does not open. */
  environments: string[];
  /** Returns where a setting is, such as `Pulumi.prod.yaml:21`, as far as the file has its path; undefined if it has nothing of it. */
  positionOf(path: Path): string | undefined;
}

/** The keys and indexes that lead to a setting. */
type Path = (string | number)[];

/** The stack of a project without one. It is not named `Pulumi.NAME.yaml`: a stack that `pulumi new` creates would keep its settings. */
export const SAMPLE = join(__dirname, "sample.yaml");

/**
 * Returns the stack file to simulate.
 *
 * @param directory of the project.
 * @param name from the command line, with or without `ORGANIZATION/`. Without it, the project's only stack apart from an unchanged
 *   `Pulumi.dev.yaml`, or else the sample.
 * @throws Error that lists the stacks if the choice is not clear, and for a file that Pulumi does not read.
 */
export function findStack(directory: string, name?: string): string {
  const files = readdirSync(directory).sort();
  // DetectProjectStackPath in pulumi/pulumi, sdk/go/common/workspace/paths.go: only with the extension of Pulumi.yaml.
  const ignored = files.find((file) => /^Pulumi\..+\.yml$/.test(file));
  if (ignored) throw new Error(`Pulumi ignores ${ignored}. Rename it to ${ignored.replace(/yml$/, "yaml")}.`);

  const stacks = files.flatMap((file) => /^Pulumi\.(.+)\.yaml$/.exec(file)?.[1] ?? []);
  const pathOf = (stack: string) => join(directory, `Pulumi.${stack}.yaml`);
  const list = `Stacks in this directory: ${stacks.join(", ")}. To choose one: npm start -- --stack NAME`;
  const named = name?.split("/").at(-1);
  const [found, ...others] = named
    ? [named]
    : stacks.filter((stack) => !isTemplate(directory, pathOf(stack)));
  if (found === undefined) return SAMPLE;
  if (others.length > 0) throw new Error(`This project has several stacks. ${list}`);
  if (!stacks.includes(found)) throw new Error(`Pulumi.${found}.yaml does not exist. ${list}`);
  return pathOf(found);
}

/** The entry that `Pulumi.dev.yaml` has in every clone. */
const TEMPLATE_ENTRY = {
  namespace: "default",
  name: "pulumi-service-account",
  tokenType: "personal",
  userLogin: "sample-login",
};

/** Returns whether a stack file has the settings that `Pulumi.dev.yaml` has in every clone, and no others. */
function isTemplate(directory: string, file: string): boolean {
  try {
    const { project, config, environments } = readStackFile(directory, file);
    const { [`${project}:serviceAccounts`]: entries = "", ...others } = config;
    const expected = { "aws:region": "us-west-2", [`${project}:clusterName`]: "sample-cluster" };
    // Values, since `pulumi new` sorts the keys of an entry.
    return isDeepStrictEqual([others, JSON.parse(entries), environments], [expected, [TEMPLATE_ENTRY], []]);
  } catch {
    // An invalid file has been changed. Its error is reported when the stack is read.
    return false;
  }
}

/** The keys of a stack file. Pulumi ignores every other one. */
const STACK_FILE_KEYS = ["config", "environment", "secretsprovider", "encryptedkey", "encryptionsalt"];

/** Reads a stack file. @throws Error with the line, and what to do, if it is missing or invalid. */
export function readStackFile(directory: string, file: string): StackFile {
  const { name: project, config: ofProject } = Object(readYaml(join(directory, "Pulumi.yaml")).content);
  if (typeof project !== "string")
    throw new Error("Pulumi.yaml is invalid: it must contain the project's name");
  // `pulumi new` adds the stack's tags.
  const others = Object.keys(Object(ofProject)).filter((key) => !key.startsWith("pulumi:"));
  if (others.length > 0)
    throw new Error(`Pulumi.yaml sets ${others}, which npm start does not read. Move it to the stack files.`);
  const { content, lineOf } = readYaml(file);
  const fail = (message: string) => {
    throw new Error(`${basename(file)} is invalid: ${message}`);
  };
  const given = content ?? {};
  const { config, environment } = Object(given);
  if (!isObject(given) || !isObject(config ?? {})) fail("config must contain KEY: VALUE");
  const ignored = Object.keys(given).find((key) => !STACK_FILE_KEYS.includes(key));
  if (ignored !== undefined) fail(`Pulumi ignores ${ignored} here. Settings belong under "config:".`);

  const settings = new Map<string, { key: string; value: unknown }>();
  for (const [key, value] of Object.entries<unknown>(config ?? {})) {
    const setting = qualify(key, project);
    const other = settings.get(setting);
    if (other) {
      const spellings = [other.key, key].map((it) => `${it} (line ${lineOf([it])})`).join(" and ");
      fail(`${spellings} are the same setting, and Pulumi picks one of them at random. Remove one.`);
    }
    settings.set(setting, { key, value });
  }
  const all = [...settings];
  // A list of names, which can be keys with options, or an environment with `imports`.
  const imports = isObject(environment) ? environment.imports : environment;
  return {
    name: basename(file, ".yaml").replace("Pulumi.", ""),
    project,
    config: Object.fromEntries(all.map(([setting, { value }]) => [setting, asSetting(value)])),
    secretKeys: all.flatMap(([key, { value }]) => (JSON.stringify(value).includes('"secure":') ? [key] : [])),
    environments: [imports ?? []].flat().flatMap((it) => (isObject(it) ? Object.keys(it) : String(it))),
    positionOf([first, ...others]) {
      const key = settings.get(qualify(String(first), project))?.key;
      return key === undefined ? undefined : `${basename(file)}:${lineOf([key, ...others])}`;
    },
  };
}

/**
 * Returns `NAMESPACE:KEY`. A key without a namespace is the project's, and `NAMESPACE:config:KEY` is an older form:
 * sdk/go/common/resource/config/key.go in pulumi/pulumi.
 */
function qualify(key: string, project: string): string {
  const [, namespace = project, name = key] = /^([^:]*):(?:config:)?([^:]*)$/.exec(key) ?? [];
  return `${namespace}:${name}`;
}

/** Returns a value as the engine passes it, with a word in place of each encrypted value, which the simulation cannot read. */
function asSetting(value: unknown): string {
  const withoutSecrets = (_key: string, it: unknown) => (isObject(it) && "secure" in it ? "secret" : it);
  const plain: unknown = JSON.parse(JSON.stringify(value, withoutSecrets));
  if (plain === null) return "";
  return typeof plain === "object" ? JSON.stringify(plain) : String(plain);
}

/** @throws Error for a missing file, invalid YAML, and a value that Pulumi could read as another one. */
export function readYaml(path: string): { content: unknown; lineOf(path: Path): number } {
  const text = readFileSync(path, "utf8");
  const lineCounter = new LineCounter();
  // Merge keys as in Pulumi. Pretty errors would repeat the line, which can contain an encrypted value.
  const document = parseDocument(text, { schema: "core", merge: true, lineCounter, prettyErrors: false });
  const fail = (position: number, message: string) => {
    throw new Error(`${basename(path)}:${lineCounter.linePos(position).line}: ${message}`);
  };
  for (const { pos, message } of document.errors) {
    const isShifted = /^ *- /.test(text.slice(pos[0]));
    fail(pos[0], isShifted ? 'this "- " is not aligned with the list that it belongs to' : message);
  }
  visit(document, {
    Scalar(_key, node) {
      if (!isReadDifferently(node)) return;
      fail(
        node.range?.[0] ?? 0,
        `Pulumi could read ${node.source} as another value. Quote it, or write a plain number.`,
      );
    },
  });
  return {
    content: document.toJS(),
    lineOf: (steps) => lineCounter.linePos(positionIn(document, ["config", ...steps])).line,
  };
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
