// Runs a pod as its spec says: its first container as a process of this machine, with the files that it mounts. Only for specs
// that can be trusted.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { types } from "@pulumi/kubernetes";
import { DENIAL_RETRY_SECONDS } from "../../kubernetes/jobPod";

export type PodSpec = types.output.core.v1.PodSpec;

export interface PodOptions {
  spec: PodSpec;
  /** Returns an ID token of the pod for an audience, with a lifetime in seconds. */
  idToken(audience: string, expiresIn: number): string | Promise<string>;
  /** Returns the data of a ConfigMap of the pod's namespace. */
  configMap(name: string): Record<string, string>;
}

export interface PodRun {
  exitCode: number;
  /** Standard error and standard output, as `kubectl logs` shows them. */
  log: string[];
}

/** Runs the first container of a pod. Mount paths in its environment and command are mapped to the pod's directory. */
export async function runPodSpec(options: PodOptions): Promise<PodRun> {
  const [container] = options.spec.containers;
  if (!container) throw new Error("the pod has no container");
  const { command = [], args = [], env = [], volumeMounts = [] } = container;
  const root = mkdtempSync(join(tmpdir(), "pod-"));
  try {
    for (const { name, mountPath } of volumeMounts) {
      mkdirSync(join(root, mountPath), { recursive: true });
      for (const { path, content, mode } of await filesIn(options, name)) {
        // Not asynchronously: a process that starts meanwhile would inherit the open file ("text file busy").
        writeFileSync(join(root, mountPath, path), content, { mode });
      }
    }

    const inRoot = (value: string) => {
      const isMounted = volumeMounts.some(({ mountPath }) => `${value}/`.startsWith(`${mountPath}/`));
      return isMounted ? join(root, value) : value;
    };
    // Bash counts from here: the Job's pod has waited for a late policy already.
    const variables: Record<string, string> = { SECONDS: String(DENIAL_RETRY_SECONDS) };
    for (const { name, value = "" } of env) variables[name] = inRoot(expand(value, variables));
    const words = [...command, ...args].map((word) => inRoot(expand(word, variables)));
    return await runContainer(words, root, variables);
  } finally {
    rmSync(root, { recursive: true, force: true, maxRetries: 3 });
  }
}

/** Runs a container from where curl and the Pulumi CLI reach only this machine. */
async function runContainer(
  [program = "", ...args]: string[],
  cwd: string,
  variables: object,
): Promise<PodRun> {
  const proxy = "http://127.0.0.1:9";
  const proxies = { http_proxy: proxy, https_proxy: proxy, no_proxy: "127.0.0.1" };
  const env = { PATH: process.env.PATH, ...variables, ...proxies };
  const child = spawn(program, args, { cwd, env, stdio: ["ignore", "pipe", "pipe"] });
  const output: string[] = [];
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (it) => output.push(it));
  }
  const [exitCode] = await once(child, "close");
  return { exitCode, log: output.join("").trimEnd().split("\n") };
}

/** Returns the files of a volume. */
async function filesIn({ spec, configMap, idToken }: PodOptions, name: string) {
  const volume = spec.volumes?.find((candidate) => candidate.name === name);
  if (!volume) throw new Error(`the pod mounts the volume ${name}, which it does not have`);
  const { sources = [], defaultMode: mode = 0o644 } = volume.projected ?? {};
  const files: { path: string; content: string; mode: number }[] = [];
  for (const { configMap: source, serviceAccountToken: token } of sources) {
    const data = source ? Object.entries(configMap(source.name)) : [];
    files.push(...data.map(([path, content]) => ({ path, content, mode })));
    // The mode for a pod that runs as one user: pkg/volume/projected/projected.go of kubernetes/kubernetes.
    if (!token) continue;
    const content = await idToken(token.audience, token.expirationSeconds);
    files.push({ path: token.path, content, mode: 0o600 });
  }
  return files;
}

/**
 * Returns a word of a container's command, or a variable's value, as the process receives it: `$(NAME)` and `$$` are expanded.
 * https://kubernetes.io/docs/tasks/inject-data-application/define-command-argument-container/
 */
export function expand(text: string, environment: Record<string, string>): string {
  return text.replace(/\$(\$|\(([^)]*)\))?/g, (match, operator, name) =>
    operator === "$" ? "$" : (environment[name] ?? match),
  );
}
