// A stack that is up: what its program says, and the two IDs that only the services choose.

import { join } from "node:path";
import { findComponent } from "./component";
import type { Preview } from "./preview";
import { readServiceAccounts, type ServiceAccount } from "./serviceAccounts";
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
  issuer: IssuerSettings;
  /** Those that have been deployed. */
  accounts: ServiceAccount[];
  clusterName: string;
  apiUrl: string;
  region: string;
  /** AWS_ENDPOINT_URL_STS; undefined for the endpoint of the region. */
  stsUrl: string | undefined;
  /** The AWS provider's region, profile, and role, as options of the AWS CLI. */
  awsOptions: string[];
}

/** The OIDC issuer in Pulumi Cloud, as the program registers it. */
export interface IssuerSettings {
  organization: string;
  /** From the state. */
  id: string;
  url: string;
  maxExpirationSeconds: number;
  policies: object[];
}

/**
 * Returns a stack as its program describes it. Of the state it takes only the ID of the issuer and the ARNs of the roles.
 *
 * @throws Error if the stack is not deployed, if one of these IDs is invalid, or if the region or the STS endpoint is not usable.
 */
export function deployedStack(name: string, { project, config, resources }: Preview): DeployedStack {
  const component = findComponent(resources);
  const issuer = resources.find(({ type }) => type === "pulumiservice:index:OidcIssuer");
  if (!component || !issuer?.id) {
    throw new Error(`Stack "${name}" is not deployed. To deploy it: pulumi up --stack ${shellQuoted(name)}`);
  }
  const { settings: access } = component;
  return {
    issuer: {
      organization: access.organization,
      id: issuerIdOf(issuer.id),
      url: access.issuerUrl,
      maxExpirationSeconds: access.maxExpirationSeconds,
      policies: issuer.inputs.policies as object[],
    },
    accounts: readServiceAccounts(component),
    clusterName: config[`${project}:clusterName`] ?? "",
    apiUrl: new URL(access.pulumiApiUrl).origin,
    ...readAws(name, config),
  };
}

/** Returns the ID of the issuer in its organization: the state has `ORGANIZATION/ID`. */
function issuerIdOf(id: string): string {
  const [, issuerId] = /^\w[\w.-]{0,99}\/([\w-]+)$/.exec(id) ?? [];
  if (issuerId !== undefined) return issuerId;
  throw new Error(`The ID of the OIDC issuer in the state is invalid: ${id}. No token was sent.`);
}

function readAws(
  name: string,
  config: Preview["config"],
): Pick<DeployedStack, "region" | "stsUrl" | "awsOptions"> {
  const region = config["aws:region"] || process.env.AWS_REGION || process.env.AWS_DEFAULT_REGION;
  if (!region) {
    const stack = `--stack ${shellQuoted(name)}`;
    throw new Error(`The region is not set. To set it: pulumi config set aws:region REGION ${stack}`);
  }
  checkRegion(region);
  const role = JSON.parse(config["aws:assumeRoles"] || "[]")[0]?.roleArn;
  const options = { region, profile: config["aws:profile"], "role-arn": role, "assume-role-arn": role };
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

/** Also matches a region that is newer than this project. */
const REGION_NAME = /^[a-z0-9-]+$/;

/** @throws Error if a region from a stack's settings or the environment cannot be the name of an AWS region. */
export function checkRegion(region: string): void {
  if (REGION_NAME.test(region)) return;
  throw new Error(
    `The region is ${JSON.stringify(region)}, which is not the name of an AWS region. Set aws:region to one, such as us-west-2.`,
  );
}
