// A plan of the program as values, which a test changes before it is read. plan.engine.test.ts has plans of the real engine.

import assert from "node:assert/strict";
import { changesIn } from "../../accessCheck/changes";
import { findingsIn } from "../../accessCheck/findings";
import { planFrom, type Step } from "../../accessCheck/plan";
import { readComponents } from "../../accessCheck/readComponents";
import { type Registration, runProgram } from "../../simulator/runProgram";
import { type Settings, stackOf, startCluster } from "../support/stack";
import { stepsOf, UNKNOWN } from "./plans";

export const ISSUER = "oidc.eks.us-west-2.amazonaws.com/id/EXAMPLED539D4633E53DE1B71EXAMPLE";
export const PROVIDER_ARN = `arn:aws:iam::123456789012:oidc-provider/${ISSUER}`;
export const READ_ONLY = "arn:aws:iam::aws:policy/ReadOnlyAccess";

/** One entry for each type of access token, and for each way to an IAM role. */
export const ENTRIES: Settings[] = [
  {
    namespace: "ci",
    name: "deployer",
    tokenType: "team",
    teamName: "a",
    awsRole: "irsa",
    rolePolicyArns: [READ_ONLY],
    audienceRule: true,
    injectToken: true,
    policyRules: { '"kubernetes.io".pod.name': "deploy-*" },
  },
  { namespace: "ops", name: "drift", tokenType: "personal", userLogin: "alice", awsRole: "pod-identity" },
  { namespace: "web", name: "secrets", tokenType: "organization" },
  { namespace: "web", name: "runner", tokenType: "runner", runnerId: "id", runnerName: "eks", runJob: false },
];

export const SETTINGS: Settings = {
  serviceAccounts: ENTRIES,
  teams: [
    {
      name: "a",
      stacks: [{ stack: "app/prod", permission: "edit" }],
      environments: [{ environment: "app/prod", permission: "open" }],
    },
  ],
  createNamespaces: ["ops"],
  permissionsBoundaryArn: READ_ONLY,
};

export type Key = string | number;
export type Inputs = Record<Key, unknown>;
interface State {
  inputs: Inputs;
  retainOnDelete?: boolean;
}
type DraftStep = Step & { oldState?: State | null; newState?: State | null };

let registrations: Promise<Registration[]> | undefined;

/** Returns the plan of a deployed stack with all features, in which nothing changes. */
export async function deployedPlan(): Promise<Draft> {
  registrations ??= register(SETTINGS);
  return new Draft(stepsOf(await registrations) as DraftStep[]);
}

/** Returns the plan of a new stack with all features. */
export async function newPlan(): Promise<Draft> {
  registrations ??= register(SETTINGS);
  const draft = new Draft(stepsOf(await registrations, []) as DraftStep[]);
  return (
    draft
      // A preview does not read the certificate, or who the user is. The name of a role is chosen when it is created.
      .set("OidcIssuer access.oidc-issuer", ["thumbprints"], undefined)
      .set("Team access.a", ["members"], undefined)
      .set(`RolePolicyAttachment access.ci.deployer.${READ_ONLY}`, ["role"], UNKNOWN)
  );
}

/** Returns the plan of a new stack with these settings. */
export async function newPlanOf(settings: Settings): Promise<Draft> {
  return new Draft(stepsOf(await register(settings), []) as DraftStep[]);
}

/** Returns what the program registers, on a cluster whose issuer is always the same. */
async function register(settings: Settings): Promise<Registration[]> {
  const simulation = await startCluster();
  const { registered } = await runProgram(simulation, stackOf(settings)).finally(simulation.close);
  const json = JSON.stringify(registered).replaceAll(simulation.issuer.url.replace("https://", ""), ISSUER);
  return JSON.parse(json.replaceAll(/(?<=pulumi-oidc-[\w-]+-)[0-9a-f]{26}/g, "0".repeat(26)));
}

/** A plan. A resource is named by its type without the module, and by its own name, such as `Role access.ci.deployer`. */
export class Draft {
  readonly steps: DraftStep[];

  constructor(steps: DraftStep[]) {
    this.steps = structuredClone(steps);
  }

  /** Changes what the program says at a path. Undefined removes it. */
  set(resource: string, path: Key[], value: unknown): this {
    const step = this.step(resource);
    assert.ok(step.newState, resource);
    setAt(step.newState.inputs, path, value);
    if (step.oldState) step.op = "update";
    return this;
  }

  /** Changes what is deployed. */
  setDeployed(resource: string, path: Key[], value: unknown): this {
    const step = this.step(resource);
    assert.ok(step.oldState, resource);
    setAt(step.oldState.inputs, path, value);
    return this;
  }

  /** Returns what the program says at a path. */
  get(resource: string, ...path: Key[]): unknown {
    return path.reduce((value: unknown, key) => (value as Inputs)[key], this.step(resource).newState?.inputs);
  }

  /** Adds a resource that is new, outside of the component or in it. */
  add(type: string, name: string, inputs: Inputs, state: object = {}): this {
    const urn = `urn:pulumi:prod::eks-pulumi-oidc::${type}::${name}`;
    this.steps.push({ op: "create", urn, newState: { inputs, ...state } });
    return this;
  }

  /** Lets a resource leave the program. */
  delete(resource: string, flags: object = {}): this {
    const step = this.step(resource);
    step.op = "delete";
    step.oldState = { ...(step.oldState ?? assert.fail(resource)), ...flags };
    step.newState = null;
    return this;
  }

  /** Takes a resource out of the plan. */
  omit(resource: string): this {
    this.steps.splice(this.steps.indexOf(this.step(resource)), 1);
    return this;
  }

  step(resource: string): DraftStep {
    const [type, name] = resource.split(" ");
    const isIt = ({ urn }: DraftStep) => urn.endsWith(`:${type}::${name}`);
    const [found, ...others] = this.steps.filter(isIt);
    assert.deepEqual(others, []);
    return found ?? assert.fail(`the plan has no ${resource}`);
  }

  check(): Checked {
    return checkSteps(this.steps);
  }
}

interface Checked {
  findings: string[];
  changes: string[];
}

/** Reads a plan, and returns what is found and what changes: a line for each sentence or detail. */
export function checkSteps(steps: Step[]): Checked {
  const components = readComponents(planFrom(steps));
  const findings = components.flatMap((component) => findingsIn(component));
  const changes = components.flatMap(changesIn);
  return {
    findings: findings.map(({ account, text }) => (account ? `${account}: ${text}` : text)),
    changes: changes.flatMap(({ subject, kind, details }) =>
      details.length > 0 ? details.map((detail) => `${kind} ${subject}: ${detail}`) : [`${kind} ${subject}`],
    ),
  };
}

/** Changes a value of an object or a list. Undefined removes it. */
export function setAt(inputs: Inputs, path: Key[], value: unknown): void {
  const keys = [...path];
  const last = keys.pop() ?? assert.fail("no path");
  const parent = keys.reduce((object: Inputs, key) => object[key] as Inputs, inputs);
  if (Array.isArray(parent) && value === undefined) parent.splice(Number(last), 1);
  else if (value === undefined) delete parent[last];
  // Also for a key such as `__proto__`.
  else Object.defineProperty(parent, last, { value, enumerable: true, configurable: true, writable: true });
}

export { UNKNOWN };
