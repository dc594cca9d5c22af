// What a guardrail is, and what it is asked about.

import type { Fields } from "./values";

/** A resource of a program, as the engine sends it. */
export interface Resource {
  urn: string;
  type: string;
  name: string;
  /** Empty if the engine leaves the resource out, as with --target. */
  inputs: Fields;
  ignoreChanges?: string[];
  /** Its provider, if the engine asks no guardrail about that, as with --target. */
  unaskedProvider?: { type: string; inputs: Fields };
  /** What exists. Only known at the end. */
  outputs?: Fields;
  /** The URNs of the resources that an input comes from. Only known at the end. */
  propertyDependencies?: Record<string, string[]>;
}

/** A mandatory violation stops an update, an advisory one is printed. */
export type Level = "mandatory" | "advisory";

/** A guardrail: a sentence that is true of every program, and how it is checked. */
export interface Rule {
  name: string;
  /** A sentence that is true if nothing is reported. */
  description: string;
  level: Level;
  severity: "low" | "medium" | "high" | "critical";
  /** What to do about a violation. */
  remediation: string;
  /** What the configuration of the pack can set for this guardrail, as JSON schemas. */
  settings?: Record<string, Setting>;
  /** Whether it is asked when all is done, for what only outputs show. Others are asked before a resource is created or changed. */
  isAskedAtEnd?: true;
  check(resource: Resource, context: Context): void;
}

export interface Context {
  /** What was registered so far, with the resource. */
  program: Resource[];
  /** The settings of the guardrail, with every default. */
  settings: Fields;
  /** @param message says what is, and what should be. @param setting allows it. */
  report(message: string, setting?: string): void;
}

export interface Setting {
  type: "integer" | "boolean" | "array";
  items?: { type: "string"; pattern?: string };
  default: number | boolean | string[];
  description: string;
}

/** Returns a setting that is a list of strings. */
export function list(description: string, ...values: string[]): Setting {
  return { type: "array", items: { type: "string" }, default: values, description };
}

/** Returns the messages of a guardrail about a resource, each once. @param given settings, without the defaults. */
export function ask(rule: Rule, resource: Resource, program: Resource[], given: Fields): string[] {
  if (Object.keys(resource.inputs).length === 0) return [];
  const messages = new Set<string>();
  const report = (message: string, setting?: string) => {
    messages.add(setting ? `${message} To allow it, change ${setting} of "${rule.name}".` : message);
  };
  const defaults = Object.entries(rule.settings ?? {}).map(([name, it]) => [name, it.default]);
  rule.check(resource, { program, settings: { ...Object.fromEntries(defaults), ...given }, report });
  return [...messages];
}
