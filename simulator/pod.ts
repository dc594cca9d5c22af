// A pod of the simulation: a folder stands for its file system, and a process of this machine for its container.

import { spawn } from "node:child_process";
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
  /** After these seconds it is killed. */
  deadlineSeconds: number;
  /** Gives the pod an id token for an audience. */
  idToken(audience: string): Promise<string>;
  /** Gives the data of a ConfigMap of the pod's namespace. */
  configMap(name: string): Record<string, string>;
  /** What the pod's network leads to when it calls the URL in PULUMI_BACKEND_URL. */
  pulumiCloudUrl: string;
  /** The file with the one certificate authority that the image trusts. */
  certificateAuthorityFile: string;
  onLog(line: string): void;
}

/**
 * Runs the first container of a pod.
 *
 * Only what the spec mounts is there, with the modes of the spec as the pod's user meets them. Mount paths in
 * environment, command and arguments are mapped to the folder. Not emulated: the image, whose programs are this
 * machine's; user and group ids; limits; the read-only root file system.
 *
 * @returns the exit code and the log of the container; 128 with the kubelet's message when it could not start.
 */
export async function runPod(options: PodOptions): Promise<PodRun> {
  const { spec } = options;
  const container = spec.containers[0];
  if (!container) throw new Error("the pod has no container");

  const root = await mkdtemp(join(tmpdir(), "pod-"));
  try {
    const mounts = (container.volumeMounts ?? []).toSorted((a, b) => a.mountPath.length - b.mountPath.length);
    for (const { name, mountPath, subPath } of mounts) {
      const files = await volumeFiles(options, name);
      const target = join(root, mountPath);
      if (subPath === undefined) {
        await mkdir(target, { recursive: true });
        for (const file of files) await writeAs(join(target, file.path), file);
      } else {
        const file = files.find(({ path }) => path === subPath);
        if (file) await writeAs(target, file);
      }
    }

    const inRoot = (value: string) => {
      const mounted = mounts.some(
        ({ mountPath }) => value === mountPath || value.startsWith(`${mountPath}/`),
      );
      return mounted ? join(root, value) : value;
    };
    const environment: Record<string, string> = {};
    for (const { configMapRef } of container.envFrom ?? []) {
      if (configMapRef) Object.assign(environment, options.configMap(configMapRef.name));
    }
    for (const { name, value = "" } of container.env ?? []) environment[name] = expand(value, environment);
    const words = [...(container.command ?? []), ...(container.args ?? [])];
    const [program = "", ...args] = words.map((word) => inRoot(expand(word, environment)));
    for (const [name, value] of Object.entries(environment)) environment[name] = inRoot(value);
    if ("PULUMI_BACKEND_URL" in environment) environment.PULUMI_BACKEND_URL = options.pulumiCloudUrl;

    return await run(program, args, {
      folder: root,
      deadlineSeconds: options.deadlineSeconds,
      onLog: options.onLog,
      environment: {
        PATH: await pathWithPulumi(join(root, "image")),
        // The simulation's authority is the image's only one, and nothing but the simulation can be reached.
        SSL_CERT_FILE: options.certificateAuthorityFile,
        CURL_CA_BUNDLE: options.certificateAuthorityFile,
        https_proxy: "http://127.0.0.1:9",
        no_proxy: "127.0.0.1",
        ...environment,
      },
    });
  } finally {
    await rm(root, { recursive: true, force: true });
  }
}

interface MountedFile {
  path: string;
  content: string;
  /** As the kubelet sets it, for root and the pod's group. */
  mode: number;
  /** Whether the file belongs to the pod's user, or else to root. */
  owned: boolean;
  group: boolean;
}

async function volumeFiles(options: PodOptions, name: string): Promise<MountedFile[]> {
  const { spec } = options;
  const volume = spec.volumes?.find((candidate) => candidate.name === name);
  if (!volume) throw new Error(`the pod mounts a volume ${name} that it does not have`);
  const group = spec.securityContext?.fsGroup !== undefined;

  if (volume.configMap) {
    const { name: configMap, defaultMode = 0o644 } = volume.configMap;
    return Object.entries(options.configMap(configMap)).map(([path, content]) => {
      // With a group of the pod's own the kubelet lets it read: pkg/volume/volume_linux.go.
      return { path, content, mode: group ? defaultMode | 0o440 : defaultMode, owned: false, group };
    });
  }
  const tokens = (volume.projected?.sources ?? []).flatMap(
    ({ serviceAccountToken }) => serviceAccountToken ?? [],
  );
  // The modes of an id token: pkg/volume/projected/projected.go.
  const owned = !group && spec.securityContext?.runAsUser !== undefined;
  const mode = group ? 0o640 : owned ? 0o600 : 0o644;
  return Promise.all(
    tokens.map(async ({ audience, path }) => {
      return { path, content: await options.idToken(audience), mode, owned, group };
    }),
  );
}

// This machine's user owns the folder and may be root, to whom modes mean little. So the owner gets the rights that the
// pod's user would have, and what that user could not read is left out.
async function writeAs(target: string, { content, mode, owned, group }: MountedFile): Promise<void> {
  const rights = (owned ? mode >> 6 : group ? mode >> 3 : mode) & 0o7;
  if ((rights & 0o4) === 0) return;
  await mkdir(dirname(target), { recursive: true });
  await writeFile(target, content);
  await chmod(target, rights << 6);
}

// https://kubernetes.io/docs/tasks/inject-data-application/define-command-argument-container/
function expand(text: string, environment: Record<string, string>): string {
  return text.replace(/\$(\$|\(([^)]*)\))?/g, (match, operator, name) => {
    if (operator === "$") return "$";
    return environment[name] ?? match;
  });
}

// The image's CLI is this machine's or, for want of one, a stand-in that asks Pulumi Cloud for the token's owner.
async function pathWithPulumi(folder: string): Promise<string> {
  const path = process.env.PATH ?? "";
  for (const candidate of path.split(delimiter)) {
    const names: string[] = await readdir(candidate || ".").catch(() => []);
    if (names.includes("pulumi")) return path;
  }
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "pulumi"), STAND_IN, { mode: 0o755 });
  return `${folder}${delimiter}${path}`;
}

const STAND_IN = `#!/usr/bin/env bash
set -euo pipefail
answer=$(printf 'Authorization: token %s' "$PULUMI_ACCESS_TOKEN" |
  curl --disable --silent --fail --header @- "$PULUMI_BACKEND_URL/api/user")
[[ $answer =~ \\"githubLogin\\":\\"([^\\"]*)\\" ]] && echo "\${BASH_REMATCH[1]}"
`;

function run(
  program: string,
  args: string[],
  options: {
    folder: string;
    environment: Record<string, string>;
    deadlineSeconds: number;
    onLog(line: string): void;
  },
): Promise<PodRun> {
  return new Promise((resolve) => {
    const log: string[] = [];
    const onLine = (line: string) => {
      log.push(line);
      options.onLog(line);
    };
    const child = spawn(program, args, {
      cwd: options.folder,
      env: options.environment,
      stdio: ["ignore", "pipe", "pipe"],
    });
    // The timeout of `spawn` goes on when the program cannot start.
    const deadline = setTimeout(() => child.kill("SIGKILL"), options.deadlineSeconds * 1000);
    createInterface({ input: child.stdout }).on("line", onLine);
    createInterface({ input: child.stderr }).on("line", onLine);
    child.once("error", (error) => {
      clearTimeout(deadline);
      resolve({ exitCode: 128, log: [...log, `the container cannot start: ${error.message}`] });
    });
    child.once("close", (code) => {
      clearTimeout(deadline);
      resolve({ exitCode: code ?? 137, log });
    });
  });
}
