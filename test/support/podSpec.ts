// Runs a pod as its spec says: its first container as a process of this machine, with the files that it mounts. Only for specs
// that can be trusted. A simulated pod runs nothing of its spec but the token exchange.

import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import {
  inDirectory,
  type PodOptions,
  type PodRun,
  type PodSpec,
  pathWithStandIn,
  runContainer,
} from "../../simulator/emulators/pod";

type Container = PodSpec["containers"][number];

/** Runs the first container of a pod, with the simulation's stand-in for the Pulumi CLI. */
export function runPodSpec(options: PodOptions): Promise<PodRun> {
  return runFirstContainer(options, pathWithStandIn);
}

/** Runs the first container of a pod, with the Pulumi CLI of this machine. */
export function runPodSpecWithCli(options: PodOptions): Promise<PodRun> {
  return runFirstContainer(options, () => process.env.PATH ?? "");
}

/**
 * Mount paths in the environment and the command are mapped to the pod's directory.
 *
 * @param imagePath returns PATH, for the pod's directory.
 */
async function runFirstContainer(options: PodOptions, imagePath: (root: string) => string): Promise<PodRun> {
  const [container] = options.spec.containers;
  if (!container) throw new Error("the pod has no container");
  return inDirectory(async (root) => {
    await writeMounts(options, container, root);
    const inRoot = (value: string) => {
      const isMounted = mountsOf(container).some(({ mountPath }) => `${value}/`.startsWith(`${mountPath}/`));
      return isMounted ? join(root, value) : value;
    };

    const variables = variablesOf(container);
    const command = [...(container.command ?? []), ...(container.args ?? [])];
    const words = command.map((word) => inRoot(expand(word, variables)));
    const environment = Object.fromEntries(
      Object.entries(variables).map(([name, value]) => [name, inRoot(value)]),
    );
    return runContainer(words, root, { PATH: imagePath(root), ...environment }, options.onLog);
  });
}

function mountsOf(container: Container) {
  return container.volumeMounts ?? [];
}

function variablesOf(container: Container): Record<string, string> {
  const variables: Record<string, string> = {};
  for (const { name, value = "" } of container.env ?? []) {
    variables[name] = expand(value, variables);
  }
  return variables;
}

/** Writes what a container mounts to the directory of its pod. */
async function writeMounts(options: PodOptions, container: Container, root: string): Promise<void> {
  for (const { name, mountPath } of mountsOf(container)) {
    mkdirSync(join(root, mountPath), { recursive: true });
    for (const { path, content, mode } of await volumeFiles(options, name)) {
      const file = join(root, mountPath, path);
      mkdirSync(dirname(file), { recursive: true });
      // Not asynchronously: a process that starts meanwhile would inherit the open file ("text file busy").
      writeFileSync(file, content);
      chmodSync(file, mode);
    }
  }
}

async function volumeFiles({ spec, configMap, idToken }: PodOptions, name: string) {
  const volume = spec.volumes?.find((candidate) => candidate.name === name);
  if (!volume) throw new Error(`the pod mounts the volume ${name}, which it does not have`);
  const { sources = [], defaultMode = 0o644 } = volume.projected ?? {};

  const files = sources.map(async ({ configMap: source, serviceAccountToken }) => {
    if (source) {
      const data = Object.entries(configMap(source.name));
      return data.map(([path, content]) => ({ path, content, mode: defaultMode }));
    }
    const { audience, path, expirationSeconds } = serviceAccountToken;
    // The mode for a pod that runs as one user: pkg/volume/projected/projected.go of kubernetes/kubernetes.
    return [{ path, content: await idToken(audience, expirationSeconds), mode: 0o600 }];
  });
  return (await Promise.all(files)).flat();
}

// https://kubernetes.io/docs/tasks/inject-data-application/define-command-argument-container/
function expand(text: string, environment: Record<string, string>): string {
  return text.replace(/\$(\$|\(([^)]*)\))?/g, (match, operator, name) =>
    operator === "$" ? "$" : (environment[name] ?? match),
  );
}
