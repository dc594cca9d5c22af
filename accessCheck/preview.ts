// What `pulumi preview` finds out about a stack: how its program differs from what exists, and what the program says.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { shellQuoted, shown } from "./terminal";
import { type Run, ToolError } from "./tools";

/** A resource of the program. */
export interface PreviewedResource {
  /** Such as `aws:iam/role:Role`. */
  type: string;
  name: string;
  /** What the program says, never what the state says. */
  inputs: Record<string, unknown>;
  /** What the state says, read again by the preview. Undefined if it contains no such resource. */
  deployed: { id: string; outputs: Record<string, unknown> } | undefined;
}

export interface Preview {
  /** Whether the program and what exists differ, by Pulumi's own comparison. */
  hasChanges: boolean;
  /** What the CLI printed. */
  diff: string;
  project: string;
  /** A string for each `NAMESPACE:KEY`. */
  config: Record<string, string>;
  resources: PreviewedResource[];
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
  const stack = `--stack=${name}`;
  const options = ["--refresh", "--diff", "--expect-no-changes", "--non-interactive", "--color=never"];
  const environment = { PULUMI_DEBUG_COMMANDS: "true" };
  let failure: ToolError | undefined;
  const diff = await run("pulumi", ["preview", ...options, stack, `--event-log=${log}`], {
    environment,
    seconds: PREVIEW_SECONDS,
  }).catch((error: unknown) => {
    if (!(error instanceof ToolError)) throw error;
    failure = error;
    return error.stdout;
  });

  const events = await readEvents(log);
  const hasChanges = failure?.stderr.includes("no changes were expected") ?? false;
  if (failure && !hasChanges) throw failed(name, reasonOf(events, failure));
  return { hasChanges, diff, ...programOf(events) };
}

function failed(name: string, reason: string): Error {
  const command = `pulumi preview --refresh --diff --stack ${shellQuoted(name)}`;
  return new Error(`The preview failed, so no token was sent: ${reason}\nTo see all of it: ${command}`);
}

/** Returns why a preview failed: the first error of the engine, or the CLI's own. */
function reasonOf(events: Event[], { stderr, message }: ToolError): string {
  const error = events.find(({ diagnosticEvent }) => diagnosticEvent?.severity === "error");
  const [, reason] = /^error: (.+)/m.exec(stderr) ?? [];
  return shown((error?.diagnosticEvent?.message ?? reason ?? message).trim());
}

/** An event of the engine, as far as it is read here: sdk/go/common/apitype/events.go in pulumi/pulumi. */
interface Event {
  preludeEvent?: { config?: Record<string, string> };
  diagnosticEvent?: { severity: string; message: string };
  resourcePreEvent?: { metadata: Step };
}

interface Step {
  op: string;
  urn: string;
  type: string;
  /** What the state says. */
  old?: { id?: string; outputs?: Record<string, unknown> };
  /** In a refresh, what the state says; else what the program says. */
  new?: { inputs?: Record<string, unknown> };
}

/** Returns the events that the CLI has logged, one a line: none if it ended before. */
async function readEvents(log: string): Promise<Event[]> {
  const lines = await readFile(log, "utf8").catch(() => "");
  return lines
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line));
}

function programOf(events: Event[]): Pick<Preview, "project" | "config" | "resources"> {
  const steps = events.flatMap(({ resourcePreEvent }) => resourcePreEvent?.metadata ?? []);
  const existing = new Map<string, PreviewedResource["deployed"]>();
  for (const { urn, old } of steps) {
    if (old) existing.set(urn, { id: old.id ?? "", outputs: old.outputs ?? {} });
  }
  const registered = steps.filter((step) => step.op !== "refresh" && step.new);
  const resources = registered.map(({ urn, type, new: state }) => ({
    type,
    name: urn.split("::")[3] ?? "",
    inputs: state?.inputs ?? {},
    deployed: existing.get(urn),
  }));
  const [, project = ""] = registered[0]?.urn.split("::") ?? [];
  const prelude = events.find(({ preludeEvent }) => preludeEvent)?.preludeEvent;
  return { project, config: prelude?.config ?? {}, resources };
}
