// A stack that is up, as the Pulumi CLI and its cluster describe it.

import { join } from "node:path";
import { stsEndpoint } from "./awsRegions";
import type { IssuerPolicy } from "./issuerPolicies";
import { idOf, readServiceAccounts, type ServiceAccount } from "./questions";
import { shellQuoted } from "./terminal";
import type { Run, RunOptions } from "./tools";

export type Kubectl = (args: string[], options?: RunOptions) => Promise<string>;

/** What the check needs to know about a stack that is up. */
export interface DeployedStack {
  name: string;
  issuerUrl: string;
  /** The organization, and the ID of the issuer in it. */
  organization: string;
  issuerId: string;
  /** The policies of the issuer, as the stack's state has them. */
  policies: IssuerPolicy[];
  /** The stack's output. */
  serviceAccounts: Parameters<typeof readServiceAccounts>[0];
  /** `NAMESPACE/NAME` of the service accounts that receive their role by EKS Pod Identity. */
  podIdentities: string[];
  /** The URL of Pulumi Cloud in each ConfigMap that the program created, by `NAMESPACE/NAME`. */
  createdUrls: Map<string, string>;
  clusterName: string;
  pulumiCloudUrl: string;
  stsUrl: string;
  /** The AWS provider's region, profile, and role, as options of the AWS CLI. */
  awsOptions: string[];
}

/** A resource in the state of a stack, as far as it is read here. */
interface StateResource {
  type: string;
  urn: string;
  id?: string;
  inputs?: Record<string, unknown>;
}

type Config = Record<string, { value?: string }>;

/** Reads a stack from the Pulumi CLI. @throws Error if it is not deployed, or if its region is not valid. */
export async function readStack(name: string, run: Run): Promise<DeployedStack> {
  const pulumi = async (...args: string[]) =>
    JSON.parse(await run("pulumi", [...args, "--stack", name, "--non-interactive"]));
  const config: Config = await pulumi("config", "--json");
  const { issuerUrl, serviceAccounts } = await pulumi("stack", "output", "--json");
  const { deployment } = await pulumi("stack", "export");
  const resources: StateResource[] = deployment.resources ?? [];

  const issuer = resources.find(({ type }) => type === "pulumiservice:index:OidcIssuer");
  if (!issuer || !issuerUrl || Object.keys(serviceAccounts ?? {}).length === 0) {
    throw new Error(`Stack "${name}" is not deployed. To deploy it: pulumi up --stack ${shellQuoted(name)}`);
  }
  const [organization = "", issuerId = ""] = issuer.id?.split("/") ?? [];
  const [, project = ""] = issuer.urn.split("::");
  const setting = (key: string) => config[`${project}:${key}`]?.value;
  return {
    name,
    issuerUrl,
    organization,
    issuerId,
    policies: (issuer.inputs?.policies ?? []) as IssuerPolicy[],
    serviceAccounts,
    podIdentities: podIdentitiesOf(resources),
    createdUrls: urlsOf(resources),
    clusterName: setting("clusterName") ?? "",
    pulumiCloudUrl: new URL(setting("pulumiApiUrl") || "https://api.pulumi.com").origin,
    ...readAws(name, config),
  };
}

function podIdentitiesOf(resources: StateResource[]): string[] {
  return resources
    .filter(({ type }) => type === "aws:eks/podIdentityAssociation:PodIdentityAssociation")
    .map(({ inputs = {} }) => `${inputs.namespace}/${inputs.serviceAccount}`);
}

/** Returns the URL of Pulumi Cloud in each ConfigMap of a state. */
function urlsOf(resources: StateResource[]): Map<string, string> {
  const configMaps = resources.filter(({ type }) => type === "kubernetes:core/v1:ConfigMap");
  return new Map(
    configMaps.map(({ id = "", inputs }) => {
      const { data } = (inputs ?? {}) as { data?: Record<string, string> };
      return [id, data?.apiUrl ?? ""];
    }),
  );
}

function readAws(name: string, config: Config): Pick<DeployedStack, "stsUrl" | "awsOptions"> {
  const aws = (key: string) => config[`aws:${key}`]?.value;
  const region = aws("region") ?? process.env.AWS_REGION ?? process.env.AWS_DEFAULT_REGION;
  if (!region) {
    const stack = `--stack ${shellQuoted(name)}`;
    throw new Error(`The region is not set. To set it: pulumi config set aws:region REGION ${stack}`);
  }
  const role = JSON.parse(aws("assumeRoles") ?? "[]")[0]?.roleArn;
  const options = { region, profile: aws("profile"), "role-arn": role, "assume-role-arn": role };
  const awsOptions = Object.entries(options).flatMap(([option, value]) =>
    value ? [`--${option}=${value}`] : [],
  );

  // Before the endpoint of the environment, too: the region is an argument of the AWS CLI.
  const endpoint = stsEndpoint(region);
  const stsUrl = process.env.AWS_ENDPOINT_URL_STS ?? endpoint;
  if (stsUrl.startsWith("https://")) return { stsUrl, awsOptions };
  throw new Error(`AWS_ENDPOINT_URL_STS is ${stsUrl}. Set it to an https URL: ID tokens are sent there.`);
}

/** Returns kubectl for the cluster of a stack, by a kubeconfig and a cache in a directory. */
export async function connect(
  { clusterName, awsOptions }: DeployedStack,
  directory: string,
  run: Run,
): Promise<Kubectl> {
  const kubeconfig = `--kubeconfig=${join(directory, "kubeconfig")}`;
  await run("aws", ["eks", "update-kubeconfig", `--name=${clusterName}`, kubeconfig, ...awsOptions]);
  const options = [kubeconfig, `--cache-dir=${join(directory, "cache")}`, "--request-timeout=20s"];
  return (args, runOptions) => run("kubectl", [...args, ...options], runOptions);
}

/**
 * Reads the service accounts of a stack from its cluster.
 *
 * @throws Error if a ConfigMap names another Pulumi Cloud than the stack: anyone who can change a ConfigMap could otherwise
 *   have the tokens of other service accounts sent anywhere.
 */
export async function readAccounts(stack: DeployedStack, kubectl: Kubectl): Promise<ServiceAccount[]> {
  const configMap = async (namespace: string, name: string) =>
    JSON.parse(await kubectl(["get", "configmap", name, `--namespace=${namespace}`, "--output=json"])).data;
  const policies = stack.policies.map(({ rules = {} }) => ({ rules }));
  const accounts = await readServiceAccounts(stack.serviceAccounts, configMap, policies, stack.podIdentities);
  for (const account of accounts) {
    const url = account.settings.apiUrl ?? "";
    if (url !== stack.pulumiCloudUrl) throw otherUrl(stack, account, url);
  }
  return accounts;
}

function otherUrl(
  { name, pulumiCloudUrl, createdUrls, ...stack }: DeployedStack,
  account: ServiceAccount,
  url: string,
) {
  const configMap = stack.serviceAccounts[idOf(account)]?.configMap ?? "";
  const created = createdUrls.get(`${account.namespace}/${configMap}`);
  const named = `The ConfigMap of ${idOf(account)} names ${url} instead of ${pulumiCloudUrl}`;
  const up = `pulumi up --refresh --stack ${shellQuoted(name)}`;
  return created === url
    ? new Error(
        `${named}, which pulumiApiUrl has been set to since then. No token was sent.\nTo apply it: ${up}`,
      )
    : new Error(`${named}: it was changed by hand. No token was sent.\nTo restore it: ${up}`);
}
