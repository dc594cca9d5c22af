// The pod of a Job: runs the exchange script of its ConfigMap, with what the program adds to a pod. A directory replaces the file
// system of the pod, and a process of this machine its container.
//
// A stack file decides the rest of the pod spec, by `jobPodSpec` and `command`. Anyone who reviews a change of a stack file
// runs `npm start`: nothing that the file says may become a command, a variable, or a path on this machine.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { createInterface } from "node:readline";
import type { types } from "@pulumi/kubernetes";

export type PodSpec = types.output.core.v1.PodSpec;

export interface PodOptions {
  spec: PodSpec;
  /** Runs after the token exchange, instead of the command in the spec. */
  command: string[];
  /** Returns an ID token of the pod for an audience, with a lifetime in seconds. */
  idToken(audience: string, expiresIn: number): Promise<string>;
  /** Returns the data of a ConfigMap of the pod's namespace. */
  configMap(name: string): Record<string, string>;
  onLog(line: string): void;
}

export interface PodRun {
  exitCode: number;
  /** Standard error and standard output, as `kubectl logs` shows them. */
  log: string[];
}

// The names of what the program adds.
const VOLUME = "pulumi-token-exchange";
const DIRECTORY = "/var/run/secrets/pulumi.com";
const SCRIPT_FILE = "exchange-token.sh";

/** The files of the program's volume, by their names. */
type Files = Record<string, string>;

/** Runs the exchange script with the files that the spec has under the program's names, and then the command. */
export async function runExchange(options: PodOptions): Promise<PodRun> {
  return runScript(await filesOf(options), options.command, options.onLog);
}

/** Runs the exchange script for a service account of which no pod exists: with its ConfigMap, and an ID token. */
export function runExchangeOnly(configMap: Files, token: string): Promise<PodRun> {
  return runScript({ ...configMap, token }, ["true"], () => {});
}

function runScript(files: Files, command: string[], onLog: PodOptions["onLog"]): Promise<PodRun> {
  return inDirectory((root) => {
    const script = join(root, DIRECTORY, SCRIPT_FILE);
    mkdirSync(join(root, DIRECTORY), { recursive: true });
    for (const [name, content] of Object.entries(files)) {
      // Not asynchronously: a process that starts meanwhile would inherit the open file ("text file busy").
      writeFileSync(join(root, DIRECTORY, name), content, { mode: 0o555 });
    }
    const environment = { PATH: pathWithStandIn(root), PULUMI_CREDENTIAL_HELPER: script };
    return runContainer([script, ...command], root, environment, onLog);
  });
}

/** Returns the files in the service account's ConfigMap, and the ID token, as far as the spec has them. */
async function filesOf({ spec, configMap, idToken }: PodOptions): Promise<Files> {
  const configMapName = `${spec.serviceAccountName}-${VOLUME}`;
  const files: Files = {};
  const volume = spec.volumes?.find(({ name }) => name === VOLUME);
  for (const source of volume?.projected?.sources ?? []) {
    if (source.configMap?.name === configMapName) Object.assign(files, configMap(configMapName));
    const { audience, expirationSeconds } = source.serviceAccountToken ?? {};
    if (audience) files.token = await idToken(audience, expirationSeconds ?? 3600);
  }
  return files;
}

/** Runs something in the directory of a new pod, which is gone afterwards. */
export async function inDirectory(run: (root: string) => Promise<PodRun>): Promise<PodRun> {
  const root = mkdtempSync(join(tmpdir(), "pod-"));
  directories.add(root);
  try {
    return await run(root);
  } finally {
    remove(root);
  }
}

/** The directories of the pods that run, and the process groups of their containers. */
const directories = new Set<string>();
const running = new Set<number>();

function remove(directory: string): void {
  // A process that was just ended can still write.
  rmSync(directory, { recursive: true, force: true, maxRetries: 3 });
  directories.delete(directory);
}

/**
 * Runs a container as a process in the directory of its pod. curl and the Pulumi CLI reach nothing but the emulators from
 * there.
 *
 * @returns the exit code and the log; 128 with the reason if the container could not start.
 */
export async function runContainer(
  [program = "", ...args]: string[],
  root: string,
  environment: Record<string, string>,
  onLog: PodOptions["onLog"],
): Promise<PodRun> {
  const env = {
    PATH: process.env.PATH,
    ...environment,
    http_proxy: "http://127.0.0.1:9",
    https_proxy: "http://127.0.0.1:9",
    no_proxy: "127.0.0.1",
  };
  const log: string[] = [];
  // A process group, so that it ends with all that it started.
  const child = spawn(program, args, { cwd: root, env, detached: true, stdio: ["ignore", "pipe", "pipe"] });
  const { pid } = child;
  if (pid) running.add(pid);
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
    return { exitCode: 128, log: [`the container cannot start: ${(error as Error).message}`] };
  } finally {
    if (pid) running.delete(pid);
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

/**
 * Puts a stand-in for the Pulumi CLI into the directory of a pod, for `pulumi whoami`: which CLI this machine has, if any,
 * decides nothing.
 *
 * @returns a PATH on which the stand-in is the first `pulumi`.
 */
function pathWithStandIn(root: string): string {
  const directory = join(root, "image");
  mkdirSync(directory);
  writeFileSync(join(directory, "pulumi"), PULUMI_STAND_IN, { mode: 0o755 });
  return `${directory}${delimiter}${process.env.PATH ?? ""}`;
}

// Asks the credential helper as the CLI does in a wrapped command, and prints the owner of the access token.
const PULUMI_STAND_IN = `#!/usr/bin/env bash
set -euo pipefail
value() { [[ $answer =~ \\"$1\\":\\"([^\\"]*)\\" ]] && echo "\${BASH_REMATCH[1]}"; }
request='{"version":1,"reason":"initial","selectedBackendUrl":"%s"}'
answer=$(printf "$request" "$PULUMI_BACKEND_URL" | "$PULUMI_CREDENTIAL_HELPER")
answer=$(printf 'Authorization: token %s' "$(value accessToken)" |
  curl --disable --silent --fail --header @- "$PULUMI_BACKEND_URL/api/user")
value githubLogin
`;
