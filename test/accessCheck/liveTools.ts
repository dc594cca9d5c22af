// Runs the live check of a stack in the simulation. `kubectl`, `aws`, and `pulumi` are functions that answer from there.

import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { decodeJwt } from "jose";
import { checkLiveAccess } from "../../accessCheck/live";
import type { Step } from "../../accessCheck/plan";
import { type Run, ToolError } from "../../accessCheck/tools";
import type { Simulation } from "../../simulator/emulators/simulation";
import { answerAdmin } from "../support/cloudApi";
import { ROOT } from "../support/project";
import { setVariables } from "../support/variables";
import { planOf } from "./plans";

/** A stack that is up. */
export interface LiveStack {
  name: string;
  /** Pulumi Cloud, and what is behind kubectl, unless that is real. */
  simulation: Pick<Simulation, "pulumiCloud"> & Partial<Pick<Simulation, "issuer" | "resources">>;
  config: Record<string, string>;
  /** Of its preview, without those of the refresh. */
  steps: Step[];
  /** The real Pulumi CLI and, without an emulated issuer, kubectl. */
  real?: { run: Run; cwd: string };
}

/** Changes the answer of a program, its standard output. If it begins with `error:`, the rest is its standard error, and it fails. */
export type Edit = (stdout: string, call: Call) => string | Promise<string>;

export interface LiveRun {
  verbose?: boolean;
  allPairs?: boolean;
  /** Variables besides those of this process. */
  environment?: NodeJS.ProcessEnv;
  answer?: Edit;
}

/** A call of a program that answers from the simulation. */
interface Call {
  tool: string;
  args: string[];
  /** The variables that the check sets, as JSON. */
  environment: string;
  /** What it reads from `/dev/stdin`. */
  input: string;
}

/**
 * Runs the check of a stack.
 *
 * @returns with `errors`: standard error, in one line; `tokens`: the ID tokens that the cluster issued; `files`: the contents of
 *   the temporary files at each call; `left`: the temporary files at the end.
 */
export async function checkLive(stack: LiveStack, run: LiveRun = {}) {
  const { verbose = false, allPairs = false } = run;
  const temporary = await mkdtemp(join(tmpdir(), "live-test-"));
  const stop = new AbortController();
  const calls: Call[] = [];
  const [tokens, files, printed, errors]: [string[], string[], string[], string[]] = [[], [], [], []];
  const runTool: Run = async (tool, args, options = {}) => {
    const isReal = args[0] === "preview" || (tool !== "aws" && !stack.simulation.issuer);
    if (stack.real && isReal) {
      const answer = await stack.real.run(tool, args, options);
      if (args[1] === "token") tokens.push(answer.trim());
      return answer;
    }
    const { environment = {}, input = "", advice = "" } = options;
    const call = { tool, args, environment: JSON.stringify(environment), input };
    calls.push(call);
    files.push(...(await contentsOf(temporary)));
    const answer = args[0] === "sts" ? answerSts(call, tokens) : await answerTool(stack, call);
    const stdout = (await run.answer?.(answer, call)) ?? answer;
    if (args[1] === "token") tokens.push(stdout);
    if (stop.signal.aborted) throw new Error("aborted");
    if (!stdout.startsWith("error:")) return stdout;
    const stderr = stdout.slice("error:".length);
    throw new ToolError(`Failed to run ${tool}: ${stderr.trim()}${advice}`, stderr);
  };
  const output = { log: (line: string) => printed.push(line), error: (line: string) => errors.push(line) };
  const restore = setVariables({ AWS_ENDPOINT_URL_STS: "", ...run.environment, TMPDIR: temporary });
  try {
    const cwd = stack.real?.cwd ?? ROOT;
    const options = { stack: stack.name, verbose, "all-pairs": allPairs, cwd, kubeconfig: [] };
    const exitCode = await checkLiveAccess(options, { run: runTool, stop, output });
    const sentToSts = calls.filter(({ args }) => args[0] === "sts").map(({ input }) => input);
    const streams = { stdout: printed.join("\n"), errors: inOneLine(errors.join(" ")).trim() };
    return { exitCode, ...streams, calls, tokens, sentToSts, files, left: await readdir(temporary) };
  } finally {
    restore();
    await rm(temporary, { recursive: true });
  }
}

/** Returns text with single spaces between its words. */
export function inOneLine(text: string): string {
  return text.replaceAll(/\s+/g, " ");
}

async function contentsOf(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile());
  return Promise.all(files.map(({ parentPath, name }) => readFile(join(parentPath, name), "utf8")));
}

/** Returns the value of an option in arguments, such as `--region=us-west-2`. */
export function optionOf({ args }: Pick<Call, "args">, name: string): string {
  return args.find((arg) => arg.startsWith(`--${name}=`))?.slice(name.length + 3) ?? "";
}

/** Returns what kubectl or pulumi prints. */
async function answerTool(stack: LiveStack, call: Call): Promise<string> {
  const { issuer, pulumiCloud, resources } = stack.simulation;
  const [command, kind = "", name = ""] = call.args;
  const option = (key: string) => optionOf(call, key);
  if (command === "preview") return previewOf(stack);
  if (command === "api") return JSON.stringify(answerAdmin(pulumiCloud, `GET ${kind}`)?.body, null, 2);
  const namespace = option("namespace");
  if (kind === "configmap") {
    const configMaps = resources?.["kubernetes:core/v1:ConfigMap"];
    return JSON.stringify(await configMaps?.read(`${namespace}/${call.args.at(-1)}`));
  }
  const options = { audience: [option("audience")], expiresIn: Number.parseInt(option("duration"), 10) };
  return issuer?.token({ namespace, serviceAccount: name }, options) ?? assert.fail("kubectl is real");
}

/**
 * Returns what `aws sts assume-role-with-web-identity` prints for the roles of this project, whose names contain the service account.
 *
 * @param issued the valid ID tokens.
 */
function answerSts(call: Call, issued: string[]): string {
  const role = optionOf(call, "role-arn");
  if (!issued.includes(call.input)) {
    return `error:${stsError("InvalidIdentityToken", `Not authorized: ${call.input}`)}`;
  }
  const { sub = "", aud = [] } = decodeJwt(call.input);
  const [, , namespace, name] = sub.split(":");
  const isOfRole = role.includes(`role/pulumi-oidc-${namespace}-${name}`);
  if (!isOfRole || ![aud].flat().includes("sts.amazonaws.com")) {
    return `error:${stsError("AccessDenied", "Not authorized")}`;
  }
  return `${role.replace(":role/", ":assumed-role/")}/${optionOf(call, "role-session-name")}`;
}

/** Returns an error of AWS STS, as the AWS CLI prints it. */
export function stsError(code: string, message: string): string {
  return `\nAn error occurred (${code}) when calling the AssumeRoleWithWebIdentity operation: ${message}\n`;
}

/** Returns what a preview prints: first a refresh, then the program. */
export function previewOf({ steps, config }: Pick<LiveStack, "steps" | "config">): string {
  const existing = steps.filter(({ oldState }) => oldState !== undefined);
  const refreshes = existing.map(({ urn, oldState }) => ({
    op: "refresh",
    urn,
    oldState,
    newState: oldState,
  }));
  return planOf([...refreshes, ...steps], config);
}
