// The exchange of a pod: the script of its ConfigMap as a process of this machine, in a directory that replaces the volume.
//
// Anyone who reviews a change of a stack file runs `npm start`: nothing that the file says may become a command, a variable, or a
// path on this machine.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { text } from "node:stream/consumers";

/** Functions that end a script that runs, with all that it has started, and remove its directory. */
const running = new Set<() => void>();

/**
 * Runs the exchange script of a service account around the command `true`.
 *
 * @param configMap its data: the script, and a file for each setting.
 * @param token the ID token.
 * @param apiUrl of the Pulumi Cloud that replaces the one in the ConfigMap.
 * @returns the exit code, and what `kubectl logs` would show.
 * @throws Error if bash cannot start.
 */
export async function runExchange(configMap: Record<string, string>, token: string, apiUrl: string) {
  const directory = mkdtempSync(join(tmpdir(), "pod-"));
  const remove = () => rmSync(directory, { recursive: true, force: true, maxRetries: 3 });
  for (const [name, content] of Object.entries({ ...configMap, token, apiUrl })) {
    writeFileSync(join(directory, basename(name)), content);
  }
  // By bash, since the temporary directory can have the mount option noexec.
  const child = spawn("bash", [join(directory, "exchange-token.sh"), "true"], {
    cwd: directory,
    env: { PATH: process.env.PATH },
    // A process group, which ends as a whole.
    detached: true,
    stdio: ["ignore", "ignore", "pipe"],
  });
  const end = () => {
    try {
      process.kill(-Number(child.pid), "SIGKILL");
    } catch {
      // It has ended already.
    }
    remove();
  };
  running.add(end);
  try {
    const [[exitCode], log] = await Promise.all([once(child, "close"), text(child.stderr)]);
    return { exitCode, log };
  } finally {
    running.delete(end);
    remove();
  }
}

/** Ends every script that runs, at once, and removes its directory. */
export function endPods(): void {
  for (const end of running) end();
}
