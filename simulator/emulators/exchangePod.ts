// What the simulation runs of a Job's pod: the exchange script of this repository, with what the program adds to a pod.
//
// A stack file decides the rest of the pod spec, by `jobPodSpec` and `command`. Anyone who reviews a change of a stack file
// runs `npm start`: nothing that the file says may become a command, a variable, or a path on this machine.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { types } from "@pulumi/kubernetes";
import type { PodSpec } from "./pod";

type TokenProjection = types.output.core.v1.ServiceAccountTokenProjection;

/** The script, as the program puts it into a ConfigMap: `entrypoint.sh`. */
export const SCRIPT = readFileSync(join(__dirname, "..", "..", "scripts", "exchange-token.sh"), "utf8");

// The names that the program gives what it adds.
const CONTAINER = "token-exchange";
const SCRIPT_VOLUME = "pulumi-token-exchange";
const TOKEN_VOLUME = "pulumi-id-token";
const SCRIPT_PATH = "/bin/entrypoint.sh";

/** Returns the names of the ConfigMaps of a service account. */
export function configMapsOf(serviceAccountName: string): { environment: string; script: string } {
  return {
    environment: `${serviceAccountName}-pulumi-token`,
    script: `${serviceAccountName}-pulumi-token-exchange`,
  };
}

/**
 * Returns the pod of a Job with nothing but its token exchange.
 *
 * @param spec of the Job that the program created.
 * @param command runs after the exchange, instead of the one in the spec.
 * @returns a pod spec with one container. Its mounts, its ConfigMap, and its ID token are those of `spec`, if they have
 *   the names that the program gives them.
 */
export function exchangePod(spec: PodSpec, command: string[]): PodSpec {
  const container = spec.containers.find(({ name }) => name === CONTAINER);
  const configMaps = configMapsOf(spec.serviceAccountName);
  const environment = { configMapRef: { name: configMaps.environment } };
  const usesEnvironment = container?.envFrom?.some(
    ({ configMapRef }) => configMapRef?.name === configMaps.environment,
  );

  const mounts = (container?.volumeMounts ?? [])
    .filter(({ name }) => name === SCRIPT_VOLUME || name === TOKEN_VOLUME)
    .map(({ name, mountPath, subPath }) => ({ name, mountPath, ...(subPath && { subPath }) }));
  const token = spec.volumes
    ?.find(({ name }) => name === TOKEN_VOLUME)
    ?.projected?.sources?.find(({ serviceAccountToken }) => serviceAccountToken)?.serviceAccountToken;

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
        ],
        envFrom: usesEnvironment ? [environment] : [],
        volumeMounts: [{ name: "tmp", mountPath: "/tmp" }, ...mounts],
      },
    ],
    volumes: [
      { name: "tmp", emptyDir: {} },
      { name: SCRIPT_VOLUME, configMap: { name: configMaps.script, defaultMode: 0o555 } },
      ...(token?.audience ? [tokenVolume(token)] : []),
    ],
  } as PodSpec;
}

function tokenVolume({ audience, expirationSeconds }: TokenProjection) {
  const serviceAccountToken = { audience, expirationSeconds, path: "token" };
  return { name: TOKEN_VOLUME, projected: { sources: [{ serviceAccountToken }] } };
}
