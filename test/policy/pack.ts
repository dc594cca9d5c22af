// The policy pack on Pulumi's engine.

import assert from "node:assert/strict";
import { join } from "node:path";
import type { Outcome } from "../environment/pulumiCli";
import { ROOT } from "../support/project";

/**
 * The options that run a pack as an executable: the old language host of .ci/pulumi-cli cannot start a directory.
 *
 * @param project the directory of a copy of this project.
 */
export function packOf(project: string): string[] {
  return ["--policy-pack", join(project, "policy", "start.js")];
}

/** The options that run the pack of this checkout. */
export const PACK = packOf(ROOT);

const HEADING = /^ {8}- \[(\w+)\] \[severity: \w+\] {2}(\S+) {2}\(\S+ (\S+)\)$/;

/** Returns the violations that the CLI has printed, as `LEVEL RULE RESOURCE: MESSAGE`. Fails if the pack has not run. */
export function violationsIn({ screen }: Outcome): string[] {
  const [, , policies = ""] = /^(Policies:)\n(.*?)\n\n/ms.exec(screen) ?? [];
  assert.match(policies, /^ {4}\S+ pulumi-oidc-guardrails@/, screen);
  const lines = policies.split("\n");
  return lines.flatMap((line, index) => {
    const [, level, rule, name] = HEADING.exec(line) ?? [];
    // Below it are the guardrail, and the message.
    return rule ? `${level} ${rule} ${name}: ${lines[index + 2]?.trim()}` : [];
  });
}
