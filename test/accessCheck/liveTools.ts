// Runs the live check of a stack in the simulation. `kubectl`, `aws`, and `pulumi` answer from there: as functions, or as
// programs on the PATH of `npm start -- --live`.

import { spawn } from "node:child_process";
import { mkdir, mkdtemp, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { checkLiveAccess } from "../../accessCheck/live";
import { type Run, ToolError } from "../../accessCheck/tools";
import type { Aws } from "../../simulator/emulators/aws";
import type { ClusterIssuer } from "../../simulator/emulators/issuer";
import type { PulumiCloud } from "../../simulator/emulators/pulumiCloud";
import type { Registration } from "../../simulator/runProgram";
import { ended } from "../support/childProcess";
import { answerAdmin } from "../support/cloudApi";
import { listen } from "../support/loopback";
import { writePrograms } from "../support/programs";
import { ROOT } from "../support/project";
import { setVariables } from "../support/variables";

/** A stack that is up. */
export interface LiveStack {
  /** Where `pulumi api`, AWS STS, and a kubectl that is not real, read. */
  simulation: {
    aws: Pick<Aws, "assumeRoleWithWebIdentity">;
    issuer: Pick<ClusterIssuer, "token">;
    pulumiCloud: Pick<PulumiCloud, "list">;
  };
  config: Record<string, string>;
  registered: Registration[];
  /** For a real kubectl: what `aws eks update-kubeconfig` writes, and what `aws eks get-token` prints. */
  aws?: { kubeconfig: string; token: string };
}

/** The worst that an answer of AWS STS contains. */
export const SECRET_ACCESS_KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

/**
 * Changes the answer of a program: its standard output, or of `pulumi preview` the engine's events. If it begins with `error:`,
 * the rest is its standard error, and it fails.
 */
export type Edit = (stdout: string, call: Call) => string | Promise<string>;

export interface LiveRun {
  verbose?: boolean;
  allPairs?: boolean;
  /** Variables besides those of this process; of `npm start -- --live`, the only ones. */
  environment?: NodeJS.ProcessEnv;
  answer?: Edit;
}

interface LiveProcess extends LiveRun {
  /** The project whose `npm start` runs, by default this one. */
  directory?: string;
  /** By default, prod. */
  stack?: string;
  /** The programs that answer from the simulation. Others are on the PATH of the environment. */
  tools?: string[];
  /** Interrupts the check when it requests the first ID token. */
  signal?: NodeJS.Signals;
  /** Whether its reader stops reading after the first line. */
  stopsReading?: boolean;
}

export interface Outcome {
  exitCode: number | null;
  stdout: string;
  /** Standard error, in one line. */
  errors: string;
  calls: Call[];
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
  /** The variables that the check sets, as JSON; of a process all of them, as `export` prints them. */
  environment: string;
  /** What it reads from `/dev/stdin`. */
  input: string;
}

/** Begins the events of a preview that found a difference. */
export const CHANGED = "changed:";

/** Runs the check of stack prod as a function. */
export async function checkLive(stack: LiveStack, run: LiveRun = {}): Promise<Outcome> {
  const { verbose = false, allPairs = false } = run;
  const temporary = await mkdtemp(join(tmpdir(), "live-test-"));
  const tools = emulateTools(stack, run);
  const stop = new AbortController();
  const [printed, errors]: [string[], string[]] = [[], []];
  const runTool: Run = async (tool, args, { environment = {}, input = "", advice = "" } = {}) => {
    const stdout = await tools.answer({ tool, args, environment: JSON.stringify(environment), input });
    if (stop.signal.aborted) throw new Error("aborted");
    if (!stdout.startsWith("error:")) return stdout;
    const stderr = stdout.slice("error:".length);
    throw new ToolError(`Failed to run ${tool}: ${stderr.trim()}${advice}`, stderr);
  };
  const surroundings = {
    run: runTool,
    stop,
    print: (...lines: string[]) => printed.push(...lines),
    printError: (line: string) => errors.push(line),
  };
  const restore = setVariables({ AWS_ENDPOINT_URL_STS: "", ...run.environment, TMPDIR: temporary });
  try {
    const options = { stack: "prod", verbose, "all-pairs": allPairs };
    const exitCode = await checkLiveAccess(options, surroundings);
    const left = await readdir(temporary);
    return { exitCode, stdout: printed.join("\n"), errors: inOneLine(errors.join(" ")), ...tools.seen, left };
  } finally {
    restore();
    await rm(temporary, { recursive: true });
  }
}

/**
 * Runs `npm start -- --live`, with programs on PATH.
 *
 * @returns with `files`: the contents of the files in HOME and in TMPDIR at each call of a program.
 */
export async function startLive(
  stack: LiveStack,
  run: LiveProcess = {},
): Promise<Outcome & { files: string }> {
  const home = await mkdtemp(join(tmpdir(), "live-test-"));
  const [bin, temporary] = [join(home, "bin"), join(home, "tmp")];
  await Promise.all([mkdir(bin), mkdir(temporary)]);
  const tools = emulateTools(stack, run);
  let files = "";
  const server = createServer(async (request, response) => {
    // An interrupted program does not always end its request.
    const sent = await text(request).catch(() => "");
    const [args = "", environment = "", input = "", ...found] = sent.split("\n\n");
    files += found.join("\n\n");
    if (run.signal && !child.killed && args.startsWith("create\ntoken")) child.kill(run.signal);
    const call = { tool: request.url?.slice(1) ?? "", args: args.split("\n"), environment, input };
    // A check that has ended has removed its directory.
    response.end(await tools.answer(call).catch(String));
  });
  const url = `http://127.0.0.1:${await listen(server)}`;
  await symlink("/bin/bash", join(bin, "bash"));
  for (const tool of run.tools ?? ["aws", "kubectl", "pulumi"]) {
    writePrograms(bin, { [tool]: program(`${url}/${tool}`, home) }, "/bin/sh");
  }

  const { directory = ROOT, stack: name = "prod" } = run;
  const start = ["--import", "tsx", join(directory, "simulator", "start.ts"), "--live", `--stack=${name}`];
  const command = [process.execPath, ...start, ...(run.verbose ? ["--verbose"] : [])];
  const head = ["/bin/bash", "-c", `"$@" | PATH='${process.env.PATH}' head -n 1`, "bash"];
  const [executable = "", ...args] = run.stopsReading ? [...head, ...command] : command;
  const child = spawn(executable, args, {
    cwd: directory,
    // Nothing else of the environment: no program may be found elsewhere.
    env: {
      HOME: home,
      TSX_DISABLE_CACHE: "1",
      NODE_EXTRA_CA_CERTS: process.env.NODE_EXTRA_CA_CERTS,
      ...run.environment,
      PATH: [bin, run.environment?.PATH].filter(Boolean).join(":"),
      TMPDIR: temporary,
    },
    stdio: ["ignore", "pipe", "pipe"],
    timeout: 120_000,
  });
  const { exitCode, stdout, stderr } = await ended(child);
  const left = await readdir(temporary);
  server.close();
  server.closeAllConnections();
  await rm(home, { recursive: true });
  return { exitCode, stdout, errors: inOneLine(stderr.trim()), ...tools.seen, files, left };
}

/** Returns text with single spaces between its words. */
export function inOneLine(text: string): string {
  return text.replaceAll(/\s+/g, " ");
}

/** Returns the code of a program that lets this process answer, and reports the files that the check has written. */
function program(url: string, home: string): string {
  return `environment=$(export -p)
PATH='${process.env.PATH}'
case "$*" in
  *file:///dev/stdin*) input=$(cat /dev/stdin) ;;
esac
files=$(find '${home}' -path '${home}/bin' -prune -o -type f ! -name events -exec cat {} + 2>/dev/null)
answer=$(printf '%s\\n' "$@" '' "$environment" '' "$input" '' "$files" | curl --silent --data-binary @- '${url}')
case $answer in
  error:*) printf '%s\\n' "\${answer#error:}" >&2 && exit 1 ;;
  *) printf '%s\\n' "$answer" ;;
esac
`;
}

/** Returns the programs, as one function, and what was seen of them. */
function emulateTools(stack: LiveStack, { answer }: LiveRun) {
  const seen: Pick<Outcome, "calls" | "tokens" | "sentToSts"> = { calls: [], tokens: [], sentToSts: [] };
  return {
    seen,
    async answer(call: Call): Promise<string> {
      seen.calls.push(call);
      const isSts = call.args[0] === "sts";
      if (isSts) seen.sentToSts.push(call.input.trim());
      const printed = await (isSts ? answerSts(stack, call) : answerTool(stack, call));
      const stdout = (await answer?.(printed, call)) ?? printed;
      if (call.args[1] === "token") seen.tokens.push(stdout);
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
  if (!allowed) return `error:${stsError(denial, `Not authorized: ${token}`)}`;
  const Arn = `${role.replace(":iam:", ":sts:").replace(":role/", ":assumed-role/")}/${optionOf(call, "role-session-name")}`;
  const answer = { Credentials: { SecretAccessKey: SECRET_ACCESS_KEY }, AssumedRoleUser: { Arn } };
  return optionOf(call, "query") === "AssumedRoleUser.Arn" ? Arn : JSON.stringify(answer);
}

/** Returns an error of AWS STS, as the AWS CLI prints it. */
export function stsError(code: string, message: string): string {
  return `\nAn error occurred (${code}) when calling the AssumeRoleWithWebIdentity operation: ${message}\n`;
}

/** Returns what another program prints. */
async function answerTool(stack: LiveStack, call: Call): Promise<string> {
  const { issuer, pulumiCloud } = stack.simulation;
  const { tool, args } = call;
  const [command, kind = ""] = args;
  const option = (key: string) => optionOf(call, key);
  if (tool === "aws") {
    if (kind === "get-token") return stack.aws?.token ?? "";
    await writeFile(option("kubeconfig"), stack.aws?.kubeconfig ?? "kubeconfig\n");
    return "Added new context";
  }
  if (command === "preview") return eventsOf(stack);
  if (command === "api") return JSON.stringify(answerAdmin(pulumiCloud, `GET ${kind}`)?.body, null, 2);
  const namespace = option("namespace");
  if (kind === "configmap") {
    const id = `${namespace}/${args[args.indexOf("--") + 1]}`;
    return JSON.stringify(
      stack.registered.find((it) => it.type.endsWith(":ConfigMap") && it.id === id)?.outputs,
    );
  }
  const identity = { namespace, serviceAccount: args[2] ?? "" };
  const expiresIn = Number.parseInt(option("duration"), 10);
  return issuer.token(identity, { audience: [option("audience")], expiresIn });
}

/** Returns the events of the engine in a preview without changes: first a refresh, then the program. */
function eventsOf({ config, registered }: LiveStack): string {
  const [, project] = /^(.*):clusterName$/m.exec(Object.keys(config).join("\n")) ?? [];
  const steps = ["refresh", "same"].flatMap((op) =>
    registered.map(({ type, name, id, inputs, outputs }) => {
      const said = op === "refresh" ? { refreshed: "by someone else" } : inputs;
      const state = { id, outputs, inputs: said };
      const urn = `urn:pulumi:prod::${project}::${type}::${name}`;
      return { resourcePreEvent: { metadata: { op, urn, type, old: state, new: state } } };
    }),
  );
  const events = [{ preludeEvent: { config } }, ...steps, { summaryEvent: {} }];
  return events.map((event) => `${JSON.stringify(event)}\n`).join("");
}
