// Reads what `pulumi preview --json --show-sames` prints: what is deployed of a program, and what it would become. The format is
// that of sdk/go/common/display/json.go in pulumi/pulumi.

import { stripVTControlCharacters } from "node:util";
import * as v from "valibot";
import { isObject } from "../kubernetes/plainObject";

/** A resource at one of the times that PlannedResource has. */
export interface State {
  urn: string;
  /** Such as `aws:iam/role:Role`. */
  type: string;
  name: string;
  inputs: Record<string, unknown>;
  /** Undefined if it does not exist yet. */
  id?: string | undefined;
  outputs?: object | undefined;
  /** For each input, the URNs of the resources that it comes from. */
  propertyDependencies: Record<string, unknown>;
  /** The options by which it stays in its service when it leaves the program: `retainOnDelete` and `deletedWith`. */
  kept: Record<string, string | true>;
  /** Whether the program only reads it: then its inputs do not say what exists. */
  isExternal: boolean;
  parent: string | undefined;
  /** The URN of its provider. */
  provider: string | undefined;
}

/** What the update would do to a resource. */
export interface PlannedResource {
  urn: string;
  type: string;
  name: string;
  /** Such as `same` or `update`. */
  op: string;
  /** Whether the update creates it again, with another ID and other outputs. */
  isReplaced: boolean;
  /** Before a refresh: as the state has it. */
  recorded: State | undefined;
  /** Before the update: as the state has it or, after a refresh, as it exists. */
  deployed: State | undefined;
  /** After the update: as the program says, with the ID and the outputs of what is deployed. Undefined if the update deletes it. */
  planned: State | undefined;
}

/** A program, and what its update would do. */
export interface Plan {
  stack: string;
  /** A string for each `NAMESPACE:KEY`. */
  config: Record<string, string>;
  /** In the order of the preview. */
  resources: PlannedResource[];
}

// What is read as it is, and not copied: a copy would lose keys such as `__proto__`.
const record = v.custom<Record<string, unknown>>(isObject, "must be an object");

const stateSchema = v.nullish(
  v.looseObject({
    urn: v.optional(v.string()),
    type: v.optional(v.string()),
    id: v.optional(v.string()),
    inputs: v.optional(record, {}),
    outputs: v.optional(record),
    parent: v.optional(v.string()),
    provider: v.optional(v.string()),
    propertyDependencies: v.optional(record, {}),
    retainOnDelete: v.optional(v.boolean()),
    deletedWith: v.nullish(v.string()),
    external: v.optional(v.boolean(), false),
  }),
);

const stepSchema = v.looseObject({
  op: v.string(),
  urn: v.string(),
  oldState: stateSchema,
  newState: stateSchema,
});

/** What an update would do to a resource: sdk/go/common/apitype/core.go (ResourceV3) has its states. */
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
  const [error] = errorsIn(diagnostics);
  if (error !== undefined) throw new Error(`The preview failed: ${error}`);
  if (!changeSummary) {
    throw new Error("The preview failed: its result has no changeSummary. Was it interrupted?");
  }

  return planFrom(steps, config);
}

/**
 * Returns the errors that have ended a preview. A program in YAML ends without an error of the engine, once its language host has
 * printed its own: pkg/server/server.go in pulumi/pulumi-yaml.
 */
function errorsIn(diagnostics: { severity: string; message: string }[]): string[] {
  return diagnostics.flatMap(({ severity, message }) => {
    const [, printed] = /^error: (.*)/is.exec(stripVTControlCharacters(message)) ?? [];
    if (severity === "error") return [(printed ?? message).trim()];
    return severity === "info#err" && printed !== undefined ? [printed.trim()] : [];
  });
}

/** Returns the plan that has these steps, in the order of the engine. */
export function planFrom(steps: Step[], config: Plan["config"] = {}): Plan {
  const resources = new Map<string, PlannedResource>();
  for (const step of steps) {
    resources.set(step.urn, afterStep(resources.get(step.urn), step));
  }
  const [, stack = ""] = /^urn:pulumi:([^:]*)::/.exec(steps[0]?.urn ?? "") ?? [];
  return { stack, config, resources: [...resources.values()] };
}

/**
 * Returns a resource after one of its steps. A refresh precedes the others. If it finds a difference, it is an `update` or a `delete`;
 * the program's own step follows, and wins. A replacement can have several steps, of which one with the program's inputs wins over
 * those that only end what was there before, such as `delete-replaced` and `discard-replaced`.
 */
function afterStep(before: PlannedResource | undefined, step: Step): PlannedResource {
  const { op, urn, oldState, newState } = step;
  const isSaid = op !== "refresh" && newState != null;
  if (before && !isSaid) {
    const isLastWord = op === "delete" && !before.planned;
    if (!isLastWord) return before;
  }
  const old = stateOf(oldState, urn);
  const said = isSaid ? stateOf(newState, urn) : undefined;
  const isReplaced = /replace/.test(op) || before?.isReplaced === true;
  // What is deployed keeps its ID and outputs. Only a simulation knows the ID and the outputs of a new resource.
  const { id, outputs } = old ?? { id: said?.id || undefined, outputs: said?.outputs };
  const state = newState ?? oldState;
  return {
    urn,
    ...typeAndName(urn, state?.type),
    op,
    isReplaced,
    recorded: before ? before.recorded : old,
    deployed: old,
    planned: said && { ...said, id, outputs },
  };
}

function stateOf(state: Step["oldState"], ofStep: string): State | undefined {
  if (!state) return undefined;
  // With an alias, what is deployed has another URN than the step.
  const { urn = ofStep, inputs = {}, id, outputs, propertyDependencies = {}, parent } = state;
  const { retainOnDelete, deletedWith, external = false } = state;
  return {
    urn,
    ...typeAndName(urn, state.type),
    inputs,
    id,
    outputs,
    propertyDependencies,
    kept: { ...(retainOnDelete && { retainOnDelete }), ...(deletedWith && { deletedWith }) },
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
function typeAndName(urn: string, known?: string): { type: string; name: string } {
  const [, , types = ""] = urn.split("::");
  const type = known ?? types.split("$").at(-1) ?? "";
  return { type, name: urn.slice(urn.indexOf(`${type}::`) + type.length + 2) };
}

/** Returns whether the update changes a resource. What it only reads exists already, unless it reads it for the first time. */
export function isChanged({ op, isReplaced, deployed }: PlannedResource): boolean {
  const isReadAgain = op.startsWith("read") && deployed !== undefined;
  return isReplaced || !(["same", "refresh"].includes(op) || isReadAgain);
}
