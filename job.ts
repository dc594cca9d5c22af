// The token exchange in pods: the ConfigMaps that every workload uses, a pod spec that uses them, and the Job that tests it.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Job } from "@pulumi/kubernetes/batch/v1";
import { ConfigMap } from "@pulumi/kubernetes/core/v1";
import type { input } from "@pulumi/kubernetes/types";
import * as pulumi from "@pulumi/pulumi";
import { isObject } from "./settings";

type PodSpec = input.core.v1.PodSpec;
type Container = input.core.v1.Container;

export interface TokenExchangeArgs {
  namespace: pulumi.Input<string>;
  /** The name of the service account, which the names of the ConfigMaps begin with. */
  serviceAccountName: string;
  organization: string;
  tokenType: string;
  /** Such as `user:LOGIN`; empty for an organization token. */
  tokenScope: string;
  tokenExpirationSeconds: number;
  /** The URL of Pulumi Cloud. */
  apiUrl: string;
  /** The audience of the projected ID token; undefined if the EKS webhook mounts one. */
  projectedAudience?: string | undefined;
}

export interface TokenExchange {
  environment: ConfigMap;
  script: ConfigMap;
  /** Changes when the content of one of the two does. */
  checksum: string;
}

const SCRIPT = readFileSync(join(__dirname, "scripts", "exchange-token.sh"), "utf8");
const SCRIPT_PATH = "/bin/entrypoint.sh";
const TOKEN_DIRECTORY = "/var/run/secrets/pulumi.com/serviceaccount";

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
    // The Pulumi CLI runs this program for its token, and again when the token expires.
    PULUMI_CREDENTIAL_HELPER: SCRIPT_PATH,
    PULUMI_CREDENTIAL_HELPER_ARGS: '["--credential-helper"]',
    ...(args.projectedAudience && { PULUMI_OIDC_TOKEN_FILE: `${TOKEN_DIRECTORY}/token` }),
  };
  const configMap = (suffix: string, data: Record<string, string>) =>
    new ConfigMap(
      `${name}.${suffix}`,
      { metadata: { namespace: args.namespace, name: `${args.serviceAccountName}-${suffix}` }, data },
      options,
    );
  return {
    environment: configMap("pulumi-token", environment),
    script: configMap("pulumi-token-exchange", { "entrypoint.sh": SCRIPT }),
    checksum: sha256(JSON.stringify([environment, SCRIPT])),
  };
}

/**
 * Adds to a pod spec what a container needs to exchange the pod's ID token: the service account, the environment, the
 * script at `/bin/entrypoint.sh`, and the projected token if there is one. Commands stay as they are: run the Pulumi CLI,
 * which asks the script for its token, or run `/bin/entrypoint.sh COMMAND`.
 *
 * @param spec is not changed. Its variables take precedence over those of the ConfigMap, and its volumes and mounts over
 *   those of the same name.
 * @param args the names of the service account and of its ConfigMaps; `projectedAudience` if the service account is not
 *   annotated with a role or the audience is not `sts.amazonaws.com`; `containers`, the names of those to change: by
 *   default all, without the init containers.
 * @returns the new pod spec.
 * @throws Error if a container mounts another volume at a path that this needs, or a named container does not exist.
 */
export function tokenExchangePod(
  spec: PodSpec,
  args: {
    serviceAccountName: pulumi.Input<string>;
    environmentConfigMap: pulumi.Input<string>;
    scriptConfigMap: pulumi.Input<string>;
    projectedAudience?: string | undefined;
    containers?: string[];
  },
): PodSpec {
  const script = {
    name: "pulumi-token-exchange",
    configMap: { name: args.scriptConfigMap, defaultMode: 0o555 },
  };
  // Ten minutes is the shortest lifetime that Kubernetes grants; the kubelet renews the file.
  const idToken = { audience: args.projectedAudience, expirationSeconds: 600, path: "token" };
  const token = { name: "pulumi-id-token", projected: { sources: [{ serviceAccountToken: idToken }] } };
  const scriptMount = { name: script.name, mountPath: SCRIPT_PATH, subPath: "entrypoint.sh", readOnly: true };
  const tokenMount = { name: token.name, mountPath: TOKEN_DIRECTORY, readOnly: true };
  const mounts = args.projectedAudience ? [scriptMount, tokenMount] : [scriptMount];
  const volumes = args.projectedAudience ? [script, token] : [script];

  const isNamed = ({ name }: Container) => args.containers?.includes(String(name)) ?? true;
  const withExchange = (container: Container): Container => ({
    ...container,
    // The last source of a variable wins.
    envFrom: lift<input.core.v1.EnvFromSource>(container.envFrom, (sources) => [
      { configMapRef: { name: args.environmentConfigMap } },
      ...sources,
    ]),
    volumeMounts: lift<input.core.v1.VolumeMount>(container.volumeMounts, (given) => {
      const added = missing(given, mounts);
      const taken = added.find(({ mountPath }) => given.some((mount) => mount.mountPath === mountPath));
      if (!taken) return [...given, ...added];
      throw new Error(`Container "${container.name}" mounts another volume at ${taken.mountPath}: move it.`);
    }),
  });
  return {
    ...spec,
    serviceAccountName: args.serviceAccountName,
    containers: lift<Container>(spec.containers, (containers) => {
      const unknown = args.containers?.find((name) => !containers.some((container) => container.name === name));
      if (unknown) throw new Error(`The pod has no container "${unknown}".`);
      return containers.map((container) => (isNamed(container) ? withExchange(container) : container));
    }),
    volumes: lift<input.core.v1.Volume>(spec.volumes, (given) => [...given, ...missing(given, volumes)]),
  };
}

/** Changes a plain list immediately, so that a preview shows it, and an output once it is known. */
function lift<Element>(
  list: pulumi.Input<pulumi.Input<Element>[] | undefined> = [],
  change: (list: Element[]) => Element[],
): pulumi.Input<pulumi.Input<Element>[]> {
  const isPlain = Array.isArray(list) && !list.some(pulumi.Output.isInstance);
  return isPlain ? change(list as Element[]) : pulumi.output(list).apply((all = []) => change(all as Element[]));
}

function missing<Element extends { name: unknown }>(given: { name: unknown }[], added: Element[]): Element[] {
  return added.filter(({ name }) => !given.some((element) => element.name === name));
}

export interface JobArgs {
  namespace: pulumi.Input<string>;
  serviceAccountName: pulumi.Input<string>;
  tokenExchange: TokenExchange;
  projectedAudience?: string | undefined;
  /** Requires bash 4.4, curl 7.84, and CA certificates. */
  image: string;
  /** Runs as it is, once the exchange has succeeded. */
  command: string[];
  /** Merged over the Job's own pod spec; lists of named elements by name, any other list is replaced. */
  podSpec: Record<string, unknown>;
}

const DEADLINE_SECONDS = 300;

/**
 * Creates the Job that exchanges an ID token once. The update waits for its pod: a denied exchange fails the update, and
 * the script's last lines are the message.
 *
 * @param options `dependsOn` everything that the exchange needs, since the EKS webhook changes a pod only when it is
 *   created; `replacementTrigger` everything else that has to run the Job again.
 * @returns the Job, once its pod has succeeded.
 */
export function createJob(name: string, args: JobArgs, options?: pulumi.CustomResourceOptions): Job {
  const { tokenExchange, command, namespace } = args;
  const spec = merged(restrictedPod(args.image, command), args.podSpec) as PodSpec;
  return new Job(
    name,
    {
      metadata: {
        namespace,
        name: pulumi.output(args.serviceAccountName).apply(jobName),
        // The next update replaces a failed Job:
        // https://www.pulumi.com/registry/packages/kubernetes/installation-configuration/#pulumi-kubernetes-annotations
        annotations: { "pulumi.com/replaceUnready": "true" },
      },
      spec: {
        backoffLimit: 0,
        activeDeadlineSeconds: DEADLINE_SECONDS,
        template: {
          metadata: { annotations: { "pulumi.com/token-exchange-checksum": tokenExchange.checksum } },
          spec: tokenExchangePod(spec, {
            serviceAccountName: args.serviceAccountName,
            environmentConfigMap: tokenExchange.environment.metadata.name,
            scriptConfigMap: tokenExchange.script.metadata.name,
            projectedAudience: args.projectedAudience,
          }),
        },
      },
    },
    {
      ...options,
      // A new Job cannot have the name of the one that it replaces.
      deleteBeforeReplace: true,
      customTimeouts: { create: `${DEADLINE_SECONDS + 60}s`, update: `${DEADLINE_SECONDS + 60}s` },
    },
  );
}

// A Job's name is a label of its pods too, which has at most 63 characters.
function jobName(serviceAccountName: string): string {
  const name = `${serviceAccountName}-token-exchange`;
  return name.length <= 63 ? name : `${sha256(serviceAccountName).slice(0, 16)}-token-exchange`;
}

function sha256(content: string): string {
  return createHash("sha256").update(content).digest("hex");
}

// Pod Security `restricted` admits it: https://kubernetes.io/docs/concepts/security/pod-security-standards/
function restrictedPod(image: string, command: string[]): PodSpec {
  return {
    automountServiceAccountToken: false,
    restartPolicy: "Never",
    securityContext: {
      runAsNonRoot: true,
      runAsUser: 1000,
      runAsGroup: 1000,
      // The kubelet lets this group read the ID token.
      fsGroup: 1000,
      seccompProfile: { type: "RuntimeDefault" },
    },
    containers: [
      {
        name: "token-exchange",
        image,
        command: [SCRIPT_PATH],
        // Kubernetes expands $(NAME) in arguments, and reads $$ as $:
        // https://kubernetes.io/docs/tasks/inject-data-application/define-command-argument-container/
        args: command.map((word) => word.replaceAll("$", "$$$$")),
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

function merged(base: unknown, over: unknown): unknown {
  if (over === null) return base;
  if (isObject(base) && isObject(over)) {
    const entries = Object.entries(over).map(([key, value]) => [key, merged(base[key], value)]);
    return { ...base, ...Object.fromEntries(entries) };
  }
  if (!isNamedList(base) || !isNamedList(over)) return over;
  const changed = base.map((element) => merged(element, over.find(({ name }) => name === element.name) ?? {}));
  return [...changed, ...missing(base, over)];
}

function isNamedList(value: unknown): value is { name: unknown }[] {
  return Array.isArray(value) && value.every((element) => isObject(element) && "name" in element);
}
