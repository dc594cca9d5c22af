// Runs the exchange script as a pod does, and watches what it does with the tokens.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { watch } from "node:fs";
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

export interface ScriptRun {
  exitCode: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
  milliseconds: number;
  /** The arguments of each `curl` that was started, as a wrapper on PATH saw them. */
  argumentLists: string[];
  /** The environment of each `curl`. */
  curlEnvironments: string[];
  /** The files that appeared in HOME, in TMPDIR or in the working folder, if only for a moment. */
  files: string[];
}

export interface ScriptOptions {
  /** Pulumi Cloud's URL. */
  url: string;
  /** What the token file holds; without it there is no such file. */
  idToken?: string | undefined;
  /** Overrides the pod's environment; undefined removes a variable. */
  environment?: Record<string, string | undefined>;
  /** Program and arguments that the script runs; `true` by default. */
  command?: string[];
  /** What the command can read from standard input. */
  input?: string;
  /** Another script to run in its place. */
  script?: string;
  /** Programs and arguments to start the script with, such as `setpriv …`. */
  launcher?: string[];
  /** Called when the script has started, with its process id and the path of the token file. */
  whileRunning?: (pid: number, tokenFile: string) => void | Promise<void>;
}

export const EXCHANGE_SCRIPT = resolve(__dirname, "../scripts/exchange-token.sh");

/** An id token of the shape that Kubernetes gives, with a signature that nobody made. */
export const ID_TOKEN = idTokenOf({
  iss: "https://oidc.eks.eu-central-1.amazonaws.com/id/0123456789ABCDEF0123456789ABCDEF",
  sub: "system:serviceaccount:team-a:deployer",
  aud: ["sts.amazonaws.com"],
  exp: 1893456000,
  "kubernetes.io": { namespace: "team-a", serviceaccount: { name: "deployer", uid: "u-1" } },
});

/** Encodes claims as a JWT; every token is another one by its signature of random letters. */
export function idTokenOf(claims: unknown): string {
  const encode = (part: unknown) => Buffer.from(JSON.stringify(part)).toString("base64url");
  const signature = Array.from({ length: 8 }, () => Math.random().toString(36).slice(2, 12).padEnd(10, "0"));
  return `${encode({ alg: "RS256", kid: "0123456789abcdef0123456789abcdef01234567" })}.${encode(claims)}.${signature.join("")}`;
}

/**
 * Runs the script to its end.
 *
 * @returns what it left behind: output, duration, and all that could have carried a token away.
 */
export async function runScript(options: ScriptOptions): Promise<ScriptRun> {
  const { script = EXCHANGE_SCRIPT, command = ["true"], launcher = [] } = options;
  const folder = await mkdtemp(join(tmpdir(), "exchange-"));
  const inFolder = (name: string) => join(folder, name);
  try {
    const watched = ["home", "tmp", "work"].map(inFolder);
    for (const name of [...watched, inFolder("bin"), inFolder("log")]) await mkdir(name);
    await chmod(inFolder("log"), 0o777);
    await chmod(folder, 0o755);
    await writeCurlWrapper(inFolder("bin/curl"), inFolder("log"));
    if (options.idToken !== undefined) await writeFile(inFolder("token"), options.idToken);

    const files: string[] = [];
    const watchers = watched.map((path) => watch(path, (_, name) => files.push(join(path, name ?? ""))));
    const environment: Record<string, string | undefined> = {
      PATH: `${inFolder("bin")}:${process.env.PATH}`,
      HOME: inFolder("home"),
      TMPDIR: inFolder("tmp"),
      PULUMI_ORG: "acme",
      PULUMI_TOKEN_TYPE: "personal",
      PULUMI_TOKEN_SCOPE: "user:ada",
      PULUMI_TOKEN_EXPIRATION: "7200",
      PULUMI_BACKEND_URL: options.url,
      PULUMI_TOKEN_RETRY_SECONDS: "3",
      PULUMI_OIDC_TOKEN_FILE: inFolder("token"),
      ...options.environment,
    };

    const startedAt = performance.now();
    const [program = script, ...args] = [...launcher, script, ...command];
    const child = spawn(program, args, {
      cwd: inFolder("work"),
      env: environment,
      stdio: "pipe",
      timeout: 60_000,
      killSignal: "SIGKILL",
    });
    // A script that fails at once reads nothing.
    child.stdin.on("error", () => {});
    child.stdin.end(options.input);
    const stdout = child.stdout.setEncoding("utf8").toArray();
    const stderr = child.stderr.setEncoding("utf8").toArray();
    const ended = once(child, "close");
    if (child.pid) await options.whileRunning?.(child.pid, inFolder("token"));
    const [exitCode, signal] = await ended;
    const milliseconds = performance.now() - startedAt;

    // What the kernel saw before the script ended is told in the next turns of the event loop.
    await new Promise((settled) => setTimeout(settled, 20));
    for (const watcher of watchers) watcher.close();
    return {
      exitCode,
      signal,
      stdout: (await stdout).join(""),
      stderr: (await stderr).join(""),
      milliseconds,
      argumentLists: await readLogs(inFolder("log"), "arguments-"),
      curlEnvironments: await readLogs(inFolder("log"), "environment-"),
      files,
    };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/**
 * Finds the places where a secret could be read by someone who should not.
 *
 * @param run what a script left behind; its command must print no secret.
 * @param elsewhere all that hosts received which are not the token endpoint.
 * @param secrets the tokens.
 */
export function findLeaks(run: ScriptRun, elsewhere: string[], secrets: string[]): string[] {
  const places: Record<string, string[]> = {
    "argument list": run.argumentLists,
    "environment of curl": run.curlEnvironments,
    "standard output": [run.stdout],
    "standard error": [run.stderr],
    "another host": elsewhere,
  };
  const leaks = Object.keys(places).filter((place) =>
    places[place]?.some((text) => secrets.some((secret) => holds(text, secret))),
  );
  // The script has no business with files: whatever appeared there, it could have been a token.
  return run.files.length > 0 ? [...leaks, "file"] : leaks;
}

// A part of a token that is long enough to be of use is a leak as well.
function holds(text: string, secret: string): boolean {
  const part = 24;
  for (let start = 0; start === 0 || start + part <= secret.length; start += 1) {
    if (text.includes(secret.slice(start, start + part))) return true;
  }
  return false;
}

async function writeCurlWrapper(path: string, log: string): Promise<void> {
  const wrapper = `#!/bin/sh
printf '%s\\n' "$@" >"${log}/arguments-$$"
env >"${log}/environment-$$"
PATH=\${PATH#*:} exec curl "$@"
`;
  await writeFile(path, wrapper, { mode: 0o755 });
}

async function readLogs(folder: string, prefix: string): Promise<string[]> {
  const names = await readdir(folder);
  return Promise.all(
    names.filter((name) => name.startsWith(prefix)).map((name) => readFile(join(folder, name), "utf8")),
  );
}
