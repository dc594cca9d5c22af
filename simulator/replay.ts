// A component of a plan in the emulators: its issuer with the allow policies, its roles with their trust policies, and their
// associations. Nothing else of it exists there, and nothing of it is run.

import * as v from "valibot";
import { isClaimOfCluster } from "../accessCheck/allowPolicies";
import { associationOf, type Component, issuerOf, roleOf, trustPolicyOf } from "../accessCheck/component";
import { isKnown } from "../accessCheck/plan";
import { readServiceAccounts, type ServiceAccount } from "../accessCheck/serviceAccounts";
import { type Simulation, startSimulation } from "./emulators/simulation";

/** The region of the emulated account, in which the cluster of every component is. */
const REGION = "us-west-2";

const ROLE = "aws:iam/role:Role";
const ASSOCIATION = "aws:eks/podIdentityAssociation:PodIdentityAssociation";

const strings = v.union([v.string(), v.array(v.string())]);

/** What the emulated IAM can evaluate. */
const trustPolicySchema = v.object({
  Statement: v.array(
    v.object({
      Effect: v.string(),
      Principal: v.union([v.string(), v.record(v.string(), strings)]),
      Action: strings,
      Condition: v.optional(v.record(v.string(), v.record(v.string(), strings))),
    }),
  ),
});

/**
 * Starts a simulation in which a component exists.
 *
 * @returns with it the service accounts, with the ARNs of the emulated roles.
 */
export async function startReplay(
  component: Component,
): Promise<{ simulation: Simulation; accounts: ServiceAccount[] }> {
  const { clusterArn = "", serviceAccounts } = component.settings;
  const cluster = clusterNameIn(clusterArn);
  const simulation = await startSimulation({
    region: REGION,
    cluster: { name: cluster, hasOidcProvider: true },
    runners: serviceAccounts.flatMap(({ runnerId: id, runnerName: name }) =>
      id && name ? { id, name } : [],
    ),
    isAssumed: isClaimOfCluster,
  });
  try {
    return { simulation, accounts: await create(component, simulation) };
  } catch (error) {
    await simulation.close();
    throw error;
  }
}

async function create(component: Component, simulation: Simulation): Promise<ServiceAccount[]> {
  const { resources, pulumiCloud, issuer } = simulation;
  const { organization, name, maxExpirationSeconds, policies } = Object(issuerOf(component)?.inputs);
  await pulumiCloud.register({
    organization,
    name,
    url: issuer.url,
    maxExpirationSeconds,
    policies: Array.isArray(policies) ? policies : [],
  });

  const emulated = emulatedNames(component, simulation);
  return Promise.all(
    readServiceAccounts(component).map(async (account) => {
      const role = roleOf(component, account);
      if (!role || !account.role || account.unknown.includes("IAM role")) return account;
      const trustPolicy = trustPolicyOf(role);
      if (!v.is(trustPolicySchema, trustPolicy)) {
        throw new Error(`The trust policy of ${role.name} has an unexpected form.`);
      }
      const assumeRolePolicy = emulated(trustPolicy);
      const created = await resources[ROLE]?.create(role.name, { namePrefix: "role-", assumeRolePolicy });
      const { arn } = Object(created?.outputs);

      const { inputs } = associationOf(component, account) ?? {};
      if (inputs) {
        const isOfRole = !isKnown(inputs.roleArn) || inputs.roleArn === account.role.arn;
        await resources[ASSOCIATION]?.create(role.name, {
          ...inputs,
          roleArn: isOfRole ? arn : inputs.roleArn,
        });
      }
      return { ...account, role: { ...account.role, arn } };
    }),
  );
}

/** Returns a function that replaces the names of the component's cluster in a trust policy by those of the emulated one. */
function emulatedNames({ settings }: Component, { issuer }: Simulation): (policy: unknown) => unknown {
  const { issuerUrl, oidcProviderArn = "", clusterArn = "" } = settings;
  const provider = `oidc-provider/${hostAndPath(issuerUrl)}`;
  const replacements = [
    // Only the IAM OIDC provider of the component's own issuer.
    [
      oidcProviderArn.endsWith(provider) ? oidcProviderArn : "",
      emulatedArn("iam:", `oidc-provider/${hostAndPath(issuer.url)}`),
    ],
    [clusterArn, emulatedArn(`eks:${REGION}`, `cluster/${clusterNameIn(clusterArn)}`)],
    [hostAndPath(issuerUrl), hostAndPath(issuer.url)],
  ].filter(([own]) => own);
  return (policy) => {
    let json = JSON.stringify(policy);
    for (const [own = "", other = ""] of replacements)
      json = json.replaceAll(inJson(own), () => inJson(other));
    return JSON.parse(json);
  };
}

function emulatedArn(service: string, resource: string): string {
  return `arn:aws:${service}:123456789012:${resource}`;
}

function hostAndPath(url: string): string {
  return url.replace("https://", "");
}

/** Returns text as it is inside a string in JSON. */
function inJson(text: string): string {
  return JSON.stringify(text).slice(1, -1);
}

/** Returns the name in `arn:PARTITION:eks:REGION:ACCOUNT:cluster/NAME`. */
function clusterNameIn(arn: string): string {
  return /:cluster\/(.*)$/.exec(arn)?.[1] ?? "cluster";
}
