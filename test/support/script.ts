// Runs the exchange script as a pod does, and looks into every place where a token could become visible.

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { SCRIPT_FILE, type SettingsFile } from "../../kubernetes/tokenVolume";
import { type Answer, type Endpoint, respond, startEndpoint } from "./endpoint";
import { type Ended, ended, writePrograms } from "./programs";
import { read } from "./project";

interface ScriptRun extends Ended {
  endpoint: Endpoint;
  /** The arguments and the environment of each `curl` process, as a wrapper on PATH received them. */
  curlCalls: string[];
}

export interface ScriptOptions {
  /** Overrides files of the volume: settings, and the ID token; undefined: the file does not exist. */
  files?: Record<string, string | undefined>;
  environment?: NodeJS.ProcessEnv;
  /** Arguments of the script; by default the command `true`. Without any, it answers the CLI. */
  command?: string[];
  /** Standard input of the script. */
  input?: string;
  /** Source of another script to run in its place. */
  script?: string;
  /** Program and arguments that start the script, such as `bash -c …`. */
  launcher?: string[];
  /** Receives the process of the running script. */
  running?: { pid?: number | undefined };
}

export const SCRIPT = read("scripts/exchange-token.sh");

/** An access token in the format of Pulumi Cloud, which must not appear anywhere. */
export const ACCESS_TOKEN = "pul-0123456789abcdef0123456789abcdef01234567";

/** The answer with this token, in the form of sdk/go/common/apitype/oauth.go in pulumi/pulumi. */
export const granted = respond(200, { access_token: ACCESS_TOKEN, token_type: "token", expires_in: 7200 });

export const ID_TOKEN = idTokenOf({
  iss: "https://oidc.eks.eu-central-1.amazonaws.com/id/0123456789ABCDEF0123456789ABCDEF",
  sub: "system:serviceaccount:team-a:deployer",
});

/** Returns a JWT with these claims, or with this payload as it is, and a random signature. */
export function idTokenOf(claims: object | string): string {
  const header = { alg: "RS256", kid: "0123456789abcdef0123456789abcdef01234567" };
  const payload = typeof claims === "string" ? claims : JSON.stringify(claims);
  const parts = [JSON.stringify(header), payload, randomBytes(60)];
  return parts.map((part) => Buffer.from(part).toString("base64url")).join(".");
}

/** The files of a volume that are settings. */
export const SETTINGS: Record<SettingsFile, string> = {
  organization: "acme",
  tokenType: "personal",
  tokenScope: "user:alice",
  tokenExpirationSeconds: "7200",
  apiUrl: "https://api.pulumi.com",
};

/**
 * Runs the script to its end, against a separate endpoint with these answers. Asserts that it writes no file, and that neither
 * its standard error nor the arguments and the environment of curl contain a token.
 */
export async function exchange(answers: Answer | Answer[], options: ScriptOptions = {}): Promise<ScriptRun> {
  const { launcher = [], command = ["true"], environment, running = {} } = options;
  const endpoint = await startEndpoint(answers);
  const directory = fs.mkdtempSync(join(tmpdir(), "exchange-"));
  const path = (name: string) => join(directory, name);
  const [volume, work, programs, log] = [path("pulumi.com"), path("work"), path("bin"), path("log")];
  // Synchronous: a process that starts meanwhile would inherit an open file, and the script could not be executed.
  try {
    for (const created of [volume, work, programs, log]) fs.mkdirSync(created);
    const script = options.script ?? SCRIPT;
    const files = { ...SETTINGS, apiUrl: endpoint.url, token: ID_TOKEN, ...options.files };
    for (const [name, content] of Object.entries({ [SCRIPT_FILE]: script, ...files })) {
      if (content !== undefined) fs.writeFileSync(join(volume, name), content, { mode: 0o555 });
    }
    const record = `{ printf '%s\\n' "$@"; export -p; } >"${log}/$$"`;
    writePrograms(programs, { curl: `${record}\nPATH=\${PATH#*:} exec curl "$@"` }, "/bin/sh");

    const appeared: unknown[] = [];
    // Not persistent: after a failure, nothing closes it.
    const watcher = fs.watch(work, { persistent: false }, (_, file) => appeared.push(file));
    const [program = "", ...args] = [...launcher, join(volume, SCRIPT_FILE), ...command];
    const child = spawn(program, args, {
      cwd: work,
      env: { HOME: work, TMPDIR: work, ...environment, PATH: `${programs}:${process.env.PATH}` },
      stdio: "pipe",
      timeout: 200_000,
      killSignal: "SIGKILL",
    });
    // A script that fails at once does not read its input.
    child.stdin.on("error", () => {});
    child.stdin.end(options.input);
    running.pid = child.pid;
    const result = await ended(child);

    // File events arrive in the next turns of the event loop.
    await sleep(20);
    watcher.close();
    const curlCalls = fs.readdirSync(log).map((name) => fs.readFileSync(join(log, name), "utf8"));
    assert.deepEqual([...curlCalls, result.stderr].filter(containsToken), []);
    assert.deepEqual(appeared, []);
    return { ...result, endpoint, curlCalls };
  } finally {
    await endpoint.close();
    fs.rmSync(directory, { recursive: true, force: true });
  }
}

/** Whether a string contains a part of a token that is long enough to be of use: 24 characters. */
export function containsToken(text: string): boolean {
  return [ID_TOKEN, ACCESS_TOKEN].some((token) =>
    Array.from(token.slice(23), (_, at) => token.slice(at, at + 24)).some((part) => text.includes(part)),
  );
}

/**
 * Runs code with the functions of the script, once for each list of arguments, as a subshell of one process: hundreds of
 * cases would otherwise start as many processes. The working directory contains the script's files, and has a hostile name.
 *
 * @param inputs contain no null character.
 * @returns for each, the exit code, and what was printed to standard output and standard error.
 */
export async function callScript(
  code: string,
  inputs: string[][],
): Promise<{ exitCode: number; output: string }[]> {
  const [functions, start] = SCRIPT.split(/^\{\n(?= {2}main "\$@"$)/m);
  assert.ok(start, "the script does not end in a call of main");

  const directory = fs.mkdtempSync(join(tmpdir(), 'exchange-* $(: >injected) `: >injected` "\u202e\n'));
  try {
    const files = { ...SETTINGS, token: ID_TOKEN };
    for (const [file, content] of Object.entries(files)) fs.writeFileSync(join(directory, file), content);
    const loop = `
      while (($# > 0)); do
        (set -- "\${@:2:$1}"; ${code}) 2>&1 </dev/null
        printf '\\0%d\\0' $?
        shift $(($1 + 1))
      done`;
    const counted = inputs.flatMap((input) => [String(input.length), ...input]);
    // Bash would read .bashrc: its standard input is a socket.
    const args = ["--norc", "-c", functions + loop, join(directory, SCRIPT_FILE), ...counted];
    const { stdout } = await promisify(execFile)("bash", args, { cwd: directory, timeout: 60_000 });
    assert.deepEqual(fs.readdirSync(directory).sort(), Object.keys(files).sort());
    const printed = stdout.split("\0");
    return inputs.map((_, index) => {
      const [output = "", exitCode = assert.fail("bash ended early")] = printed.slice(2 * index);
      return { exitCode: Number(exitCode), output };
    });
  } finally {
    fs.rmSync(directory, { recursive: true });
  }
}

/** Differences from a run of the wrapper that is granted a token at once. */
export interface Call {
  settings?: Partial<typeof SETTINGS>;
  idToken?: string;
  retrySeconds?: string;
  /** Of the CLI; without one, the script wraps a command. */
  request?: string;
  /** What curl prints for the first attempt, the second, and so on; the last one serves all further attempts. */
  curlPrints?: string[];
}

/**
 * Runs the script up to its command, for all calls in one process. Pauses advance the clock instead of waiting.
 *
 * In the script, only `exec curl …` runs a program, and only `read -t SECONDS` waits.
 */
export function callMain(calls: Call[]): ReturnType<typeof callScript> {
  const code = `
    for file in token ${Object.keys(SETTINGS).join(" ")}; do
      printf %s "$1" >"$file"
      shift
    done
    PULUMI_TOKEN_RETRY_SECONDS=$1 cli_request=$2 printed=("\${@:3}") pauses=0
    # It runs no program but curl.
    PATH=/nonexistent
    # Saves processes: nothing replaces the files.
    from_one_version() { "$@"; }
    exec() { printf %s "\${printed[pauses < \${#printed[@]} ? pauses : -1]}"; }
    read() {
      if [[ $2 != -t ]]; then
        builtin read "$@"
      else
        ((SECONDS += \${3%.*}, pauses += 1))
        return 142
      fi
    }
    if [[ $cli_request ]]; then main < <(printf %s "$cli_request"); else main true; fi`;
  const inputs = calls.map(
    ({ settings, idToken = ID_TOKEN, retrySeconds = "", request = "", curlPrints }) => [
      ...[idToken, ...Object.values({ ...SETTINGS, ...settings }), retrySeconds, request],
      ...(curlPrints ?? [curlOutput(200, { access_token: ACCESS_TOKEN, expires_in: 7200 })]),
    ],
  );
  return callScript(code, inputs);
}

/** Returns what curl prints for an answer, with the options of the script. */
export function curlOutput(status: number, body: string | object = "", { code = 0, retryAfter = "" } = {}) {
  return `${typeof body === "string" ? body : JSON.stringify(body)}\n${code} ${status} ${retryAfter}|${code === 0 ? "" : "reason"}`;
}
