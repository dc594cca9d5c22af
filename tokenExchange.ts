// The token exchange in pods: the ConfigMap that the workloads of a service account mount, and a pod spec that mounts it.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join, posix } from "node:path";
import { ConfigMap } from "@pulumi/kubernetes/core/v1";
import type { input } from "@pulumi/kubernetes/types";
import * as pulumi from "@pulumi/pulumi";
import {
  CONFIG_MAP_SUFFIX,
  CREDENTIAL_HELPER,
  DIRECTORY,
  SCRIPT_FILE,
  tokenVolume,
  VOLUME_MOUNT,
  VOLUME_NAME,
} from "./tokenVolume";

/** A pod spec with plain lists. Every other value can be an output. */
export interface PodSpec extends input.core.v1.PodSpec {
  containers: Container[];
  volumes?: input.core.v1.Volume[];
}

interface Container extends input.core.v1.Container {
  env?: input.core.v1.EnvVar[];
  volumeMounts?: input.core.v1.VolumeMount[];
}

interface TokenExchangeArgs {
  namespace: string;
  serviceAccountName: string;
  /** The settings of the exchange script, by the names of their files. */
  settings: Record<string, pulumi.Input<string>>;
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
 * @returns the ConfigMap. It contains no token.
 */
export function createTokenExchange(
  name: string,
  args: TokenExchangeArgs,
  options?: pulumi.CustomResourceOptions,
): TokenExchange {
  const data = { ...args.settings, [SCRIPT_FILE]: SCRIPT };
  const configMapName = `${args.serviceAccountName}${CONFIG_MAP_SUFFIX}`;
  const configMap = new ConfigMap(
    `${name}.${VOLUME_NAME}`,
    { metadata: { namespace: args.namespace, name: configMapName, annotations: RESTORED }, data },
    options,
  );
  return { configMap, configMapName, checksum: pulumi.jsonStringify(data).apply(sha256) };
}

/**
 * Adds to a pod spec what its containers need to exchange the pod's ID token: the service account, the volume, its mount, and
 * the variable that makes the exchange script the Pulumi CLI's credential helper. Commands stay as they are, and so do init
 * containers.
 *
 * @param spec is not changed. Its volume or variable of the same name, and its mount at the same path, are replaced.
 * @param args the names of the service account and of its ConfigMap, and the audience of the ID token.
 * @returns the new pod spec.
 */
export function tokenExchangePod(
  spec: PodSpec,
  args: {
    serviceAccountName: string;
    configMap: pulumi.Input<string>;
    tokenAudience: pulumi.Input<string>;
  },
): PodSpec {
  return {
    ...spec,
    serviceAccountName: args.serviceAccountName,
    containers: spec.containers.map(withExchange),
    volumes: [
      ...(spec.volumes ?? []).filter(({ name }) => name !== VOLUME_NAME),
      tokenVolume(args.configMap, args.tokenAudience),
    ],
  };
}

function withExchange(container: Container): Container {
  const { env = [], volumeMounts = [] } = container;
  // A path can be written in several ways, such as with a trailing slash.
  const isElsewhere = (path: unknown) => posix.resolve("/", String(path)) !== DIRECTORY;
  return {
    ...container,
    env: [...env.filter(({ name }) => name !== CREDENTIAL_HELPER.name), CREDENTIAL_HELPER],
    volumeMounts: [...volumeMounts.filter(({ mountPath }) => isElsewhere(mountPath)), VOLUME_MOUNT],
  };
}

/** Returns the SHA-256 of a string, in lowercase hex. */
export function sha256(content: string): string {
  return createHash("sha256").update(content).digest("hex");
}
