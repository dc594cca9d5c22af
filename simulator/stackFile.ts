// The stack to simulate, with its configuration as the engine passes it to the program.

import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { type Document, isMap, isNode, isScalar, LineCounter, parseDocument, type Scalar, visit } from "yaml";
import { isObject } from "../kubernetes/plainObject";
import type { Path } from "../settings/problems";

export type StackFile = ReturnType<typeof readStackFile>;

/** The stack of a project without one. It is not named `Pulumi.NAME.yaml`: a stack that `pulumi new` creates would keep its settings. */
export const SAMPLE = join(__dirname, "sample.yaml");

/** The name of the cluster in the `Pulumi.dev.yaml` of every clone. */
const PLACEHOLDER = "sample-cluster";

/**
 * Returns the stack file to simulate.
 *
 * @param directory of the project.
 * @param name from the command line, with or without `ORGANIZATION/`. Without it, the project's only stack with a cluster, or
 *   else the sample.
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
  const own = () => stacks.filter((stack) => !readFileSync(pathOf(stack), "utf8").includes(PLACEHOLDER));
  const [found, ...others] = named ? [named] : own();
  if (found === undefined) return SAMPLE;
  if (others.length > 0) throw new Error(`This project has several stacks. ${list}`);
  if (!stacks.includes(found)) throw new Error(`Pulumi.${found}.yaml does not exist. ${list}`);
  return pathOf(found);
}

/** The keys of a stack file. Pulumi ignores every other one. */
const STACK_FILE_KEYS = ["config", "environment", "secretsprovider", "encryptedkey", "encryptionsalt"];

/** Reads a stack file. @throws Error with the line, and what to do, if it is missing or invalid. */
export function readStackFile(directory: string, file: string) {
  const project = String(Object(readYaml(join(directory, "Pulumi.yaml")).content).name);
  const { content, lineOf } = readYaml(file);
  const { config: given, environment } = Object(content);
  const config = given ?? {};
  const positionAt = (path: Path) => `${basename(file)}:${lineOf(path)}`;
  const fail = (path: Path, message: string) => {
    throw new Error(`${positionAt(path)}: ${message}`);
  };
  const ignored = Object.keys(Object(content)).find((key) => !STACK_FILE_KEYS.includes(key));
  if (ignored !== undefined) fail([ignored], `Pulumi ignores ${ignored}. Settings belong below "config:".`);
  if (!isObject(config)) fail(["config"], "config must contain KEY: VALUE");

  /** The keys as the file has them. */
  const keys = new Map(Object.keys(config).map((key) => [qualify(key, project), key]));
  const twice = Object.keys(config).find((key) => keys.get(qualify(key, project)) !== key);
  if (twice !== undefined)
    fail(["config", twice], `${twice} is set in two spellings, of which Pulumi picks any. Remove one.`);
  const settings = [...keys].map(([setting, key]): [string, unknown] => [setting, config[key]]);
  const secrets = settings.filter(([, value]) => JSON.stringify(value).includes('"secure":'));
  // A list of names, which can be keys with options, or an environment with `imports`.
  const imports = [(isObject(environment) ? environment.imports : environment) ?? []].flat();
  return {
    /** Of the stack. */
    name: basename(file, ".yaml").replace("Pulumi.", ""),
    project,
    /** A string for each `project:key`, JSON for lists and objects. */
    config: Object.fromEntries(settings.map(([setting, value]) => [setting, asSetting(value)])),
    /** The keys of what is encrypted or contains an encrypted value. The program rejects those that it reads. */
    secretKeys: secrets.map(([setting]) => setting),
    /** The ESC environments that it imports, which the simulation does not open. */
    environments: imports.flatMap((it): string[] => (isObject(it) ? Object.keys(it) : [String(it)])),
    /** Returns where a setting is, such as `Pulumi.prod.yaml:21`, as far as the file has its path; undefined if it has nothing of it. */
    positionOf([first, ...inside]: Path): string | undefined {
      const key = keys.get(qualify(String(first), project));
      return key === undefined ? undefined : positionAt(["config", key, ...inside]);
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

/**
 * Returns the content of a file, and a function that returns the line of a value, or of as much of its path as the file has.
 *
 * @throws Error for a missing file, and with the line for invalid YAML and for a value that Pulumi could read as another one.
 */
function readYaml(path: string): { content: unknown; lineOf(path: Path): number } {
  const source = readFileSync(path, "utf8");
  const lineCounter = new LineCounter();
  const lineAt = (position = 0) => lineCounter.linePos(position).line;
  // Merge keys as in Pulumi. Pretty errors would repeat the line, which can contain an encrypted value.
  const document = parseDocument(source, { schema: "core", merge: true, lineCounter, prettyErrors: false });
  const fail = (position: number | undefined, message: string) => {
    throw new Error(`${basename(path)}:${lineAt(position)}: ${message}`);
  };
  for (const { pos, message } of document.errors) {
    fail(pos[0], `Invalid YAML, here or in the line before: ${message}`);
  }
  visit(document, {
    Scalar(_key, node) {
      const problem = `Pulumi could read ${node.source} as another value. Quote it if it is an ID or another string.`;
      if (isReadDifferently(node)) fail(node.range?.[0], problem);
    },
    Alias(_key, node) {
      if (!node.resolve(document))
        fail(node.range?.[0], `*${node.source} has no anchor. Quote it, or add it.`);
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
