// What docs/operator.md contains: its commands, its settings, and a Stack before and after.

import assert from "node:assert/strict";
import { parse } from "yaml";
import type { PodSpec } from "../../simulator/emulators/pod";
import { codeIn, read } from "./project";

interface StackSpec {
  serviceAccountName: string;
  envRefs?: object;
  workspaceTemplate: { spec: { image: string; env?: object[]; podTemplate?: { spec: PodSpec } } };
}

const PAGE = read("docs/operator.md");

const [settings = ""] = codeIn(PAGE, "yaml");
const [diff = ""] = codeIn(PAGE, "diff");

/** The settings of step 3. */
export const SETTINGS: { serviceAccounts: { namespace: string; name: string }[] } = parse(settings).config;

/** What the diff of step 4 changes. The image is that of both, since it is the first change. */
export const SPEC_BEFORE = sideOfDiff("-");
export const SPEC_AFTER = sideOfDiff("+");

/** Returns one side of the diff as kubectl reads it: YAML 1.1, in which 0555 is octal. */
function sideOfDiff(sign: "-" | "+"): StackSpec {
  const lines = diff.split("\n").filter((line) => [" ", sign].includes(line.charAt(0)));
  return parse(lines.map((line) => line.slice(1)).join("\n"), { version: "1.1" }).spec;
}

/** Returns the one command of the page that contains a string. */
export function commandWith(text: string): string {
  const [command, ...others] = codeIn(PAGE, "bash").filter((block) => block.includes(text));
  assert.ok(command && others.length === 0, `one command must contain ${text}`);
  return command;
}
