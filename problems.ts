// A problem of the configuration, with the command that fixes it, and the error that lists every problem.

import * as pulumi from "@pulumi/pulumi";
import { userError } from "./userError";

/** One problem of the configuration: where it is, with the value if there is one, and the command that fixes it. */
export interface Problem {
  setting: string;
  reason: string;
  fix: string;
}

/** A key of an object, or an index of a list. */
export type Step = string | number;

/** Returns a path as `pulumi config --path` takes it. */
export function pathOf(...steps: Step[]): string {
  return steps
    .map((step) => (typeof step === "string" && /^[\w:]+$/.test(step) ? `.${step}` : `[${JSON.stringify(step)}]`))
    .join("")
    .replace(/^\./, "");
}

/** Returns a problem that another value fixes: the example, or a value like the placeholder that is printed without one. */
export function replace(path: string, value: unknown, reason: string, example = placeholder(path, reason)): Problem {
  // Set whole, a list would be stored as a string, and setting another element would drop it.
  const [, key, element] = /\[(?:\{"(\w+)":)?"([^"]+)"/.exec(reason) ?? [];
  const target = element ? `${path}[0]${key ? `.${key}` : ""}` : path;
  // Without the type, the CLI reads 511 as a number again.
  const type = reason.startsWith("must be a string") ? "--type string " : "";
  // Because of its name, the CLI mistakes a long value for a secret.
  const plaintext = path.endsWith("tokenAudience") ? "--plaintext " : "";
  const fix = `pulumi config set ${type}${plaintext}${quote(target)} ${element ?? example}`;
  return { setting: describe(path, value), reason, fix };
}

/** Returns a problem that is fixed by removing the setting. */
export function remove(path: string, value: unknown, reason: string): Problem {
  return { setting: describe(path, value), reason, fix: `pulumi config rm ${quote(path)}` };
}

/** Returns the problem of an encrypted setting. The engine does not report which of its values is encrypted. */
export function encrypted(key: string): Problem {
  return {
    setting: key,
    reason: "is encrypted, but would be stored in plaintext in the stack's state",
    fix: `pulumi config set --plaintext ${key === "serviceAccounts" ? "--path 'serviceAccounts[INDEX].KEY'" : key} VALUE`,
  };
}

/** Returns a placeholder for the value, such as TEAM for `teamName`. */
function placeholder(path: string, reason: string): string {
  if (reason === "must be true or false") return "true";
  return (/([A-Z]?[a-z]+)(Name)?$/.exec(path)?.[1] ?? "VALUE").toUpperCase();
}

function describe(path: string, value: unknown): string {
  return value === undefined ? path : `${path} = ${JSON.stringify(value)}`;
}

function quote(path: string): string {
  return /^[\w:]+$/.test(path) ? path : `--path '${path.replaceAll("'", "'\\''")}'`;
}

/**
 * Returns each problem once, in an order in which its commands can be typed: removing an element moves the later ones up,
 * so values are set first, and elements are removed from the last to the first.
 */
export function inOrder(problems: Problem[]): Problem[] {
  const distinct = problems.filter(({ fix }, index) => problems.findIndex((it) => it.fix === fix) === index);
  const isRemoval = ({ fix }: Problem) => fix.startsWith("pulumi config rm");
  return [...distinct.filter((it) => !isRemoval(it)), ...distinct.filter(isRemoval).reverse()];
}

/** Returns the error that reports problems of the configuration, all at once. */
export function invalidConfiguration(problems: Problem[]): pulumi.RunError {
  const count = problems.length === 1 ? "1 problem" : `${problems.length} problems`;
  const list = problems.map(({ setting, reason, fix }) => `  ${setting}: ${reason}\n      ${fix}\n`);
  const stack = pulumi.getStack();
  const title = `Invalid configuration for stack "${stack}" (${count}). No changes were made.`;
  return userError(
    `${title}\n\n${list.join("")}\n  If it is not the selected stack, add to each command: --stack ${stack}\n`,
  );
}
