// The resources of the program as values, which a test changes before the rules run on them. policy.engine.test.ts has those that the
// engine sends.

import assert from "node:assert/strict";
import { type RegisteredResource, runRules, type Violation } from "../../policy/runRules";
import { type Fields, UNKNOWN, type Value } from "../../policy/values";
import { type Registration, runProgram } from "../environment/runProgram";
import { type Settings, stackOf, startCluster } from "../environment/stack";

export const ISSUER_URL = "oidc.eks.us-west-2.amazonaws.com/id/EXAMPLED539D4633E53DE1B71EXAMPLE";
export const READ_ONLY = "arn:aws:iam::aws:policy/ReadOnlyAccess";

/** One entry for each type of access token, and for each way to an IAM role. */
const ENTRIES: Settings[] = [
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
export const BINDING = "MutatingAdmissionPolicyBinding access.inject-token";
export const PULUMI_CLOUD = "pulumiservice pulumi-cloud";

const URNS = "urn:pulumi:dev::eks-pulumi-oidc::";

/** What makes an added resource one of the component. */
export const INSIDE = { parent: `${URNS}eks-pulumi-oidc:index:PulumiCloudAccess::access` };

export type Key = string | number;

/** A change of the program, or of what exists. */
export type Edit = (draft: Draft) => void;

let registrations: Promise<RegisteredResource[]> | undefined;

/** Returns a deployed stack with all features. */
export async function deployedStack(...edits: Edit[]): Promise<Draft> {
  registrations ??= register(SETTINGS);
  return new Draft(await registrations).edit(...edits);
}

/** Returns a new stack with all features, as a preview sends it: the names and the ARNs of roles are unknown. */
export async function newStack(...edits: Edit[]): Promise<Draft> {
  registrations ??= register(SETTINGS);
  return new Draft((await registrations).map(asNew)).edit(...edits);
}

/** Returns a deployed stack with these settings. */
export async function stackWith(settings: Settings): Promise<Draft> {
  return new Draft(await register(settings));
}

const ROLE_ARN = /arn:aws:iam::\d+:role\/pulumi-oidc-[\w-]+/g;
const ROLE_NAME = /pulumi-oidc-[\w-]+-0{26}/g;

function asNew({ inputs, outputs: _, ...resource }: RegisteredResource): RegisteredResource {
  const json = JSON.stringify(inputs).replaceAll(ROLE_ARN, UNKNOWN).replaceAll(ROLE_NAME, UNKNOWN);
  return { ...resource, inputs: JSON.parse(json) };
}

/** Returns what the program registers, on a cluster whose issuer and whose roles always have the same names. */
async function register(settings: Settings): Promise<RegisteredResource[]> {
  const simulation = await startCluster();
  const { registered } = await runProgram(simulation, stackOf(settings)).finally(simulation.close);
  const issuerUrl = simulation.issuer.url.replace("https://", "");
  const json = JSON.stringify(registered).replaceAll(issuerUrl, ISSUER_URL);
  const named: Registration[] = JSON.parse(
    json.replaceAll(/(?<=pulumi-oidc-[\w-]+-)[0-9a-f]{26}/g, "0".repeat(26)),
  );
  return asRegistered(named);
}

/** Returns what a simulation has registered in the form of the rules. */
export function asRegistered(
  registered: Pick<Registration, "urn" | "type" | "name" | "inputs" | "outputs" | "parent" | "provider">[],
): RegisteredResource[] {
  const roles = registered.flatMap(({ urn, type, outputs }) => {
    return type === "aws:iam/role:Role" ? { urn, roleName: String(Object(outputs).name) } : [];
  });
  return registered.map(({ urn, type, name, inputs, outputs, parent, provider }) => {
    const sources = Object.entries(inputs).map(([input, value]) => {
      const used = roles.filter(({ roleName }) => JSON.stringify(value)?.includes(roleName));
      return [input, used.map((role) => role.urn)];
    });
    return {
      ...{ urn, type, name, parent },
      inputs: inputs as Fields,
      outputs: { ...outputs } as Fields,
      provider,
      propertyDependencies: Object.fromEntries(sources),
    };
  });
}

/**
 * Returns an edit of what the program says.
 *
 * @param resource its type without the module, and its name.
 * @param path keys with dots between them, or a list of keys.
 * @param value undefined removes it.
 */
export function set(resource: string, path: string | Key[], value?: Value): Edit {
  return (draft) => setAt(draft.find(resource).inputs, path, value);
}

/** Returns an edit of what exists, which a refresh reads into the outputs. */
export function setExisting(resource: string, path: string | Key[], value: Value): Edit {
  return (draft) => setAt(draft.find(resource).outputs ?? assert.fail(resource), path, value);
}

/** Returns an edit that adds a resource, by default outside of the component. */
export function add(
  type: string,
  name: string,
  inputs: Fields,
  others: Partial<RegisteredResource> = {},
): Edit {
  return ({ resources }) => void resources.push({ urn: urnOf(type, name), type, name, inputs, ...others });
}

/** Returns an edit that adds a provider, and lets a resource use it. */
export function useProvider(resource: string, type: string, name: string, inputs: Fields): Edit {
  return (draft) => {
    const urn = urnOf(type, name);
    draft.resources.unshift({ urn, type, name, inputs });
    draft.find(resource).provider = urn;
  };
}

/** Returns an edit that leaves only these resources in the program. */
export function keepOnly(...labels: string[]): Edit {
  return ({ resources }) => {
    const kept = resources.filter((it) => labels.includes(labelOf(it)));
    resources.splice(0, resources.length, ...kept);
  };
}

function urnOf(type: string, name: string): string {
  return `${URNS}${type}::${name}`;
}

/** Returns an edit of what is not an input, such as `ignoreChanges`. */
export function change(resource: string, others: Partial<RegisteredResource>): Edit {
  return (draft) => void Object.assign(draft.find(resource), others);
}

/** Resources, which edits change. */
export class Draft {
  readonly resources: RegisteredResource[];

  constructor(resources: RegisteredResource[]) {
    this.resources = structuredClone(resources);
  }

  edit(...edits: Edit[]): this {
    for (const edit of edits) edit(this);
    return this;
  }

  find(resource: string): RegisteredResource {
    const found = this.resources.filter((it) => labelOf(it) === resource);
    assert.equal(found.length, 1, resource);
    return found[0] ?? assert.fail(resource);
  }

  /** Returns what the rules report, as `POLICY NAME: MESSAGE`. */
  report(level: Violation["level"], configuration: Fields = {}): string[] {
    return runRules(this.resources, configuration)
      .filter((it) => it.level === level)
      .map(({ policy, name, message }) => `${policy} ${name}: ${message}`);
  }
}

/** Returns the type of a resource without its module, and its name. */
export function labelOf({ type, name }: RegisteredResource): string {
  return `${type.split(":").at(-1)} ${name}`;
}

/** Changes a value of an object or a list. Undefined removes it. */
export function setAt(inputs: Fields, path: string | Key[], value: Value | undefined): void {
  const keys = typeof path === "string" ? path.split(".") : [...path];
  const last = keys.pop() ?? assert.fail("no path");
  const parent = keys.reduce((object, key) => object[key] as Fields, inputs);
  if (Array.isArray(parent) && value === undefined) parent.splice(Number(last), 1);
  else if (value === undefined) delete parent[last];
  else parent[last] = value;
}
