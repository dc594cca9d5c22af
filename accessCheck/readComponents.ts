// Reads the components of a plan into plain values, before and after the update. No other file reads the inputs of a resource.

import type { Plan, PlannedResource, State } from "./plan";
import {
  documentOf,
  type Fields,
  isEqual,
  isFields,
  isOpaque,
  readFields,
  textOf,
  UNKNOWN,
  type Value,
  valueAt,
  without,
} from "./values";

/** A `PulumiCloudAccess`, and what the update does to it. */
export interface Component {
  name: string;
  /** Whether it exists, and whether the update deletes it. */
  isDeployed: boolean;
  isDeleted: boolean;
  /** What is deployed: with a refresh, what exists. Of a new component, only what the rest of the program has for it. */
  before: View;
  /** What the program says. Of a deleted component, only what the rest of the program has for it. */
  after: View;
  /** What leaves the program and stays in its service: an option of a resource says so. */
  retained: Resource[];
  /** The component, the resources in it, their providers, and the resources that it takes inputs from. */
  resources: PlannedResource[];
}

/** A component at one time. */
export interface View {
  name: string;
  /** The arguments of the component, with every default. */
  settings: Fields;
  accounts: Account[];
  issuer: Issuer | undefined;
  /** The allow policies that name no service account, and every further one of a service account. */
  otherPolicies: Value[];
  /** The admission policy of injection, and its binding. */
  injection: Resource[];
  /** What is created for the component, and grants no access by itself. */
  supporting: Resource[];
  /** What is inside the component, and no part of it. */
  foreign: Resource[];
  teams: Team[];
  /** The issuers of the rest of the program, and policies of issuers. */
  otherIssuers: OtherIssuer[];
  /** What the rest of the program has under the name of a service account or of its ConfigMap. */
  otherObjects: OtherObject[];
  /** What the rest of the program has that can give the pods of a service account another role. */
  otherAssociations: Resource[];
  /** The providers of the resources in the component, by package. */
  providers: Map<string, Provider[]>;
}

/** A resource of which all inputs are shown. */
export interface Resource {
  /** Such as `RolePolicy logs`. */
  title: string;
  inputs: Fields;
}

export interface Provider {
  urn: string;
  /** Undefined if the plan does not have it. */
  inputs: Fields | undefined;
}

export interface Issuer {
  /** All but the policies. */
  inputs: Fields;
  policies: Value | undefined;
  /** `ORGANIZATION/ID`; undefined if it is new. */
  id: string | undefined;
  /** The thumbprints that exist already, by the state in front of a refresh. Undefined if this update imports the issuer. */
  existingThumbprints: Value[] | undefined;
}

/** A service account of the component. */
export interface Account {
  /** `NAMESPACE/NAME`. */
  id: string;
  namespace: string;
  name: string;
  /** Its entry, with every default. */
  settings: Fields;
  /** Its allow policy: the first one that names it. */
  policy: Value | undefined;
  configMap: ConfigMap | undefined;
  role: Role | undefined;
  /** The attachments of managed policies that the component creates. */
  attachments: Fields[];
  /** The association with the role. */
  association: Fields | undefined;
  /** Undefined if the component does not create it. */
  serviceAccount: Fields | undefined;
  /** The Job that tests the exchange. */
  job: Fields | undefined;
}

export interface ConfigMap {
  isDeployed: boolean;
  /** All but its files. */
  inputs: Fields;
  /** What its workloads request: its files without the script. */
  request: Value | undefined;
  script: Value | undefined;
}

export interface Role {
  isDeployed: boolean;
  /** Not known before the role exists. */
  name: Value;
  arn: Value;
  trustPolicy: Value | undefined;
  /** All but the trust policy. */
  inputs: Fields;
  /** What the rest of the program attaches to the role, or uses it for. */
  uses: Resource[];
}

/** A team in Pulumi Cloud, as far as the program says something about it. */
export interface Team {
  name: string;
  /** Undefined if the program does not create it. */
  inputs: Fields | undefined;
  /** Whether the update deletes it in Pulumi Cloud. */
  isDeleted: boolean;
  /** The permissions by `stack PROJECT/STACK` and `environment PROJECT/NAME`. Several resources can grant one. */
  permissions: Map<string, Value[]>;
  /** What else is for the team, such as a role. */
  others: Resource[];
}

export interface OtherIssuer extends Resource {
  organization: Value | undefined;
  url: Value | undefined;
  /** If it is the policies of an issuer: of which one. */
  policiesOf: Value | undefined;
  /** Whether it is inside another component, which shows it. */
  isOfComponent: boolean;
}

export interface OtherObject extends Resource {
  /** The service accounts, `NAMESPACE/NAME`, whose objects can have its name. */
  accounts: string[];
  kind: "ConfigMap" | "ServiceAccount";
  provider: string | undefined;
  annotations: Value | undefined;
}

type When = "deployed" | "planned";

/** A resource of the plan at one time. */
interface Found {
  type: string;
  name: string;
  resource: PlannedResource;
  state: State;
  inputs: Fields;
  /** The component that it is in. */
  owner: PlannedResource | undefined;
}

const COMPONENT = "eks-pulumi-oidc:index:PulumiCloudAccess";
const ASSOCIATION = "aws:eks/podIdentityAssociation:PodIdentityAssociation";
const ATTACHMENT = "aws:iam/rolePolicyAttachment:RolePolicyAttachment";
const TEAM = /^pulumiservice:(index|api\/teams):Team$/;
const STACK_PERMISSION = "pulumiservice:index:TeamStackPermission";
const ENVIRONMENT_PERMISSION = "pulumiservice:index:TeamEnvironmentPermission";

/** What is created for a component, and grants no access by itself. */
const SUPPORTING = [
  "eks-pulumi-oidc:index:WorkloadIdentity",
  "pulumi:index:Stash",
  "pulumi:providers:pulumiservice",
  "kubernetes:core/v1:Namespace",
];

const INJECTION = /^kubernetes:admissionregistration\.k8s\.io\/v1:MutatingAdmissionPolicy(Binding)?$/;

/** What providers add to inputs: pkg/reservedkeys in pulumi-terraform-bridge, provider/pkg/provider/provider.go in pulumi-kubernetes. */
const ADDED_KEYS = ["__defaults", "__meta", "__fieldManager", "__initialApiVersion", "__inputs"];

/** The file of the exchange script in a ConfigMap. */
const SCRIPT = "exchange-token.sh";

const ALL = "Preview all of the program: with --show-sames, and without --target.";

/**
 * Returns the components of a plan, by their names: a preview has them in any order.
 *
 * @throws Error if there is none, or if the plan does not contain all of one.
 */
export function readComponents({ resources }: Plan): Component[] {
  const byUrn = new Map(resources.map((resource) => [resource.urn, resource]));
  const components = resources
    .filter(({ type }) => type === COMPONENT)
    .sort((one, other) => one.name.localeCompare(other.name));
  if (components.length === 0) {
    throw new Error(`This plan has no PulumiCloudAccess. Is it of the right program? ${ALL}`);
  }

  const owners = new Map(resources.map((resource) => [resource, ownerOf(resource, byUrn)]));
  const [deployed, planned] = (["deployed", "planned"] as const).map((when) => allAt(when, owners));
  const deleted = deletedTeams(resources);
  return components.flatMap((component) => {
    const { deployed: old, planned: now = old } = component;
    if (!now) return [];
    const after = viewOf(component, now, planned ?? [], deleted);
    if (component.planned) requireAll(after);
    const inside = resources.filter((resource) => owners.get(resource) === component);
    const used = [...inside.flatMap(({ provider }) => provider ?? []), ...component.dependencies];
    return {
      name: component.name,
      isDeployed: old !== undefined,
      isDeleted: component.planned === undefined,
      before: viewOf(component, old ?? now, deployed ?? [], deleted),
      after,
      retained: inside
        .filter(isRetained)
        .flatMap((it) => allAt("deployed", new Map([[it, component]])))
        .map((it) => resourceOf(it)),
      resources: [component, ...inside, ...new Set(used.flatMap((urn) => byUrn.get(urn) ?? []))],
    };
  });
}

/** Returns the component that a resource is in. */
function ownerOf(
  resource: PlannedResource,
  byUrn: Map<string, PlannedResource>,
): PlannedResource | undefined {
  let ancestor = byUrn.get(resource.parent ?? "");
  for (let depth = 0; ancestor && depth < 100; depth += 1) {
    if (ancestor.type === COMPONENT) return ancestor;
    ancestor = byUrn.get(ancestor.parent ?? "");
  }
  return undefined;
}

/** Returns whether a resource leaves the program and stays: not a namespace or a team, which always do. */
function isRetained({ type, deployed, planned }: PlannedResource): boolean {
  return !planned && deployed?.retainOnDelete === true && !TEAM.test(type) && !type.endsWith(":Namespace");
}

function allAt(when: When, owners: Map<PlannedResource, PlannedResource | undefined>): Found[] {
  return [...owners].flatMap(([resource, owner]) => {
    const state = resource[when];
    if (!state) return [];
    const inputs = when === "deployed" ? deployedInputs(resource) : inputsOf(state);
    return { type: state.type, name: state.name, resource, state, inputs, owner };
  });
}

/** A refresh adds what the program does not say. Of a resource that stays the same, it is no change. */
function deployedInputs({ type, op, deployed, planned }: PlannedResource): Fields {
  const inputs = deployed ? inputsOf(deployed) : {};
  const isAdding = op === "same" && /^(aws|kubernetes):/.test(type);
  return isAdding && planned ? (pruned(inputs, inputsOf(planned)) as Fields) : inputs;
}

/** Returns a value with only the keys of another one. */
function pruned(value: Value, other: Value): Value {
  if (!isFields(value) || !isFields(other)) return value;
  const kept = Object.entries(value).filter(([key]) => Object.hasOwn(other, key));
  return Object.fromEntries(kept.map(([key, element]) => [key, pruned(element, other[key] ?? null)]));
}

function inputsOf({ type, inputs }: State): Fields {
  // A key of an allow policy must not be overlooked.
  const isOfPulumiCloud = type.startsWith("pulumiservice:");
  return readFields(inputs, isOfPulumiCloud ? [] : ADDED_KEYS);
}

/** @throws Error if a component cannot be compared, since the plan or the component has only a part of it. */
function requireAll({ name, settings, accounts, issuer }: View): void {
  if (Object.keys(settings).length === 0) {
    throw new Error(
      `PulumiCloudAccess "${name}" has no inputs. Unset PULUMI_NODEJS_SKIP_COMPONENT_INPUTS, and preview again.`,
    );
  }
  const entries = valueAt(settings, "serviceAccounts");
  if (!Array.isArray(entries) || accounts.length !== entries.length || accounts.length === 0) {
    throw new Error(`PulumiCloudAccess "${name}" has inputs of another version of this project.`);
  }
  if (issuer && accounts.every(({ configMap }) => configMap)) return;
  throw new Error(`This plan has only a part of PulumiCloudAccess "${name}". ${ALL}`);
}

function viewOf(component: PlannedResource, state: State, all: Found[], deleted: DeletedTeam[]): View {
  const { name } = state;
  const settings = inputsOf(state);
  const entries = entriesOf(settings);
  const outside = all.filter(({ owner }) => owner === undefined);

  // What is recognized is taken. What is left is no part of the component.
  const left = new Set(all.filter(({ owner }) => owner === component));
  const takeAll = (isTaken: (it: Found) => boolean): Found[] => {
    const taken = [...left].filter(isTaken);
    for (const it of taken) left.delete(it);
    return taken;
  };
  const take: Take = (type, suffix) => {
    const [first, ...others] = takeAll((it) => it.type === type && it.name === `${name}.${suffix}`);
    for (const it of others) left.add(it);
    return first;
  };

  const found = take("pulumiservice:index:OidcIssuer", "oidc-issuer");
  const issuer = found && readIssuer(found);
  const policies = issuer?.policies;
  const accounts = entries.map((entry) => {
    const prefix = `${name}.${textOf(entry.namespace)}.${textOf(entry.name)}.`;
    const isAttachment = (it: Found) => it.type === ATTACHMENT && it.name.startsWith(prefix);
    return readAccount(entry, policies, take, takeAll(isAttachment), outside);
  });
  const ofAccounts = accounts.map(({ policy }) => policy);
  // A component can be renamed.
  const withoutPrefix = (it: Found) => resourceOf(it, `${name}.`);
  const isInjected = entries.some((it) => valueAt(it, "injectToken") === true);
  const isOfTeam = (it: Found) => {
    const [own, organization] = [valueAt(settings, "organization"), organizationOf(it.inputs)];
    const isSame = isSameName(organization, own) && isOpaque(organization) === isOpaque(own);
    return isSame && /^pulumiservice:index:Team/.test(it.type) && typeof teamOf(it) === "string";
  };
  const teamResources = takeAll(isOfTeam);
  return {
    name,
    settings,
    accounts,
    issuer,
    otherPolicies: Array.isArray(policies) ? policies.filter((it) => !ofAccounts.includes(it)) : [],
    injection: isInjected
      ? takeAll((it) => INJECTION.test(it.type) && it.name === `${name}.inject-token`).map(withoutPrefix)
      : [],
    supporting: takeAll(({ type }) => SUPPORTING.includes(type)).map(withoutPrefix),
    foreign: [...left].map((it) => resourceOf(it)),
    teams: readTeams(teamResources, outside, settings, deleted),
    otherIssuers: all.flatMap((it) => readOtherIssuer(it, component)),
    otherObjects: outside.flatMap((it) => readOtherObject(it, accounts)),
    otherAssociations: outside.filter((it) => isAssociation(it, accounts)).map((it) => resourceOf(it)),
    providers: readProviders(all, component),
  };
}

/** Takes the resource with a type, and with a name behind that of the component. */
type Take = (type: string, suffix: string) => Found | undefined;

/** Returns the entries of the list of service accounts that have a name. */
function entriesOf(settings: Fields): Fields[] {
  const list = valueAt(settings, "serviceAccounts");
  const entries = Array.isArray(list) ? list.filter(isFields) : [];
  return entries.filter((entry) => {
    return [valueAt(entry, "namespace"), valueAt(entry, "name")].every((it) => typeof it === "string");
  });
}

/** @param prefix of the name that is left out. */
function resourceOf({ type, name, inputs }: Found, prefix = ""): Resource {
  const entries = Object.entries(inputs).map(([key, value]) => [key, documentOf(value) ?? null] as const);
  const title = `${type.split(":").at(-1)} ${name.startsWith(prefix) ? name.slice(prefix.length) : name}`;
  return { title, inputs: Object.fromEntries(entries) };
}

/** Returns the allow policies. An empty list of permissions reads back as none. */
function policiesIn(inputs: Fields = {}): Value | undefined {
  const policies = valueAt(inputs, "policies");
  const isEmpty = (policy: Value) => isEqual(valueAt(policy, "authorizedPermissions"), []);
  if (!Array.isArray(policies)) return policies;
  return policies.map((it) => (isFields(it) && isEmpty(it) ? without(it, "authorizedPermissions") : it));
}

function readIssuer({ inputs, state, resource }: Found): Issuer {
  const { recorded, op } = resource;
  const { inputs: said, outputs } = recorded ?? {};
  const existing = [said, outputs].flatMap((it) => valueAt(readFields(it), "thumbprints") ?? []);
  return {
    inputs: without(inputs, "policies"),
    policies: policiesIn(inputs),
    id: state.id,
    existingThumbprints: op.startsWith("import") ? undefined : existing,
  };
}

const NAMESPACE = '"kubernetes.io".namespace';
const NAME = '"kubernetes.io".serviceaccount.name';

function readAccount(
  settings: Fields,
  policies: Value | undefined,
  take: Take,
  attachments: Found[],
  outside: Found[],
): Account {
  const [namespace, name] = [String(valueAt(settings, "namespace")), String(valueAt(settings, "name"))];
  const own = `${namespace}.${name}`;
  const configMap = take("kubernetes:core/v1:ConfigMap", `${own}.pulumi-token-exchange`);
  const role = take("aws:iam/role:Role", own);
  const serviceAccount = take("kubernetes:core/v1:ServiceAccount", own);
  const isOfAccount = (policy: Value) =>
    valueAt(policy, "rules", NAMESPACE) === namespace && valueAt(policy, "rules", NAME) === name;
  return {
    id: `${namespace}/${name}`,
    namespace,
    name,
    settings,
    policy: Array.isArray(policies) ? policies.find(isOfAccount) : policies,
    configMap: configMap && readConfigMap(configMap),
    role: role && readRole(role, outside),
    attachments: attachments.map(({ inputs }) => inputs),
    association: take(ASSOCIATION, own)?.inputs,
    // One that exists already is only read.
    serviceAccount: serviceAccount?.resource.op === "read" ? undefined : serviceAccount?.inputs,
    job: take("kubernetes:batch/v1:Job", own)?.inputs,
  };
}

function readConfigMap({ inputs, resource }: Found): ConfigMap {
  const data = valueAt(inputs, "data");
  return {
    isDeployed: resource.deployed !== undefined,
    inputs: without(inputs, "data"),
    request: isFields(data) ? without(data, SCRIPT) : data,
    script: valueAt(data, SCRIPT),
  };
}

function readRole({ inputs, state, resource }: Found, outside: Found[]): Role {
  const outputs = resource.isReplaced ? {} : readFields(state.outputs);
  const name = valueAt(outputs, "name") ?? UNKNOWN;
  const arn = valueAt(outputs, "arn") ?? UNKNOWN;
  const isUse = ({ state: { propertyDependencies = {}, inputs: said } }: Found) =>
    Object.values(propertyDependencies).flat().includes(state.urn) || mentions(said, name, arn);
  return {
    isDeployed: resource.deployed !== undefined,
    name,
    arn,
    trustPolicy: documentOf(valueAt(inputs, "assumeRolePolicy")),
    inputs: without(inputs, "assumeRolePolicy"),
    uses: outside.filter(isUse).map((it) => resourceOf(it)),
  };
}

/** Returns whether a value contains the name of a role, or a string with its ARN. */
function mentions(value: unknown, name: Value, arn: Value): boolean {
  if (typeof value === "string") return value === name || (typeof arn === "string" && value.includes(arn));
  return (
    typeof value === "object" && value !== null && Object.values(value).some((it) => mentions(it, name, arn))
  );
}

/** Returns the teams that the component has resources of, and those of its service accounts, with what the program has for them. */
function readTeams(inside: Found[], outside: Found[], settings: Fields, deleted: DeletedTeam[]): Team[] {
  const organization = valueAt(settings, "organization");
  const all = [...inside, ...outside].filter(({ type, inputs }) => {
    return type.startsWith("pulumiservice:") && isSameName(organizationOf(inputs), organization);
  });
  const named = entriesOf(settings).map((entry) => valueAt(entry, "teamName"));
  const names = [...inside.map(teamOf), ...named].filter((name) => typeof name === "string");
  return [...new Set(names)].map((name) => {
    const ofTeam = all.filter((it) => isSameName(teamOf(it), name));
    const permissions = new Map<string, Value[]>();
    for (const it of ofTeam) {
      const subject = permissionSubject(it);
      if (subject) permissions.set(subject, [...(permissions.get(subject) ?? []), permissionOf(it)]);
    }
    return {
      name,
      inputs: ofTeam.find(({ type }) => TEAM.test(type))?.inputs,
      isDeleted: deleted.some((it) => isSameName(it.name, name) && isSameName(it.organization, organization)),
      permissions,
      others: ofTeam
        .filter((it) => !TEAM.test(it.type) && !permissionSubject(it))
        .map((it) => resourceOf(it)),
    };
  });
}

interface DeletedTeam {
  organization: Value | undefined;
  name: Value | undefined;
}

/** Returns the teams that the update deletes in Pulumi Cloud. The flag of the state decides whether one is retained. */
function deletedTeams(resources: PlannedResource[]): DeletedTeam[] {
  const isDeleted = ({ type, deployed, planned, isReplaced }: PlannedResource) =>
    TEAM.test(type) && deployed?.retainOnDelete === false && (planned === undefined || isReplaced);
  return resources.filter(isDeleted).map(({ deployed }) => {
    const inputs = readFields(deployed?.inputs);
    return { organization: organizationOf(inputs), name: valueAt(inputs, "name") };
  });
}

/** The resources of Pulumi Cloud call it by three names. */
function organizationOf(inputs: Fields): Value | undefined {
  return ["organization", "organizationName", "orgName"].map((key) => valueAt(inputs, key)).find(Boolean);
}

function teamOf({ type, inputs }: Found): Value | undefined {
  const keys = TEAM.test(type) ? ["name"] : ["team", "teamName"];
  return keys.map((key) => valueAt(inputs, key)).find(Boolean);
}

/** Returns whether two names of Pulumi Cloud can be those of the same thing. */
function isSameName(one: Value | undefined, other: Value | undefined): boolean {
  if (isOpaque(one) || isOpaque(other)) return true;
  return typeof one === "string" && typeof other === "string" && one.toLowerCase() === other.toLowerCase();
}

function permissionSubject({ type, inputs }: Found): string | undefined {
  const [project, stack, environment] = ["project", "stack", "environment"].map((it) => textOf(inputs[it]));
  if (type === STACK_PERMISSION) return `stack ${project}/${stack}`;
  return type === ENVIRONMENT_PERMISSION ? `environment ${project}/${environment}` : undefined;
}

/** The values of `TeamStackPermission`: provider/pkg/resources/team_stack_perm.go of pulumi/pulumi-pulumiservice. */
const STACK_PERMISSIONS: Record<string, string> = { 101: "read", 102: "edit", 103: "admin" };

function permissionOf({ type, inputs }: Found): Value {
  const permission = valueAt(inputs, "permission") ?? null;
  return (type === STACK_PERMISSION && STACK_PERMISSIONS[textOf(permission)]) || permission;
}

/** Reads an issuer of the rest of the program, also by the second interface of the provider: `pulumiservice.api.auth`. */
function readOtherIssuer(found: Found, component: PlannedResource): OtherIssuer[] {
  const { type, inputs, owner, resource } = found;
  const isPolicy = /^pulumiservice:.*:(Auth)?Policy$/.test(type);
  // What is only read has no inputs.
  if (
    owner === component ||
    resource.op === "read" ||
    !(isPolicy || /^pulumiservice:.*:OidcIssuer$/.test(type))
  )
    return [];
  return [
    {
      ...resourceOf(found),
      organization: organizationOf(inputs),
      url: valueAt(inputs, "url"),
      policiesOf: isPolicy ? (valueAt(inputs, "issuerId") ?? UNKNOWN) : undefined,
      isOfComponent: owner !== undefined,
    },
  ];
}

/** A ServiceAccount or a ConfigMap, also as a CustomResource, and a patch of one. */
const OBJECT = /^kubernetes:(?:core\/)?v1:(ConfigMap|ServiceAccount)(Patch)?$/;

function readOtherObject(found: Found, accounts: Account[]): OtherObject[] {
  const { type, inputs, resource } = found;
  const [, kind, patch] = OBJECT.exec(type) ?? [];
  if (kind !== "ConfigMap" && kind !== "ServiceAccount") return [];
  const [name, namespace] = ["name", "namespace"].map((key) => valueAt(inputs, "metadata", key));
  const isOf = ({ name: account, namespace: ofAccount }: Account) => {
    const ownName = kind === "ConfigMap" ? `${account}-pulumi-token-exchange` : account;
    // What is created under a name that exists fails. A patch changes what exists.
    const isName = name === ownName || (patch !== undefined && isOpaque(name));
    return isName && (namespace === ofAccount || namespace === undefined || isOpaque(namespace));
  };
  const ids = accounts.filter(isOf).map(({ id }) => id);
  const annotations = valueAt(inputs, "metadata", "annotations");
  const object = {
    ...resourceOf(found),
    accounts: ids,
    kind,
    provider: resource.provider,
    annotations,
  } as const;
  return ids.length > 0 ? [object] : [];
}

/** Returns whether a resource is an association for EKS Pod Identity of one of the service accounts, by their names. */
function isAssociation({ type, inputs }: Found, accounts: Account[]): boolean {
  const [namespace, serviceAccount] = ["namespace", "serviceAccount"].map((key) => valueAt(inputs, key));
  const isOf = (account: Account) =>
    (isOpaque(namespace) || namespace === account.namespace) &&
    (isOpaque(serviceAccount) || serviceAccount === account.name);
  return type === ASSOCIATION && accounts.some(isOf);
}

function readProviders(all: Found[], component: PlannedResource): Map<string, Provider[]> {
  const urns = new Set(
    all.flatMap(({ owner, resource }) => (owner === component ? (resource.provider ?? []) : [])),
  );
  const providers = new Map<string, Provider[]>();
  for (const urn of urns) {
    // URN of the type pulumi:providers:PACKAGE
    const [, packageName = ""] = /[:$]pulumi:providers:([^:]+)::/.exec(urn) ?? [];
    const inputs = all.find(({ state }) => state.urn === urn)?.inputs;
    providers.set(packageName, [...(providers.get(packageName) ?? []), { urn, inputs }]);
  }
  return providers;
}
