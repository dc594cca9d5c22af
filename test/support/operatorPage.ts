// What docs/operator.md contains: its commands, its settings, and a Stack before and after.

import assert from "node:assert/strict";
import { parse } from "yaml";
import type { PodSpec } from "../../simulator/emulators/pod";
import { codeIn, read } from "./project";

export interface OperatorStack {
  metadata: { namespace: string; name: string };
  spec: {
    serviceAccountName: string;
    envRefs?: object;
    workspaceTemplate?: { spec: { env: object[]; podTemplate: { spec: PodSpec } } };
  };
}

const PAGE = read("docs/operator.md");

const [settings = "", before = "", after = ""] = codeIn(PAGE, "yaml");

/** The settings of step 3. */
export const SETTINGS: { serviceAccounts: { namespace: string; name: string }[] } = parse(settings).config;

/** The Stack of step 4. */
export const STACK_BEFORE = readStack(before);
export const STACK_AFTER = readStack(after);

/** Returns the Stack as kubectl reads it: YAML 1.1, in which 0555 is octal. */
function readStack(source: string): OperatorStack {
  return parse(source, { version: "1.1" });
}

/** Returns the one command of the page that contains a string. */
export function commandWith(text: string): string {
  const [command, ...others] = codeIn(PAGE, "bash").filter((block) => block.includes(text));
  assert.ok(command && others.length === 0, `one command must contain ${text}`);
  return command;
}
