// The simulation: what it prints and where, what it runs, and how it ends. Only what depends on the process of `npm start` runs in one.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, describe, type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import * as pulumi from "@pulumi/pulumi";
import { simulateStack } from "../../simulator/simulateStack";
import { ignoringRejections } from "../support/failure";
import { ended, writePrograms } from "../support/programs";
import { copyProject, linkPackages, ROOT } from "../support/project";
import { temporaryDirectory } from "../support/temporaryDirectory";
import { setVariables } from "../support/variables";

const ENTRY = { namespace: "default", name: "app", tokenType: "personal", userLogin: "alice" };

/** Returns the settings of a stack with these entries, which the simulation has nothing to note about. */
function stackOf(entries: object[], settings: object = {}) {
  const required = { organization: "acme", "aws:region": "us-west-2", clusterName: "my-cluster" };
  return {
    config: { ...required, serviceAccounts: entries.map((entry) => ({ ...ENTRY, ...entry })), ...settings },
  };
}

/** Simulates a project with this stack file. No run may print a token or a stack trace. */
async function simulate(t: TestContext, stackFile: object, policy?: object) {
  const directory = temporaryDirectory(t);
  writeFileSync(join(directory, "Pulumi.yaml"), "name: eks-pulumi-oidc\nruntime: nodejs\n");
  // JSON is YAML.
  writeFileSync(join(directory, "Pulumi.prod.yaml"), JSON.stringify(stackFile, null, 1));
  if (policy) writeFileSync(join(directory, "Pulumi.prod.policy.json"), JSON.stringify(policy));
  const [stdout, stderr]: [string[], string[]] = [[], []];
  const output = {
    log: (lines: string) => void stdout.push(`${lines}\n`),
    error: (lines: string) => void stderr.push(`${lines}\n`),
  };
  const exitCode = await ignoringRejections(() => simulateStack(directory, undefined, output));
  const printed = [...stdout, ...stderr].join("");
  assert.doesNotMatch(printed, /eyJ[\w-]+\.[\w-]+|pul-[0-9a-f]{10}|^\s+at .*:\d+|\[object /m);
  return {
    exitCode,
    stdout: stdout.join(""),
    stderr: stderr.join(""),
    flow: printed.replaceAll(/\s+/g, " "),
  };
}

describe("the simulation", () => {
  test("grants every type of access token to its service account, and to no other one", async (t) => {
    const entries = [
      { name: "a", tokenType: "team", teamName: "ops", userLogin: undefined, awsRole: "irsa", runJob: false },
      { name: "b", tokenType: "runner", runnerId: "id", runnerName: "eks", userLogin: undefined },
      { name: "default", createServiceAccount: false, awsRole: "pod-identity" },
      { name: "c", tokenType: "organization", organizationAdmin: true, userLogin: undefined },
    ];
    const policy = { limits: { organizationAdmins: ["default/c"] } };
    const { exitCode, stdout, stderr, flow } = await simulate(t, stackOf(entries), policy);
    assert.match(stdout, /^default\/a {8}granted {2}team:ops, 3600 s, role by irsa/m);
    assert.match(flow, /must be denied: 4 of 4 are\. This is how: the allow policy for default\/a does not/);
    assert.match(flow, /(\d+) of \1 guardrails .* 4 of 4 tokens are granted to their service account only\./);
    assert.match(flow, /Note: Every pod of namespace default that names no service account can get/);
    assert.match(
      flow,
      /It cannot know: .*the teams exist.*the users exist.*the runner pools exist.*your edition/,
    );
    assert.deepEqual([exitCode, stderr], [0, ""]);
  });

  test("names what nothing reads, and what it cannot know of a stack that leaves settings open", async (t) => {
    const { config } = stackOf([{}], { organization: undefined, "my-app:vpcId": "vpc-1", "aws:reigon": "" });
    const { exitCode, flow } = await simulate(t, {
      environment: ["clusters/shared@3"],
      config: { ...config, "aws:region": "" },
    });
    for (const note of [
      "Note: environment is ignored: settings of clusters/shared@3 are missing here",
      "Note: Nothing reads my-app:vpcId (Pulumi.prod.yaml:16), aws:reigon (Pulumi.prod.yaml:17).",
      "the organization of the stack: here, it is acme",
      "the region of the environment or of the AWS profile: here, it is us-west-2",
    ]) {
      assert.ok(flow.includes(note), flow);
    }
    assert.equal(exitCode, 0);
  });

  test("returns 1 for the template's login, where an update stops", async (t) => {
    const { exitCode, flow } = await simulate(t, stackOf([{}, { name: "b", userLogin: "sample-login" }]));
    assert.match(
      flow,
      /Not as it should be: pulumi up stops until you replace sample-login \(Pulumi\.prod\.yaml:1\d\)\./,
    );
    assert.equal(exitCode, 1);
  });

  test("returns 1 for a broken guardrail, with the entry", async (t) => {
    const policy = { limits: { forbidden: ["user:alice"] } };
    const { exitCode, flow } = await simulate(t, stackOf([{}]), policy);
    assert.match(
      flow,
      /Broken: limits: Pulumi\.prod\.yaml:\d+: "default\/app" can be granted a forbidden token/,
    );
    assert.match(flow, /Not as it should be: 1 of \d+ guardrails are broken\./);
    assert.equal(exitCode, 1);
  });

  test("returns 2 for an invalid configuration of the policy pack, with its file and key", async (t) => {
    const policy = { limits: { maxExpirationSeconds: "1h" }, limit: "advisory", login: "never" };
    const { exitCode, stderr } = await simulate(t, stackOf([{}]), policy);
    assert.match(
      stderr,
      /^Pulumi\.prod\.policy\.json: Invalid .*^ {2}limits\.maxExpirationSeconds: .*^ {2}limit: .*^ {2}login\.enforcementLevel: /ms,
    );
    assert.equal(exitCode, 2);
  });

  test("returns 1 for a denied service account, with the entry and the claim, and assumes what only a cluster knows", async (t) => {
    const uid = '"kubernetes.io".serviceaccount.uid';
    const entries = [{ policyRules: { sub: "another-*" } }, { name: "b", policyRules: { [uid]: "0f1e" } }];
    const { exitCode, flow } = await simulate(t, stackOf(entries));
    assert.match(
      flow,
      /default\/app denied .*Pulumi\.prod\.yaml:\d+: the allow policy for default\/app does not match: sub is/,
    );
    assert.match(
      flow,
      /default\/b granted .*whether pods match the rules on "kubernetes\.io"\.serviceaccount\.uid/,
    );
    assert.match(flow, /Not as it should be: 1 of 2 tokens/);
    assert.equal(exitCode, 1);
  });

  test("returns 1 if the program grants more than the settings say", async (t) => {
    const module = require.cache[require.resolve("../../index")] ?? assert.fail("index.ts is not loaded");
    const { exports: program } = module;
    t.after(() => {
      module.exports = program;
    });
    const added = {
      decision: "allow",
      tokenType: "personal",
      userLogin: "alice",
      rules: { sub: "system:*" },
    };
    module.exports = () => {
      pulumi.runtime.registerStackTransformation(({ type, props, opts }) => {
        if (type !== "pulumiservice:index:OidcIssuer") return undefined;
        return { props: { ...props, policies: [...props.policies, added] }, opts };
      });
      return program();
    };
    const { exitCode, flow } = await simulate(t, stackOf([{}]));
    assert.match(
      flow,
      /asked as default\/unlisted-service-account: GRANTED .*must be denied: 0 of 1 .*Broken: one-service-account: /,
    );
    assert.equal(exitCode, 1);
  });

  test("returns 2 with every problem, its line, and control characters shown", async (t) => {
    const { exitCode, stdout, stderr } = await simulate(
      t,
      stackOf([{}], { rolePath: "B\u001b[31m", typo: "x" }),
    );
    assert.match(
      stderr,
      /\(2 problems\)\..*^ {2}Pulumi\.prod\.yaml:\d+: typo: .*^ {2}Pulumi\.prod\.yaml:\d+: rolePath = "B\\u/ms,
    );
    assert.deepEqual([exitCode, stdout.includes("Service account")], [2, false]);
  });

  test("runs no program that a stack file names", async (t) => {
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
      containers: [
        { name: "token-exchange", env },
        { name: "sidecar", command: [program] },
      ],
    };
    const { exitCode } = await simulate(t, stackOf([{ command: [program] }], { jobPodSpec }));
    assert.deepEqual([exitCode, existsSync(trace)], [0, false]);
  });
});

describe("npm start", () => {
  // What a user would copy, and what the simulation writes. Nothing may remain in the temporary directory.
  const project = temporaryDirectory({ after });
  const temporary = temporaryDirectory({ after });

  before(async () => {
    // A copy of the template has its own stack, which is not what these tests expect.
    const stackFiles = readdirSync(ROOT).filter((name) => /^Pulumi\..+\.yaml$/.test(name));
    await copyProject(project, ["test", "docs", ...stackFiles]);
    await linkPackages(project);
  });

  function spawnStart(environment: Record<string, string> = {}, options: string[] = []) {
    const { NODE_TEST_CONTEXT, NODE_OPTIONS, ...inherited } = process.env;
    const compilers = ["--require", "./scripts/compilerCache.cjs", "--import", "tsx"];
    // The login of the machine must not count.
    const login = { PULUMI_BACKEND_URL: "https://other.example.com", PULUMI_ACCESS_TOKEN: "pul-hunter2" };
    return spawn(process.execPath, [...compilers, "simulator/commandLine.ts", ...options], {
      cwd: project,
      env: { ...inherited, ...login, ...environment, TMPDIR: temporary },
      stdio: ["ignore", "pipe", "pipe"],
    });
  }

  test("simulates the sample stack in 80 columns, and exits 0", async () => {
    const { exitCode, stdout, stderr } = await ended(spawnStart());
    assert.match(
      stdout,
      /^Simulation of the sample stack: .*^3 of 3 tokens .*^This was a simulation\. It cannot/ms,
    );
    assert.ok(Math.max(...stdout.split("\n").map((line) => line.length)) <= 80, stdout);
    assert.deepEqual([exitCode, stderr, stdout.includes("\u001b")], [0, "", false]);
  });

  test("rejects an invalid option", async () => {
    const { exitCode, stderr } = await ended(spawnStart({}, ["--stack"]));
    assert.match(stderr, /^Invalid options: --stack\n\nUsage: npm start -- \[--stack /);
    assert.equal(exitCode, 2);
  });

  test("prints no error if its reader stops reading, and exits with what was found", async (t) => {
    const file = join(project, "Pulumi.denied.yaml");
    t.after(() => rmSync(file));
    writeFileSync(file, JSON.stringify(stackOf([{ policyRules: { sub: "another-*" } }])));
    const child = spawnStart();
    child.stdout.destroy();
    const [stderr, [exitCode]] = await Promise.all([text(child.stderr), once(child, "exit")]);
    assert.deepEqual([exitCode, stderr], [1, ""]);
  });

  test("ends on SIGINT, with all that it has started, and leaves nothing", async (t) => {
    const ticks = join(project, "ticks");
    // The exchange script of a pod then waits for ten seconds.
    const curl = `for tick in {1..100}; do echo $tick >>'${ticks}'; sleep 0.1; done`;
    const child = spawnStart({ PATH: writePrograms(temporaryDirectory(t), { curl }) });
    const ending = ended(child);
    while (!existsSync(ticks) && child.exitCode === null) await sleep(20);
    child.kill("SIGINT");
    const { exitCode, stderr } = await ending;
    assert.deepEqual([exitCode, stderr], [130, ""]);
    const last = readFileSync(ticks, "utf8");
    await sleep(500);
    assert.deepEqual([readFileSync(ticks, "utf8"), readdirSync(temporary)], [last, []]);
  });
});
