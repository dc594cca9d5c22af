// The stack to simulate, and its configuration as the engine passes it to the program.

import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import {
  type Document,
  isMap,
  isNode,
  isScalar,
  isSeq,
  LineCounter,
  parseDocument,
  type Scalar,
  visit,
} from "yaml";
import { isObject } from "./authPolicy";

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
  return { name, file: join(directory, `Pulumi.${name}.yaml`) };
}

/**
 * Returns the names of the stacks that have a file.
 *
 * @throws Error for a file with another extension than that of Pulumi.yaml, which Pulumi does not read: DetectProjectStackPath in
 *   pulumi/pulumi, sdk/go/common/workspace/paths.go.
 */
function stacksIn(directory: string): string[] {
  const files = readdirSync(directory);
  const [ignored] = files.filter((name) => /^Pulumi\..+\.yml$/.test(name));
  if (ignored) throw new Error(`Pulumi ignores ${ignored}. Rename it to ${ignored.replace(/yml$/, "yaml")}.`);
  return files.flatMap((name) => /^Pulumi\.(.+)\.yaml$/.exec(name)?.[1] ?? []).sort();
}

/** Returns whether a stack file still has the settings of the template, and no other. */
function isAsInTemplate(directory: string, name: string): boolean {
  if (name !== TEMPLATE_STACK.name) return false;
  try {
    const { name: project } = readProject(directory);
    const { values } = readSettings(sourceOf(directory, name).file, project);
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
 * Reads a stack file, and the settings that `Pulumi.yaml` has for every stack.
 *
 * @returns the settings as the engine passes them. Those of the stack file win, and the sample has no others.
 * @throws Error that says what to do if a file is missing or invalid.
 */
export function readStackFile(directory: string, source: StackSource): StackFile {
  const project = readProject(directory);
  const { values, environments, positionOf } = readSettings(source.file, project.name);
  const all = Object.entries(source === SAMPLE ? values : { ...project.settings, ...values });
  return {
    project: project.name,
    config: Object.fromEntries(all.map(([key, value]) => [key, asSetting(withoutSecrets(value))])),
    secretKeys: all.filter(([, value]) => isEncrypted(value)).map(([key]) => key),
    environments,
    positionOf,
  };
}

/**
 * Reads `Pulumi.yaml`: the name of the project, and the settings of every stack that does not have its own, which are values, and
 * declarations such as `{ type: string, default: a }`: https://www.pulumi.com/docs/concepts/config/#project-level-configuration
 */
function readProject(directory: string): { name: string; settings: Record<string, unknown> } {
  const { content } = readYaml(join(directory, "Pulumi.yaml"));
  if (!isObject(content) || typeof content.name !== "string") {
    throw new Error("Pulumi.yaml is invalid: it must contain the project's name");
  }
  const { name, config } = content;
  const settings = Object.entries(isObject(config) ? config : {}).flatMap(([key, declared]) => {
    const value = isObject(declared) ? (declared.default ?? declared.value) : declared;
    return value === undefined || value === null ? [] : [[qualify(key, name), value]];
  });
  return { name, settings: Object.fromEntries(settings) };
}

/** The keys of a stack file. Pulumi ignores every other one. */
const STACK_FILE_KEYS = ["config", "environment", "secretsprovider", "encryptedkey", "encryptionsalt"];

/** What a stack file says: the values as it has them, by `NAMESPACE:KEY`. */
interface Settings extends Pick<StackFile, "environments" | "positionOf"> {
  values: Record<string, unknown>;
}

function readSettings(file: string, project: string): Settings {
  const { content, lineOf } = readYaml(file);
  const given = content ?? {};
  const config = isObject(given) ? (given.config ?? {}) : undefined;
  if (!isObject(config)) throw new Error(`${basename(file)} is invalid: config must contain KEY: VALUE`);
  const ignored = Object.keys(given).find((key) => !STACK_FILE_KEYS.includes(key));
  if (ignored !== undefined) {
    throw new Error(
      `${basename(file)} is invalid: Pulumi ignores ${ignored} here. Settings belong under "config:".`,
    );
  }

  const keys = new Map<string, string>();
  for (const key of Object.keys(config)) {
    const setting = qualify(key, project);
    const first = keys.get(setting);
    // Pulumi picks one of them at each command anew.
    if (first !== undefined) {
      const spellings = [first, key].map((it) => `${it} (line ${lineOf([it])})`).join(" and ");
      throw new Error(
        `${basename(file)} is invalid: ${spellings} are the same setting, and Pulumi picks one of them at random. Remove one.`,
      );
    }
    keys.set(setting, key);
  }

  return {
    values: Object.fromEntries(Object.entries(config).map(([key, value]) => [qualify(key, project), value])),
    environments: environmentsIn(isObject(given) ? given.environment : undefined),
    positionOf([setting, ...others]) {
      const key = keys.get(qualify(String(setting), project));
      return key === undefined ? undefined : `${basename(file)}:${lineOf([key, ...others])}`;
    },
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

interface YamlFile {
  content: unknown;
  /** Returns the line of the last step of a path below `config` that the file has. */
  lineOf(path: Path): number;
}

/** @throws Error for a missing file, invalid YAML, and a value that Pulumi could read as another one. */
function readYaml(path: string): YamlFile {
  // A byte order mark is invisible, and no mistake.
  const text = readFileSync(path, "utf8").replace(/^\ufeff/, "");
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
    throw new Error(`${basename(path)}:${lineAt(position)}: ${message}`);
  };
  const [error] = document.errors;
  if (error) {
    const position = stringBefore(error.pos[0], document) ?? error.pos[0];
    fail(position, `${mistakeAt(text, position)}${error.message}`);
  }
  visit(document, {
    Scalar(_key, node) {
      const problem = problemOf(node);
      if (problem) fail(node.range?.[0] ?? 0, problem);
    },
  });

  const config = isMap(document.contents) ? document.get("config") : undefined;
  return {
    content: document.toJS(),
    lineOf(steps) {
      // The program knows only which setting contains an encrypted value.
      const [setting, ...others] = steps;
      const value = isMap(config) && others.length === 0 ? config.get(setting, true) : undefined;
      return lineAt(encryptedAt(value) ?? positionAt(config, steps));
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

/** Returns why Pulumi could read a scalar as another value than the simulation does, such as an account's ID with a leading zero. */
function problemOf({ type, source = "", value }: Scalar): string | undefined {
  if (type !== "PLAIN") return undefined;
  // Neither 0777, which is 511 in Pulumi, nor a number that JavaScript cannot represent.
  const isChanged = typeof value === "number" ? String(value) !== source : NUMBER_OR_DATE.test(source);
  return isChanged
    ? `Pulumi could read ${source} as another value. Quote it, or write a plain decimal number.`
    : undefined;
}
