// What the update of a plan changes: who is granted what.

import { foreignPolicies, policyText } from "./allowPolicies";
import {
  associationOf,
  attachedPolicies,
  type Component,
  issuerOf,
  policiesOf,
  roleOf,
  teamsOf,
  trustPolicyOf,
} from "./component";
import { isRecord, readable } from "./plan";
import { idOf, readServiceAccounts, type ServiceAccount, tokenOf } from "./serviceAccounts";

/** What the update changes about the issuer, about a service account, or about a policy that is of none. */
export interface Change {
  /** Such as `NAMESPACE/NAME`. */
  subject: string;
  kind: "new" | "changed" | "removed";
  /** Such as `token: team:a → team:b`. */
  details: string[];
}

/** What is compared: values for people, by their names. Empty ones are not shown. */
type Facts = Record<string, string>;

const AUDIENCE = "audience of its ID token";

/** Too long for a line. They come and go with the role. */
const OF_ROLE = { trustPolicy: "trust policy", association: "EKS Pod Identity association" };

/** The facts of which only a change is worth a line. */
const COMPARED_ONLY = [AUDIENCE, ...Object.values(OF_ROLE)];

/**
 * Returns what an update changes: the issuer first, then the service accounts in the order of the program.
 *
 * @param deployed undefined if the component does not exist yet.
 * @param planned undefined if the update deletes the component.
 */
export function changesOf(deployed: Component | undefined, planned: Component | undefined): Change[] {
  const stays = deployed !== undefined && planned !== undefined;
  const before = factsOf(stays ? deployed : withoutOtherTeams(deployed));
  const after = factsOf(stays ? planned : withoutOtherTeams(planned));
  return [...new Set([...after.keys(), ...before.keys()])].flatMap((subject): Change[] => {
    const [old, now] = [before.get(subject), after.get(subject)];
    if (!now) return [{ subject, kind: "removed", details: listed(old) }];
    if (!old) return [{ subject, kind: "new", details: listed(now) }];
    const details = differences(old, now);
    return details.length > 0 ? [{ subject, kind: "changed", details }] : [];
  });
}

/** The rest of the program can have its teams already before a component comes, and still after one is removed. */
function withoutOtherTeams(component: Component | undefined): Component | undefined {
  if (!component) return undefined;
  const others = component.others.filter(({ type }) => !type.startsWith("pulumiservice:index:Team"));
  return { ...component, others };
}

function listed(facts: Facts = {}): string[] {
  const shown = Object.entries(facts).filter(([name, value]) => value && !COMPARED_ONLY.includes(name));
  return shown.map(([name, value]) => `${name}: ${value}`);
}

function differences(old: Facts, now: Facts): string[] {
  return [...new Set([...Object.keys(now), ...Object.keys(old)])].flatMap((name) => {
    const [from, value] = [old[name] ?? "", now[name] ?? ""];
    if (from === value) return [];
    if (Object.values(OF_ROLE).includes(name)) return from && value ? `${name}: changed` : [];
    return `${name}: ${from || "none"} → ${value || "none"}`;
  });
}

/** Returns the facts about each subject. */
function factsOf(component: Component | undefined): Map<string, Facts> {
  const subjects = new Map<string, Facts>();
  if (!component) return subjects;

  const accounts = readServiceAccounts(component);
  subjects.set("OIDC issuer", issuerFacts(component));
  for (const account of accounts) subjects.set(idOf(account), accountFacts(component, account));
  for (const [team, permissions] of teamsOf(component)) {
    subjects.set(`team ${readable(team)}`, permissions);
  }
  for (const policy of foreignPolicies(policiesOf(component), accounts)) {
    subjects.set(`policy ${readable(policyText(policy))}`, {});
  }
  return subjects;
}

function issuerFacts(component: Component): Facts {
  const { url, organization, maxExpirationSeconds } = issuerOf(component)?.inputs ?? {};
  return {
    URL: text(url),
    organization: text(organization),
    "Pulumi Cloud": component.settings.pulumiApiUrl,
    "maximum lifetime": inSeconds(maxExpirationSeconds),
  };
}

function accountFacts(component: Component, account: ServiceAccount): Facts {
  const { aud = "", ...rules } = account.rules;
  const role = roleOf(component, account);
  const association = associationOf(component, account);
  const { namespace, serviceAccount, roleArn } = association?.inputs ?? {};
  return {
    token: tokenOf(account),
    lifetime: inSeconds(account.settings.tokenExpirationSeconds),
    [AUDIENCE]: text(account.audience),
    "required audience": text(aud),
    "further rules": Object.entries(rules)
      .map(([path, pattern]) => `${path} = ${text(pattern)}`)
      .join(", "),
    role: account.role?.kind ?? "",
    "role policies": attachedPolicies(component, account).join(", "),
    "permissions boundary": text(role?.inputs.permissionsBoundary),
    [OF_ROLE.trustPolicy]: role ? text(sorted(trustPolicyOf(role))) : "",
    [OF_ROLE.association]: association ? text([namespace, serviceAccount, roleArn]) : "",
  };
}

/** Returns a value with the keys of its objects in order: a provider reads them in another one than the program's. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (!isRecord(value)) return value;
  const entries = Object.entries(value).sort(([one], [other]) => one.localeCompare(other));
  return Object.fromEntries(entries.map(([key, element]) => [key, sorted(element)]));
}

function inSeconds(seconds: unknown): string {
  return seconds === undefined ? "" : `${text(seconds)} s`;
}

function text(value: unknown): string {
  if (value === undefined) return "";
  return readable(typeof value === "string" ? value : JSON.stringify(value));
}
