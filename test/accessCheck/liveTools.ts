// Runs the live check of a stack in the simulation. `kubectl`, `aws`, and `pulumi` answer from there: as functions, or as
// programs on the PATH of `npm start -- --live`.

import { spawn } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { checkLiveAccess } from "../../accessCheck/live";
import { type Run, ToolError } from "../../accessCheck/tools";
import type { AuthPolicy } from "../../simulator/emulators/authPolicy";
import type { Registration } from "../../simulator/runProgram";
import type { AskedServices } from "../../simulator/simulatedAccess";
import { ended } from "../support/childProcess";
import { listen } from "../support/loopback";
import { ROOT } from "../support/project";
import { setVariables } from "../support/variables";

/** A stack that is up. */
export interface LiveStack {
  /** Where `pulumi api`, AWS STS, and a kubectl that is not real, read. */
  simulation: Pick<AskedServices, "aws" | "kubernetes" | "issuer" | "pulumiCloud">;
  config: Record<string, string>;
  outputs: Record<string, unknown>;
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

export interface LiveRun {
  verbose?: boolean;
  allPairs?: boolean;
  /** How many of the stack's service accounts the check finds: 1 by default. */
  accounts?: number;
  /** Variables besides those of this process; of `npm start -- --live`, the only ones. */
  environment?: Record<string, string>;
  /** Changes the standard output of a program. If it begins with `error:`, the rest is its standard error, and it fails. */
  answer?(stdout: string, call: Call, interrupt: () => void): string | Promise<string>;
}

export interface LiveProcess extends LiveRun {
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
  /** How many programs ran at a time. */
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

/** Runs the check of stack prod as a function, with 1 of its service accounts unless the run says otherwise. */
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
        stop: stop.signal,
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
export async function startLive(stack: LiveStack, run: LiveProcess): Promise<Outcome & { files: string }> {
  const home = await mkdtemp(join(tmpdir(), "live-test-"));
  const [bin, temporary] = [join(home, "bin"), join(home, "tmp")];
  await Promise.all([mkdir(bin), mkdir(temporary)]);
  const tools = emulateTools(stack, run);
  let files = "";
  const server = createServer(async (request, response) => {
    const [args = "", environment = "", input = ""] = (await text(request)).split("\n\n", 3);
    // Before the answer: an interrupted check removes its files.
    files += await filesIn(home);
    const call = { tool: request.url?.slice(1) ?? "", args: args.split("\n"), environment, input };
    response.end(await tools.answer(call, () => child.kill(run.signal ?? "SIGINT")));
  });
  const url = `http://127.0.0.1:${await listen(server)}`;
  const realTools = { bash: "/bin/bash", ...run.realTools };
  for (const [tool, path] of Object.entries(realTools)) await symlink(path, join(bin, tool));
  for (const tool of run.tools ?? ["aws", "kubectl", "pulumi"])
    await writeFile(join(bin, tool), program(tool, url), { mode: 0o755 });

  const start = ["--import", "tsx", join(ROOT, "simulator", "start.ts"), "--live", "--stack=prod"];
  const { NODE_EXTRA_CA_CERTS } = process.env;
  const command = [process.execPath, ...start, ...(run.verbose ? ["--verbose"] : [])];
  const head = ["/bin/bash", "-c", `"$@" | PATH='${process.env.PATH}' head -n 1`, "bash"];
  const [executable = "", ...args] = run.stopsReading ? [...head, ...command] : command;
  const child = spawn(executable, args, {
    // Nothing else of the environment: no program may be found elsewhere.
    env: {
      PATH: bin,
      HOME: home,
      TMPDIR: temporary,
      TSX_DISABLE_CACHE: "1",
      NODE_EXTRA_CA_CERTS,
      ...run.environment,
    },
    stdio: ["ignore", "pipe", "pipe"],
    timeout: 60_000,
  });
  const { exitCode, stdout, stderr } = await ended(child);
  const errors = stderr.trim().replaceAll(/\s+/g, " ");
  const left = await readdir(temporary);
  files += await filesIn(home);
  server.close();
  server.closeAllConnections();
  await rm(home, { recursive: true });
  return { exitCode, stdout, lines: stdout.split("\n"), errors, ...tools.seen, files, left };
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
function emulateTools(stack: LiveStack, { accounts = 1, answer }: LiveRun) {
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
      const printed = await (isSts ? answerSts(stack, call) : answerTool(stack, call, accounts));
      const stdout = (await answer?.(printed, call, interrupt)) ?? printed;
      if (call.args[1] === "token") seen.tokens.push(stdout);
      running -= 1;
      return stdout;
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
async function answerTool(stack: LiveStack, call: Call, accounts: number): Promise<string> {
  const { simulation, config, outputs, registered } = stack;
  const { tool, args } = call;
  const [command, kind] = args;
  const name = (kind === "token" ? args[2] : args[args.indexOf("--") + 1]) ?? "";
  const option = (key: string) => optionOf(call, key);
  if (tool === "aws") {
    if (kind === "get-token") return stack.aws?.token ?? "";
    await writeFile(option("kubeconfig"), stack.aws?.kubeconfig ?? "kubeconfig\n");
    return "Added new context";
  }
  if (command === "api") return answerApi(stack, kind ?? "", accounts);
  const namespace = option("namespace");
  if (kind === "configmap") return JSON.stringify({ data: simulation.kubernetes.configMap(namespace, name) });
  if (kind === "token") {
    const options = { audience: [option("audience")], expiresIn: Number.parseInt(option("duration"), 10) };
    return simulation.issuer.token({ namespace, serviceAccount: name }, options);
  }
  if (command === "config") {
    const values = Object.entries(config).map(([key, value]) => [key, { value, secret: false }]);
    return JSON.stringify(Object.fromEntries(values));
  }
  if (kind === "output") {
    const entries = Object.entries(outputs.serviceAccounts ?? {}).slice(0, accounts);
    return JSON.stringify({ ...outputs, serviceAccounts: Object.fromEntries(entries) });
  }
  const [project] =
    Object.keys(config)
      .find((key) => key.endsWith(":clusterName"))
      ?.split(":") ?? [];
  const urn = ({ type, name }: Registration) => `urn:pulumi:prod::${project}::${type}::${name}`;
  const resources = registered.map(({ inputs, ...resource }) => {
    const isIssuer = resource.type === "pulumiservice:index:OidcIssuer";
    const policies = isIssuer && { policies: firstPolicies(stack, inputs.policies, accounts) };
    return { urn: urn({ inputs, ...resource }), ...resource, inputs: { ...inputs, ...policies } };
  });
  return JSON.stringify({ version: 3, deployment: { resources } });
}

/** Returns what `pulumi api` prints for an endpoint of Pulumi Cloud. */
function answerApi(stack: LiveStack, endpoint: string, accounts: number): string {
  const issuers = stack.simulation.pulumiCloud.list().map(({ id, registration }) => {
    const [organization = "", uuid = ""] = id.split("/");
    return { organization, uuid, registration };
  });
  for (const { organization, uuid, registration } of issuers) {
    if (endpoint === `/api/orgs/${organization}/auth/policies/oidcissuers/${uuid}`) {
      const policies = firstPolicies(stack, registration.policies, accounts);
      // As the service completes them.
      const completed = policies.map((policy, index) => ({
        id: `policy-${index}`,
        authorizedPermissions: [],
        ...policy,
      }));
      return JSON.stringify({ id: "policy", version: 2, policies: completed.reverse() }, null, 2);
    }
  }
  const oidcIssuers = issuers
    .filter(({ organization }) => endpoint === `/api/orgs/${organization}/oidc/issuers`)
    .map(({ uuid: id, registration: { name, url } }) => ({ id, name, url, issuer: url }));
  return JSON.stringify({ oidcIssuers });
}

/** Returns the policies of a list, without those of the service accounts that the run does not find. */
function firstPolicies({ outputs }: LiveStack, policies: unknown, accounts: number): AuthPolicy[] {
  const hidden = Object.keys(outputs.serviceAccounts ?? {}).slice(accounts);
  return ((policies ?? []) as AuthPolicy[]).filter(({ rules }) => {
    return !hidden.includes(
      `${rules['"kubernetes.io".namespace']}/${rules['"kubernetes.io".serviceaccount.name']}`,
    );
  });
}

async function filesIn(directory: string): Promise<string> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  const files = entries
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name));
  return (await Promise.all(files.map(async (file) => `${file}\n${await readFile(file, "utf8")}`))).join(
    "\n",
  );
}
