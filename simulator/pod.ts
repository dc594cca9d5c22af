// A pod of the simulation: a directory replaces its file system, and a process of this machine its container.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { createInterface } from "node:readline";
import type { types } from "@pulumi/kubernetes";

export type PodSpec = types.output.core.v1.PodSpec;

export interface PodRun {
  exitCode: number;
  /** Standard error and standard output, as `kubectl logs` shows them. */
  log: string[];
}

export interface PodOptions {
  spec: PodSpec;
  deadlineSeconds: number;
  /** Returns an ID token of the pod for an audience. */
  idToken(audience: string): Promise<string>;
  /** Returns the data of a ConfigMap of the pod's namespace. */
  configMap(name: string): Record<string, string>;
  /** Replaces the URL in PULUMI_BACKEND_URL. */
  pulumiCloudUrl: string;
  /** The file with the only certificate authority that the pod trusts. */
  certificateAuthorityFile: string;
  /** Where the pod's directory is created: by default the temporary directory. */
  directory?: string | undefined;
  onLog(line: string): void;
}

/**
 * Runs the first container of a pod.
 *
 * Only what the spec mounts exists, with the rights that the pod's user has. Mount paths in the environment and the command
 * are mapped to the directory. Not emulated: the image, user and group IDs, limits, and the read-only root file system.
 *
 * @returns the exit code and the log; 128 with the reason if the container could not start.
 */
export async function runPod(options: PodOptions): Promise<PodRun> {
  const container = options.spec.containers[0];
  if (!container) throw new Error("the pod has no container");
  const root = await mkdtemp(join(options.directory ?? tmpdir(), "pod-"));
  try {
    const mounts = (container.volumeMounts ?? []).toSorted((a, b) => a.mountPath.length - b.mountPath.length);
    for (const { name, mountPath, subPath } of mounts) {
      const target = join(root, mountPath);
      if (!subPath) await mkdir(target, { recursive: true });
      for (const file of await volumeFiles(options, name)) {
        if (!subPath) await write(join(target, file.path), file);
        else if (file.path === subPath) await write(target, file);
      }
    }

    const inRoot = (value: string) => {
      const isMounted = mounts.some(({ mountPath }) => `${value}/`.startsWith(`${mountPath}/`));
      return isMounted ? join(root, value) : value;
    };
    const environment: Record<string, string> = {};
    for (const { configMapRef } of container.envFrom ?? []) {
      if (configMapRef) Object.assign(environment, options.configMap(configMapRef.name));
    }
    for (const { name, value = "" } of container.env ?? []) environment[name] = expand(value, environment);
    const command = [...(container.command ?? []), ...(container.args ?? [])];
    const words = command.map((word) => inRoot(expand(word, environment)));
    for (const [name, value] of Object.entries(environment)) environment[name] = inRoot(value);
    if ("PULUMI_BACKEND_URL" in environment) environment.PULUMI_BACKEND_URL = options.pulumiCloudUrl;

    return await run(words, root, options, {
      PATH: await pathWithPulumi(join(root, "image")),
      SSL_CERT_FILE: options.certificateAuthorityFile,
      CURL_CA_BUNDLE: options.certificateAuthorityFile,
      // Nothing but the simulation can be reached.
      https_proxy: "http://127.0.0.1:9",
      no_proxy: "127.0.0.1",
      ...environment,
    });
  } finally {
    await rm(root, { recursive: true, force: true });
  }
}

interface MountedFile {
  path: string;
  content: string;
  /** What the pod's user may do with it: 4 read, 2 write, 1 execute. */
  rights: number;
}

async function volumeFiles({ spec, ...options }: PodOptions, name: string): Promise<MountedFile[]> {
  const volume = spec.volumes?.find((candidate) => candidate.name === name);
  if (!volume) throw new Error(`the pod mounts the volume ${name}, which it does not have`);
  if (volume.configMap) {
    const { name: configMap, defaultMode = 0o644 } = volume.configMap;
    // The files belong to root. A group of the pod may read them: kubernetes/kubernetes, pkg/volume/volume_linux.go.
    const hasGroup = spec.securityContext?.fsGroup !== undefined;
    const rights = (hasGroup ? (defaultMode | 0o440) >> 3 : defaultMode) & 0o7;
    return Object.entries(options.configMap(configMap)).map(([path, content]) => ({ path, content, rights }));
  }
  // The pod can always read its ID token: pkg/volume/projected/projected.go.
  const sources = volume.projected?.sources ?? [];
  const tokens = sources.flatMap(({ serviceAccountToken }) => serviceAccountToken ?? []);
  return Promise.all(
    tokens.map(async ({ audience, path }) => ({ path, content: await options.idToken(audience), rights: 4 })),
  );
}

// The user of this machine owns the file, and may be root, who can read everything.
async function write(target: string, { content, rights }: MountedFile): Promise<void> {
  if ((rights & 4) === 0) return;
  await mkdir(dirname(target), { recursive: true });
  await writeFile(target, content);
  await chmod(target, rights << 6);
}

// https://kubernetes.io/docs/tasks/inject-data-application/define-command-argument-container/
function expand(text: string, environment: Record<string, string>): string {
  return text.replace(/\$(\$|\(([^)]*)\))?/g, (match, operator, name) =>
    operator === "$" ? "$" : (environment[name] ?? match),
  );
}

// Without the Pulumi CLI on this machine, a script prints the owner of the access token.
async function pathWithPulumi(directory: string): Promise<string> {
  const path = process.env.PATH ?? "";
  for (const candidate of path.split(delimiter)) {
    const names: string[] = await readdir(candidate || ".").catch(() => []);
    if (names.includes("pulumi")) return path;
  }
  await mkdir(directory, { recursive: true });
  await writeFile(join(directory, "pulumi"), WHOAMI, { mode: 0o755 });
  return `${directory}${delimiter}${path}`;
}

const WHOAMI = `#!/usr/bin/env bash
set -euo pipefail
answer=$(printf 'Authorization: token %s' "$PULUMI_ACCESS_TOKEN" |
  curl --disable --silent --fail --header @- "$PULUMI_BACKEND_URL/api/user")
[[ $answer =~ \\"githubLogin\\":\\"([^\\"]*)\\" ]] && echo "\${BASH_REMATCH[1]}"
`;

async function run(
  [program = "", ...args]: string[],
  cwd: string,
  { deadlineSeconds, onLog }: PodOptions,
  env: Record<string, string>,
): Promise<PodRun> {
  const log: string[] = [];
  const child = spawn(program, args, { cwd, env, stdio: ["ignore", "pipe", "pipe"] });
  const deadline = setTimeout(() => child.kill("SIGKILL"), deadlineSeconds * 1000);
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
    clearTimeout(deadline);
  }
}
