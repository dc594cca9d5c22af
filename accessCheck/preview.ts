// Previews the update of a program that is deployed, after reading everything that exists.

import { FailedPreview, type Plan, parsePlan } from "./plan";
import { redact, shellQuoted } from "./terminal";
import { type Run, ToolError } from "./tools";

/** In seconds. A preview reads every resource of the stack. */
const PREVIEW_SECONDS = 900;

/**
 * Runs `pulumi preview --refresh`, which changes nothing.
 *
 * @throws Error that says why the preview failed.
 */
export async function previewStack(stack: string, run: Run): Promise<Plan> {
  const options = ["--refresh", "--json", "--show-sames", "--non-interactive", `--stack=${stack}`];
  try {
    const printed = await run("pulumi", ["preview", ...options], { seconds: PREVIEW_SECONDS });
    return parsePlan(printed, "The output of pulumi preview");
  } catch (error) {
    const failure = error instanceof ToolError ? failureOf(error) : error;
    if (!(failure instanceof FailedPreview)) throw failure;
    // Not shortened: no token exists yet, and an error of AWS begins with its request and ends with the reason.
    const reason = redact(failure.reason).replaceAll("\n", " ");
    throw new Error(`The preview failed, so no token was sent: ${reason}\n${adviceFor(reason, stack)}`);
  }
}

/** Reads why a preview failed: from its diagnostics or, if the engine has not started, from what the CLI printed. */
function failureOf({ stdout, stderr, message }: ToolError): FailedPreview {
  try {
    parsePlan(stdout, "");
  } catch (failure) {
    if (failure instanceof FailedPreview) return failure;
  }
  const [, reported = message] = /^error: (.+)/m.exec(stderr) ?? [];
  return new FailedPreview(reported);
}

function adviceFor(reason: string, stack: string): string {
  if (/PULUMI_ACCESS_TOKEN must be set|pulumi login|Unauthorized/.test(reason))
    return "To sign in: pulumi login";
  // The CLI adds the default organization to a name, whichever organization the selected stack has.
  if (reason.startsWith("no stack named") && !stack.includes("/")) {
    return `Is it in another organization than your default one? npm start -- --live --stack ORGANIZATION/${shellQuoted(stack)}`;
  }
  return `To see all of it: pulumi preview --refresh --diff --stack ${shellQuoted(stack)}`;
}
