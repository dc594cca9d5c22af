// The simulation: what it prints and where, what it runs, and how it ends.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import * as pulumi from "@pulumi/pulumi";
import { simulateStack } from "../../simulator/simulateStack";
import { ignoringRejections } from "../support/failure";
import { ended, writePrograms } from "../support/programs";
import { copyProject, linkPackages, ROOT } from "../support/project";
import { temporaryDirectory } from "../support/temporaryDirectory";
import { setVariables } from "../support/variables";

const SETTINGS = { organization: "acme", "aws:region": "us-west-2", clusterName: "my-cluster" };
const ENTRY = { namespace: "default", name: "app", tokenType: "personal", userLogin: "alice" };

/** Simulates a stack in this process. @returns what it printed, also in one line. No run prints a token or a stack trace. */
async function simulate(t: { after(end: () => void): void }, content: object) {
  const directory = temporaryDirectory(t);
  writeFileSync(join(directory, "Pulumi.yaml"), "name: eks-pulumi-oidc\nruntime: nodejs\n");
  writeFileSync(join(directory, "Pulumi.prod.yaml"), JSON.stringify(content, null, 2));
  const printed: Record<"log" | "error", string[]> = { log: [], error: [] };
  const output = {
    log: (text: string) => void printed.log.push(text),
    error: (text: string) => void printed.error.push(text),
  };
  const exitCode = await ignoringRejections(() => simulateStack(directory, "prod", output));
  const [stdout, stderr] = [printed.log.join("\n"), printed.error.join("\n")];
  assert.doesNotMatch(stdout + stderr, /eyJ[\w-]+\.[\w-]+|pul-[0-9a-f]{10}|^\s+at .*:\d+|\[object /m);
  return { exitCode, stderr, stdout, flow: stdout.replaceAll(/\s+/g, " ") };
}

test("grants every type of token, and says what it assumed and cannot know", async (t) => {
  const serviceAccounts = [
    {
      ...ENTRY,
      createServiceAccount: false,
      policyRules: { iss: "https://*", '"kubernetes.io".pod.name': "a-*" },
    },
    { ...ENTRY, name: "b", tokenType: "team", userLogin: undefined, teamName: "ops", injectToken: true },
    { ...ENTRY, name: "c", tokenType: "organization", userLogin: undefined, runJob: false },
    {
      ...ENTRY,
      name: "d",
      tokenType: "runner",
      userLogin: undefined,
      runnerId: "1",
      runnerName: "pool",
      awsRole: "irsa",
    },
  ];
  const config = { clusterName: "my-cluster", serviceAccounts, "my-app:vpcId": "a" };
  const { exitCode, stderr, stdout, flow } = await simulate(t, { environment: ["a/b"], config });
  assert.deepEqual([exitCode, stderr], [0, ""], stdout);
  for (const text of [
    "Simulation of stack prod: nothing is created outside this machine.",
    " assumed to match its pods: iss = https://*",
    'assumed to match its pods: "kubernetes.io".pod.name = a-*',
    "asked as default/unlisted-service-account, without an entry: denied 4 of 4.",
    "does not open a/b, ",
    'organization is not set: the simulation uses "acme"',
    "aws:region is not set: ",
    "nothing checks here: my-app:vpcId (Pulumi.prod.yaml:",
    "the cluster my-cluster; the team ops; the user alice; the runner pool pool (1); the service account default/app",
    "Kubernetes 1.36, for injectToken",
    "edition of Pulumi Cloud",
  ]) {
    assert.ok(flow.includes(text), `${text}\n${stdout}`);
  }
});

test("returns 1 if a service account is denied its token, and first says which claim of which entry", async (t) => {
  const serviceAccounts = [ENTRY, { ...ENTRY, name: "b", policyRules: { sub: "another-*" } }];
  const { exitCode, stdout, flow } = await simulate(t, { config: { ...SETTINGS, serviceAccounts } });
  assert.match(stdout, /^default\/app +granted .*\ndefault\/b +denied /m);
  const reason =
    'the allow policy for default/b does not match: sub is "system:serviceaccount:default:b", not "another-*"';
  assert.match(flow.split(reason)[0] ?? "", /only with sub = another-\* Pulumi\.prod\.yaml:\d+: $/);
  assert.equal(exitCode, 1);
});

test("returns 1 if the program lets everyone in, and says who got in", async (t) => {
  const module = require.cache[require.resolve("../../index")] ?? assert.fail();
  const { exports: program } = module;
  t.after(() => Object.assign(module, { exports: program }));
  module.exports = () => {
    pulumi.runtime.registerStackTransformation(({ type, props, opts }) => {
      if (type !== "pulumiservice:index:OidcIssuer") return undefined;
      const policies = props.policies.map((it: object) => ({ ...it, rules: { sub: "system:*" } }));
      return { props: { ...props, policies }, opts };
    });
    return program();
  };
  const { exitCode, flow } = await simulate(t, { config: { ...SETTINGS, serviceAccounts: [ENTRY] } });
  assert.match(flow, /asked as default\/unlisted-service-account: GRANTED .* Broken: /);
  assert.equal(exitCode, 1);
});

test("returns 2 for invalid settings, each with its line and the closest known one, and with control characters shown", async (t) => {
  const config = { ...SETTINGS, serviceAccounts: [{ ...ENTRY, teamNam: "a" }], rolePath: "\u001b[31m" };
  const { exitCode, stderr, stdout } = await simulate(t, { environment: ["a/b"], config });
  assert.match(stderr, /^ {2}Pulumi\.prod\.yaml:18: rolePath = .*\n.*:15: .*\.teamNam: .* "teamName"\?$/m);
  assert.match(stderr, /does not open a\/b/);
  assert.ok(!stderr.includes("\u001b") && !stdout.includes("granted"));
  assert.equal(exitCode, 2);
});

test("runs no program that a stack file names, and reaches no other host", async (t) => {
  const directory = temporaryDirectory(t);
  const trace = join(directory, "trace");
  t.after(
    setVariables({
      PATH: writePrograms(directory, { program: `touch '${trace}'`, pulumi: `touch '${trace}'` }),
    }),
  );
  const program = join(directory, "program");
  const env = ["BASH_ENV", "LD_PRELOAD", "PATH"].map((name) => ({ name, value: program }));
  const jobPodSpec = {
    containers: [{ name: "token-exchange", env }],
    initContainers: [{ name: "i", command: [program] }],
  };
  const serviceAccounts = [{ ...ENTRY, command: [program] }];
  // Nothing answers there.
  const config = { ...SETTINGS, pulumiApiUrl: "https://192.0.2.1", jobPodSpec, serviceAccounts };
  const { exitCode, stdout } = await simulate(t, { config });
  assert.match(stdout, /^default\/app +granted/m);
  assert.deepEqual(
    [exitCode, existsSync(trace)],
    [1, false],
    "the guardrail on the URL of Pulumi Cloud is broken",
  );
});

// What a user would copy, and what the simulation writes.
const project = temporaryDirectory({ after });
const temporary = temporaryDirectory({ after });
before(async () => {
  const stackFiles = readdirSync(ROOT).filter((name) => /^Pulumi\..+\.yaml$/.test(name));
  await copyProject(project, ["test", "docs", ...stackFiles]);
  await linkPackages(project);
  writeFileSync(join(project, "credentials.json"), JSON.stringify({ current: "https://other.example.com" }));
});

/** Runs `npm start` on a machine with a login that must not count. */
function spawnStart(environment: Record<string, string> = {}, ...options: string[]) {
  const { NODE_TEST_CONTEXT, NODE_OPTIONS, ...inherited } = process.env;
  const login = { PULUMI_BACKEND_URL: "https://other.example.com", PULUMI_CREDENTIALS_PATH: project };
  const command = [
    "--require",
    "./scripts/compilerCache.cjs",
    "--import",
    "tsx",
    "simulator/commandLine.ts",
    ...options,
  ];
  const env = { ...inherited, ...login, ...environment, TMPDIR: temporary };
  return spawn(process.execPath, command, { cwd: project, env, stdio: ["ignore", "pipe", "pipe"] });
}

test("npm start simulates the sample in 80 columns without color, and exits 0", async () => {
  const { exitCode, stdout, stderr } = await ended(spawnStart());
  assert.deepEqual([exitCode, stderr], [0, ""]);
  assert.match(stdout, /^Simulation of the sample stack: .*denied 3 of 3\..*\nThis was a simulation\. /s);
  assert.ok(
    Math.max(...stdout.split("\n").map((line) => line.length)) <= 80 && !stdout.includes("\u001b"),
    stdout,
  );
});

test("npm start rejects unknown options, and one that npm has taken", async () => {
  assert.match(
    (await ended(spawnStart({}, "--stak"))).stderr,
    /^Unknown option '--stak'.* npm start -- --help$/m,
  );
  assert.match((await ended(spawnStart({ npm_config_stack: "prod" }))).stderr, /^npm took --stack\. /);
});

test("npm start prints no error if its reader stops reading, and exits with what was found", async () => {
  const child = spawnStart();
  child.stdout.destroy();
  const [stderr, [exitCode]] = await Promise.all([text(child.stderr), once(child, "exit")]);
  assert.deepEqual([exitCode, stderr], [0, ""]);
});

test("npm start ends on SIGINT with all that it has started, and leaves no file", async (t) => {
  const ticks = join(project, "ticks");
  const curl = `for tick in {1..100}; do echo $tick >>'${ticks}'; sleep 0.1; done`;
  const child = spawnStart({ PATH: writePrograms(temporaryDirectory(t), { curl }) });
  const ending = ended(child);
  while (!existsSync(ticks) && child.exitCode === null) await sleep(20);
  child.kill("SIGINT");
  assert.deepEqual([(await ending).exitCode, readdirSync(temporary)], [130, []]);
  const last = readFileSync(ticks, "utf8");
  await sleep(500);
  assert.equal(readFileSync(ticks, "utf8"), last);
});
