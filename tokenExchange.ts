// The token exchange in pods: the ConfigMaps that every workload uses, and a pod spec that uses them.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ConfigMap } from "@pulumi/kubernetes/core/v1";
import type { input } from "@pulumi/kubernetes/types";
import * as pulumi from "@pulumi/pulumi";

export type PodSpec = input.core.v1.PodSpec;
type Container = input.core.v1.Container;

export interface TokenExchangeArgs {
  namespace: pulumi.Input<string>;
  /** The name of the service account, which the names of the ConfigMaps begin with. */
  serviceAccountName: string;
  organization: pulumi.Input<string>;
  tokenType: string;
  /** Such as `user:LOGIN`; empty for an organization token. */
  tokenScope: pulumi.Input<string>;
  tokenExpirationSeconds: number;
  /** The URL of Pulumi Cloud. */
  apiUrl: string;
}

export interface TokenExchange {
  environment: ConfigMap;
  script: ConfigMap;
  /** The names of the two, as plain strings. */
  environmentName: string;
  scriptName: string;
  /** Changes when the content of one of the two does. */
  checksum: pulumi.Output<string>;
}

const SCRIPT = readFileSync(join(__dirname, "scripts", "exchange-token.sh"), "utf8");

/** The suffixes of the ConfigMaps' names, which follow the name of the service account and a hyphen. */
export const ENVIRONMENT_SUFFIX = "pulumi-token";
export const SCRIPT_SUFFIX = "pulumi-token-exchange";

/** The volume of the script, its key in the ConfigMap, and where it is in a container. */
export const SCRIPT_VOLUME = "pulumi-token-exchange";
export const SCRIPT_KEY = "entrypoint.sh";
export const SCRIPT_PATH = "/bin/entrypoint.sh";
export const SCRIPT_MODE = 0o555;

/** The volume of the ID token, and where it is in a container. */
export const TOKEN_VOLUME = "pulumi-id-token";
export const TOKEN_DIRECTORY = "/var/run/secrets/pulumi.com/serviceaccount";
export const TOKEN_FILE = "token";

/** The shortest lifetime of an ID token that Kubernetes grants; the kubelet renews the file. */
export const TOKEN_SECONDS = 600;

/**
 * Creates the ConfigMaps that the workloads of one service account use by name: `NAME-pulumi-token` with the environment
 * of the exchange script, and `NAME-pulumi-token-exchange` with the script.
 *
 * @returns the two ConfigMaps. They contain no token.
 */
export function createTokenExchange(
  name: string,
  args: TokenExchangeArgs,
  options?: pulumi.CustomResourceOptions,
): TokenExchange {
  const environment = {
    PULUMI_ORG: args.organization,
    PULUMI_TOKEN_TYPE: args.tokenType,
    PULUMI_TOKEN_SCOPE: args.tokenScope,
    PULUMI_TOKEN_EXPIRATION: String(args.tokenExpirationSeconds),
    PULUMI_BACKEND_URL: args.apiUrl,
    PULUMI_OIDC_TOKEN_FILE: `${TOKEN_DIRECTORY}/${TOKEN_FILE}`,
    // The Pulumi CLI runs this program for its token, and again when the token expires.
    PULUMI_CREDENTIAL_HELPER: SCRIPT_PATH,
    PULUMI_CREDENTIAL_HELPER_ARGS: '["--credential-helper"]',
  };
  const nameOf = (suffix: string) => `${args.serviceAccountName}-${suffix}`;
  const configMap = (suffix: string, data: Record<string, pulumi.Input<string>>) => {
    const metadata = { namespace: args.namespace, name: nameOf(suffix) };
    return new ConfigMap(`${name}.${suffix}`, { metadata, data }, options);
  };
  return {
    environment: configMap(ENVIRONMENT_SUFFIX, environment),
    script: configMap(SCRIPT_SUFFIX, { [SCRIPT_KEY]: SCRIPT }),
    environmentName: nameOf(ENVIRONMENT_SUFFIX),
    scriptName: nameOf(SCRIPT_SUFFIX),
    checksum: pulumi.jsonStringify([environment, SCRIPT]).apply(sha256),
  };
}

/**
 * Adds to a pod spec what a container needs to exchange the pod's ID token: the service account, the environment, the
 * script at `/bin/entrypoint.sh`, and the ID token. Commands stay as they are: run the Pulumi CLI, which asks the script
 * for its token, or run `/bin/entrypoint.sh COMMAND`.
 *
 * @param spec is not changed. What it has already wins: its variables over those of the ConfigMap, and its volumes and
 *   mounts over those of the same name or path.
 * @param args the names of the service account and of its ConfigMaps; the audience of the ID token; `containers`, the
 *   names of those to change: by default all, without the init containers.
 * @returns the new pod spec.
 * @throws Error if the pod has no container of such a name.
 */
export function tokenExchangePod(
  spec: PodSpec,
  args: {
    serviceAccountName: pulumi.Input<string>;
    environmentConfigMap: pulumi.Input<string>;
    scriptConfigMap: pulumi.Input<string>;
    tokenAudience: pulumi.Input<string>;
    containers?: string[];
  },
): PodSpec {
  const script = {
    name: SCRIPT_VOLUME,
    configMap: { name: args.scriptConfigMap, defaultMode: SCRIPT_MODE },
  };
  const idToken = { audience: args.tokenAudience, expirationSeconds: TOKEN_SECONDS, path: TOKEN_FILE };
  const token = {
    name: TOKEN_VOLUME,
    projected: { sources: [{ serviceAccountToken: idToken }] },
  };
  const mounts = [
    { name: script.name, mountPath: SCRIPT_PATH, subPath: SCRIPT_KEY, readOnly: true },
    { name: token.name, mountPath: TOKEN_DIRECTORY, readOnly: true },
  ];

  const withExchange = (container: Container): Container => ({
    ...container,
    // The last source of a variable wins.
    envFrom: changeList<input.core.v1.EnvFromSource>(container.envFrom, (given) => {
      return [{ configMapRef: { name: args.environmentConfigMap } }, ...given];
    }),
    volumeMounts: changeList<input.core.v1.VolumeMount>(container.volumeMounts, (given) => {
      const isFree = (path: string) => !given.some(({ mountPath }) => mountPath === path);
      const added = notYetIn(given, mounts).filter(({ mountPath }) => isFree(mountPath));
      return [...given, ...added];
    }),
  });

  return {
    ...spec,
    serviceAccountName: args.serviceAccountName,
    containers: changeList<Container>(spec.containers, (containers) => {
      const names = containers.map(({ name }) => name);
      const unknown = args.containers?.find((name) => !names.includes(name));
      if (unknown) throw new Error(`The pod has no container "${unknown}".`);

      const isNamed = ({ name }: Container) => !args.containers || args.containers.includes(String(name));
      return containers.map((container) => (isNamed(container) ? withExchange(container) : container));
    }),
    volumes: changeList<input.core.v1.Volume>(spec.volumes, (given) => [
      ...given,
      ...notYetIn(given, [script, token]),
    ]),
  };
}

/** Changes a plain list immediately, so that a preview shows it, and an output once it is known. */
function changeList<Element>(
  list: pulumi.Input<pulumi.Input<Element>[] | undefined> = [],
  change: (list: Element[]) => Element[],
): pulumi.Input<pulumi.Input<Element>[]> {
  const isPlain = Array.isArray(list) && !list.some(pulumi.Output.isInstance);
  if (isPlain) return change(list as Element[]);
  return pulumi.output(list).apply((elements = []) => change(elements as Element[]));
}

/** Returns those of the added elements whose name none of the given ones has. */
export function notYetIn<Element extends { name: unknown }>(
  given: { name: unknown }[],
  added: Element[],
): Element[] {
  return added.filter(({ name }) => !given.some((element) => element.name === name));
}

/** Returns the SHA-256 of a string, in lowercase hex. */
export function sha256(content: string): string {
  return createHash("sha256").update(content).digest("hex");
}
