// The stack to simulate, with its configuration as the engine passes it to the program.

import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { type Document, isMap, isNode, isScalar, LineCounter, parseDocument } from "yaml";
import { isObject } from "../kubernetes/plainObject";
import type { Path } from "../settings/problems";

export type StackFile = ReturnType<typeof readStackFile>;

/** The stack of a project without one. It is not named `Pulumi.NAME.yaml`: a stack that `pulumi new` creates would keep its settings. */
export const SAMPLE = join(__dirname, "sample.yaml");

/** The line of the cluster in the `Pulumi.dev.yaml` of every clone, also as `pulumi new` writes it. */
const TEMPLATE = /^ *([^ #:]+:)?clusterName: sample-cluster$/m;

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
  const own = () => stacks.filter((stack) => !TEMPLATE.test(readFileSync(pathOf(stack), "utf8")));
  const [found, ...others] = named ? [named] : own();
  if (found === undefined) return SAMPLE;
  if (others.length > 0) throw new Error(`This project has several stacks. ${list}`);
  if (!stacks.includes(found)) throw new Error(`Pulumi.${found}.yaml does not exist. ${list}`);
  return pathOf(found);
}

/** The keys of a stack file. Pulumi ignores every other one. */
const STACK_FILE_KEYS = ["config", "environment", "secretsprovider", "encryptedkey", "encryptionsalt"];

/** A setting, and where it is. */
interface Setting {
  value: unknown;
  /** Returns its file and line, or those of a part of it, such as `Pulumi.prod.yaml:21`. */
  positionOf(inside: Path): string;
}

/**
 * Reads a stack file, and the settings that Pulumi.yaml has for every stack.
 *
 * @throws Error with the line, and what to do, if a file is missing or invalid.
 */
export function readStackFile(directory: string, file: string) {
  const projectFile = readYaml(join(directory, "Pulumi.yaml"));
  const stackFile = readYaml(file);
  const project = String(Object(projectFile.content).name);
  const { environment } = Object(stackFile.content);
  const ignored = Object.keys(Object(stackFile.content)).find((key) => !STACK_FILE_KEYS.includes(key));
  if (ignored !== undefined) {
    stackFile.fail([ignored], `Pulumi ignores ${ignored}. Settings belong below "config:".`);
  }

  const stack = stackSettings(stackFile, project);
  const settings = { ...projectSettings(projectFile, project, stack), ...stack };
  const entries = Object.entries(settings);
  const secrets = entries.filter(([, { value }]) => JSON.stringify(value).includes('"secure":'));
  // A list of names, which can be keys with options, or an environment with `imports`.
  const imports = [(isObject(environment) ? environment.imports : environment) ?? []].flat();
  return {
    /** Of the stack. */
    name: basename(file, ".yaml").replace("Pulumi.", ""),
    project,
    /** A string for each `project:key`, JSON for lists and objects. */
    config: Object.fromEntries(entries.map(([setting, { value }]) => [setting, asSetting(value)])),
    /** The keys of what is encrypted or contains an encrypted value. The program rejects those that it reads. */
    secretKeys: secrets.map(([setting]) => setting),
    /** The ESC environments that it imports, which the simulation does not open. */
    environments: imports.flatMap((it): string[] => (isObject(it) ? Object.keys(it) : [String(it)])),
    /** Returns where a setting is, such as `Pulumi.prod.yaml:21`, as far as a file has its path; undefined if none has any of it. */
    positionOf([first, ...inside]: Path): string | undefined {
      return settings[qualify(String(first), project)]?.positionOf(inside);
    },
  };
}

/** Returns the settings of a stack file, by `NAMESPACE:KEY`. */
function stackSettings({ content, positionOf, fail }: YamlFile, project: string): Record<string, Setting> {
  const settings: Record<string, Setting> = {};
  for (const [key, value] of Object.entries(configOf(content, fail))) {
    const setting = qualify(key, project);
    if (Object.hasOwn(settings, setting)) {
      fail(["config", key], `${key} is set in two spellings, of which Pulumi picks any. Remove one.`);
    }
    settings[setting] = { value, positionOf: (inside) => positionOf(["config", key, ...inside]) };
  }
  return settings;
}

/**
 * Returns the settings of Pulumi.yaml, which apply to a stack that does not have them: mergeConfig in pulumi/pulumi,
 * sdk/go/common/workspace/config.go.
 */
function projectSettings(
  { content, positionOf, fail }: YamlFile,
  project: string,
  stack: Record<string, Setting>,
): Record<string, Setting> {
  const settings: Record<string, Setting> = {};
  for (const [key, definition] of Object.entries(configOf(content, fail))) {
    const declared: Record<string, unknown> = isObject(definition) ? definition : { default: definition };
    const from = ["value", "default"].find((name) => (declared[name] ?? null) !== null);
    const setting = qualify(key, project);
    if (from !== undefined) {
      const path = isObject(definition) ? ["config", key, from] : ["config", key];
      settings[setting] = {
        value: declared[from],
        positionOf: (inside) => positionOf([...path, ...inside]),
      };
    } else if (setting.startsWith(`${project}:`) && !Object.hasOwn(stack, setting)) {
      fail(["config", key], `Pulumi requires ${key} in the stack file, since it has no default here.`);
    }
  }
  return settings;
}

function configOf(content: unknown, fail: YamlFile["fail"]): Record<string, unknown> {
  const config = Object(content).config ?? {};
  return isObject(config) ? config : fail(["config"], "config must contain KEY: VALUE");
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

interface YamlFile {
  content: unknown;
  /** Returns the file and line of a value, or of as much of its path as the file has. */
  positionOf(path: Path): string;
  /** Throws an error that begins with the position of a value. */
  fail(path: Path, message: string): never;
}

/** @throws Error for a missing file, and with the line for invalid YAML. */
function readYaml(path: string): YamlFile {
  const source = readFileSync(path, "utf8");
  const lineCounter = new LineCounter();
  // Merge keys as in Pulumi. Pretty errors would repeat the line, which can contain an encrypted value.
  const document = parseDocument(source, { schema: "core", merge: true, lineCounter, prettyErrors: false });
  const positionAt = (offset = 0) => `${basename(path)}:${lineCounter.linePos(offset).line}`;
  const failAt = (offset: number | undefined, message: string): never => {
    throw new Error(`${positionAt(offset)}: ${message}`);
  };
  for (const { pos, message } of document.errors) {
    failAt(pos[0], `Invalid YAML, here or in the line before: ${message}`);
  }
  return {
    content: document.toJS(),
    positionOf: (steps) => positionAt(positionIn(document, steps)),
    fail: (steps, message) => failAt(positionIn(document, steps), message),
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
