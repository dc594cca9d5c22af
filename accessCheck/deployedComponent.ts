// A component that is deployed as its program says: whom the live check asks, and with what.

import { type AwsSettings, readAws } from "./awsSettings";
import {
  type Account,
  ALLOW_POLICY,
  keyOf,
  OIDC_ISSUER,
  outputsOf,
  type PlannedComponent,
  ROLE,
  type View,
} from "./components";
import type { Plan } from "./plan";
import { type Fields, fieldsAt, type Value, valueAt, without } from "./values";

/** What the check needs to know about a component that is deployed. */
export interface DeployedComponent {
  component: PlannedComponent;
  organization: string;
  issuerUrl: string;
  /** Of the OIDC issuer in Pulumi Cloud. */
  issuerId: string;
  /** Of Pulumi Cloud, without a path. */
  apiUrl: string;
  /** Undefined if no role is asked for. */
  aws: AwsSettings | undefined;
}

/**
 * Returns a component of a plan in which nothing changes, and nothing is found. Of what exists it takes only the ID of the issuer
 * and the ARNs of the roles: anyone who can change the cluster or the state could otherwise choose who is asked for which token.
 *
 * @throws Error if one of these is invalid, or if the region or the STS endpoint is not usable.
 */
export function deployedComponent(component: PlannedComponent, plan: Plan): DeployedComponent {
  const { settings, accounts, resources } = component.after;
  const issuer = resources.get(keyOf({ type: OIDC_ISSUER, name: "oidc-issuer" }));
  const roles = accounts.map((it) => irsaRoleOf(it, component.after)).filter(Boolean);
  return {
    component,
    organization: known(settings, "organization"),
    issuerUrl: known(settings, "issuerUrl"),
    issuerId: issuerIdOf(issuer?.state.id),
    apiUrl: new URL(known(settings, "pulumiApiUrl")).origin,
    aws: roles.length > 0 ? readAws(component.after, plan) : undefined,
  };
}

function known(settings: Fields, name: string): string {
  const value = valueAt(settings, name);
  if (typeof value === "string") return value;
  throw new Error(`The setting ${name} is secret, or not known. No token was sent.`);
}

/** Returns the ID of the issuer in its organization: the state has `ORGANIZATION/ID`. */
function issuerIdOf(id = ""): string {
  const [, issuerId] = /^\w[\w.-]{0,99}\/([\w-]+)$/.exec(id) ?? [];
  if (issuerId !== undefined) return issuerId;
  throw new Error(`The ID of the OIDC issuer in the state is invalid: ${id}. No token was sent.`);
}

// With an argument such as `file://PATH`, the AWS CLI would read that file.
const ROLE_ARN = /^arn:[a-z-]+:iam::\d{12}:role\/[\w+=,.@/-]+$/;

/**
 * Returns the ARN of the role that the pods of a service account have by IRSA; undefined if they have none.
 *
 * @throws Error if it is not the ARN of a role.
 */
export function irsaRoleOf({ settings, namespace, name }: Account, { resources }: View): string | undefined {
  if (valueAt(settings, "awsRole") !== "irsa") return undefined;
  const role = resources.get(keyOf({ type: ROLE, name: `${namespace}.${name}` }));
  const arn = valueAt(outputsOf(role), "arn");
  if (typeof arn === "string" && ROLE_ARN.test(arn)) return arn;
  throw new Error(
    `The ARN of an IAM role in the state is invalid: ${JSON.stringify(arn)}. No token was sent.`,
  );
}

/** Returns what the workloads of a service account request: the data of its ConfigMap without the script. */
export function requestOf({ namespace, name }: Account, { resources }: View): Record<string, string> {
  const type = "kubernetes:core/v1:ConfigMap";
  const configMap = resources.get(keyOf({ type, name: `${namespace}.${name}.pulumi-token-exchange` }));
  const entries = Object.entries(without(fieldsAt(configMap?.inputs, "data"), "exchange-token.sh"));
  return Object.fromEntries(
    entries.filter((entry): entry is [string, string] => typeof entry[1] === "string"),
  );
}

/** Returns the allow policies that the program says. */
export function policiesOf({ resources }: View): Value[] {
  return [...resources.values()].flatMap(({ type, inputs }) => (type === ALLOW_POLICY ? [inputs] : []));
}
