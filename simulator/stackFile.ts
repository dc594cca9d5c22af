// The stack to simulate, and its configuration as the engine passes it to the program.

import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { isRecord } from "./emulators/authPolicy";
import { parseEngineYaml } from "./engineYaml";

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
}

/**
 * The stack of a project that has none of its own. It is not named `Pulumi.STACK.yaml`: a stack that `pulumi new` creates
 * would keep its settings.
 */
export const SAMPLE: StackSource = { name: "sample", file: join(__dirname, "sample.yaml") };

/** The stack of the template, whose file is in every clone and in every copy. */
export const TEMPLATE_STACK = "dev";

/** The settings of `Pulumi.dev.yaml`, as the template has it. */
export const TEMPLATE_SETTINGS: Record<string, string> = {
  "aws:region": "us-west-2",
  clusterName: "sample-cluster",
  userLogin: "sample-login",
};

/**
 * Returns the stack that a command is about.
 *
 * @param directory of the project.
 * @param name from the command line. Without it, the project's only stack, apart from an unchanged `Pulumi.dev.yaml`.
 * @returns undefined without a name, if the project has no stack of its own.
 * @throws Error that lists the stacks if the named one does not exist, or if there are several and none is named.
 */
export function findStack(directory: string, name: string | undefined): StackSource | undefined {
  const stacks = stacksIn(directory);
  const [only, ...others] = stacks.filter((stack) => !isAsInTemplate(directory, stack));
  const found = name ?? only;
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

/** Returns whether a stack file still has the settings of the template, and no other. */
function isAsInTemplate(directory: string, name: string): boolean {
  if (name !== TEMPLATE_STACK) return false;
  try {
    const { project, config } = readStackFile(directory, sourceOf(directory, name));
    const template = Object.entries(TEMPLATE_SETTINGS).map(([key, value]) => [qualify(key, project), value]);
    return isDeepStrictEqual(config, Object.fromEntries(template));
  } catch {
    // An invalid file has been changed. Whoever reads it reports why.
    return false;
  }
}

/** Returns the names of the stacks that have a file. */
function stacksIn(directory: string): string[] {
  return readdirSync(directory)
    .flatMap((name) => /^Pulumi\.(.+)\.yaml$/.exec(name)?.[1] ?? [])
    .sort();
}

/**
 * Reads `Pulumi.yaml` and a stack file.
 *
 * @throws Error that says what to do if a file is missing or invalid, or if a setting of the project or of
 *   the AWS provider is encrypted.
 */
export function readStackFile(directory: string, { file }: StackSource): StackFile {
  const { name: project } = readYaml(join(directory, "Pulumi.yaml")) as { name: string };
  const settings = readYaml(file) ?? {};
  const given = isRecord(settings) ? (settings.config ?? {}) : undefined;
  if (!isRecord(given)) throw new Error(`${basename(file)} is invalid: config must contain KEY: VALUE`);

  const config: Record<string, string> = {};
  for (const [key, value] of Object.entries(given)) {
    const qualified = qualify(key, project);
    const [namespace = ""] = qualified.split(":");
    if (!isEncrypted(value)) config[qualified] = asSetting(value);
    else if ([project, "aws"].includes(namespace)) throw new Error(encryptedMessage(key, file, namespace));
  }
  return { project, config };
}

/** Returns the message for an encrypted value. Of the AWS provider's settings, only credentials are secret. */
function encryptedMessage(key: string, file: string, namespace: string): string {
  const advice =
    namespace === "aws"
      ? "Write it in plaintext, or use aws:profile instead of credentials."
      : "Settings are not secret: write the value in plaintext.";
  return `${key} contains an encrypted value in ${basename(file)}, which the simulation cannot read. ${advice}`;
}

/** Returns `NAMESPACE:KEY`. A key without a namespace is the project's. */
function qualify(key: string, project: string): string {
  return key.includes(":") ? key : `${project}:${key}`;
}

function isEncrypted(value: unknown): boolean {
  if (typeof value !== "object" || value === null) return false;
  return "secure" in value || Object.values(value).some(isEncrypted);
}

/** Returns a value as the engine passes it. */
function asSetting(value: unknown): string {
  if (value === null) return "";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

function readYaml(file: string): unknown {
  try {
    return parseEngineYaml(readFileSync(file, "utf8"));
  } catch (error) {
    throw new Error(`Failed to read ${basename(file)}: ${error instanceof Error ? error.message : error}`);
  }
}
