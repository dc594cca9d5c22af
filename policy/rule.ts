// What a guardrail is, and what it is asked about.

import type { PolicyConfigJSONSchema } from "@pulumi/policy/schema";
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

/** A guardrail: a sentence that is true of every resource by itself, and how it is checked. */
export interface Rule {
  name: string;
  /** A sentence that is true if nothing is reported. */
  description: string;
  /** A mandatory violation stops an update, an advisory one is printed. */
  level: "mandatory" | "advisory";
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

/** What the configuration can set, with its default. */
export type Setting = PolicyConfigJSONSchema & { default: number | boolean | string[] };

/** Returns a setting that is a list of strings. @param pattern of each. */
export function list(description: string, pattern = ""): Setting {
  return { type: "array", items: { type: "string", pattern }, default: [], description };
}

/** Returns the name of a guardrail in an organization's list of all policies, where it has to say what it is about. */
export function displayNameOf({ name }: Rule): string {
  return `Pulumi access tokens by OIDC: ${name.replaceAll("-", " ")}`;
}
