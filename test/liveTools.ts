// Runs `npm start -- --live` with a kubectl, an aws, and a pulumi on PATH that answer for a stack in the simulation, and an
// emulated AWS STS.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { createServer as createHttpsServer, type Server as HttpsServer } from "node:https";
import type { AddressInfo, Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import type { AskedServices } from "../simulator/accessCheck/simulatedAccess";
import type { AuthPolicy } from "../simulator/emulators/authPolicy";
import type { Aws } from "../simulator/emulators/aws";
import { openCertificateAuthority } from "../simulator/emulators/certificates";
import type { Registration } from "../simulator/mocks";

/** A stack that is up. */
export interface LiveStack {
  /** Where `pulumi api`, and a kubectl that is not real, read. */
  simulation: Pick<AskedServices, "kubernetes" | "issuer" | "pulumiCloud">;
  config: Record<string, string>;
  outputs: Record<string, unknown>;
  registered: Registration[];
  stsUrl: string;
  /** What the AWS CLI provides for a real kubectl. */
  aws?: {
    /** What `aws eks update-kubeconfig` writes. */
    kubeconfig: string;
    /** What `aws eks get-token` prints. */
    token: string;
  };
}

export interface StsRequest {
  authorization: string | undefined;
  form: URLSearchParams;
}

/** The worst that an answer of AWS STS could contain. */
export const SECRET_ACCESS_KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

export interface LiveRun {
  arguments?: string[];
  environment?: Record<string, string>;
  /** How many of the stack's service accounts the check finds: 1 by default. */
  accounts?: number;
  /** The programs on PATH that answer from the simulation. */
  tools?: string[];
  /** The paths of real programs, by their names on PATH. */
  realTools?: Record<string, string>;
  /** Changes the standard output of a program. If it begins with `error:`, it is printed on standard error. */
  answer?(stdout: string, call: Call, interrupt: () => void): string | Promise<string>;
}

export interface Outcome {
  exitCode: number;
  stdout: string;
  lines: string[];
  /** Standard error, in one line. */
  errors: string;
  calls: Call[];
  /** How many programs ran at a time. */
  atOnce: number;
  /** The ID tokens that the cluster issued. */
  tokens: string[];
  /** Names and contents of the files in HOME and in TMPDIR, at each call of a program and at the end. */
  files: string;
  /** The temporary files at the end. */
  left: string[];
}

/** A call of a program; `environment` is as the shell prints it. */
type Call = Record<"tool" | "environment", string> & { args: string[] };

/** Runs the check of stack prod, with 1 of its service accounts unless the run says otherwise. */
export async function runLive(stack: LiveStack, run: LiveRun): Promise<Outcome> {
  const home = await mkdtemp(join(tmpdir(), "live-test-"));
  const [bin, temporary] = [join(home, "bin"), join(home, "tmp")];
  await Promise.all([mkdir(bin), mkdir(temporary)]);
  const [calls, tokens]: [Call[], string[]] = [[], []];
  let [files, running, atOnce] = ["", 0, 0];
  const server = createServer(async (request, response) => {
    const [args = "", environment = ""] = (await text(request)).split("\n\n", 2);
    const call = { tool: request.url?.slice(1) ?? "", args: args.split("\n"), environment };
    calls.push(call);
    running += 1;
    atOnce = Math.max(atOnce, running);
    // Before the answer: an interrupted check removes its files.
    files += await filesIn(home);
    const printed = await answerTool(stack, call, run.accounts ?? 1);
    const stdout = (await run.answer?.(printed, call, () => child.kill("SIGINT"))) ?? printed;
    if (call.args[1] === "token") tokens.push(stdout);
    running -= 1;
    response.end(stdout);
  });
  const url = `http://127.0.0.1:${await listen(server)}`;
  for (const [tool, path] of Object.entries(run.realTools ?? {})) await symlink(path, join(bin, tool));
  for (const tool of run.tools ?? ["aws", "kubectl", "pulumi"])
    await writeFile(join(bin, tool), program(tool, url), { mode: 0o755 });

  const start = ["--import", "tsx", join(__dirname, "..", "simulator", "start.ts"), "--live", "--stack=prod"];
  const { NODE_EXTRA_CA_CERTS } = process.env;
  const child = spawn(process.execPath, [...start, ...(run.arguments ?? [])], {
    // Nothing else of the environment: no program may be found elsewhere.
    env: {
      PATH: bin,
      HOME: home,
      TMPDIR: temporary,
      TSX_DISABLE_CACHE: "1",
      NODE_EXTRA_CA_CERTS,
      AWS_ENDPOINT_URL_STS: stack.stsUrl,
      ...run.environment,
    },
    stdio: ["ignore", "pipe", "pipe"],
    timeout: 60_000,
  });
  const [stdout, stderr, [exitCode]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, "close"),
  ]);
  const errors = stderr.trim().replaceAll(/\s+/g, " ");
  const left = await readdir(temporary);
  files += await filesIn(home);
  server.close();
  server.closeAllConnections();
  await rm(home, { recursive: true });
  return { exitCode, stdout, lines: stdout.split("\n"), errors, calls, atOnce, tokens, files, left };
}

/** Starts an AWS STS that decides as the emulated one. @param requests receives each request. */
export async function startSts(
  aws: Pick<Aws, "assumeRoleWithWebIdentity">,
  requests: StsRequest[],
): Promise<HttpsServer> {
  const authority = await openCertificateAuthority();
  const server = createHttpsServer(
    await authority.issue({ hosts: ["127.0.0.1"] }),
    async (request, response) => {
      const form = new URLSearchParams(await text(request));
      requests.push({ authorization: request.headers.authorization, form });
      const [role = "", token = ""] = ["RoleArn", "WebIdentityToken"].map((name) => form.get(name) ?? "");
      const { allowed, reason } = await aws.assumeRoleWithWebIdentity(role, token);
      const denial = reason.includes("trust policy") ? "AccessDenied" : "InvalidIdentityToken";
      response.writeHead(allowed ? 200 : 400, { "Content-Type": "text/xml" });
      const result = `<AssumeRoleWithWebIdentityResult>${SECRET_ACCESS_KEY}</AssumeRoleWithWebIdentityResult>`;
      response.end(allowed ? result : stsError(denial, `Not authorized: ${token}`));
    },
  );
  await listen(server);
  return server;
}

/** https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html */
export function stsError(code: string, message: string): string {
  return `<ErrorResponse><Error><Code>${code}</Code><Message>${message}</Message></Error></ErrorResponse>`;
}

/** Returns the URL of an HTTPS server on the loopback address. */
export function urlOf(server: HttpsServer): string {
  return `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** Starts a server on a free port of the loopback address, and returns the port. */
export async function listen(server: Server): Promise<number> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
}

/** Returns the code of a program that lets this process answer. An answer that begins with `error:` is a failure. */
function program(tool: string, url: string): string {
  return `#!/bin/sh
environment=$(export -p)
PATH='${process.env.PATH}'
answer=$(printf '%s\\n' "$@" '' "$environment" | curl --silent --data-binary @- '${url}/${tool}')
case $answer in
  error:*) printf '%s\\n' "$answer" >&2 && exit 1 ;;
  *) printf '%s\\n' "$answer" ;;
esac
`;
}

/** Returns what the real program prints. */
async function answerTool(stack: LiveStack, { tool, args }: Call, accounts: number): Promise<string> {
  const { simulation, config, outputs, registered } = stack;
  const [command, kind] = args;
  const name = (kind === "token" ? args[2] : args[args.indexOf("--") + 1]) ?? "";
  const option = (key: string) =>
    args.find((arg) => arg.startsWith(`--${key}=`))?.slice(key.length + 3) ?? "";
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
