// A plan of the program as values, which a test changes before it is read. plan.engine.test.ts has plans of the real engine.

import assert from "node:assert/strict";
import { isDeepStrictEqual } from "node:util";
import { comparisonOf } from "../../accessCheck/compare";
import { isRemaining, readComponents } from "../../accessCheck/components";
import { planFrom, type Step } from "../../accessCheck/plan";
import { settingsChanges } from "../../accessCheck/settingsChanges";
import { type Row, updateRows } from "../../accessCheck/updateList";
import { type Registration, runProgram } from "../../simulator/runProgram";
import { type Settings, stackOf, startCluster } from "../support/stack";

export const UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9";
export const SECRET = "[secret]";

export const ISSUER_URL = "oidc.eks.us-west-2.amazonaws.com/id/EXAMPLED539D4633E53DE1B71EXAMPLE";
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
    injectToken: true,
    policyRules: { '"kubernetes.io".pod.name': "deploy-*" },
  },
  { namespace: "ops", name: "drift", tokenType: "personal", userLogin: "alice", awsRole: "pod-identity" },
  { namespace: "web", name: "secrets", tokenType: "organization" },
  { namespace: "web", name: "runner", tokenType: "runner", runnerId: "id", runnerName: "eks", runJob: false },
];

/** All features. */
const SETTINGS: Settings = {
  serviceAccounts: ENTRIES,
  createNamespaces: ["ops"],
  permissionsBoundaryArn: READ_ONLY,
};

/** The resources that tests change. */
export const COMPONENT = "PulumiCloudAccess access";
export const ISSUER = "OidcIssuer access.oidc-issuer";
export const IRSA = "Role access.ci.deployer";
export const POD_IDENTITY = "Role access.ops.drift";
export const ASSOCIATION = "PodIdentityAssociation access.ops.drift";
export const ATTACHMENT = `RolePolicyAttachment access.ci.deployer.${READ_ONLY}`;
export const SERVICE_ACCOUNT = "ServiceAccount access.ci.deployer";
export const CONFIG_MAP = "ConfigMap access.ci.deployer.pulumi-token-exchange";
export const JOB = "Job access.ci.deployer";
export const INJECTION = "MutatingAdmissionPolicy access.inject-token";
export const PULUMI_CLOUD = "pulumiservice pulumi-cloud";

/** The state of what is inside the component. */
export const INSIDE = {
  parent: "urn:pulumi:dev::eks-pulumi-oidc::eks-pulumi-oidc:index:PulumiCloudAccess::access",
};

export type Key = string | number;
export type Inputs = Record<Key, unknown>;
type State = NonNullable<Step["newState"]> & { inputs: Inputs };
type DraftStep = Step & { oldState?: State | null; newState?: State | null };

/** A change of a plan. */
export type Edit = (draft: Draft) => unknown;

let registrations: Promise<Registration[]> | undefined;

/** Returns the plan of a deployed stack with all features, in which nothing changes. */
export async function deployedPlan(...edits: Edit[]): Promise<Draft> {
  registrations ??= register(SETTINGS);
  return new Draft(unchangedSteps(await registrations)).edit(...edits);
}

/** Returns the plan of a new stack with all features. */
export async function newPlan(...edits: Edit[]): Promise<Draft> {
  registrations ??= register(SETTINGS);
  const draft = new Draft(newSteps(await registrations));
  // A preview does not read the certificate.
  draft.edit(set(ISSUER, "thumbprints"));
  return draft.edit(...edits);
}

/** Returns the plan of a deployed stack with all features, whose settings change to these. */
export async function changedPlan(settings: Settings): Promise<Draft> {
  registrations ??= register(SETTINGS);
  const old = unchangedSteps(await registrations);
  const isNew = (urn: string) => !old.some((step) => step.urn === urn);
  const now = newSteps(await register({ ...SETTINGS, ...settings }), isNew);
  const planned = now.map((step) => {
    const { oldState } = old.find(({ urn }) => urn === step.urn) ?? {};
    const isSame = isDeepStrictEqual(oldState?.inputs, step.newState?.inputs);
    return { ...step, op: oldState ? (isSame ? "same" : "update") : "create", oldState };
  });
  const left = old.filter(({ urn }) => !now.some((it) => it.urn === urn));
  return new Draft([...planned, ...left.map((step) => ({ ...step, op: "delete", newState: null }))]);
}

/** Returns the plan of a new stack with these settings. */
export async function newPlanOf(settings: Settings): Promise<Draft> {
  return new Draft(newSteps(await register(settings)));
}

/** Returns the steps by which everything that a program registers exists and stays. */
export function unchangedSteps(registered: Registration[]): DraftStep[] {
  return registered.map((resource) => {
    const { urn, id, outputs } = resource;
    const state = stateOf(resource, registered);
    const oldState = { ...structuredClone(state), id, outputs: { ...outputs } };
    return { op: "same", urn, oldState, newState: state };
  });
}

/** Returns the steps that create everything that a program registers. No one knows the name and the ARN of a role before. */
function newSteps(registered: Registration[], isNew = (_urn: string) => true): DraftStep[] {
  const named = rolesIn(registered).flatMap(({ urn, name, arn }) => (isNew(urn) ? [arn, name] : []));
  const withoutNames = (state: State): State =>
    JSON.parse(named.reduce((json, it) => json.replaceAll(it, UNKNOWN), JSON.stringify(state)));
  return registered.map((it) => ({
    op: "create",
    urn: it.urn,
    newState: withoutNames(stateOf(it, registered)),
  }));
}

function rolesIn(registered: Registration[]) {
  return registered.flatMap(({ type, urn, outputs }) => {
    const { name, arn } = outputs as { name?: string; arn?: string };
    return type === "aws:iam/role:Role" && name && arn ? [{ urn, name, arn }] : [];
  });
}

function stateOf({ urn, type, inputs, parent, provider }: Registration, registered: Registration[]): State {
  const rolesOf = (input: unknown) =>
    rolesIn(registered).flatMap((role) => (JSON.stringify(input).includes(role.name) ? role.urn : []));
  const propertyDependencies = Object.fromEntries(
    Object.entries(inputs).map(([name, input]) => [name, rolesOf(input)]),
  );
  // The default provider of a resource without one is not in the plan.
  const ofPackage = `urn:pulumi:dev::eks-pulumi-oidc::pulumi:providers:${type.split(":")[0]}::default::${UNKNOWN}`;
  // A simulation does not see this option.
  const options = type === "kubernetes:core/v1:Namespace" ? { retainOnDelete: true } : {};
  const isComponent = type.startsWith("eks-pulumi-oidc:");
  return {
    ...{ urn, type, inputs, parent, propertyDependencies, ...options },
    ...(!isComponent && { provider: provider || ofPackage }),
  };
}

/** Returns what the program registers, on a cluster whose issuer is always the same. */
async function register(settings: Settings): Promise<Registration[]> {
  const simulation = await startCluster();
  const { registered } = await runProgram(simulation, stackOf(settings)).finally(simulation.close);
  const issuerUrl = simulation.issuer.url.replace("https://", "");
  const json = JSON.stringify(registered).replaceAll(issuerUrl, ISSUER_URL);
  const named = json.replaceAll(/(?<=pulumi-oidc-[\w-]+-)[0-9a-f]{26}/g, "0".repeat(26));
  return JSON.parse(named.replaceAll(/https:\/\/[0-9A-F]{32}\.gr7\./g, "https://CLUSTER.gr7."));
}

/**
 * Returns an edit that changes what the program says.
 *
 * @param resource its type without the module, and its name.
 * @param path keys with dots between them, or a list of keys.
 * @param value undefined removes it.
 */
export function set(resource: string, path: string | Key[], value?: unknown): Edit {
  return (draft) => {
    const step = draft.step(resource);
    assert.ok(step.newState, resource);
    setAt(step.newState.inputs, path, value);
    if (step.oldState) step.op = "update";
  };
}

/** Returns an edit that changes what is deployed. */
export function setDeployed(resource: string, path: string | Key[], value?: unknown): Edit {
  return (draft) => {
    const step = draft.step(resource);
    assert.ok(step.oldState, resource);
    setAt(step.oldState.inputs, path, value);
    step.op = "update";
  };
}

/** Returns an edit of what exists, which a refresh reads into the outputs, and the preview calls unchanged. */
export function setExisting(resource: string, path: string | Key[], value: unknown): Edit {
  return (draft) => {
    const { oldState } = draft.step(resource);
    assert.ok(oldState, resource);
    const outputs: Inputs = { ...structuredClone(oldState.outputs) };
    setAt(outputs, path, value);
    oldState.outputs = outputs;
  };
}

/** Returns an edit that adds a new resource, by default outside of the component. */
export function add(type: string, name: string, inputs: Inputs, state: object = {}): Edit {
  return (draft) => {
    const urn = `urn:pulumi:dev::eks-pulumi-oidc::${type}::${name}`;
    draft.steps.push({ op: "create", urn, newState: { inputs, ...state } });
  };
}

/**
 * Returns an edit that adds a deployed provider of Pulumi Cloud that the component creates.
 *
 * @param inputs beside what the real one notes in them.
 * @param deployed inputs that are deployed instead.
 */
export function addOwnProvider(inputs: Inputs = {}, deployed: Inputs = inputs): Edit {
  const urn = "urn:pulumi:dev::eks-pulumi-oidc::pulumi:providers:pulumiservice::access.oidc-issuer";
  const noted = {
    "__pulumi-go-provider-infer": true,
    "__pulumi-go-provider-version": "v1.5.0",
    accessToken: SECRET,
    version: "1.5.0",
  };
  const stateWith = (own: Inputs) => {
    return { ...INSIDE, id: "id", inputs: { apiUrl: "https://api.pulumi.com", ...noted, ...own } };
  };
  const [oldState, newState] = [stateWith(deployed), stateWith(inputs)];
  return (draft) => draft.steps.push({ op: "update", urn, oldState, newState });
}

/** Returns an edit by which a resource leaves the program. */
export function remove(resource: string, flags: object = {}): Edit {
  return (draft) => {
    const step = draft.step(resource);
    const oldState = { ...(step.oldState ?? assert.fail(resource)), ...flags };
    Object.assign(step, { op: "delete", oldState, newState: null });
  };
}

/** A plan, which edits change. */
export class Draft {
  readonly steps: DraftStep[];

  constructor(steps: DraftStep[]) {
    this.steps = structuredClone(steps);
  }

  edit(...edits: Edit[]): this {
    for (const edit of edits) edit(this);
    return this;
  }

  /** Returns what the program says at a path. */
  get(resource: string, path: string | Key[]): unknown {
    const inputs: unknown = this.step(resource).newState?.inputs;
    return keysOf(path).reduce((value, key) => (value as Inputs)[key], inputs);
  }

  step(resource: string): DraftStep {
    const [type, name] = resource.split(" ");
    const [found, ...others] = this.steps.filter(({ urn }) => urn.endsWith(`:${type}::${name}`));
    assert.deepEqual(others, []);
    return found ?? assert.fail(`the plan has no ${resource}`);
  }

  check() {
    return checkSteps(this.steps);
  }
}

/**
 * Reads a plan, and returns what is found, which service accounts are not known yet, and what changes in the settings: a line for each
 * sentence or detail; and the rows of the list, as `WHAT TYPE NAMES: DETAILS`, without the modules of types.
 */
export function checkSteps(
  steps: Step[],
): Record<"findings" | "unknown" | "unknownRoles" | "settings" | "rows", string[]> {
  const plan = planFrom(steps);
  const components = readComponents(plan);
  const compared = components.map((component) => {
    return { component, comparison: isRemaining(component) ? comparisonOf(component) : undefined };
  });
  const comparisons = compared.flatMap(({ comparison }) => comparison ?? []);
  return {
    findings: comparisons
      .flatMap(({ findings }) => findings)
      .map(({ account, text }) => (account ? `${account}: ${text}` : text)),
    settings: components.flatMap(settingsChanges).flatMap(({ subject, kind, details }) => {
      return details.length > 0
        ? details.map((detail) => `${kind} ${subject}: ${detail}`)
        : [`${kind} ${subject}`];
    }),
    unknown: comparisons.flatMap(({ unknown }) => unknown),
    unknownRoles: comparisons.flatMap(({ unknownRoles }) => unknownRoles),
    rows: updateRows(plan, compared).map(rowText),
  };
}

function rowText({ what, type, names, details }: Row): string {
  const words = [what, type.replace(/^[^ ]*:/, ""), names.join(", ")].filter(Boolean);
  return [words.join(" "), ...details].join("; ");
}

function keysOf(path: string | Key[]): Key[] {
  return typeof path === "string" ? path.split(".") : path;
}

/** Changes a value of an object or a list. Undefined removes it. */
export function setAt(inputs: Inputs, path: string | Key[], value: unknown): void {
  const keys = [...keysOf(path)];
  const last = keys.pop() ?? assert.fail("no path");
  const parent = keys.reduce((object: Inputs, key) => object[key] as Inputs, inputs);
  if (Array.isArray(parent) && value === undefined) parent.splice(Number(last), 1);
  else if (value === undefined) delete parent[last];
  // Also for a key such as `__proto__`.
  else Object.defineProperty(parent, last, { value, enumerable: true, configurable: true, writable: true });
}
