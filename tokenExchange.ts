// The ConfigMap of the token exchange, which the workloads of a service account mount.

import { hash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ConfigMap } from "@pulumi/kubernetes/core/v1";
import * as pulumi from "@pulumi/pulumi";
import { CONFIG_MAP_SUFFIX, SCRIPT_FILE, type SettingsFile, VOLUME_NAME } from "./kubernetes/tokenVolume";

interface TokenExchangeArgs {
  namespace: string;
  serviceAccountName: string;
  /** The settings of the exchange script, by the names of their files. */
  settings: Record<SettingsFile, pulumi.Input<string>>;
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
export function createExchangeConfigMap(
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
  return {
    configMap,
    configMapName,
    checksum: pulumi.jsonStringify(data).apply((text) => hash("sha256", text)),
  };
}
