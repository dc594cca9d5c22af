// A `PulumiCloudAccess` of a program: its settings, and the resources in it.

import * as v from "valibot";
import { isKnown, isRecord, type Plan, type PlannedResource, readable, type State } from "./plan";

/** A component, as it is deployed or as the program says. */
export interface Component {
  name: string;
  settings: Settings;
  /** The resources in it. */
  resources: State[];
  /** The resources of the program that are in no component. */
  others: State[];
}

/** A component, and what the update would do to it. */
export interface PlannedComponent {
  name: string;
  isDeployed: boolean;
  /** Returns the component as it is deployed; undefined if it does not exist yet. @throws Error if its inputs are unexpected. */
  deployed(): Component | undefined;
  /** Undefined if the update deletes it. */
  planned: Component | undefined;
  /** The component, the resources in it, their providers, and the resources that it takes inputs from. */
  resources: PlannedResource[];
}

const COMPONENT = "eks-pulumi-oidc:index:PulumiCloudAccess";

const settingsSchema = v.looseObject({
  organization: v.string(),
  issuerUrl: v.string(),
  maxExpirationSeconds: v.number(),
  pulumiApiUrl: v.string(),
  oidcProviderArn: v.optional(v.string()),
  clusterArn: v.optional(v.string()),
  serviceAccounts: v.array(
    v.looseObject({
      namespace: v.string(),
      name: v.string(),
      tokenType: v.string(),
      tokenAudience: v.string(),
      audienceRule: v.boolean(),
      awsRole: v.picklist(["irsa", "pod-identity", "none"]),
      createServiceAccount: v.boolean(),
      runnerId: v.optional(v.string()),
      runnerName: v.optional(v.string()),
    }),
  ),
});

/** The arguments of the component with every default: `PulumiCloudAccessArgs`, as far as they are read here. */
type Settings = v.InferOutput<typeof settingsSchema>;

/** Returns the one component among the resources that a program has registered; undefined if there is none. */
export function findComponent(resources: State[]): Component | undefined {
  const found = resources.find(({ type }) => type === COMPONENT);
  return found && componentOf(found, resources, []);
}

const ALL = "Preview all of the program: with --show-sames, and without --target.";

/**
 * Returns the components of a plan, by their names: a preview has them in any order.
 *
 * @throws Error if there is none, or if the plan does not contain all of it.
 */
export function componentsIn({ resources }: Plan): PlannedComponent[] {
  const byUrn = new Map(resources.map((resource) => [resource.urn, resource]));
  const components = resources
    .filter(({ type }) => type === COMPONENT)
    .sort((one, other) => one.name.localeCompare(other.name));
  if (components.length === 0) {
    throw new Error(`This plan has no PulumiCloudAccess. ${ALL}`);
  }
  const isInAny = (resource: PlannedResource) => components.some(({ urn }) => isIn(urn, resource, byUrn));
  const outside = resources.filter((resource) => !isInAny(resource));
  return components.map((component) => {
    const inside = resources.filter((resource) => isIn(component.urn, resource, byUrn));
    const used = [...inside.flatMap(({ provider }) => provider ?? []), ...component.dependencies];
    const view = (when: "deployed" | "planned") => {
      const state = component[when];
      const statesOf = (some: PlannedResource[]) => some.flatMap((resource) => resource[when] ?? []);
      return state && componentOf(state, statesOf(inside), statesOf(outside));
    };
    const planned = view("planned");
    if (planned) requireAll(planned);
    return {
      name: component.name,
      isDeployed: component.deployed !== undefined,
      deployed: () => view("deployed"),
      planned,
      resources: [component, ...inside, ...new Set(used.flatMap((urn) => byUrn.get(urn) ?? []))],
    };
  });
}

function requireAll(component: Component): void {
  const isThere = (account: Named) => configMapOf(component, account) !== undefined;
  if (issuerOf(component) && component.settings.serviceAccounts.every(isThere)) return;
  throw new Error(`This plan has only a part of PulumiCloudAccess "${component.name}". ${ALL}`);
}

/** Returns whether a resource has an ancestor. */
function isIn(ancestor: string, { parent }: PlannedResource, byUrn: Map<string, PlannedResource>): boolean {
  for (let urn = parent, depth = 0; urn && depth < 100; urn = byUrn.get(urn)?.parent, depth += 1) {
    if (urn === ancestor) return true;
  }
  return false;
}

function componentOf({ name, inputs }: State, resources: State[], others: State[]): Component {
  const { success, output } = v.safeParse(settingsSchema, inputs);
  if (success) return { name, settings: output, resources, others };
  const isEmpty = Object.keys(inputs).length === 0;
  throw new Error(
    isEmpty
      ? `PulumiCloudAccess "${name}" has no inputs. Unset PULUMI_NODEJS_SKIP_COMPONENT_INPUTS, and preview again.`
      : `PulumiCloudAccess "${name}" has inputs of another version of this project.`,
  );
}

type Named = Pick<Settings["serviceAccounts"][number], "namespace" | "name">;

/** Finds a resource of a component by its type and by its name without that of the component. */
function findIn({ name, resources }: Component, type: string, suffix: string): State | undefined {
  return resources.find((it) => it.type === type && it.name === `${name}.${suffix}`);
}

/** Returns the component's OIDC issuer in Pulumi Cloud. */
export function issuerOf(component: Component): State | undefined {
  return findIn(component, "pulumiservice:index:OidcIssuer", "oidc-issuer");
}

/** Returns the ConfigMap of a service account. */
export function configMapOf(component: Component, account: Named): State | undefined {
  const suffix = `${childName(account)}.pulumi-token-exchange`;
  return findIn(component, "kubernetes:core/v1:ConfigMap", suffix);
}

/** Returns the IAM role of a service account. */
export function roleOf(component: Component, account: Named): State | undefined {
  return findIn(component, "aws:iam/role:Role", childName(account));
}

/** Returns the association of a service account with its IAM role. */
export function associationOf(component: Component, account: Named): State | undefined {
  return findIn(component, "aws:eks/podIdentityAssociation:PodIdentityAssociation", childName(account));
}

/** Returns the trust policy of a role, which a provider can have as JSON. */
export function trustPolicyOf({ inputs: { assumeRolePolicy: policy } }: State): unknown {
  if (typeof policy !== "string" || !isKnown(policy)) return policy;
  try {
    return JSON.parse(policy);
  } catch {
    return policy;
  }
}

/** Returns the ARNs of the managed policies that the program attaches to the IAM role of a service account, sorted. */
export function attachedPolicies(component: Component, account: Named): string[] {
  const role = roleOf(component, account);
  const ownPrefix = `${component.name}.${childName(account)}.`;
  const isAttached = ({ inputs, propertyDependencies }: State) => {
    if (!role) return false;
    // The name of a new role is not known yet, but where it comes from is.
    if (isKnown(inputs.role)) return inputs.role === role.id;
    return [propertyDependencies?.role].flat().includes(role.urn);
  };
  return [
    ...component.resources.filter(({ name }) => name.startsWith(ownPrefix)),
    ...component.others.filter(isAttached),
  ]
    .filter(({ type }) => type === "aws:iam/rolePolicyAttachment:RolePolicyAttachment")
    .map(({ inputs }) => readable(String(inputs.policyArn)))
    .sort();
}

/** The values of `TeamStackPermission`: provider/pkg/resources/team_stack_permission.go of pulumi/pulumi-pulumiservice. */
const STACK_PERMISSIONS: Record<string, string> = { 101: "read", 102: "edit", 103: "admin" };

/**
 * Returns the teams of the component's organization that it, or the rest of the program, creates or grants permissions, each with
 * its permissions by `stack PROJECT/STACK` and `environment PROJECT/NAME`.
 */
export function teamsOf({ settings, resources, others }: Component): Map<string, Record<string, string>> {
  const teams = new Map<string, Record<string, string>>();
  const add = (team: unknown, permissions: Record<string, string>) => {
    teams.set(String(team), { ...teams.get(String(team)), ...permissions });
  };
  for (const { type, inputs } of [...resources, ...others]) {
    const { project, stack, environment, organizationName, organization = organizationName } = inputs;
    if (organization !== settings.organization) continue;

    const permission = String(inputs.permission);
    switch (type) {
      case "pulumiservice:index:Team":
        add(inputs.name, {});
        break;
      case "pulumiservice:index:TeamStackPermission":
        add(inputs.team, { [`stack ${project}/${stack}`]: STACK_PERMISSIONS[permission] ?? permission });
        break;
      case "pulumiservice:index:TeamEnvironmentPermission":
        add(inputs.team, { [`environment ${project}/${environment}`]: permission });
    }
  }
  return teams;
}

/** Returns the name that the resources of a service account have behind that of the component. */
function childName({ namespace, name }: Named): string {
  return `${namespace}.${name}`;
}

/** An allow policy: `AuthPolicyDefinition` of the API, as far as it is read here. */
export interface Policy {
  decision: string;
  tokenType: string;
  /** The path of a claim, and the pattern that its value must match. */
  rules: Record<string, string>;
}

const policiesSchema = v.array(
  v.looseObject({
    decision: v.string(),
    tokenType: v.string(),
    // Not copied: a rule with the name `__proto__` would be lost.
    rules: v.custom<Record<string, string>>(
      (rules) => isRecord(rules) && Object.values(rules).every((pattern) => typeof pattern === "string"),
    ),
  }),
);

/**
 * Returns the policies of a component's issuer.
 *
 * @returns undefined if all of them are known after the update only.
 * @throws Error if they have another form.
 */
export function policiesOf(component: Component): Policy[] | undefined {
  const policies = issuerOf(component)?.inputs.policies ?? [];
  if (typeof policies === "string" && !isKnown(policies)) return undefined;
  const { success, output } = v.safeParse(policiesSchema, policies);
  if (success) return output;
  throw new Error(`The policies of PulumiCloudAccess "${component.name}" have an unexpected form.`);
}

const NAMESPACE = '"kubernetes.io".namespace';
const NAME = '"kubernetes.io".serviceaccount.name';

/** Returns whether a policy names a service account, and only this one. */
export function names({ namespace, name }: Named, { rules }: Policy): boolean {
  return rules[NAMESPACE] === namespace && rules[NAME] === name;
}

/** Returns the rules of a policy besides those that name the service account. */
export function furtherRules({ rules }: Policy): Record<string, string> {
  const { [NAMESPACE]: _namespace, [NAME]: _name, ...further } = rules;
  return further;
}
