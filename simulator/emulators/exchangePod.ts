// What the simulation runs of a Job's pod: the exchange script of this repository, with what the program adds to a pod.
//
// A stack file decides the rest of the pod spec, by `jobPodSpec` and `command`. Anyone who reviews a change of a stack file
// runs `npm start`: nothing that the file says may become a command, a variable, or a path on this machine.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { types } from "@pulumi/kubernetes";
import type { PodSpec } from "./pod";

type Source = types.output.core.v1.VolumeProjection;

// The names of what the program adds.
const CONTAINER = "token-exchange";
const VOLUME = "pulumi-token-exchange";
const SCRIPT_FILE = "exchange-token.sh";
const SCRIPT_PATH = `/var/run/secrets/pulumi.com/${SCRIPT_FILE}`;
const CREDENTIAL_HELPER = "PULUMI_CREDENTIAL_HELPER";

/** The script, as the program puts it into a ConfigMap. */
export const SCRIPT = {
  [SCRIPT_FILE]: readFileSync(join(__dirname, "..", "..", "scripts", SCRIPT_FILE), "utf8"),
};

/** Returns the name of the ConfigMap of a service account. */
export function configMapOf(serviceAccountName: string): string {
  return `${serviceAccountName}-${VOLUME}`;
}

/**
 * Returns the pod of a Job with nothing but its token exchange.
 *
 * @param spec of the Job that the program created.
 * @param command runs after the exchange, instead of the one in the spec.
 * @returns a pod spec with one container. Its mount, its variable, its ConfigMap, and its ID token are those of `spec`, if
 *   they have the program's names.
 */
export function exchangePod(spec: PodSpec, command: string[]): PodSpec {
  const container = spec.containers.find(({ name }) => name === CONTAINER);
  const mounts = (container?.volumeMounts ?? [])
    .filter(({ name }) => name === VOLUME)
    .map(({ name, mountPath }) => ({ name, mountPath }));
  const helpers = (container?.env ?? [])
    .filter(({ name, value }) => name === CREDENTIAL_HELPER && value === SCRIPT_PATH)
    .map(({ name, value }) => ({ name, value }));

  const volume = { name: VOLUME, projected: { defaultMode: 0o555, sources: sourcesOf(spec) } };
  return {
    serviceAccountName: spec.serviceAccountName,
    containers: [
      {
        name: CONTAINER,
        command: [SCRIPT_PATH],
        args: command,
        env: [
          { name: "HOME", value: "/tmp" },
          { name: "PULUMI_HOME", value: "/tmp/.pulumi" },
          { name: "PULUMI_SKIP_UPDATE_CHECK", value: "true" },
          ...helpers,
        ],
        volumeMounts: [{ name: "tmp", mountPath: "/tmp" }, ...mounts],
      },
    ],
    volumes: [{ name: "tmp", emptyDir: {} }, volume],
  } as PodSpec;
}

/** Returns the sources of the program's volume: the ConfigMap of the service account, and the ID token. */
function sourcesOf({ volumes = [], serviceAccountName }: PodSpec) {
  const volume = volumes.find(({ name }) => name === VOLUME);
  const configMap = { name: configMapOf(serviceAccountName) };
  const sources = volume?.projected?.sources ?? [];
  return sources.flatMap((source): Source[] => {
    if (source.configMap?.name === configMap.name) return [{ configMap } as Source];
    if (!source.serviceAccountToken) return [];
    const { audience, expirationSeconds } = source.serviceAccountToken;
    return [{ serviceAccountToken: { audience, expirationSeconds, path: "token" } } as Source];
  });
}
