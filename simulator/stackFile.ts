// The stack to simulate, and its configuration as the engine passes it to the program.

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import {
  type Document,
  isMap,
  isNode,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  parseDocument,
  visit,
} from "yaml";
import { isObject } from "./emulators/authPolicy";

/** A stack, and where its configuration is. */
export interface StackSource {
  name: string;
  /** The path of its stack file. */
  file: string;
}

export interface StackFile {
  project: string;
  /** A string for each `project:key`, JSON for lists and objects. */
  config: Record<string, string>;
  /** The keys of encrypted values, and of lists and objects that contain one. The program rejects those that it reads. */
  secretKeys: string[];
  /** The names of the ESC environments that it imports, which the simulation does not open. */
  environments: string[];
  /** Returns where a setting is, such as `Pulumi.prod.yaml:21`: as far as a file has its path. */
  positionOf(path: Path): string | undefined;
}

/** The keys and indexes that lead to a setting. */
type Path = (string | number)[];

/**
 * The stack of a project that does not have its own. It is not named `Pulumi.STACK.yaml`: a stack that `pulumi new` creates
 * would keep its settings.
 */
export const SAMPLE: StackSource = { name: "sample", file: join(__dirname, "sample.yaml") };

/** The stack of the template, whose file is in every clone and in every copy. */
export const TEMPLATE_STACK = {
  name: "dev",
  settings: {
    "aws:region": "us-west-2",
    clusterName: "sample-cluster",
    serviceAccounts: [
      {
        namespace: "default",
        name: "pulumi-service-account",
        tokenType: "personal",
        userLogin: "sample-login",
        awsRole: "irsa",
      },
    ],
  },
};

/**
 * Returns the stack to simulate.
 *
 * @param directory of the project.
 * @param name from the command line, with or without `ORGANIZATION/`. Without it, the project's only stack, apart from an
 *     unchanged `Pulumi.dev.yaml`.
 * @returns undefined without a name, if the project does not have its own stack.
 * @throws Error that lists the stacks if the named one does not exist, or if there are several and none is named, and for a stack
 *     file that Pulumi ignores.
 */
export function findStack(directory: string, name: string | undefined): StackSource | undefined {
  const stacks = stacksIn(directory);
  const [only, ...others] = stacks.filter((stack) => !isAsInTemplate(directory, stack));
  const found = name?.split("/").at(-1) ?? only;
  if (found === undefined) return undefined;

  const list = `Stacks in this directory: ${stacks.join(", ")}. To choose one: npm start -- --stack NAME`;
  if (name === undefined && others.length > 0) throw new Error(`This project has several stacks. ${list}`);
  if (!stacks.includes(found)) {
    const advice = stacks.length > 0 ? list : "To add it: pulumi config set KEY VALUE";
    throw new Error(`Pulumi.${found}.yaml does not exist. ${advice}`);
  }
  return sourceOf(directory, found);
}

function sourceOf(directory: string, name: string): StackSource {
  return { name, file: join(stackDirectory(directory), `Pulumi.${name}.yaml`) };
}

/** Returns where the stack files of a project are. */
function stackDirectory(directory: string): string {
  // Without `Pulumi.yaml`, reading the stack fails.
  if (!existsSync(join(directory, "Pulumi.yaml"))) return directory;
  return join(directory, readProject(directory).stackConfigDir ?? "");
}

/** Returns whether a stack file still has the settings of the template, and no other. */
function isAsInTemplate(directory: string, name: string): boolean {
  if (name !== TEMPLATE_STACK.name) return false;
  try {
    const project = readProject(directory).name;
    const { values } = readValues(sourceOf(directory, name).file, project);
    const template = Object.entries(TEMPLATE_STACK.settings);
    const expected = template.map(([key, value]) => [qualify(key, project), value]);
    // Values, since `pulumi new` sorts the keys of an entry.
    return isDeepStrictEqual(values, Object.fromEntries(expected));
  } catch {
    // An invalid file has been changed. The error is reported when the stack is read.
    return false;
  }
}

/**
 * Returns the names of the stacks that have a file.
 *
 * @throws Error for a file with another extension than that of Pulumi.yaml, which Pulumi does not read: DetectProjectStackPath in
 *   pulumi/pulumi, sdk/go/common/workspace/paths.go.
 */
function stacksIn(directory: string): string[] {
  const stackFiles = stackDirectory(directory);
  if (!existsSync(stackFiles)) return [];
  const files = readdirSync(stackFiles);
  const [ignored] = files.filter((name) => /^Pulumi\..+\.yml$/.test(name));
  if (ignored) throw new Error(`Pulumi ignores ${ignored}. Rename it to ${ignored.replace(/yml$/, "yaml")}.`);
  return files.flatMap((name) => /^Pulumi\.(.+)\.yaml$/.exec(name)?.[1] ?? []).sort();
}

/**
 * Reads a stack file, and the settings that `Pulumi.yaml` has for every stack.
 *
 * @returns the settings as the engine passes them. Those of the stack file win, and the sample has no others.
 * @throws Error that says what to do if a file is missing or invalid.
 */
export function readStackFile(directory: string, source: StackSource): StackFile {
  const project = readProject(directory);
  const ofStack = readSettings(source.file, project.name);
  if (source === SAMPLE) return { project: project.name, ...ofStack };
  return {
    project: project.name,
    ...ofStack,
    config: { ...sharedSettings(project), ...ofStack.config },
    positionOf: (path) => ofStack.positionOf(path) ?? project.positionOf(path),
  };
}

/** The content of `Pulumi.yaml`, as far as it is read here. */
interface Project {
  name: string;
  config?: unknown;
  stackConfigDir?: string;
  positionOf: StackFile["positionOf"];
}

function readProject(directory: string): Project {
  const file = join(directory, "Pulumi.yaml");
  const yaml = readYaml(file);
  const { content } = yaml;
  if (!isObject(content) || typeof content.name !== "string") {
    throw new Error("Pulumi.yaml is invalid: it must contain the project's name");
  }
  const { name } = content;
  rejectTwoSpellings(file, yaml.keys, name);
  return { ...content, name, positionOf: positionsIn(file, yaml, name) };
}

/**
 * Returns the settings of every stack that does not have its own: values, and declarations such as `{ type: string, default: a }`.
 * https://www.pulumi.com/docs/concepts/config/#project-level-configuration
 */
function sharedSettings({ name, config }: Project): Record<string, string> {
  const settings: Record<string, string> = {};
  for (const [key, declared] of Object.entries(isObject(config) ? config : {})) {
    const given = isObject(declared) ? (declared.default ?? declared.value) : declared;
    if (given !== undefined && given !== null) settings[qualify(key, name)] = asSetting(given);
  }
  return settings;
}

/** The keys of a stack file. Pulumi ignores every other one. */
const STACK_FILE_KEYS = ["config", "environment", "secretsprovider", "encryptedkey", "encryptionsalt"];

/** Reads the settings of a stack file. */
function readSettings(file: string, project: string): Omit<StackFile, "project"> {
  const { values, environments, positionOf } = readValues(file, project);
  const settings = Object.entries(values);
  return {
    config: Object.fromEntries(settings.map(([key, value]) => [key, asSetting(withoutSecrets(value))])),
    secretKeys: settings.filter(([, value]) => isEncrypted(value)).map(([key]) => key),
    environments,
    positionOf,
  };
}

/** Reads the values of a stack file as it has them, by `NAMESPACE:KEY`, and the environments that it imports. */
function readValues(
  file: string,
  project: string,
): Pick<StackFile, "environments" | "positionOf"> & { values: Record<string, unknown> } {
  const yaml = readYaml(file);
  const content = yaml.content ?? {};
  const given = isObject(content) ? (content.config ?? {}) : undefined;
  if (!isObject(given)) throw new Error(`${basename(file)} is invalid: config must contain KEY: VALUE`);
  const ignored = Object.keys(content).find((key) => !STACK_FILE_KEYS.includes(key));
  if (ignored !== undefined) {
    throw new Error(
      `${basename(file)} is invalid: Pulumi ignores ${ignored} here. Settings belong under "config:".`,
    );
  }

  rejectTwoSpellings(file, yaml.keys, project);

  return {
    values: Object.fromEntries(Object.entries(given).map(([key, value]) => [qualify(key, project), value])),
    environments: environmentsIn(isObject(content) ? content.environment : undefined),
    positionOf: positionsIn(file, yaml, project),
  };
}

/** Returns a function that returns where a file has a setting. */
function positionsIn(file: string, { keys, lineOf }: YamlFile, project: string): StackFile["positionOf"] {
  return ([setting, ...others]) => {
    const found = keys.find(({ key }) => qualify(key, project) === qualify(String(setting), project));
    return found && `${basename(file)}:${lineOf([found.key, ...others])}`;
  };
}

/** Returns the names in `environment`: a list of them, which can be keys with options, or an environment with `imports`. */
function environmentsIn(environment: unknown): string[] {
  const imports = isObject(environment) ? environment.imports : environment;
  if (!Array.isArray(imports)) return [];
  return imports.flatMap((imported) => (isObject(imported) ? Object.keys(imported) : String(imported)));
}

/**
 * Returns `NAMESPACE:KEY`. A key without a namespace is the project's, and `NAMESPACE:config:KEY` is an older form:
 * sdk/go/common/resource/config/key.go in pulumi/pulumi.
 */
function qualify(key: string, project: string): string {
  const [, namespace = project, name = key] = /^([^:]*):(?:config:)?([^:]*)$/.exec(key) ?? [];
  return `${namespace}:${name}`;
}

/** @throws Error if `config` has a setting in two spellings: Pulumi picks one of them at random, at each command anew. */
function rejectTwoSpellings(file: string, keys: ConfigKey[], project: string): void {
  const found = new Map<string, ConfigKey>();
  for (const second of keys) {
    const setting = qualify(second.key, project);
    const first = found.get(setting);
    if (first) {
      const spellings = [first, second].map(({ key, line }) => `${key} (line ${line})`).join(" and ");
      throw new Error(
        `${basename(file)} is invalid: ${spellings} are the same setting, and Pulumi picks one of them at random. Remove one.`,
      );
    }
    found.set(setting, second);
  }
}

function isEncrypted(value: unknown): boolean {
  if (typeof value !== "object" || value === null) return false;
  return isSecret(value) || Object.values(value).some(isEncrypted);
}

function isSecret(value: unknown): boolean {
  return isObject(value) && "secure" in value;
}

/** Returns a copy of a value in which a word replaces each encrypted one, which the simulation cannot read. */
function withoutSecrets(value: unknown): unknown {
  if (isSecret(value)) return "secret";
  if (Array.isArray(value)) return value.map(withoutSecrets);
  if (!isObject(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, element]) => [key, withoutSecrets(element)]));
}

/** Returns a value as the engine passes it. */
function asSetting(value: unknown): string {
  if (value === null) return "";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** A key below `config`, as the file spells it. */
interface ConfigKey {
  key: string;
  line: number;
}

interface YamlFile {
  content: unknown;
  keys: ConfigKey[];
  /** Returns the line of the last step of a path below `config` that the file has. */
  lineOf(path: Path): number;
}

/** @throws Error for a missing file, invalid YAML, and a value that Pulumi could read as another one. */
function readYaml(file: string): YamlFile {
  // A byte order mark is invisible, and no mistake.
  return parseYaml(basename(file), readFileSync(file, "utf8").replace(/^\ufeff/, ""));
}

function parseYaml(file: string, text: string): YamlFile {
  const lineCounter = new LineCounter();
  const document = parseDocument(text, {
    schema: "core",
    // Not in the core schema, but Pulumi has it.
    merge: true,
    lineCounter,
    // They would repeat the line, which can contain an encrypted value.
    prettyErrors: false,
  });
  const lineAt = (position: number) => lineCounter.linePos(position).line;
  const fail = (position: number, message: string) => {
    throw new Error(`${file}:${lineAt(position)}: ${message}`);
  };
  const invisible = INVISIBLE.exec(text);
  if (invisible) {
    const position = invisible.index + invisible[0].length - 1;
    fail(position, `The character ${invisible[0].slice(-1)} is not a space. Replace it with one.`);
  }
  const [error] = document.errors;
  if (error?.code === "DUPLICATE_KEY") {
    const [key = "a key"] = /^[\w:.-]+?(?=:\s)/.exec(text.slice(error.pos[0])) ?? [];
    fail(error.pos[0], `${key} is set twice`);
  }
  if (error) {
    const position = stringBefore(error.pos[0], document) ?? error.pos[0];
    fail(position, `${mistakeAt(text, position)}${error.message}`);
  }

  visit(document, {
    Node(_key, node) {
      const problem = isNode(node) && problemOf(node);
      if (problem) fail(node.range?.[0] ?? 0, problem);
    },
  });
  const config = isMap(document.contents) ? document.get("config") : undefined;
  const keys = (isMap(config) ? config.items : []).flatMap(({ key }) => {
    return isScalar(key) ? [{ key: String(key.value), line: lineAt(key.range?.[0] ?? 0) }] : [];
  });
  return {
    content: document.toJS(),
    keys,
    lineOf(path) {
      // The program knows only which setting contains an encrypted value.
      const [setting, ...others] = path;
      const value = isMap(config) && others.length === 0 ? config.get(setting, true) : undefined;
      return lineAt(encryptedAt(value) ?? positionAt(config, path));
    },
  };
}

/** Returns the position of the first encrypted value in a value; undefined if there is none. */
function encryptedAt(value: unknown): number | undefined {
  const positions: (number | undefined)[] = [];
  if (isNode(value)) {
    visit(value, {
      Map(_key, map) {
        if (map.has("secure")) positions.push(map.range?.[0]);
      },
    });
  }
  return positions[0];
}

/** Returns the position of the string in quotation marks that ends at a position: where an open one begins. */
function stringBefore(end: number, document: Document): number | undefined {
  const positions: (number | undefined)[] = [];
  visit(document, {
    Scalar(_key, { type, range }) {
      if (type?.startsWith("QUOTE") && range?.[1] === end) positions.push(range[0]);
    },
  });
  return positions[0];
}

/** Returns the position of the last step of a path that a value has. */
function positionAt(value: unknown, [step, ...others]: Path, position = 0): number {
  if (isSeq(value)) {
    const element = value.items[Number(step)];
    return isNode(element) ? positionAt(element, others, element.range?.[0]) : position;
  }
  const pair = isMap(value)
    ? value.items.find(({ key }) => isScalar(key) && String(key.value) === String(step))
    : undefined;
  return isScalar(pair?.key) ? positionAt(pair.value, others, pair.key.range?.[0]) : position;
}

/** A character outside of quotes and comments that looks like a space, and is none in YAML, or that no one sees. */
const INVISIBLE = /^[^#'"\n]*?(?![ \t\r\n])[\s\p{Default_Ignorable_Code_Point}]/mu;

/** Returns a sentence for a mistake that every copy makes once, in front of the words of the `yaml` package. */
function mistakeAt(text: string, position: number): string {
  if (/^ *- /.test(text.slice(position))) {
    return 'This "- " is not aligned with the list that it belongs to. ';
  }
  const [line = ""] = text.slice(text.lastIndexOf("\n", position - 1) + 1).split("\n");
  return line.includes(":") && !/:( |$)/.test(line) ? "A colon must be followed by a space. " : "";
}

/**
 * What Pulumi reads as a number or a date, and the `yaml` package as a string: it follows YAML 1.2, and Go's yaml.v3 also
 * YAML 1.1 and Go itself.
 */
const NUMBER_OR_DATE =
  /^([-+]?_*0_*([bo]_*[-+]?|x)[\da-f_]+|[-+.\d][\d.e+-]*_[\d.e_+-]*|\d{4}-\d\d?-\d\d?([t ].*)?)$/i;

/** Returns why Pulumi could read a scalar as another value than the simulation does. */
function problemOf(node: Node): string | undefined {
  const { tag } = node as { tag?: string };
  if (tag) {
    return `the tag ${tag.replace("tag:yaml.org,2002:", "!!")} is not supported. Quote the value instead.`;
  }
  if (!isScalar(node) || node.type !== "PLAIN") return undefined;

  const { source = "", value } = node;
  // Neither 0777, which is 511 in Pulumi, nor a number that JavaScript cannot represent.
  const isChanged = typeof value === "number" ? String(value) !== source : NUMBER_OR_DATE.test(source);
  return isChanged
    ? `Pulumi could read ${source} as another value. Quote it, or write a plain decimal number.`
    : undefined;
}
