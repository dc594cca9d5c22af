// What a program registers, as a document for people: one section for each resource, then the outputs and the warnings.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import type * as pulumi from "@pulumi/pulumi";
import { Document, isCollection, isPair, visit } from "yaml";
import { SCRIPT_FILE, SETTINGS_FILES } from "../../kubernetes/tokenVolume";
import { read } from "../support/project";
import { known, labelOf, type Registered, type Run } from "./program";

/** Types of resources in the order in which a reader needs them: what all service accounts share, then what each of them has. */
const TYPES = [
  "Stash",
  "pulumiservice",
  "Cluster",
  "Addon",
  "OpenIdConnectProvider",
  "kubernetes",
  "OidcIssuer",
  "Namespace",
  "MutatingAdmissionPolicy",
  "MutatingAdmissionPolicyBinding",
  "WorkloadIdentity",
  "Role",
  "RolePolicyAttachment",
  "PodIdentityAssociation",
  "ServiceAccount",
  "ConfigMap",
  "Job",
];

/**
 * Compares what a program has done with a document.
 *
 * @param path of the document.
 */
export async function assertDocument(path: string, run: Run): Promise<void> {
  const text = await documentOf(run);
  writeGolden(path, text);
  assert.equal(text, readFileSync(path, "utf8"), "run `npm run golden`, and read the difference");
}

/** Writes a document if GOLDEN is in the environment: `npm run golden`. */
export function writeGolden(path: string, text: string): void {
  if (process.env.GOLDEN) writeFileSync(path, text);
}

async function documentOf({ registered, outputs, warnings }: Run): Promise<string> {
  const sections = await Promise.all(inReadingOrder(registered).map(sectionOf));
  const all: [string, object][] = [...sections, ["Outputs", outputs], ["Warnings", warnings.sort()]];

  const checksums = new Map(checksumsIn(registered));
  // The first section of each type.
  const firsts = new Map<string, [string, unknown]>();
  const texts = all.flatMap(([label, content]) => {
    const section = readable(content, checksums);
    if (section === undefined) return [];
    const [type = ""] = label.split(" ");
    const first = firsts.get(type);
    if (!first) {
      firsts.set(type, [label, section]);
      return yamlOf({ [label]: section });
    }
    const [firstLabel, firstSection] = first;
    const base = renamed(firstSection, firstLabel, label);
    const differences = differencesFrom(base, section) as object | undefined;
    return yamlOf({ [label]: { like: firstLabel, ...differences } });
  });
  return texts.join("\n");
}

function inReadingOrder(registered: Registered[]): Registered[] {
  const keyOf = ({ type, name }: Registered) => {
    const [component, namespace, account] = name.split(".");
    const owner = account === undefined ? "" : `${component}.${namespace}.${account}`;
    const position = String(TYPES.indexOf(type.split(":").at(-1) ?? "") + 1).padStart(2, "0");
    return `${owner} ${position} ${type} ${name}`;
  };
  return registered.toSorted((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
}

/** Returns the label of a resource, and its inputs and options, which name other resources by their labels. */
async function sectionOf({ type, name, inputs, provider, options }: Registered): Promise<[string, object]> {
  const { parent, dependsOn, replacementTrigger, version, aliases, provider: _, ...others } = options;
  const required = [await known(dependsOn ?? [])].flat() as pulumi.Resource[];
  const requiredUrns = await Promise.all(required.map(({ urn }) => known(urn)));
  // Its arguments are the settings, whose effect the other sections show.
  const content = type.startsWith("eks-pulumi-oidc:") ? {} : inputs;
  const { apiVersion, kind, ...properties } = content;
  const section = {
    ...properties,
    "(options)": {
      parent: parent && labelOfUrn(await known(parent.urn)),
      provider: provider ? labelOfUrn(provider) : undefined,
      dependsOn: [...new Set(requiredUrns.map(labelOfUrn))].sort(),
      replacementTrigger: replacementTrigger && (await known(replacementTrigger)),
      ...others,
      providers: undefined,
      // Those of the SDK are left out: the types that a resource had, and the version of its package.
      aliases: (aliases as object[] | undefined)?.filter((alias) => Object.keys(alias).join() !== "type"),
      version: version === versionOfSdk(type) ? undefined : version,
    },
  };
  return [shortened(labelOf(type, name)), section];
}

function versionOfSdk(type: string): unknown {
  const [, packageName] = /^(?:pulumi:providers:)?([\w-]+)/.exec(type) ?? [];
  try {
    return require(`@pulumi/${packageName}/package.json`).version;
  } catch {
    return undefined;
  }
}

/** @param urn `urn:pulumi:STACK::PROJECT::PARENT_TYPE$TYPE::NAME` */
function labelOfUrn(urn: string): string {
  const [, , types = "", ...name] = urn.split("::");
  return labelOf(types.split("$").at(-1) ?? "", name.join("::"));
}

/** Returns the checksum of each ConfigMap, which its Job has, and how a document names it. */
function checksumsIn(registered: Registered[]): [string, string][] {
  const configMaps = registered.filter(({ type }) => type === "kubernetes:core/v1:ConfigMap");
  return configMaps.map(({ type, name, inputs }) => {
    const files = [...SETTINGS_FILES, SCRIPT_FILE];
    const data = Object.fromEntries(files.map((file) => [file, inputs.data[file]]));
    const checksum = createHash("sha256").update(JSON.stringify(data)).digest("hex");
    return [checksum, `<checksum of ${shortened(labelOf(type, name))}>`];
  });
}

const SCRIPT = read("scripts/exchange-token.sh");

/** Returns a value with sorted keys, without what is empty, and without the text of the script. */
function readable(value: unknown, checksums: Map<string, string>, key?: string): unknown {
  if (value === SCRIPT) return "<scripts/exchange-token.sh>";
  if (key === "kubeconfig") return readable(JSON.parse(String(value)), checksums);
  if (typeof value === "string") return checksums.get(value) ?? shortened(value);
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value))
    return value.length > 0 ? value.map((element) => readable(element, checksums)) : undefined;
  const entries = Object.entries(value).map(([name, element]) => {
    return [shortened(name), readable(element, checksums, name)] as const;
  });
  const present = entries.filter(([, element]) => element !== undefined);
  return present.length > 0 ? Object.fromEntries(present.sort(([a], [b]) => (a < b ? -1 : 1))) : undefined;
}

/** Returns a string in which a long name, which is one repeated letter in the tests, is short. */
function shortened(text: string): string {
  return text.replaceAll(/(\w)\1{20,}/g, (name, letter) => `${letter}×${name.length}`);
}

/** Returns a section in which labels name the service account of another label. */
function renamed(section: unknown, from: string, to: string): unknown {
  const [old, account] = [from, to].map((label) => label.split(".").slice(1, 3).join("."));
  return JSON.parse(JSON.stringify(section).replaceAll(`.${old}`, `.${account}`));
}

/** Returns the parts of a value that differ from those of another. */
function differencesFrom(base: unknown, value: unknown): unknown {
  if (isDeepStrictEqual(value, base)) return undefined;
  if (!isComposite(value) || !isComposite(base)) return value;
  if (Array.isArray(value) !== Array.isArray(base)) return value;
  if (Array.isArray(value) && value.length !== base.length) return value;
  const keys = [...new Set([...Object.keys(base), ...Object.keys(value)])].sort();
  const entries = keys.map((key) => {
    const difference = key in value ? differencesFrom(base[key], value[key]) : "<none>";
    return [Array.isArray(value) ? `[${key}]` : key, difference] as const;
  });
  return Object.fromEntries(entries.filter(([, difference]) => difference !== undefined));
}

function isComposite(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

/** Returns a section as YAML, in which a short list or object takes one line. */
export function yamlOf(section: unknown): string {
  const document = new Document(section);
  visit(document, {
    Collection(_, node, path) {
      const text = JSON.stringify(node);
      const isNested = node.items.some(
        (item) => isCollection(item) || (isPair(item) && isCollection(item.value)),
      );
      const isSection = path.length <= 3;
      node.flow = !isSection && !isNested && text.length <= 130 && !text.includes("\\n");
    },
  });
  return document.toString({ lineWidth: 0, flowCollectionPadding: true });
}

/** Returns the path of a document of this directory. */
export function goldenPath(name: string): string {
  return join(__dirname, "golden", `${name}.yaml`);
}
