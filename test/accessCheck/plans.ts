// Plans of programs that ran in the simulation, as `pulumi preview --json --show-sames` prints them. plan.engine.test.ts has real
// ones.

import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { checkPlan } from "../../accessCheck/checkPlan";
import type { ReportOptions } from "../../accessCheck/screen";
import type { Registration } from "../../simulator/runProgram";
import { succeeded } from "../support/engineOutcome";
import type { Outcome } from "../support/pulumiCli";
import { temporaryDirectory } from "../support/temporaryDirectory";

export const UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9";

export interface PlanStep {
  op: string;
  urn: string;
  oldState?: object;
  newState?: object;
}

/** Returns the steps from what is deployed to what the program says. */
export function stepsOf(planned: Registration[], deployed: Registration[] = planned): PlanStep[] {
  const oldOf = (resource: Registration) => deployed.find((it) => urnOf(it) === urnOf(resource));
  // What no one knows before the update.
  const newArns = planned.flatMap((it) => (it.type.endsWith(":Role") && !oldOf(it) ? [arnOf(it)] : []));
  const withoutArns = (state: object) =>
    JSON.parse(newArns.reduce((json, arn) => json.replaceAll(arn, UNKNOWN), JSON.stringify(state)));
  const isRemoved = (resource: Registration) => !planned.some((it) => urnOf(it) === urnOf(resource));
  return [
    ...planned.map((resource) => {
      const old = oldOf(resource);
      const isSame = JSON.stringify(old?.inputs) === JSON.stringify(resource.inputs);
      const op = old ? (isSame ? "same" : "update") : "create";
      return {
        op,
        urn: urnOf(resource),
        ...(old && { oldState: stateOf(old) }),
        newState: withoutArns(newStateOf(resource)),
      };
    }),
    ...deployed.filter(isRemoved).map((old) => {
      return { op: "delete", urn: urnOf(old), oldState: stateOf(old) };
    }),
  ];
}

/** Returns what the preview prints. */
export function planOf(steps: object[], config: Record<string, string> = {}): string {
  return JSON.stringify({ config, steps, duration: 1, changeSummary: { same: steps.length } });
}

function stateOf({ id, outputs, ...resource }: Registration): object {
  return { ...newStateOf({ id, outputs, ...resource }), id, outputs };
}

function arnOf({ outputs }: Registration): string {
  return (outputs as { arn: string }).arn;
}

/** The program's inputs. What is new has no provider yet whose ID is known. */
function newStateOf(resource: Registration): object {
  const { type, inputs, provider } = resource;
  const parent = parentOf(resource);
  return {
    urn: urnOf(resource),
    type,
    inputs,
    ...(parent && { parent }),
    provider: inEngine(provider),
  };
}

/** The provider of a resource without one is not in the plan. */
function inEngine(provider: string): string {
  const [, ofStack] = /^urn:pulumi:[^:]*::[^:]*::(.*)$/.exec(provider) ?? [];
  return ofStack ? `urn:pulumi:prod::eks-pulumi-oidc::${ofStack}` : `urn::${UNKNOWN}`;
}

const COMPONENT = "eks-pulumi-oidc:index:PulumiCloudAccess";

/** The mocks pass no parents: everything whose name begins with that of the component is in it. */
function parentOf({ type, name }: Registration): string | undefined {
  return type !== COMPONENT && name.startsWith("access.")
    ? urnOf({ type: COMPONENT, name: "access" })
    : undefined;
}

function urnOf({ type, name }: Pick<Registration, "type" | "name">): string {
  const parent = type !== COMPONENT && name.startsWith("access.") ? `${COMPONENT}$` : "";
  return `urn:pulumi:prod::eks-pulumi-oidc::${parent}${type}::${name}`;
}

/**
 * Checks a plan.
 *
 * @returns with `changes`: the table of them.
 */
export async function check(directory: string, plan: string, options: ReportOptions = {}) {
  const file = join(directory, "plan.json");
  await writeFile(file, plan);
  const [printed, errors]: [string[], string[]] = [[], []];
  const output = {
    log: (line: string) => void printed.push(line),
    error: (line: string) => void errors.push(line),
  };
  const exitCode = await checkPlan(file, options, output);
  const stdout = printed.join("\n");
  const [, changes = ""] = /^What the plan changes\n(.*?)\n\n/ms.exec(stdout) ?? [];
  return { exitCode, stdout, stderr: errors.join("\n").trim(), changes };
}

/** Previews a stack on the engine, and checks the plan. */
export async function checkedPlan(
  t: TestContext,
  pulumi: (...args: string[]) => Promise<Outcome>,
  ...options: string[]
) {
  const { stdout } = succeeded(await pulumi("preview", "--json", "--show-sames", ...options));
  return check(temporaryDirectory(t), stdout);
}
