// The components of a plan as plain values: what readComponents.ts and its parts read, and everything else compares and shows.

import type { PlannedResource } from "./plan";
import type { Fields, Value } from "./values";

/** A `PulumiCloudAccess`, and what the update does to it. */
export interface PlannedComponent {
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
  injection: Injection;
  /** What is created for the component, and grants no access by itself. */
  supporting: Resource[];
  /** What is inside the component, and no part of it. */
  foreign: Resource[];
  /** The issuers of the rest of the program, and policies of issuers. */
  otherIssuers: OtherIssuer[];
  /** What the rest of the program has under the name of a service account or of its ConfigMap. */
  otherObjects: OtherObject[];
  /** What the rest of the program has that can give the pods of a service account another role. */
  otherAssociations: OtherAssociation[];
  /** The providers of the resources in the component, by package. */
  providers: Map<string, Provider[]>;
  /** The other components of the same organization, after the update. Only of what the program says. */
  neighbors: View[];
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
  /** The thumbprints that exist already, by the state in front of a refresh. */
  existingThumbprints: Value[];
  /** Whether this update takes over an issuer that exists already. */
  isImported: boolean;
}

/** How pods receive the exchange when they are created. */
export interface Injection {
  /** The admission policy, and its binding. */
  resources: Resource[];
  /** Which pods the policy changes, and the audiences of their ID tokens. Undefined without a policy. */
  selection: Fields | undefined;
  /** What else the policy says. */
  rest: Fields;
}

/** Returns the ID of a service account: `NAMESPACE/NAME`. */
export function accountId({ namespace, name }: { namespace: string; name: string }): string {
  return `${namespace}/${name}`;
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
  /** What has a role that is not known, and not the one of the service account. Equal placeholders can be different values. */
  ofOtherRole: string[];
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
  urn: string | undefined;
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

export interface OtherIssuer extends Resource {
  organization: Value | undefined;
  url: Value | undefined;
  /** Whether it is the policies of an issuer: it is not known of which one. */
  isPolicy: boolean;
  /** Whether it is inside another component, which shows it. */
  isOfComponent: boolean;
}

export interface OtherAssociation extends Resource {
  /** The service accounts, `NAMESPACE/NAME`, whose pods it can give a role. */
  accounts: string[];
}

export interface OtherObject extends Resource {
  /** The service accounts, `NAMESPACE/NAME`, whose objects can have its name. */
  accounts: string[];
  kind: "ConfigMap" | "ServiceAccount";
  /** Whether it is in the cluster of the component. Another provider can be that of another cluster, with objects of the same names. */
  isHere: boolean;
  annotations: Value | undefined;
  /** The URNs of what its metadata comes from. */
  sources: string[];
}
