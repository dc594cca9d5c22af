// The token exchange in pods: the ConfigMap that the workloads of a service account mount, and a pod spec that mounts it.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ConfigMap } from "@pulumi/kubernetes/core/v1";
import type { input } from "@pulumi/kubernetes/types";
import * as pulumi from "@pulumi/pulumi";
import {
  CONFIG_MAP_SUFFIX,
  CREDENTIAL_HELPER,
  SCRIPT_FILE,
  tokenVolume,
  VOLUME_MOUNT,
  VOLUME_NAME,
} from "./tokenVolume";

export type PodSpec = input.core.v1.PodSpec;
type Container = input.core.v1.Container;

/** The settings of the exchange script. Each is a file of the volume. */
export interface ExchangeSettings {
  organization: pulumi.Input<string>;
  tokenType: string;
  /** Such as `user:LOGIN`; empty for an organization token. */
  tokenScope: pulumi.Input<string>;
  tokenExpirationSeconds: number;
  /** The URL of Pulumi Cloud. */
  apiUrl: string;
}

export interface TokenExchange {
  configMap: ConfigMap;
  /** The name of the ConfigMap, as a plain string. */
  configMapName: string;
  /** Changes when the content of the ConfigMap does. */
  checksum: pulumi.Output<string>;
}

const SCRIPT = readFileSync(join(__dirname, "scripts", SCRIPT_FILE), "utf8");

/**
 * Lets `pulumi up --refresh` restore what another field manager has changed. Kubernetes would report a conflict otherwise.
 * https://www.pulumi.com/registry/packages/kubernetes/how-to-guides/managing-resources-with-server-side-apply/
 */
const RESTORED = { "pulumi.com/patchForce": "true" };

/**
 * Creates the ConfigMap that the workloads of one service account mount: `NAME-pulumi-token-exchange`, with the exchange
 * script and a file for each of its settings.
 *
 * @param args the namespace and the name of the service account, and the settings.
 * @returns the ConfigMap. It contains no token.
 */
export function createTokenExchange(
  name: string,
  args: { namespace: pulumi.Input<string>; serviceAccountName: string; settings: ExchangeSettings },
  options?: pulumi.CustomResourceOptions,
): TokenExchange {
  const { organization, tokenType, tokenScope, tokenExpirationSeconds, apiUrl } = args.settings;
  const data = {
    organization,
    tokenType,
    tokenScope,
    tokenExpirationSeconds: String(tokenExpirationSeconds),
    apiUrl,
    [SCRIPT_FILE]: SCRIPT,
  };

  const configMapName = `${args.serviceAccountName}${CONFIG_MAP_SUFFIX}`;
  const configMap = new ConfigMap(
    `${name}.${VOLUME_NAME}`,
    { metadata: { namespace: args.namespace, name: configMapName, annotations: RESTORED }, data },
    options,
  );
  return { configMap, configMapName, checksum: pulumi.jsonStringify(data).apply(sha256) };
}

/**
 * Adds to a pod spec what a container needs to exchange the pod's ID token: the service account, the volume, its mount, and
 * the variable that makes the exchange script the Pulumi CLI's credential helper. Commands stay as they are.
 *
 * @param spec is not changed. What it has already wins: its variables, and its volumes and mounts of the same name or
 *   path.
 * @param args the names of the service account and of its ConfigMap; the audience of the ID token; `containers`, the
 *   names of those to change: by default all, without the init containers.
 * @returns the new pod spec.
 * @throws Error if the pod has no container of such a name.
 */
export function tokenExchangePod(
  spec: PodSpec,
  args: {
    serviceAccountName: pulumi.Input<string>;
    configMap: pulumi.Input<string>;
    tokenAudience: pulumi.Input<string>;
    containers?: string[];
  },
): PodSpec {
  const volume = tokenVolume(args.configMap, args.tokenAudience);

  const withExchange = (container: Container): Container => ({
    ...container,
    env: changeList<input.core.v1.EnvVar>(container.env, (variables) => {
      return [...variables, ...notYetIn(variables, [CREDENTIAL_HELPER])];
    }),
    volumeMounts: changeList<input.core.v1.VolumeMount>(container.volumeMounts, (mounts) => {
      const isTaken = mounts.some(({ mountPath }) => mountPath === VOLUME_MOUNT.mountPath);
      return isTaken ? mounts : [...mounts, VOLUME_MOUNT];
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
    volumes: changeList<input.core.v1.Volume>(spec.volumes, (volumes) => {
      return [...volumes, ...notYetIn(volumes, [volume])];
    }),
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

/** Returns those of the added elements whose name no element of the list has. */
function notYetIn<Element extends { name: unknown }>(list: { name: unknown }[], added: Element[]): Element[] {
  return added.filter(({ name }) => !list.some((element) => element.name === name));
}

/** Returns the SHA-256 of a string, in lowercase hex. */
export function sha256(content: string): string {
  return createHash("sha256").update(content).digest("hex");
}
