// A pod as a process of this machine, in a directory that replaces its file system.
//
// Anyone who reviews a change of a stack file runs `npm start`: nothing that the file says may become a command, a variable, or a
// path on this machine.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface PodRun {
  exitCode: number;
  /** Standard error and standard output, as `kubectl logs` shows them. */
  log: string[];
}

/** The files that the exchange script reads, and the script: scripts/exchange-token.sh. */
const FILES = [
  "exchange-token.sh",
  "organization",
  "tokenType",
  "tokenScope",
  "tokenExpirationSeconds",
  "token",
  "apiUrl",
];

/**
 * Runs the exchange script of a service account around the command `true`.
 *
 * @param configMap its data, of which only the known files are written.
 * @param token the ID token.
 * @param apiUrl of the Pulumi Cloud that replaces the one in the ConfigMap.
 */
export function runExchange(
  configMap: Record<string, string>,
  token: string,
  apiUrl: string,
): Promise<PodRun> {
  return inDirectory((root) => {
    for (const [name, content] of Object.entries({ ...configMap, token, apiUrl })) {
      if (FILES.includes(name)) writeFileSync(join(root, name), content);
    }
    // By bash, since the temporary directory can have the mount option noexec.
    return runContainer(["bash", join(root, "exchange-token.sh"), "true"], root);
  });
}

/** The directories of the pods that run, and the process groups of their containers. */
const directories = new Set<string>();
const running = new Set<number>();

/** Runs something in the directory of a new pod, which is gone afterwards. */
export async function inDirectory(run: (root: string) => Promise<PodRun>): Promise<PodRun> {
  const root = mkdtempSync(join(tmpdir(), "pod-"));
  directories.add(root);
  return run(root).finally(() => {
    remove(root);
    directories.delete(root);
  });
}

/** Removes a directory, in which a process that was just ended can still write. */
function remove(directory: string): void {
  rmSync(directory, { recursive: true, force: true, maxRetries: 3 });
}

/**
 * Runs a container as a process in the directory of its pod, from where curl and the Pulumi CLI reach only this machine.
 *
 * @returns the exit code and the log; 128 with the reason if the container could not start.
 */
export async function runContainer(
  [program = "", ...args]: string[],
  cwd: string,
  variables = {},
): Promise<PodRun> {
  const proxy = "http://127.0.0.1:9";
  const proxies = { http_proxy: proxy, https_proxy: proxy, no_proxy: "127.0.0.1" };
  const env = { PATH: process.env.PATH, ...variables, ...proxies };
  // A process group, so that it ends with all that it started.
  const child = spawn(program, args, { cwd, env, detached: true, stdio: ["ignore", "pipe", "pipe"] });
  const { pid = 0 } = child;
  if (pid > 0) running.add(pid);
  const output: string[] = [];
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (it) => output.push(it));
  try {
    const [code] = await once(child, "close");
    return { exitCode: code ?? 137, log: output.join("").trimEnd().split("\n") };
  } catch (error) {
    return { exitCode: 128, log: [`the container cannot start: ${(error as Error).message}`] };
  } finally {
    running.delete(pid);
  }
}

/** Ends every container that runs, at once, and removes its directory. */
export function endPods(): void {
  for (const pid of running) {
    try {
      process.kill(-pid, "SIGKILL");
    } catch {
      // It has ended already.
    }
  }
  for (const directory of directories) remove(directory);
}
