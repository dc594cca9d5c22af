// A pod of the simulation: a directory replaces its file system, and a process of this machine its container.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, writeFileSync } from "node:fs";
import { chmod, mkdir, mkdtemp, rm } from "node:fs/promises";
import { delimiter, dirname, join } from "node:path";
import { createInterface } from "node:readline";
import type { types } from "@pulumi/kubernetes";
import { simulationDirectory } from "./certificates";

/** https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/volume/ */
const DEFAULT_TOKEN_SECONDS = 3600;

export type PodSpec = types.output.core.v1.PodSpec;
type Container = PodSpec["containers"][number];

interface PodRun {
  exitCode: number;
  /** Standard error and standard output, as `kubectl logs` shows them. */
  log: string[];
}

interface PodOptions {
  spec: PodSpec;
  /** Returns an ID token of the pod for an audience, with a lifetime in seconds. */
  idToken(audience: string, expiresIn: number): Promise<string>;
  /** Returns the data of a ConfigMap of the pod's namespace. */
  configMap(name: string): Record<string, string>;
  onLog(line: string): void;
}

/**
 * Runs the first container of a pod. Only what the spec mounts exists. Mount paths in the environment and the command are
 * mapped to the pod's directory.
 *
 * @returns the exit code and the log; 128 with the reason if the container could not start.
 * @throws Error if a path leaves the pod's directory, before anything is written or run.
 */
export async function runPod(options: PodOptions): Promise<PodRun> {
  const [container] = options.spec.containers;
  if (!container) throw new Error("the pod has no container");
  checkMountPaths(options.spec);
  const root = await mkdtemp(join(simulationDirectory(), "pod-"));
  try {
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

    return await run(words, root, options.onLog, {
      PATH: await pathWithPulumi(join(root, "image")),
      ...environment,
      // The only certificate authority that curl and the Pulumi CLI trust.
      SSL_CERT_FILE: join(simulationDirectory(), "ca.pem"),
      // Nothing but the simulation can be reached.
      https_proxy: "http://127.0.0.1:9",
      no_proxy: "127.0.0.1",
    });
  } finally {
    await rm(root, { recursive: true, force: true });
  }
}

/** @throws Error if the path of a mount of any container is not a string, or leaves the pod's directory. */
export function checkMountPaths({ containers, initContainers = [] }: PodSpec): void {
  for (const container of [...containers, ...initContainers]) {
    for (const { mountPath } of mountsOf(container)) pathInside("/", mountPath);
  }
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
    const target = pathInside(root, mountPath);
    await mkdir(target, { recursive: true });

    for (const { path, content, mode } of await volumeFiles(options, name)) {
      const file = pathInside(target, path);
      await mkdir(dirname(file), { recursive: true });
      // Not asynchronously: a process that starts meanwhile would inherit the open file ("text file busy").
      writeFileSync(file, content);
      await chmod(file, mode);
    }
  }
}

/** @throws Error if the path is not a string, or contains `..`, with which it could be outside of the directory. */
function pathInside(directory: string, path: unknown): string {
  if (typeof path !== "string") {
    throw new Error(
      `The mountPath of every volume mount must be a string, but one is ${JSON.stringify(path)}.`,
    );
  }
  if (!path.split("/").includes("..")) return join(directory, path);
  throw new Error(
    `The path ${JSON.stringify(path)} could leave the directory of the pod. Remove ".." from it.`,
  );
}

async function volumeFiles({ spec, ...options }: PodOptions, name: string) {
  const volume = spec.volumes?.find((candidate) => candidate.name === name);
  if (!volume) throw new Error(`the pod mounts the volume ${name}, which it does not have`);
  const { sources = [], defaultMode = 0o644 } = volume.projected ?? {};

  const files = sources.map(async ({ configMap, serviceAccountToken }) => {
    if (configMap) {
      const data = Object.entries(options.configMap(configMap.name));
      return data.map(([path, content]) => ({ path, content, mode: defaultMode }));
    }
    const { audience, path, expirationSeconds = DEFAULT_TOKEN_SECONDS } = serviceAccountToken;
    // The mode for a pod that runs as one user: pkg/volume/projected/projected.go of kubernetes/kubernetes.
    return [{ path, content: await options.idToken(audience, expirationSeconds), mode: 0o600 }];
  });
  return (await Promise.all(files)).flat();
}

// https://kubernetes.io/docs/tasks/inject-data-application/define-command-argument-container/
function expand(text: string, environment: Record<string, string>): string {
  return text.replace(/\$(\$|\(([^)]*)\))?/g, (match, operator, name) =>
    operator === "$" ? "$" : (environment[name] ?? match),
  );
}

// Without the Pulumi CLI on this machine, a script asks the credential helper as the CLI does, and prints the owner of the
// access token.
async function pathWithPulumi(directory: string): Promise<string> {
  const path = process.env.PATH ?? "";
  if (path.split(delimiter).some((candidate) => existsSync(join(candidate, "pulumi")))) return path;
  await mkdir(directory, { recursive: true });
  writeFileSync(join(directory, "pulumi"), WHOAMI, { mode: 0o755 });
  return `${directory}${delimiter}${path}`;
}

const WHOAMI = `#!/usr/bin/env bash
set -euo pipefail
value() { [[ $answer =~ \\"$1\\":\\"([^\\"]*)\\" ]] && echo "\${BASH_REMATCH[1]}"; }
answer=$("$PULUMI_CREDENTIAL_HELPER" <<<'{"version":1,"reason":"initial"}')
backend=$(value backendUrl)
answer=$(printf 'Authorization: token %s' "$(value accessToken)" |
  curl --disable --silent --fail --header @- "$backend/api/user")
value githubLogin
`;

/** The process groups of the pods that run. */
const running = new Set<number>();

/** Ends every pod that runs, at once. */
export function endPods(): void {
  for (const pid of running) {
    try {
      process.kill(-pid, "SIGKILL");
    } catch {
      // It has ended already.
    }
  }
}

async function run(
  [program = "", ...args]: string[],
  cwd: string,
  onLog: PodOptions["onLog"],
  env: Record<string, string>,
): Promise<PodRun> {
  const log: string[] = [];
  // A process group, so that it ends with all that it started.
  const child = spawn(program, args, { cwd, env, detached: true, stdio: ["ignore", "pipe", "pipe"] });
  if (child.pid) running.add(child.pid);
  for (const input of [child.stdout, child.stderr]) {
    createInterface({ input }).on("line", (line) => {
      log.push(line);
      onLog(line);
    });
  }
  try {
    const [code] = await once(child, "close");
    return { exitCode: code ?? 137, log };
  } catch (error) {
    return {
      exitCode: 128,
      log: [`the container cannot start: ${error instanceof Error ? error.message : error}`],
    };
  } finally {
    if (child.pid) running.delete(child.pid);
  }
}
