// The stack to simulate, with its configuration as the engine passes it to the program.

import { readdirSync } from "node:fs";
import { basename, join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { isObject } from "../kubernetes/plainObject";
import { type Path, readYaml } from "./yaml";

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
  const own = () => stacks.filter((stack) => !isTemplate(pathOf(stack)));
  const [found, ...others] = named ? [named] : own();
  if (found === undefined) return SAMPLE;
  if (others.length > 0) throw new Error(`This project has several stacks. ${list}`);
  if (!stacks.includes(found)) throw new Error(`Pulumi.${found}.yaml does not exist. ${list}`);
  return pathOf(found);
}

/** The login of `Pulumi.dev.yaml` in every clone, with which an update stops: config.ts. */
export const TEMPLATE_LOGIN = "sample-login";

const TEMPLATE_ENTRY = {
  namespace: "default",
  name: "pulumi-service-account",
  tokenType: "personal",
  userLogin: TEMPLATE_LOGIN,
};

function isTemplate(file: string): boolean {
  try {
    const { config, environment } = Object(readYaml(file).content);
    if (environment) return false;
    // Without the keys: `pulumi new` sorts them, and puts the name of the project in front.
    const template = new Set(["us-west-2", "sample-cluster", [TEMPLATE_ENTRY]]);
    return isDeepStrictEqual(new Set(Object.values(config)), template);
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
  // `pulumi new` adds the stack's tags.
  const others = Object.keys(Object(ofProject)).filter((key) => !key.startsWith("pulumi:"));
  if (others.length > 0)
    throw new Error(`Pulumi.yaml sets ${others}, which npm start does not read. Move it to the stack files.`);

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
  for (const key of Object.keys(config)) {
    const other = keys.get(qualify(key, project));
    if (other === key) continue;
    fail(["config", key], `${key} and ${other} are the same setting, of which Pulumi picks any. Remove one.`);
  }
  const settings = [...keys].map(([setting, key]): [string, unknown] => [setting, config[key]]);
  const secrets = settings.filter(([, value]) => JSON.stringify(value).includes('"secure":'));
  // A list of names, which can be keys with options, or an environment with `imports`.
  const imports = [(isObject(environment) ? environment.imports : environment) ?? []].flat();
  return {
    name: basename(file, ".yaml").replace("Pulumi.", ""),
    project,
    config: Object.fromEntries(settings.map(([setting, value]) => [setting, asSetting(value)])),
    secretKeys: secrets.map(([setting]) => setting),
    environments: imports.flatMap((it) => (isObject(it) ? Object.keys(it) : String(it))),
    positionOf([first, ...inside]) {
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
