// Reads what `pulumi preview --json --show-sames` prints: the resources of a program, and what its update does to each. The format is
// that of sdk/go/common/display/json.go in pulumi/pulumi.

import { stripVTControlCharacters } from "node:util";
import * as v from "valibot";
import { isObject } from "../kubernetes/plainObject";

/** A state of a resource: ResourceV3 in sdk/go/common/apitype/core.go. */
export interface State {
  urn: string;
  /** Such as `aws:iam/role:Role`. */
  type: string;
  name: string;
  inputs: Record<string, unknown>;
  /** Undefined if it is not known yet. */
  id?: string | undefined;
  /** The ID that the program imports it by. */
  importId?: string | undefined;
  outputs?: object | undefined;
  /** For each input, the URNs of the resources that it comes from. */
  propertyDependencies: Record<string, unknown>;
  /** The options by which it stays in its service: `retainOnDelete`, `deletedWith`, and `protect`. */
  options: Record<string, string | true>;
  /** Whether the program only reads it: then its inputs do not say what exists. */
  isExternal: boolean;
  parent: string | undefined;
  /** The URN of its provider. */
  provider: string | undefined;
}

/** A resource, and what the update does to it. */
export interface PlannedResource {
  urn: string;
  type: string;
  name: string;
  /** Undefined if nothing. */
  operation: Operation | undefined;
  /** Whether the update creates it again, with another ID and other outputs. */
  isReplaced: boolean;
  /** Before a refresh: as the state has it. */
  recorded: State | undefined;
  /** Before the update: as the state has it or, after a refresh, as it exists. Undefined if it is new. */
  oldState: State | undefined;
  /** After the update: the inputs of the program, with the ID and the outputs of the old state. Undefined if the update deletes it. */
  newState: State | undefined;
}

/** A program, and what its update would do. */
export interface Plan {
  stack: string;
  /** A string for each `NAMESPACE:KEY`. */
  config: Record<string, string>;
  /** In the order of the preview. */
  resources: PlannedResource[];
  /** What an earlier update has replaced, and not deleted. */
  undeleted: State[];
  /** Whether the preview has read what exists. */
  isRefreshed: boolean;
}

// What is read as it is, and not copied: a copy would lose keys such as `__proto__`.
const record = v.custom<Record<string, unknown>>(isObject, "must be an object");

const stateSchema = v.nullish(
  v.looseObject({
    urn: v.optional(v.string()),
    type: v.optional(v.string()),
    id: v.optional(v.string()),
    importID: v.optional(v.string()),
    inputs: v.optional(record, {}),
    outputs: v.optional(record),
    parent: v.optional(v.string()),
    provider: v.optional(v.string()),
    propertyDependencies: v.optional(record, {}),
    protect: v.optional(v.boolean()),
    retainOnDelete: v.optional(v.boolean()),
    deletedWith: v.nullish(v.string()),
    external: v.optional(v.boolean(), false),
    delete: v.optional(v.boolean(), false),
  }),
);

const stepSchema = v.looseObject({
  op: v.string(),
  urn: v.string(),
  oldState: stateSchema,
  newState: stateSchema,
});

/** One of the things that an update does to a resource. */
export type Step = v.InferInput<typeof stepSchema>;

const planSchema = v.pipe(
  v.looseObject({
    config: v.optional(v.record(v.string(), v.string()), {}),
    steps: v.optional(v.array(stepSchema)),
    diagnostics: v.optional(v.array(v.looseObject({ severity: v.string(), message: v.string() }))),
    changeSummary: v.optional(record),
  }),
  v.check(({ steps, diagnostics }) => steps !== undefined || diagnostics !== undefined),
);

/**
 * Reads the result of `pulumi preview --json --show-sames`.
 *
 * @param text what the command has printed on standard output.
 * @param source what an error calls the text, such as the name of a file.
 * @throws Error with that of the preview, if it failed, or if the text is empty or in another format.
 */
export function parsePlan(text: string, source: string): Plan {
  if (text.trim() === "") throw new Error(`${source} is empty. Did the preview fail?`);
  const { output, success } = v.safeParse(v.pipe(v.string(), v.parseJson(), planSchema), text);
  if (!success) {
    throw new Error(`${source} is not what \`pulumi preview --json --show-sames\` prints, or not all of it.`);
  }

  const { config, steps = [], diagnostics = [], changeSummary } = output;
  const [error] = diagnostics.flatMap(errorIn);
  if (error !== undefined) throw new Error(`The preview failed: ${error}`);
  if (!changeSummary) {
    throw new Error("The preview failed: its result has no changeSummary. Was it interrupted?");
  }

  return planFrom(steps, config);
}

/** How the language host for YAML begins its own error, which is not one of the engine's: pkg/server/server.go in pulumi/pulumi-yaml. */
const YAML_ERROR = "\u001b[31mError\u001b[0m: ";

/** Returns the error that has ended a preview, if a message is one. What a program prints can look like one, and is not. */
function errorIn({ severity, message }: { severity: string; message: string }): string[] {
  const plain = (text: string) => stripVTControlCharacters(text).trim();
  if (severity === "error") return [plain(message).replace(/^error: /, "")];
  const isOfYaml = severity === "info#err" && message.startsWith(YAML_ERROR);
  return isOfYaml ? [plain(message.slice(YAML_ERROR.length))] : [];
}

/** Returns the plan that has these steps, in the order of the engine. */
export function planFrom(steps: Step[], config: Plan["config"] = {}): Plan {
  const undeleted = steps.filter((step) => isOfEarlierUpdate(step, steps));
  const byUrn = new Map<string, Step[]>();
  for (const step of steps.filter((it) => !undeleted.includes(it))) {
    byUrn.set(step.urn, [...(byUrn.get(step.urn) ?? []), step]);
  }
  const [, stack = ""] = /^urn:pulumi:([^:]*)::/.exec(steps[0]?.urn ?? "") ?? [];
  return {
    stack,
    config,
    resources: [...byUrn].map(([urn, ofResource]) => resourceFrom(urn, ofResource)),
    undeleted: undeleted.flatMap(({ oldState, urn }) => stateOf(oldState, urn) ?? []),
    isRefreshed: steps.some(({ op }) => op === "refresh"),
  };
}

/** Returns whether a step is about what an earlier update has replaced, and not deleted. It has the URN of what replaced it. */
function isOfEarlierUpdate({ urn, op, oldState }: Step, steps: Step[]): boolean {
  if (!oldState?.delete) return false;
  // With --show-replacement-steps, this update's own replacements are marked, too.
  const isReplacedNow = steps.some(
    (it) => it.urn === urn && it.op === "replace" && it.oldState?.id === oldState.id,
  );
  return op === "refresh" || !isReplacedNow;
}

/** What an update does to a resource, as a verb. */
export type Operation =
  | "creates"
  | "changes"
  | "replaces"
  | "imports"
  | "reads"
  | "deletes"
  | "forgets"
  | (string & {});

/**
 * The operations of the engine's steps (pkg/resource/deploy/step.go in pulumi/pulumi), the one that decides first. A replacement can
 * have several steps, and an import whose inputs differ is followed by an update. One that is not here is listed as it is.
 */
const OPERATIONS: [op: string, operation: Operation][] = [
  ["import", "imports"],
  ["import-replacement", "imports"],
  ["replace", "replaces"],
  ["create-replacement", "replaces"],
  ["read-replacement", "replaces"],
  ["delete-replaced", "replaces"],
  ["discard-replaced", "replaces"],
  ["remove-pending-replace", "replaces"],
  ["create", "creates"],
  ["update", "changes"],
  ["read", "reads"],
  ["delete", "deletes"],
  ["discard", "forgets"],
];

function operationOf(steps: Step[]): Operation | undefined {
  const ops = steps.map(({ op }) => op).filter((op) => op !== "same");
  const [, operation] = OPERATIONS.find(([op]) => ops.includes(op)) ?? [];
  return operation ?? ops[0];
}

/** Returns a resource by its steps. */
function resourceFrom(urn: string, steps: Step[]): PlannedResource {
  const ofUpdate = withoutRefresh(steps);
  const [old] = ofUpdate.flatMap(({ oldState }) => stateOf(oldState, urn) ?? []);
  const planned = ofUpdate.flatMap(({ newState }) => stateOf(newState, urn) ?? []).at(-1);
  // What exists keeps its ID and outputs. Only a simulation knows the ID and the outputs of a new resource.
  const { id, outputs } = old ?? { id: planned?.id || undefined, outputs: planned?.outputs };
  const recorded = stateOf(steps[0]?.oldState, urn);
  const isReplaced = ofUpdate.some(({ op }) => /replace/.test(op));
  // Without --show-replacement-steps, the step that imports what replaces another one is not printed.
  const importId = ofUpdate.map(({ newState }) => newState?.importID).find(Boolean);
  const isImported = isReplaced && importId !== undefined && importId !== old?.importId;
  return {
    urn,
    ...typeAndName(urn, (planned ?? old ?? recorded)?.type),
    operation: isImported ? "imports" : operationOf(ofUpdate),
    isReplaced,
    recorded,
    oldState: ofUpdate.length > 0 ? old : recorded,
    newState: planned && { ...planned, id, outputs, importId },
  };
}

/**
 * Returns the steps without that of a refresh, which precedes the others. If it has found a difference, the engine prints it as an
 * `update` or a `delete`.
 */
function withoutRefresh(steps: Step[]): Step[] {
  const [first, ...others] = steps;
  const isRefresh =
    first?.op === "refresh" || (others.length > 0 && ["update", "delete"].includes(first?.op ?? ""));
  return isRefresh ? others : steps;
}

function stateOf(state: Step["oldState"], ofStep: string): State | undefined {
  if (!state) return undefined;
  // With an alias, the old state has another URN than the step.
  const { urn = ofStep, inputs = {}, id, importID, outputs, propertyDependencies = {}, parent } = state;
  const { retainOnDelete, deletedWith, protect, external = false } = state;
  return {
    urn,
    ...typeAndName(urn, state.type),
    inputs,
    id,
    importId: importID,
    outputs,
    propertyDependencies,
    options: {
      ...(retainOnDelete && { retainOnDelete }),
      ...(deletedWith && { deletedWith }),
      ...(protect && { protect }),
    },
    isExternal: external,
    parent,
    provider: providerOf(state),
  };
}

/** Returns the URN of a provider. A state has `URN::ID`. */
function providerOf(state: Step["oldState"]): string | undefined {
  return state?.provider?.replace(/::[^:]*$/, "");
}

/**
 * Returns the type and the name in `urn:pulumi:STACK::PROJECT::PARENT_TYPE$TYPE::NAME`.
 *
 * @param known the type, if the state has it: that of a parent can contain colons.
 */
export function typeAndName(urn: string, known?: string): { type: string; name: string } {
  const [, , types = ""] = urn.split("::");
  const type = known ?? types.split("$").at(-1) ?? "";
  return { type, name: urn.slice(urn.indexOf(`${type}::`) + type.length + 2) };
}
