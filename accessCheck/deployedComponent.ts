// A component that is deployed: what its program says, and the IDs that only the services choose.

import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { configMapOf, issuerOf, type PlannedComponent, type Policy, policiesOf } from "./component";
import { isKnown, type Plan, type State } from "./plan";
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

/** What the check needs to know about a component that is deployed. */
export interface DeployedComponent {
  name: string;
  issuer: IssuerSettings;
  accounts: ServiceAccount[];
  apiUrl: string;
  /** Undefined if no role is asked for. */
  aws: AwsSettings | undefined;
  /** The inputs of the Kubernetes provider; undefined if the plan does not have it. */
  cluster: Record<string, unknown> | undefined;
}

/** The OIDC issuer in Pulumi Cloud, as the program registers it. */
export interface IssuerSettings {
  organization: string;
  /** From the state. */
  id: string;
  url: string;
  maxExpirationSeconds: number;
  policies: Policy[];
  /** Those that Pulumi Cloud had after the last update, from the state. A preview ignores others. */
  thumbprints: unknown;
}

export interface AwsSettings {
  region: string;
  /** AWS_ENDPOINT_URL_STS; undefined for the endpoint of the region. */
  stsUrl: string | undefined;
}

/**
 * Returns a component of a plan in which nothing changes. Of the state it takes only the ID of the issuer and the ARNs of the roles.
 *
 * @throws Error if one of these IDs is invalid, or if the region or the STS endpoint is not usable.
 */
export function deployedComponent({ planned, resources }: PlannedComponent, plan: Plan): DeployedComponent {
  const issuer = planned && issuerOf(planned);
  if (!planned || !issuer?.id) throw new Error("The component is not deployed.");
  const { settings } = planned;
  const accounts = readServiceAccounts(planned);
  const providerOf = (state: State | undefined) => {
    const urn = resources.find((it) => it.planned === state)?.provider;
    return plan.resources.find((it) => it.urn === urn)?.planned?.inputs;
  };
  const [first] = settings.serviceAccounts;
  const role = planned.resources.find(({ type }) => type === "aws:iam/role:Role");
  const isAsked = accounts.some((account) => account.role?.kind === "irsa");
  return {
    name: planned.name,
    issuer: {
      organization: settings.organization,
      id: issuerIdOf(issuer.id),
      url: settings.issuerUrl,
      maxExpirationSeconds: settings.maxExpirationSeconds,
      policies: policiesOf(planned) ?? [],
      thumbprints: Object(resources.find((it) => it.planned === issuer)?.recorded?.outputs).thumbprints,
    },
    accounts,
    apiUrl: new URL(settings.pulumiApiUrl).origin,
    aws: isAsked ? readAws(providerOf(role)?.region, plan) : undefined,
    cluster: first && providerOf(configMapOf(planned, first)),
  };
}

/** Returns the ID of the issuer in its organization: the state has `ORGANIZATION/ID`. */
function issuerIdOf(id: string): string {
  const [, issuerId] = /^\w[\w.-]{0,99}\/([\w-]+)$/.exec(id) ?? [];
  if (issuerId !== undefined) return issuerId;
  throw new Error(`The ID of the OIDC issuer in the state is invalid: ${id}. No token was sent.`);
}

/** @param ofProvider the region of the component's own AWS provider. */
function readAws(ofProvider: unknown, { config, stack }: Plan): AwsSettings {
  const { AWS_REGION, AWS_DEFAULT_REGION, AWS_ENDPOINT_URL_STS } = process.env;
  const region = [ofProvider, config["aws:region"], AWS_REGION, AWS_DEFAULT_REGION].find(Boolean);
  if (!region) {
    const option = `--stack ${shellQuoted(stack)}`;
    throw new Error(`The region is not set. To set it: pulumi config set aws:region REGION ${option}`);
  }
  checkRegion(String(region));

  const stsUrl = AWS_ENDPOINT_URL_STS || undefined;
  if (stsUrl === undefined || stsUrl.startsWith("https://")) return { region: String(region), stsUrl };
  throw new Error(`AWS_ENDPOINT_URL_STS is ${stsUrl}. Set it to an https URL: ID tokens are sent there.`);
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

/** The kubeconfigs that the user names, by the name of their component; undefined for every other component. */
export type NamedKubeconfigs = Map<string | undefined, string>;

/**
 * Reads the options of the command line about kubeconfigs.
 *
 * @param options `FILE`, or `COMPONENT=FILE`.
 * @param components the names of those in the program.
 * @throws Error that lists the components if an option names another one, or no file.
 */
export function readKubeconfigs(options: string[], components: string[]): NamedKubeconfigs {
  const named = options.map((option) => {
    const component = components.find((name) => option.startsWith(`${name}=`));
    const file = component === undefined ? option : option.slice(`${component}=`.length);
    // A directory can have a name with `=`.
    const isFile = component !== undefined || !/^[^/]*=/.test(option);
    if (isFile && file !== "") return [component, resolve(file)] as const;
    throw new Error(
      `--kubeconfig is ${JSON.stringify(option)}. It must be FILE or COMPONENT=FILE, with a component of the program: ${components.join(", ")}. No token was sent.`,
    );
  });
  return new Map(named);
}

/**
 * Returns kubectl for the cluster of a component: by the kubeconfig of its own Kubernetes provider, or by the one that the user names.
 * Never by the current context of the user, which can be any cluster.
 *
 * @param cwd the directory of the program.
 * @param directory for a kubeconfig and a cache.
 * @throws Error if there is no kubeconfig.
 */
export async function connect(
  component: DeployedComponent,
  kubeconfigs: NamedKubeconfigs,
  cwd: string,
  directory: string,
  run: Run,
): Promise<Kubectl> {
  const { context, cluster } = component.cluster ?? {};
  const named = kubeconfigs.get(component.name) ?? kubeconfigs.get(undefined);
  const kubeconfig = named ?? (await ownKubeconfig(component, cwd, directory));
  const common = [
    `--kubeconfig=${kubeconfig}`,
    ...(typeof context === "string" ? [`--context=${context}`] : []),
    ...(typeof cluster === "string" ? [`--cluster=${cluster}`] : []),
    `--cache-dir=${join(directory, "cache")}`,
    "--request-timeout=20s",
  ];
  return (command, further, names, runOptions) =>
    run("kubectl", [...command, ...further, ...common, "--", ...names], runOptions);
}

/** Returns the file that the Kubernetes provider reads, or a new one with the content that the provider has. */
async function ownKubeconfig(
  { name, cluster }: DeployedComponent,
  cwd: string,
  directory: string,
): Promise<string> {
  const value = cluster?.kubeconfig;
  if (typeof value !== "string" || value === "" || !isKnown(value)) {
    throw new Error(
      `The kubeconfig of PulumiCloudAccess "${name}" is secret or absent. No token was sent. To name it: --kubeconfig ${shellQuoted(name)}=FILE`,
    );
  }
  // A path, if there is such a file: provider/pkg/provider/util.go of pulumi/pulumi-kubernetes (parseKubeconfigString).
  const path = resolve(cwd, value.replace(/^~(?=\/|$)/, homedir()));
  if (!value.includes("\n") && existsSync(path)) return path;
  const file = join(directory, "kubeconfig");
  await writeFile(file, value, { mode: 0o600 });
  return file;
}
