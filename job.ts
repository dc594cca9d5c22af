// The Job that tests the token exchange of one service account.

import { Job } from "@pulumi/kubernetes/batch/v1";
import type * as pulumi from "@pulumi/pulumi";
import { JOB_CONTAINER } from "./settings/jobPodSpec";
import { isObject } from "./settings/validation";
import { type PodSpec, sha256, type TokenExchange, tokenExchangePod } from "./tokenExchange";
import { SCRIPT_PATH } from "./tokenVolume";

export interface JobArgs {
  namespace: string;
  serviceAccountName: string;
  tokenExchange: TokenExchange;
  /** Of the ID token. */
  tokenAudience: pulumi.Input<string>;
  /** Requires bash 4.4, curl 7.84, and CA certificates. */
  image: pulumi.Input<string>;
  /** Runs as it is, once the exchange has succeeded. */
  command: string[];
  /** Merged over the Job's own pod spec, except for what the exchange needs. */
  podSpec: Record<string, unknown>;
}

const DEADLINE_SECONDS = 300;

/**
 * Creates the Job that exchanges an ID token once. The update waits for its pod: a denied exchange fails the update, and
 * the script's last lines are the message.
 *
 * @param options `dependsOn` everything that the exchange needs, since a pod receives its role only when it is created;
 *   `replacementTrigger` everything else that has to run the Job again.
 * @returns the Job, once its pod has succeeded.
 */
export function createJob(name: string, args: JobArgs, options?: pulumi.CustomResourceOptions): Job {
  const { tokenExchange } = args;
  const merged = merge(restrictedPod(args.image), args.podSpec) as PodSpec;
  // Longer than the Job's own deadline, whose message says more.
  const timeout = `${DEADLINE_SECONDS + 60}s`;
  return new Job(
    name,
    {
      metadata: {
        namespace: args.namespace,
        name: jobName(args.serviceAccountName),
        // The next update replaces a failed Job:
        // https://www.pulumi.com/registry/packages/kubernetes/installation-configuration/#pulumi-kubernetes-annotations
        annotations: { "pulumi.com/replaceUnready": "true" },
      },
      spec: {
        backoffLimit: 0,
        activeDeadlineSeconds: DEADLINE_SECONDS,
        template: {
          metadata: { annotations: { "pulumi.com/token-exchange-checksum": tokenExchange.checksum } },
          spec: tokenExchangePod(runningScript(merged, args.command), {
            serviceAccountName: args.serviceAccountName,
            configMap: tokenExchange.configMap.metadata.name,
            tokenAudience: args.tokenAudience,
          }),
        },
      },
    },
    {
      ...options,
      // A new Job cannot have the name of the one that it replaces.
      deleteBeforeReplace: true,
      customTimeouts: { create: timeout, update: timeout },
    },
  );
}

/** Returns the name of a service account's Job. It is a label of its pods too, which has at most 63 characters. */
export function jobName(serviceAccountName: string): string {
  const name = `${serviceAccountName}-token-exchange`;
  return name.length <= 63 ? name : `${sha256(serviceAccountName).slice(0, 16)}-token-exchange`;
}

// Pod Security `restricted` admits it: https://kubernetes.io/docs/concepts/security/pod-security-standards/
function restrictedPod(image: pulumi.Input<string>): PodSpec {
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

/** Lets the Job's own container run the exchange script, which becomes the command. Anything else would not test the exchange. */
function runningScript(spec: PodSpec, command: string[]): PodSpec {
  // Kubernetes expands $(NAME) in arguments, and reads $$ as $:
  // https://kubernetes.io/docs/tasks/inject-data-application/define-command-argument-container/
  const args = command.map((word) => word.replaceAll("$", "$$$$"));
  const containers = spec.containers.map((container) => {
    return container.name === JOB_CONTAINER ? { ...container, command: [SCRIPT_PATH], args } : container;
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
 * Null and undefined leave the other as it is.
 *
 * @param name of the property whose value it is.
 */
function merge(base: unknown, over: unknown, name = ""): unknown {
  if (over === null || over === undefined) return base;

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
