// The pod of the Job that tests the token exchange, as a plain object.

import { posix } from "node:path";
import type { input } from "@pulumi/kubernetes/types";
import type { Input } from "@pulumi/pulumi";
import { isObject } from "./plainObject";
import {
  CREDENTIAL_HELPER,
  DIRECTORY,
  JOB_CONTAINER,
  SCRIPT_PATH,
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

export interface JobPodArgs {
  serviceAccountName: string;
  /** The name of its ConfigMap. */
  configMap: Input<string>;
  /** Of the ID token. */
  tokenAudience: Input<string>;
  /** Requires bash 4.4.19, curl 7.84, and CA certificates. */
  image: Input<string>;
  /** Runs as it is, once the exchange has succeeded. */
  command: string[];
  /** Merged over the Job's own pod spec, except for what the exchange needs. */
  podSpec: Record<string, unknown>;
}

/** Returns the pod spec of a Job, which contains no output if the arguments contain none. */
export function jobPod({ image, command, podSpec, ...exchange }: JobPodArgs): PodSpec {
  const merged = merge(restrictedPod(image), podSpec) as PodSpec;
  return tokenExchangePod(runningScript(merged, command), exchange);
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
    configMap: Input<string>;
    tokenAudience: Input<string>;
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

// Pod Security `restricted` admits it: https://kubernetes.io/docs/concepts/security/pod-security-standards/
function restrictedPod(image: Input<string>): PodSpec {
  return {
    automountServiceAccountToken: false,
    restartPolicy: "Never",
    // A cluster can have Windows nodes too.
    nodeSelector: { "kubernetes.io/os": "linux" },
    securityContext: {
      runAsNonRoot: true,
      runAsUser: 1000,
      runAsGroup: 1000,
      seccompProfile: { type: "RuntimeDefault" },
    },
    containers: [
      {
        name: JOB_CONTAINER,
        image,
        env: [
          { name: "HOME", value: "/tmp" },
          // Without it, the CLI looks for the home directory of user 1000, which the image may not have.
          { name: "PULUMI_HOME", value: "/tmp/.pulumi" },
          { name: "PULUMI_SKIP_UPDATE_CHECK", value: "true" },
        ],
        securityContext: {
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ["ALL"] },
        },
        resources: {
          requests: { cpu: "100m", memory: "256Mi" },
          limits: { cpu: "1", memory: "512Mi" },
        },
        // `pulumi up` shows only this message of a failed pod.
        terminationMessagePolicy: "FallbackToLogsOnError",
        volumeMounts: [{ name: "tmp", mountPath: "/tmp" }],
      },
    ],
    // In memory: what the command writes, such as credentials, never reaches a node's disk.
    volumes: [{ name: "tmp", emptyDir: { medium: "Memory", sizeLimit: "128Mi" } }],
  };
}

/** How long the Job asks again after a denial, in seconds: a new policy or role can take effect a little later. */
export const DENIAL_RETRY_SECONDS = 30;

/** The exit code of the exchange script for a denial. */
export const DENIED = 77;

// Exchanges without a command first, so that the command runs once, whatever its own exit code is. A replica of Pulumi Cloud can
// learn of a policy later than another one, so a single grant is not enough. Only the last denial is printed. The first process
// of a container ignores a signal that it does not handle.
const EXCHANGE_PATIENTLY = `trap 'exit 143' INT TERM
grants=0
while ((grants < 2)); do
  messages=$("$0" true 2>&1)
  code=$?
  if ((code == 0)); then
    grants=$((grants + 1))
  elif ((code == ${DENIED} && SECONDS < ${DENIAL_RETRY_SECONDS})); then
    grants=0
    # Unlike sleep, a signal ends it.
    read -r -t 3 _ <> <(:)
  else
    printf '%s\n' "$messages" >&2
    exit "$code"
  fi
done
exec "$0" "$@"`;

/**
 * Lets the Job's own container run the exchange script, which becomes the command. Anything else would not test the exchange. Only
 * this Job asks again after a denial: no source says how soon an allow policy takes effect.
 */
function runningScript(spec: PodSpec, command: string[]): PodSpec {
  // Kubernetes expands $(NAME) in commands and arguments, and reads $$ as $:
  // https://kubernetes.io/docs/tasks/inject-data-application/define-command-argument-container/
  const literal = (word: string) => word.replaceAll("$", "$$$$");
  const script = ["bash", "-c", EXCHANGE_PATIENTLY, SCRIPT_PATH].map(literal);
  const args = command.map(literal);
  const containers = spec.containers.map((container) => {
    return container.name === JOB_CONTAINER ? { ...container, command: script, args } : container;
  });
  return { ...spec, containers };
}

/**
 * The lists of a pod spec whose elements Kubernetes tells apart, each with the key that does so:
 * https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/
 *
 * An element of `env` or `volumes` has one of several sources, of which it must not have two. It is replaced as a whole.
 */
const LISTS: Record<string, { key: string; whole?: true }> = {
  containers: { key: "name" },
  volumeMounts: { key: "mountPath" },
  env: { key: "name", whole: true },
  volumes: { key: "name", whole: true },
};

/**
 * Merges a value over another: objects by key, the lists above by the key of their elements. Any other value is replaced.
 * Undefined leaves the other as it is.
 *
 * @param name of the property whose value it is.
 */
function merge(base: unknown, over: unknown, name = ""): unknown {
  if (over === undefined) return base;

  if (isObject(base) && isObject(over)) {
    const mergedEntries = Object.entries(over).map(([key, value]) => [key, merge(base[key], value, key)]);
    return { ...base, ...Object.fromEntries(mergedEntries) };
  }

  const list = LISTS[name];
  if (!list || !isObjectList(base) || !isObjectList(over)) return over;

  const { key, whole } = list;
  const find = (elements: Element[], value: unknown) => elements.find((element) => element[key] === value);
  const mergedElements = base.map((element) => {
    const sameKey = find(over, element[key]);
    if (!sameKey) return element;
    return whole ? sameKey : merge(element, sameKey);
  });
  const added = over.filter((element) => !find(base, element[key]));
  return [...mergedElements, ...added];
}

type Element = Record<string, unknown>;

function isObjectList(value: unknown): value is Element[] {
  return Array.isArray(value) && value.every(isObject);
}
