// A stack that is up, as the Pulumi CLI and its cluster describe it.

import { join } from "node:path";
import { idOf, readServiceAccounts, type ServiceAccount, type ServiceAccountOutput } from "./serviceAccounts";
import { shellQuoted } from "./terminal";
import type { Run, RunOptions } from "./tools";

/** Runs kubectl with a command such as `get configmap`, its options, and the names that follow `--`. */
export type Kubectl = (
  command: string[],
  options: string[],
  names: string[],
  runOptions?: RunOptions,
) => Promise<string>;

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
  /** The data of each ConfigMap in the stack's state, by `NAMESPACE/NAME`. */
  configMaps: Map<string, Data>;
  clusterName: string;
  pulumiCloudUrl: string;
  region: string;
  /** AWS_ENDPOINT_URL_STS; undefined for the endpoint of the region. */
  stsUrl: string | undefined;
  /** The AWS provider's region, profile, and role, as options of the AWS CLI. */
  awsOptions: string[];
}

/** A policy of an OIDC issuer, as the state of a stack and the API of Pulumi Cloud contain it. */
export interface IssuerPolicy {
  decision?: string;
  tokenType?: string;
  userLogin?: string;
  teamName?: string;
  runnerID?: string;
  authorizedPermissions?: string[];
  rules?: Record<string, string>;
}

/** The data of a ConfigMap. */
export type Data = Record<string, string>;

/** A resource in the state of a stack, as far as it is read here. */
interface StateResource {
  type: string;
  urn: string;
  id?: string;
  inputs?: Record<string, unknown>;
}

type Config = Record<string, { value?: string }>;

/**
 * Reads a stack from the Pulumi CLI.
 *
 * @throws Error if it is not deployed, if its state contains an invalid name, or if the region or the STS endpoint is not
 *   usable.
 */
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
  for (const [id, output] of Object.entries<ServiceAccountOutput>(serviceAccounts)) {
    const names = id.split("/");
    if (names.length !== 2 || names.some((it) => !ACCOUNT_NAME.test(it))) throw notA(NAME, id);
    if (!OBJECT_NAME.test(output.configMap)) throw notA(NAME, output.configMap);
    const { roleArn } = output;
    if (roleArn && !ROLE_ARN.test(roleArn)) throw notA("the ARN of an IAM role", roleArn);
  }
  const [organization = "", issuerId = "", ...others] = issuer.id?.split("/") ?? [];
  if (!ORGANIZATION_NAME.test(organization) || !/^[\w-]+$/.test(issuerId) || others.length > 0) {
    throw new Error(
      `The state of stack "${name}" has an invalid ID of the OIDC issuer: ${issuer.id}. ${UNSENT}`,
    );
  }
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
    configMaps: configMapsOf(resources),
    clusterName: setting("clusterName") ?? "",
    pulumiCloudUrl: new URL(setting("pulumiApiUrl") || "https://api.pulumi.com").origin,
    ...readAws(name, config),
  };
}

// Anyone who can write the state chooses these names. The settings have the same rules.
const ACCOUNT_NAME = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
const ORGANIZATION_NAME = /^\w[\w.-]{0,99}$/;

/** https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-subdomain-names */
const OBJECT_NAME = /^(?=.{1,253}$)[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/;

// With an argument such as `file://PATH`, the AWS CLI would read that file.
const ROLE_ARN = /^arn:[a-z-]+:iam::\d{12}:role\/[\w+=,.@/-]+$/;

const NAME = "a name in Kubernetes";
const UNSENT = "No token was sent.";

function notA(kind: string, value: string): Error {
  const found = JSON.stringify(value);
  return new Error(`The outputs of the stack contain ${found}, which is not ${kind}. ${UNSENT}`);
}

function podIdentitiesOf(resources: StateResource[]): string[] {
  return resources
    .filter(({ type }) => type === "aws:eks/podIdentityAssociation:PodIdentityAssociation")
    .map(({ inputs = {} }) => `${inputs.namespace}/${inputs.serviceAccount}`);
}

function configMapsOf(resources: StateResource[]): Map<string, Data> {
  const configMaps = resources.filter(({ type }) => type === "kubernetes:core/v1:ConfigMap");
  return new Map(configMaps.map(({ id = "", inputs }) => [id, (inputs?.data ?? {}) as Data]));
}

function readAws(name: string, config: Config): Pick<DeployedStack, "region" | "stsUrl" | "awsOptions"> {
  const aws = (key: string) => config[`aws:${key}`]?.value;
  const region = aws("region") ?? process.env.AWS_REGION ?? process.env.AWS_DEFAULT_REGION;
  if (!region) {
    const stack = `--stack ${shellQuoted(name)}`;
    throw new Error(`The region is not set. To set it: pulumi config set aws:region REGION ${stack}`);
  }
  checkRegion(region);
  const role = JSON.parse(aws("assumeRoles") ?? "[]")[0]?.roleArn;
  const options = { region, profile: aws("profile"), "role-arn": role, "assume-role-arn": role };
  const awsOptions = Object.entries(options).flatMap(([option, value]) =>
    value ? [`--${option}=${value}`] : [],
  );

  const stsUrl = process.env.AWS_ENDPOINT_URL_STS || undefined;
  if (stsUrl === undefined || stsUrl.startsWith("https://")) return { region, stsUrl, awsOptions };
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
  return (command, further, names, runOptions) => {
    return run("kubectl", [...command, ...further, ...options, "--", ...names], runOptions);
  };
}

/**
 * Returns the service accounts of a stack, with what the stack's state says that they request. Anyone who can change a
 * ConfigMap in the cluster could otherwise choose which organization is asked for which token.
 *
 * @throws Error if the state names another Pulumi Cloud than the configuration, or an audience that Pulumi Cloud must not
 *   receive.
 */
export function readAccounts(stack: DeployedStack): ServiceAccount[] {
  const configMap = (namespace: string, name: string) => createdConfigMap(stack, `${namespace}/${name}`);
  const policies = stack.policies.map(({ rules = {} }) => ({ rules }));
  const accounts = readServiceAccounts(stack.serviceAccounts, configMap, policies, stack.podIdentities);
  for (const account of accounts) {
    checkAudience(stack, account);
    const url = account.settings.apiUrl ?? "";
    if (url !== stack.pulumiCloudUrl) throw otherUrl(stack, account, url);
  }
  return accounts;
}

/** Returns the data of a ConfigMap in the stack's state. @throws Error if the state has no such ConfigMap. */
export function createdConfigMap({ name, configMaps }: DeployedStack, id: string): Data {
  const data = configMaps.get(id);
  if (data) return data;
  throw new Error(`The state of stack "${name}" has no ConfigMap ${JSON.stringify(id)}. ${UNSENT}`);
}

/** @throws Error if Pulumi Cloud must not receive an ID token with the audience of a service account. */
function checkAudience({ issuerUrl }: DeployedStack, account: ServiceAccount): void {
  const reason = audienceProblem(account.audience, issuerUrl);
  if (!reason) return;
  const named = `The ID token of ${idOf(account)} has the audience ${JSON.stringify(account.audience)}`;
  throw new Error(`${named}, which ${reason}. ${UNSENT}`);
}

function audienceProblem(audience: string, issuerUrl: string): string | undefined {
  if (/(^|[./])(sts|pods\.eks)\..*amazonaws\./i.test(audience)) return "AWS accepts";
  // https://docs.aws.amazon.com/eks/latest/userguide/service-accounts.html
  const isApiServer = audience === issuerUrl || /^(https:\/\/)?kubernetes\.default(\.|$)/i.test(audience);
  if (isApiServer) return "the cluster's API server accepts";
  return /^[^\s*?]+$/.test(audience) ? undefined : "is not valid";
}

function otherUrl({ name, pulumiCloudUrl }: DeployedStack, account: ServiceAccount, url: string): Error {
  const named = `The ConfigMap of ${idOf(account)} names ${url} instead of ${pulumiCloudUrl}`;
  const up = `pulumi up --stack ${shellQuoted(name)}`;
  return new Error(`${named}, which pulumiApiUrl has been set to since then. ${UNSENT}\nTo apply it: ${up}`);
}

/** Also matches a region that is newer than this project. */
const REGION_NAME = /^[a-z0-9-]+$/;

/** @throws Error if a region from a stack's settings or the environment cannot be the name of an AWS region. */
export function checkRegion(region: string): void {
  if (REGION_NAME.test(region)) return;
  throw new Error(
    `The region is ${JSON.stringify(region)}, which is not the name of an AWS region. Set aws:region to one, such as us-west-2.`,
  );
}
