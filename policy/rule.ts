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
}

/** A mandatory violation stops an update, an advisory one is printed. */
export type Level = "mandatory" | "advisory";

/** A guardrail: a sentence that is true of every resource by itself, and how it is checked. */
export interface Rule {
  name: string;
  /** What it is about, in an organization's list of all policies. */
  displayName: string;
  /** A sentence that is true if nothing is reported. */
  description: string;
  level: Level;
  /** What to do about a violation. */
  remediation: string;
  /** What the configuration of the pack can set for this guardrail, as JSON schemas. */
  settings?: Record<string, Setting>;
  /** Whether it is asked when all is done, for what only outputs show. Others are asked before a resource is created or changed. */
  isAskedAtEnd?: true;
  check(resource: Resource, context: Context): void;
}

export interface Context {
  /** The settings of the guardrail, with every default. */
  settings: Fields;
  /** The URLs of clusters' issuers that the configuration lists. */
  clusters: string[];
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
