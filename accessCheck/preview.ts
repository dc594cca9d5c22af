// What `pulumi preview` finds out about a stack: how its program differs from what exists, and what the program says.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { State as Resource } from "./plan";
import { redact, shellQuoted } from "./terminal";
import { type Run, ToolError } from "./tools";

export interface Preview {
  /** Whether the program and what exists differ, by Pulumi's own comparison. */
  hasChanges: boolean;
  /** What the CLI printed. */
  diff: string;
  /** A string for each `NAMESPACE:KEY`. */
  config: Record<string, string>;
  /** The name of the project. */
  project: string;
  /** The resources of the program, with the IDs and outputs of the state, which the preview has read again. */
  resources: Resource[];
}

interface State {
  id?: string;
  inputs?: Record<string, unknown>;
  outputs?: Record<string, unknown>;
}

/** An event of the engine, as far as it is read here: sdk/go/common/apitype/events.go in pulumi/pulumi. */
interface Event {
  preludeEvent?: { config: Record<string, string> };
  diagnosticEvent?: { severity: string; message: string };
  /** In a refresh, the new state is what exists; otherwise, what the program says. */
  resourcePreEvent?: { metadata: { op: string; urn: string; type: string; old?: State; new?: State } };
}

/** In seconds. A preview reads every resource of the stack. */
const PREVIEW_SECONDS = 900;

/**
 * Previews the update of a stack, after reading everything that exists. Nothing is changed.
 *
 * The CLI logs the engine's events for the Automation API, by an option that it has only with PULUMI_DEBUG_COMMANDS. They
 * contain what the program has registered, even where nothing changes, and secrets only as `[secret]`.
 *
 * @param directory for the log of events.
 * @throws Error that says why the preview failed.
 */
export async function previewStack(name: string, directory: string, run: Run): Promise<Preview> {
  const log = join(directory, "events");
  const options = ["--refresh", "--diff", "--expect-no-changes", "--non-interactive", "--color=never"];
  const args = ["preview", ...options, `--stack=${name}`, `--event-log=${log}`];
  const environment = { PULUMI_DEBUG_COMMANDS: "true" };
  const result = await run("pulumi", args, { environment, seconds: PREVIEW_SECONDS }).catch(
    (error: unknown) => (error instanceof ToolError ? error : Promise.reject(error)),
  );
  // There is no log if the CLI ended before the engine started.
  const lines = await readFile(log, "utf8").catch(() => "");
  const events: Event[] = lines.split("\n").flatMap((line) => (line ? JSON.parse(line) : []));
  if (typeof result === "string") return { hasChanges: false, diff: result, ...programOf(events) };
  if (result.stderr.includes("no changes were expected")) {
    return { hasChanges: true, diff: result.stdout, ...programOf(events) };
  }
  const error = events.find(({ diagnosticEvent }) => diagnosticEvent?.severity === "error");
  const [, reported] = /^error: (.+)/m.exec(result.stderr) ?? [];
  const message = (error?.diagnosticEvent?.message ?? reported ?? result.message).trim();
  // Not shortened: no token exists yet, and an error of AWS begins with its request and ends with the reason.
  const reason = redact(message).replaceAll("\n", " ");
  // The CLI adds the default organization to a name, whichever organization the selected stack has.
  const isPerhapsElsewhere = reason.startsWith("no stack named") && !name.includes("/");
  const advice = isPerhapsElsewhere
    ? `Is it in another organization than your default one? npm start -- --live --stack ORGANIZATION/${shellQuoted(name)}`
    : `To see all of it: pulumi preview --refresh --diff --stack ${shellQuoted(name)}`;
  throw new Error(`The preview failed, so no token was sent: ${reason}\n${advice}`);
}

function programOf(events: Event[]): Pick<Preview, "config" | "project" | "resources"> {
  const steps = events.flatMap(({ resourcePreEvent }) => resourcePreEvent?.metadata ?? []);
  const states = new Map(steps.flatMap(({ urn, old }) => (old ? [[urn, old]] : [])));
  const resources = steps.flatMap(({ op, urn, type, new: said }) => {
    if (op === "refresh" || !said) return [];
    const { id, outputs } = states.get(urn) ?? {};
    return [{ type, name: partsOf(urn).name, inputs: said.inputs ?? {}, id, outputs }];
  });
  const config = events.find(({ preludeEvent }) => preludeEvent)?.preludeEvent?.config ?? {};
  return { config, project: partsOf(steps[0]?.urn ?? "").project, resources };
}

// urn:pulumi:STACK::PROJECT::TYPES::NAME
function partsOf(urn: string): { project: string; name: string } {
  const [, project = "", , ...name] = urn.split("::");
  return { project, name: name.join("::") };
}
