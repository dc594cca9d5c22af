// The manifests in examples/, and a simulation in which the program has created what their settings ask for.

import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { parse, parseAllDocuments } from "yaml";
import { tokenExchangePod } from "../../kubernetes/jobPod";
import { inputsOf, type Run, runStack } from "../core/program";
import type { PodSpec } from "../support/podSpec";
import { ROOT, read } from "../support/project";
import type { KubernetesObject } from "./apiServer";

interface Entry {
  namespace: string;
  name: string;
  tokenType: string;
  tokenAudience?: string;
  runJob?: boolean;
}

/** The settings in a manifest's header. */
interface Settings {
  createNamespaces?: string[];
  serviceAccounts: Entry[];
}

/** The manifests in examples/, beside which are programs. */
export const EXAMPLES = readdirSync(join(ROOT, "examples")).filter((file) => file.endsWith(".yaml"));

/** Returns an example, with the settings in its header, of which the first entry is that of its pod. */
export function exampleOf(file: string) {
  const source = read(`examples/${file}`);
  const header = source.slice(source.indexOf("# config:"), source.indexOf("\napiVersion:"));
  const settings: Settings = parse(header.replaceAll(/^# ?/gm, "")).config;
  const [entry = assert.fail(`${file} names no service account`)] = settings.serviceAccounts;
  return { source, settings, entry, manifests: readManifests(source) };
}

/** Returns the documents of an example without the lines marked (3), which `injectToken` replaces. */
export function manifestsWithoutExchange(file: string): KubernetesObject[] {
  return readManifests(exampleOf(file).source.replaceAll(/^( +)(?! ).*# \(3\).*\n(\1 .*\n)*/gm, ""));
}

/** Returns the documents as kubectl reads them: YAML 1.1, in which 0555 is octal. */
function readManifests(source: string): KubernetesObject[] {
  return parseAllDocuments(source, { version: "1.1" }).map((document) => document.toJS());
}

/**
 * Returns the pod spec of an example with its one container: that of a Stack as the operator completes it.
 *
 * @param manifests by default, those of the file.
 */
export function podOf(
  file: string,
  manifests = exampleOf(file).manifests,
): { spec: PodSpec; container: PodSpec["containers"][number] } {
  const owner = manifests.map(({ spec }) => spec).find(podTemplateIn) ?? {};
  const template = podTemplateIn(owner) ?? assert.fail(`${file} has no pod`);
  const spec: PodSpec = template.spec;
  const [container, ...others] = spec.containers;
  assert.ok(container && others.length === 0, `${file} must have one container`);
  const { workspaceTemplate, serviceAccountName, envRefs = {} } = owner;
  if (!workspaceTemplate) return { spec, container };
  // The operator passes a Literal on to the container.
  const env = Object.entries<KubernetesObject>(envRefs).map(([name, { literal }]) => ({ name, ...literal }));
  return {
    spec: { ...spec, serviceAccountName },
    container: { ...container, ...(env.length > 0 && { env }) },
  };
}

/** Returns the pod template in the spec of an object; undefined if there is none. */
export function podTemplateIn(spec: KubernetesObject["spec"] = {}): KubernetesObject | undefined {
  return spec.workspaceTemplate?.spec.podTemplate ?? spec.jobTemplate?.spec.template ?? spec.template;
}

/** Returns a pod spec with the exchange, as `tokenExchangePod` and the admission policy of `injectToken` complete it. */
export function withExchange(file: string, spec: PodSpec): PodSpec {
  const { name, tokenAudience = "urn:pulumi:org:acme" } = exampleOf(file).entry;
  const configMap = `${name}-pulumi-token-exchange`;
  return tokenExchangePod(spec, { serviceAccountName: name, configMap, tokenAudience }) as PodSpec;
}

/**
 * Returns the settings of a stack with the entries of all examples. Examples can share a service account, whose entry then has the
 * settings of each. The exchange is added to the pods of all entries.
 */
export function settingsOfExamples() {
  const examples = EXAMPLES.map(exampleOf);
  const entries = new Map<string, Entry>();
  for (const entry of examples.flatMap(({ settings }) => settings.serviceAccounts)) {
    const account = `${entry.namespace}/${entry.name}`;
    entries.set(account, { ...entries.get(account), ...entry });
  }
  const serviceAccounts = [...entries.values()].map((entry) => ({ ...entry, injectToken: true }));
  const createNamespaces = [...new Set(examples.flatMap(({ settings }) => settings.createNamespaces ?? []))];
  return { serviceAccounts, createNamespaces };
}

/** Runs the program once with the entries of all examples. */
export function runExamples(): Promise<Run> {
  return runStack(settingsOfExamples());
}

/** Returns an object that a program creates. @throws AssertionError if it does not. */
export function createdBy(run: Run, kind: string, namespace: string, name: string): KubernetesObject {
  const found = inputsOf(run, kind).find((it) => {
    return it.metadata?.namespace === namespace && it.metadata.name === name;
  });
  return found ?? assert.fail(`the program created no ${kind} ${namespace}/${name}`);
}
