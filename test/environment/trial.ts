// Runs examples/trial/trial.ts against the emulated Pulumi Cloud, with programs that replace kubectl and the Pulumi CLI.

import { spawn } from "node:child_process";
import { createServer } from "node:net";
import { join } from "node:path";
import type { TestContext } from "node:test";
import type { AuthPolicy } from "../../simulator/pulumiCloud";
import { createIssuer, eksIssuerUrl } from "../../simulator/pulumiCloud";
import { listen } from "../support/endpoint";
import { type Ended, ended, writePrograms } from "../support/programs";
import { ROOT } from "../support/project";
import { ACCESS_TOKEN } from "../support/script";
import { temporaryDirectory } from "../support/temporaryDirectory";
import { serveCloudApi } from "./cloudApi";
import { startOrganization } from "./organization";
import { type Misbehavior, startProxy } from "./proxy";
import { type PulumiCloudOptions, startPulumiCloud } from "./pulumiCloud";

export interface World extends Omit<PulumiCloudOptions, "keysOf"> {
  misbehave?: Misbehavior;
  /** Returns what a program prints when it fails, although it has done what it should: `pulumi up …`, `kubectl create …`. */
  fails?: (command: string) => string | undefined;
  /** Is called before a program does what it should, with its command line. */
  starts?: (command: string) => unknown;
  /** How long the trial waits for an answer, in seconds. */
  waitSeconds?: number;
}

export interface TrialOutcome extends Ended {
  /** The verdict on each question. */
  verdicts: Record<string, string>;
}

const SEPARATOR = "\u001f";
const END = `${SEPARATOR}\u001e`;

/** Starts an organization and a cluster, in which nothing exists. */
export async function startWorld(t: TestContext, options: World = {}) {
  const {
    misbehave = () => undefined,
    fails = () => undefined,
    starts = () => {},
    waitSeconds = 2,
    ...cloudOptions
  } = options;
  const organization = startOrganization();
  const issuer = await createIssuer(eksIssuerUrl("us-west-2"));
  const cloud = await startPulumiCloud({
    registrationMilliseconds: 0,
    keysOf: async () => issuer.keys,
    thumbprintOf: () => "a1".repeat(32),
    roles: organization.roleIds,
    answer: organization.open,
    ...cloudOptions,
  });
  const api = await serveCloudApi(cloud, organization);
  const proxy = await startProxy(api.origin, misbehave);

  const stacks = new Set<string>();
  /** The service accounts of each namespace. */
  const namespaces = new Map<string, Set<string>>();
  const calls: string[] = [];

  async function kubectl(args: string[]): Promise<string> {
    const [command, ...rest] = args.filter((it) => !it.startsWith("--"));
    const flag = (name: string) => args.find((it) => it.startsWith(`--${name}=`))?.split("=")[1] ?? "";
    switch ([command, ...rest.slice(0, 1)].join(" ")) {
      case "config current-context":
        return "context\n";
      case "version":
        return JSON.stringify({ serverVersion: { gitVersion: "v1.36.3" } });
      case "get /.well-known/openid-configuration":
        return JSON.stringify({ issuer: issuer.url });
      case "get namespace":
        return namespaces.has(rest[1] ?? "") ? `namespace/${rest[1]}\n` : "";
      case "delete namespace":
        namespaces.delete(rest[1] ?? "");
        return "";
      case "create serviceaccount":
        namespaces.get("pulumi-trial")?.add(rest[1] ?? "");
        return "";
      case "create token": {
        const [, serviceAccount = ""] = rest;
        if (!namespaces.get("pulumi-trial")?.has(serviceAccount)) throw new Error("error: not found");
        const pod = { namespace: "pulumi-trial", serviceAccount };
        return issuer.token(pod, { audience: [flag("audience")], expiresIn: 600 });
      }
    }
    throw new Error(`error: unknown command ${args.join(" ")}`);
  }

  async function pulumi(args: string[]): Promise<string> {
    const [command = "", subcommand = "", name = ""] = args.filter((it) => !it.startsWith("--"));
    const stack = args[args.indexOf("--stack") + 1] ?? "";
    const has = (setting: string) => args.includes(`--config=${setting}=true`);
    switch (command === "stack" ? `stack ${subcommand}` : command) {
      case "version":
        return "v3.276.0\n";
      case "stack init":
        if (stacks.has(name)) throw new Error(`error: stack '${name}' already exists`);
        stacks.add(name);
        return "";
      case "stack output":
        if (!stacks.has(stack)) throw new Error(`error: no stack named '${stack}' found`);
        return "";
      case "up": {
        const policies = policiesOfProgram(has("audienceRule"));
        const [deployed] = cloud.existing();
        if (deployed) await cloud.update(deployed, { policies });
        else {
          const registration = { organization: "acme", name: "pulumi-trial", url: issuer.url };
          await cloud.register({ ...registration, maxExpirationSeconds: 600, policies });
          namespaces.set("pulumi-trial", new Set(["trial", "other"]));
        }
        return has("runJob") ? runJob() : "";
      }
      case "destroy":
        for (const id of cloud.existing()) cloud.resources["pulumiservice:index:OidcIssuer"]?.delete(id);
        stacks.delete(stack);
        return "";
    }
    throw new Error(`error: unknown command ${args.join(" ")}`);
  }

  /** As the exchange script. */
  async function runJob(): Promise<string> {
    const audience = "urn:pulumi:org:acme";
    const form = new URLSearchParams({
      audience,
      grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
      subject_token_type: "urn:ietf:params:oauth:token-type:id_token",
      requested_token_type: "urn:pulumi:token-type:access_token:team",
      scope: "team:pulumi-trial",
      expiration: "600",
      subject_token: await issuer.token(
        { namespace: "pulumi-trial", serviceAccount: "trial", pod: "trial-1" },
        { audience: [audience], expiresIn: 600 },
      ),
    });
    const reply = await fetch(`${proxy.origin}/api/oauth/token`, { method: "POST", body: form });
    if (reply.ok) return "";
    const outcome = reply.status < 500 ? "denied the token exchange:" : "returned";
    throw new Error(`exchange-token: ${proxy.origin} ${outcome} HTTP ${reply.status}: ${await reply.text()}`);
  }

  async function runProgram(received: string): Promise<string> {
    const [program = "", ...args] = received.split(SEPARATOR);
    calls.push([program, ...args].join(" "));
    try {
      // Without the flags that each call has.
      const command = [program, ...args.filter((it) => !/^--(non-interactive|color|context)/.test(it))].join(
        " ",
      );
      await starts(command);
      const printed = await (program === "kubectl" ? kubectl(args) : pulumi(args));
      const failure = fails(command);
      return failure === undefined ? `0:${printed}` : `1:${failure}`;
    } catch (error) {
      return `255:${(error as Error).message}`;
    }
  }

  const programs = createServer((socket) => {
    let received = "";
    socket.on("error", () => socket.destroy());
    socket.setEncoding("utf8").on("data", async (chunk) => {
      received += chunk;
      if (received.endsWith(END)) socket.end(await runProgram(received.slice(0, -2)));
    });
  });
  const port = await listen(programs);
  const close = async () => {
    programs.close();
    await Promise.all([cloud.close(), api.close(), proxy.close()]);
  };
  t.after(close);

  // Without a further process, of which a trial would otherwise start fifty. As the Pulumi CLI, it ends what it does, and then fails.
  const program = (name: string) => `
    trap 'interrupted=true' INT
    exec 3<>/dev/tcp/127.0.0.1/${port}
    printf '%s${SEPARATOR}' ${name} "$@" >&3
    printf '${END.slice(-1)}' >&3
    code=129
    while ((code > 128)); do
      code=0
      IFS= read -r -d '' part <&3 || code=$?
      answer+=$part
    done
    if [[ $interrupted ]]; then
      answer='255:error: canceled'
    fi
    printf '%s\\n' "\${answer#*:}" >&$((\${answer%%:*} == 0 ? 1 : 2))
    exit "\${answer%%:*}"`;
  const PATH = writePrograms(temporaryDirectory(t), {
    kubectl: program("kubectl"),
    pulumi: program("pulumi"),
  });
  const environment = {
    ...process.env,
    PATH,
    PULUMI_ACCESS_TOKEN: ACCESS_TOKEN,
    TRIAL_WAIT_SECONDS: String(waitSeconds),
  };
  const command = [
    ...["--require", join(ROOT, "scripts", "compilerCache.cjs"), "--import", "tsx"],
    join(ROOT, "examples", "trial", "trial.ts"),
  ];
  const args = ["acme", "--api-url", proxy.origin];

  return {
    issuer,
    cloud,
    organization,
    stacks,
    namespaces,
    apiUrl: proxy.origin,
    /** The command lines of the programs that it has run. */
    calls,
    environment,
    /** The command line of a trial without a confirmation. */
    command: [process.execPath, ...command, ...args, "--yes"],
    /** Starts a trial. */
    start(...further: string[]) {
      const child = spawn(process.execPath, [...command, ...args, ...further], {
        env: environment,
        stdio: ["pipe", "pipe", "pipe"],
      });
      return { child, outcome: outcomeOf(child) };
    },
    /** Returns what exists of a trial. */
    left: () => [
      ...stacks,
      ...cloud.existing().map(() => "issuer"),
      ...organization.existing(),
      ...namespaces.keys(),
    ],
  };
}

async function outcomeOf(child: Parameters<typeof ended>[0]): Promise<TrialOutcome> {
  const result = await ended(child);
  return { ...result, verdicts: verdictsIn(result.stdout) };
}

/** Returns the verdict on each question in a table. */
export function verdictsIn(table: string): Record<string, string> {
  const rows = [...table.matchAll(/^\| `([\w-]+)` \| .*? \| (held|not|not asked) \| .*\|$/gm)];
  return Object.fromEntries(rows.map(([, id, verdict]) => [id, verdict]));
}

/** Returns the policies that the program beside the trial deploys. */
function policiesOfProgram(audienceRule: boolean): AuthPolicy[] {
  return [
    ["trial", "pulumi-trial"],
    ["other", "pulumi-trial-other"],
  ].map(([account = "", teamName = ""]) => ({
    decision: "allow",
    tokenType: "team",
    teamName,
    rules: {
      '"kubernetes.io".namespace': "pulumi-trial",
      '"kubernetes.io".serviceaccount.name': account,
      ...(audienceRule && { aud: "urn:pulumi:org:acme" }),
    },
  }));
}
