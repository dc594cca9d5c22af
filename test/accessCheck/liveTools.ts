// Runs the live check of a stack in the simulation. `kubectl`, `aws`, and `pulumi` answer from there: as functions, or as
// programs on the PATH of `npm start -- --live`.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { checkLiveAccess } from "../../accessCheck/live";
import { type Run, ToolError } from "../../accessCheck/tools";
import type { Registration } from "../../simulator/runProgram";
import type { AskedServices } from "../../simulator/simulatedAccess";
import { ended } from "../support/childProcess";
import { issuersApi } from "../support/cloudApi";
import { listen } from "../support/loopback";
import { ROOT } from "../support/project";
import { setVariables } from "../support/variables";

/** A stack that is up. */
export interface LiveStack {
  /** Where `pulumi api`, AWS STS, and a kubectl that is not real, read. */
  simulation: Pick<AskedServices, "aws" | "kubernetes" | "issuer" | "pulumiCloud">;
  config: Record<string, string>;
  registered: Registration[];
  /** What the AWS CLI provides for a real kubectl. */
  aws?: {
    /** What `aws eks update-kubeconfig` writes. */
    kubeconfig: string;
    /** What `aws eks get-token` prints. */
    token: string;
  };
}

/** The worst that an answer of AWS STS contains. */
export const SECRET_ACCESS_KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

/**
 * Changes the answer of a program: its standard output, or of `pulumi preview` the engine's events. If it begins with `error:`,
 * the rest is its standard error, and it fails.
 */
export type Edit = (stdout: string, call: Call, interrupt: () => void) => string | Promise<string>;

export interface LiveRun {
  verbose?: boolean;
  allPairs?: boolean;
  /** Variables besides those of this process; of `npm start -- --live`, the only ones. */
  environment?: Record<string, string | undefined>;
  answer?: Edit;
}

export interface LiveProcess extends LiveRun {
  /** The project whose `npm start` runs, by default this one. */
  directory?: string;
  /** By default, prod. */
  stack?: string;
  /** The programs on PATH that answer from the simulation. */
  tools?: string[];
  /** The paths of real programs, by their names on PATH. */
  realTools?: Record<string, string>;
  /** What interrupts it: by default Ctrl-C. */
  signal?: NodeJS.Signals;
  /** Whether its reader stops reading after the first line. */
  stopsReading?: boolean;
}

export interface Outcome {
  exitCode: number | null;
  stdout: string;
  lines: string[];
  /** Standard error, in one line. */
  errors: string;
  calls: Call[];
  /** How many programs ran at a time, at most. */
  atOnce: number;
  /** The ID tokens that the cluster issued. */
  tokens: string[];
  /** The ID tokens that AWS STS received. */
  sentToSts: string[];
  /** The temporary files at the end. */
  left: string[];
}

/** A call of a program. */
export interface Call {
  tool: string;
  args: string[];
  /** The environment, with a line such as `NAME='value'` for each variable. */
  environment: string;
  /** What it reads from `/dev/stdin`. */
  input: string;
  /** Its time limit, if the check has set one. */
  seconds?: number | undefined;
}

// The calls whose answer a test edits: the beginning of the command, or a part of it.
export const PREVIEW = "pulumi preview ";
export const ISSUERS = "/oidc/issuers ";
export const POLICIES = "/auth/policies/oidcissuers/";
export const CONFIG_MAP = "kubectl get configmap ";
export const ID_TOKEN = "kubectl create token ";
export const STS = "aws sts ";

/** Returns an edit of the answers to some calls, in which the pattern must be. A replacement can be a whole answer. */
export function edit(calls: string, pattern: RegExp | string, replacement: string): Edit {
  return (stdout, { tool, args }) => {
    if (!`${tool} ${args.join(" ")} `.includes(calls)) return stdout;
    const edited = stdout.replaceAll(pattern, () => replacement);
    assert.notEqual(edited, stdout, `${pattern} changes nothing in ${stdout}`);
    return edited;
  };
}

/** Begins the events of a preview that found a difference. */
export const CHANGED = "changed:";

/** The pattern of a whole answer. */
export const ALL = /^.*$/gs;

/** Runs the check of stack prod as a function. */
export async function checkLive(stack: LiveStack, run: LiveRun = {}): Promise<Outcome> {
  const temporary = await mkdtemp(join(tmpdir(), "live-test-"));
  const tools = emulateTools(stack, run);
  const stop = new AbortController();
  const [printed, errors]: [string[], string[]] = [[], []];
  const runTool: Run = async (
    tool,
    args,
    { environment: changes, input = "", advice = "", seconds } = {},
  ) => {
    const variables = Object.entries({ ...process.env, ...changes }).filter(
      ([, value]) => value !== undefined,
    );
    const environment = variables.map(([name, value]) => `${name}='${value}'`).join("\n");
    const stdout = await tools.answer({ tool, args, environment, input, seconds }, () => stop.abort());
    if (stop.signal.aborted) throw new Error("aborted");
    if (!stdout.startsWith("error:")) return stdout;
    const stderr = stdout.slice("error:".length);
    throw new ToolError(`Failed to run ${tool}: ${stderr.trim()}${advice}`, stderr);
  };
  const restore = setVariables({ AWS_ENDPOINT_URL_STS: "", ...run.environment, TMPDIR: temporary });
  try {
    const { verbose = false, allPairs = false } = run;
    const exitCode = await checkLiveAccess(
      { stack: "prod", verbose, "all-pairs": allPairs },
      {
        run: runTool,
        stop,
        print: (...lines) => printed.push(...lines),
        printError: (line) => errors.push(line),
      },
    );
    return {
      exitCode,
      stdout: printed.join("\n"),
      lines: printed,
      errors: errors.join(" ").replaceAll(/\s+/g, " "),
      ...tools.seen,
      left: await readdir(temporary),
    };
  } finally {
    restore();
    await rm(temporary, { recursive: true });
  }
}

/**
 * Runs `npm start -- --live --stack=prod`, with programs on PATH.
 *
 * @returns with `files`: names and contents of the files in HOME and in TMPDIR, at each call of a program and at the end.
 */
export async function startLive(
  stack: LiveStack,
  run: LiveProcess = {},
): Promise<Outcome & { files: string }> {
  const home = await mkdtemp(join(tmpdir(), "live-test-"));
  const [bin, temporary] = [join(home, "bin"), join(home, "tmp")];
  await Promise.all([mkdir(bin), mkdir(temporary)]);
  const tools = emulateTools(stack, run);
  const files = new Set<string>();
  const server = createServer(async (request, response) => {
    const [args = "", environment = "", input = ""] = (await text(request)).split("\n\n", 3);
    // Before the answer: an interrupted check removes its files.
    for (const file of await filesIn(home)) files.add(file);
    const call = { tool: request.url?.slice(1) ?? "", args: args.split("\n"), environment, input };
    const answer = tools.answer(call, () => child.kill(run.signal ?? "SIGINT"));
    response.end(await answer.catch(ignoreMissingFile));
  });
  const url = `http://127.0.0.1:${await listen(server)}`;
  const realTools = { bash: "/bin/bash", ...run.realTools };
  for (const [tool, path] of Object.entries(realTools)) await symlink(path, join(bin, tool));
  for (const tool of run.tools ?? ["aws", "kubectl", "pulumi"])
    await writeFile(join(bin, tool), program(tool, url), { mode: 0o755 });

  const { directory = ROOT, stack: name = "prod" } = run;
  const start = ["--import", "tsx", join(directory, "simulator", "start.ts"), "--live", `--stack=${name}`];
  const { NODE_EXTRA_CA_CERTS } = process.env;
  const command = [process.execPath, ...start, ...(run.verbose ? ["--verbose"] : [])];
  const head = ["/bin/bash", "-c", `"$@" | PATH='${process.env.PATH}' head -n 1`, "bash"];
  const [executable = "", ...args] = run.stopsReading ? [...head, ...command] : command;
  const child = spawn(executable, args, {
    cwd: directory,
    // Nothing else of the environment: no program may be found elsewhere.
    env: {
      HOME: home,
      TSX_DISABLE_CACHE: "1",
      NODE_EXTRA_CA_CERTS,
      ...run.environment,
      PATH: [bin, run.environment?.PATH].filter(Boolean).join(":"),
      TMPDIR: temporary,
    },
    stdio: ["ignore", "pipe", "pipe"],
    timeout: 120_000,
  });
  const { exitCode, stdout, stderr } = await ended(child);
  const errors = stderr.trim().replaceAll(/\s+/g, " ");
  const left = await readdir(temporary);
  for (const file of await filesIn(home)) files.add(file);
  server.close();
  server.closeAllConnections();
  await rm(home, { recursive: true });
  return {
    exitCode,
    stdout,
    lines: stdout.split("\n"),
    errors,
    ...tools.seen,
    files: [...files].join("\n"),
    left,
  };
}

/** Returns the code of a program that lets this process answer. */
function program(tool: string, url: string): string {
  return `#!/bin/sh
environment=$(export -p)
PATH='${process.env.PATH}'
case "$*" in
  *file:///dev/stdin*) input=$(cat /dev/stdin) ;;
esac
answer=$(printf '%s\\n' "$@" '' "$environment" '' "$input" | curl --silent --data-binary @- '${url}/${tool}')
case $answer in
  error:*) printf '%s\\n' "\${answer#error:}" >&2 && exit 1 ;;
  *) printf '%s\\n' "$answer" ;;
esac
`;
}

/** Returns the programs, as one function, and what was seen of them. */
function emulateTools(stack: LiveStack, { answer }: LiveRun) {
  const seen = {
    calls: [] as Call[],
    atOnce: 0,
    tokens: [] as string[],
    sentToSts: [] as string[],
  };
  let running = 0;
  return {
    seen,
    async answer(call: Call, interrupt: () => void): Promise<string> {
      seen.calls.push(call);
      running += 1;
      seen.atOnce = Math.max(seen.atOnce, running);
      const isSts = call.args[0] === "sts";
      if (isSts) seen.sentToSts.push(call.input.trim());
      const printed = await (isSts ? answerSts(stack, call) : answerTool(stack, call));
      const stdout = (await answer?.(printed, call, interrupt)) ?? printed;
      if (call.args[1] === "token") seen.tokens.push(stdout);
      running -= 1;
      if (call.args[0] !== "preview" || stdout.startsWith("error:")) return stdout;
      await writeFile(optionOf(call, "event-log"), stdout.replace(CHANGED, ""));
      return stdout.startsWith(CHANGED) ? "error:error: no changes were expected" : "Previewing";
    },
  };
}

/** Returns the value of an option in arguments, such as `--region=us-west-2`. */
function optionOf({ args }: Call, name: string): string {
  return args.find((arg) => arg.startsWith(`--${name}=`))?.slice(name.length + 3) ?? "";
}

/** Returns what `aws sts assume-role-with-web-identity` prints. */
async function answerSts({ simulation }: LiveStack, call: Call): Promise<string> {
  const role = optionOf(call, "role-arn");
  const token = call.input.trim();
  const { allowed, reason } = await simulation.aws.assumeRoleWithWebIdentity(role, token);
  const denial = reason.includes("trust policy") ? "AccessDenied" : "InvalidIdentityToken";
  if (!allowed) return stsError(denial, `Not authorized: ${token}`);
  const Arn = `${role.replace(":iam:", ":sts:").replace(":role/", ":assumed-role/")}/${optionOf(call, "role-session-name")}`;
  const answer = { Credentials: { SecretAccessKey: SECRET_ACCESS_KEY }, AssumedRoleUser: { Arn } };
  return optionOf(call, "query") === "AssumedRoleUser.Arn" ? Arn : JSON.stringify(answer);
}

/** Returns an error of AWS STS, as the AWS CLI prints it. */
export function stsError(code: string, message: string): string {
  return `error:\nAn error occurred (${code}) when calling the AssumeRoleWithWebIdentity operation: ${message}\n`;
}

/** Returns what another program prints. */
async function answerTool(stack: LiveStack, call: Call): Promise<string> {
  const { simulation } = stack;
  const { tool, args } = call;
  const [command, kind = ""] = args;
  const option = (key: string) => optionOf(call, key);
  if (tool === "aws") {
    if (kind === "get-token") return stack.aws?.token ?? "";
    await writeFile(option("kubeconfig"), stack.aws?.kubeconfig ?? "kubeconfig\n");
    return "Added new context";
  }
  if (command === "preview") return eventsOf(stack);
  if (command === "api") return JSON.stringify(issuersApi(simulation.pulumiCloud, kind), null, 2);
  const namespace = option("namespace");
  if (kind === "configmap") {
    const name = args[args.indexOf("--") + 1] ?? "";
    return JSON.stringify({ data: simulation.kubernetes.configMap(namespace, name) });
  }
  const identity = { namespace, serviceAccount: args[2] ?? "" };
  const expiresIn = Number.parseInt(option("duration"), 10);
  return simulation.issuer.token(identity, { audience: [option("audience")], expiresIn });
}

/** Returns the events of the engine in a preview without changes: first a refresh, then the program. */
function eventsOf({ config, registered }: LiveStack): string {
  const [, project] = /^(.*):clusterName$/m.exec(Object.keys(config).join("\n")) ?? [];
  const steps = ["refresh", "same"].flatMap((op) =>
    registered.map(({ type, name, id, inputs, outputs }) => {
      const state = {
        id,
        outputs,
        inputs: op === "refresh" ? { refreshed: "by someone else" } : inputs,
      };
      const urn = `urn:pulumi:prod::${project}::${type}::${name}`;
      return { resourcePreEvent: { metadata: { op, urn, type, old: state, new: state } } };
    }),
  );
  const events = [{ preludeEvent: { config } }, ...steps, { summaryEvent: {} }];
  return events.map((event) => `${JSON.stringify(event)}\n`).join("");
}

/** Returns the name and the content of each file. */
async function filesIn(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true }).catch(ignoreMissingFile);
  const files = (entries || [])
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name));
  return Promise.all(
    files.map(async (file) => `${file}\n${await readFile(file, "utf8").catch(ignoreMissingFile)}`),
  );
}

/** An interrupted check removes its files while its programs still run. */
function ignoreMissingFile(error: NodeJS.ErrnoException): "" {
  if (error.code === "ENOENT") return "";
  throw error;
}
