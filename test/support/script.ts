// Runs the exchange script as a pod does, and records every place where a token could become visible.

import assert from "node:assert/strict";
import { execFile, execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { symlinkSync, watch, writeFileSync } from "node:fs";
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { SCRIPT_FILE } from "../../tokenVolume";
import { type Answer, type Endpoint, grant, startEndpoint } from "../script/endpoint";
import { type Ended, ended } from "./childProcess";
import { temporaryDirectory } from "./temporaryDirectory";
import { createVolume, type Files, type Volume } from "./volume";

export interface ScriptRun extends Ended {
  /** Where the script was, in a directory that is gone. */
  path: string;
  milliseconds: number;
  /** The arguments and the environment of each `curl` process, as a wrapper on PATH received them. */
  curlCalls: string[];
  /** The files that appeared in HOME, in TMPDIR, or in the working directory, if only for a moment. */
  files: string[];
}

export interface ScriptOptions {
  /** URL of Pulumi Cloud. */
  url: string;
  /** Content of the file `token`; undefined: the file does not exist. */
  idToken?: string | undefined;
  /** Overrides files of the volume beside the script and the ID token. */
  settings?: Files;
  /** Overrides the environment of the pod; undefined removes a variable. */
  environment?: Record<string, string | undefined>;
  /** Arguments of the script; by default the command `true`. Without any, it answers the CLI. */
  command?: string[];
  /** Standard input of the script; `URL` is replaced by the option `url`. */
  input?: string;
  /** Source of another script to run in its place. */
  script?: string;
  /** The directory of the volume; by default `pulumi.com`. */
  directory?: string;
  /** Program and arguments that start the script, such as `setpriv …`. */
  launcher?: string[];
  /** Receives the process ID of the script, and its volume. */
  running?: Running;
}

/** A script that runs. */
export interface Running {
  pid: number;
  volume: Volume;
}

/** Returns an object for the option `running`. */
export function notRunning(): Running {
  return { pid: 0, volume: { replace: () => assert.fail("The script is not running.") } };
}

/** The path of the script. */
export const EXCHANGE_SCRIPT = join(__dirname, "../../scripts/exchange-token.sh");

/** An access token in the format of Pulumi Cloud, which must not appear anywhere. */
export const ACCESS_TOKEN = "pul-0123456789abcdef0123456789abcdef01234567";

/** The answer with this token. */
export const granted = grant(ACCESS_TOKEN);

/** The request of the CLI for its first token. */
export const INITIAL_REQUEST = '{"version":1,"reason":"initial","selectedBackendUrl":"URL"}';

/** An ID token as Kubernetes issues it, with a random signature. */
export const ID_TOKEN = idTokenOf({
  iss: "https://oidc.eks.eu-central-1.amazonaws.com/id/0123456789ABCDEF0123456789ABCDEF",
  sub: "system:serviceaccount:team-a:deployer",
  aud: ["sts.amazonaws.com"],
  exp: 1893456000,
  "kubernetes.io": { namespace: "team-a", serviceaccount: { name: "deployer", uid: "u-1" } },
});

/** Returns a JWT with these claims, or with this payload as it is, and a random signature. */
export function idTokenOf(claims: object | string): string {
  const header = { alg: "RS256", kid: "0123456789abcdef0123456789abcdef01234567" };
  const payload = typeof claims === "string" ? claims : JSON.stringify(claims);
  const parts = [JSON.stringify(header), payload, randomBytes(60)];
  return parts.map((part) => Buffer.from(part).toString("base64url")).join(".");
}

/** The files of a volume that are settings. */
export const SETTINGS = {
  organization: "acme",
  tokenType: "personal",
  tokenScope: "user:alice",
  tokenExpirationSeconds: "7200",
  apiUrl: "https://api.pulumi.com",
};

/** Returns the PATH of an image that contains only these programs. Its owner is a test, or `{ after }` of node:test. */
export function imageWith(owner: Parameters<typeof temporaryDirectory>[0], programs: string[]): string {
  const directory = temporaryDirectory(owner);
  for (const program of programs) {
    const found = execFileSync("bash", ["-c", 'type -P "$0"', program], { encoding: "utf8" });
    symlinkSync(found.trim(), join(directory, program));
  }
  return directory;
}

/** Runs the script with `ID_TOKEN` against a separate endpoint with these answers. */
export async function exchange(
  answers: Answer | Answer[],
  options: Partial<ScriptOptions> & { certificate?: { key: string; cert: string } | undefined } = {},
): Promise<ScriptRun & { endpoint: Endpoint }> {
  const endpoint = await startEndpoint(answers, options.certificate);
  const run = runScript({ url: endpoint.url, idToken: ID_TOKEN, ...options });
  return { ...(await run.finally(endpoint.close)), endpoint };
}

/**
 * Runs the script to its end, in a volume in a temporary directory that every user can enter: the checkout may be below
 * a directory that only root can enter.
 */
export async function runScript(options: ScriptOptions): Promise<ScriptRun> {
  const directory = await mkdtemp(join(tmpdir(), "exchange-"));
  const path = (name: string) => join(directory, name);
  try {
    const watched = ["home", "tmp", "work"].map(path);
    for (const name of [...watched, path("bin"), path("log")]) await mkdir(name);
    await chmod(path("log"), 0o777);
    await chmod(directory, 0o755);
    const { launcher = [], command = ["true"], directory: name = "pulumi.com", environment } = options;
    const script = join(path(name), SCRIPT_FILE);
    const volume = createVolume(path(name), {
      [SCRIPT_FILE]: options.script ?? (await readFile(EXCHANGE_SCRIPT)),
      ...SETTINGS,
      apiUrl: options.url,
      token: options.idToken,
      ...options.settings,
    });
    const record = `{ printf '%s\\n' "$@"; env; } >"${path("log")}/$$"`;
    const curl = `#!/bin/sh\n${record}\nPATH=\${PATH#*:} exec curl "$@"\n`;
    // Synchronous, as in `createVolume`.
    writeFileSync(path("bin/curl"), curl, { mode: 0o755 });

    const files: string[] = [];
    // Not persistent: after a failure, nothing closes them.
    const watchers = watched.map((name) =>
      watch(name, { persistent: false }, (_, file) => files.push(join(name, file ?? ""))),
    );
    const startedAt = performance.now();
    const [program = "", ...args] = [...launcher, script, ...command];
    const child = spawn(program, args, {
      cwd: path("work"),
      env: {
        HOME: path("home"),
        TMPDIR: path("tmp"),
        PULUMI_TOKEN_RETRY_SECONDS: "60",
        ...environment,
        PATH: `${path("bin")}:${environment?.PATH ?? process.env.PATH}`,
      },
      stdio: "pipe",
      timeout: 200_000,
      killSignal: "SIGKILL",
    });
    // A script that fails at once does not read its input.
    child.stdin.on("error", () => {});
    child.stdin.end(options.input?.replaceAll("URL", options.url));
    Object.assign(options.running ?? {}, { pid: child.pid, volume });
    const result = await ended(child);
    const milliseconds = performance.now() - startedAt;

    // File events arrive in the next turns of the event loop.
    await new Promise((settled) => setTimeout(settled, 20));
    for (const watcher of watchers) watcher.close();
    const calls = (await readdir(path("log"))).map((name) => readFile(join(path("log"), name), "utf8"));
    return { path: script, ...result, milliseconds, curlCalls: await Promise.all(calls), files };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** Returns the names of the places where a secret was visible, in a run whose command prints none. */
export function findLeaks(run: ScriptRun, secrets = [ID_TOKEN, ACCESS_TOKEN]): string[] {
  const places = {
    "a call of curl": run.curlCalls.join("\n"),
    "standard output": run.stdout,
    "standard error": run.stderr,
  };
  // A part of a token that is long enough to be of use is a leak as well.
  const parts = secrets.flatMap((secret) =>
    Array.from(secret.slice(23), (_, at) => secret.slice(at, at + 24)),
  );
  const leaks = Object.entries(places).filter(([, text]) => parts.some((part) => text.includes(part)));
  // The script writes no files: any file could contain a token.
  return [...leaks.map(([place]) => place), ...(run.files.length > 0 ? ["file"] : [])];
}

/**
 * Runs code with the functions of the script, once for each list of arguments, as a subshell of one process: a test of
 * hundreds of strings would otherwise start as many processes. The working directory is a volume without an ID token.
 *
 * @param inputs are of the same length, and contain no null character.
 */
export async function callScript(
  code: string,
  inputs: string[][],
): Promise<{ exitCode: number; output: string }[]> {
  const source = await readFile(EXCHANGE_SCRIPT, "utf8");
  const [functions, start] = source.split(/^\{\n(?= {2}main "\$@"$)/m);
  assert.ok(start, "the script does not end in a call of main");

  const directory = await mkdtemp(join(tmpdir(), "exchange-"));
  try {
    for (const [file, content] of Object.entries(SETTINGS)) await writeFile(join(directory, file), content);
    const count = inputs[0]?.length ?? 0;
    const loop = `
      while (($# > 0)); do
        (set -- "\${@:1:${count}}"; ${code}) 2>&1 </dev/null
        printf '\\0%d\\0' $?
        shift ${count}
      done`;
    const args = ["-c", functions + loop, join(directory, SCRIPT_FILE), ...inputs.flat()];
    const { stdout } = await promisify(execFile)("bash", args, { cwd: directory });
    const printed = stdout.split("\0");
    return inputs.map((_, index) => {
      const [output = "", exitCode = assert.fail("bash ended early")] = printed.slice(2 * index);
      return { exitCode: Number(exitCode), output };
    });
  } finally {
    await rm(directory, { recursive: true });
  }
}
