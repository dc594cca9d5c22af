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
async function simulate(t: TestContext, stackFile: object, policy = {}) {
  const directory = temporaryDirectory(t);
  writeFileSync(join(directory, "Pulumi.yaml"), "name: eks-pulumi-oidc\nruntime: nodejs\n");
  // JSON is YAML.
  writeFileSync(join(directory, "Pulumi.prod.yaml"), JSON.stringify(stackFile, null, 1));
  writeFileSync(join(directory, "Pulumi.prod.policy.json"), JSON.stringify(policy));
  const lines: string[] = [];
  const print = (text: string) => void lines.push(text);
  const output = { log: print, error: print };
  const exitCode = await ignoringRejections(() => simulateStack(directory, undefined, output));
  const printed = lines.join("\n");
  assert.doesNotMatch(printed, /eyJ[\w-]+\.[\w-]+|pul-[0-9a-f]{10}|^\s+at .*:\d+|\[object /m);
  return { exitCode, screen: printed.replaceAll(/\s+/g, " ") };
}

const UID = '"kubernetes.io".serviceaccount.uid';

for (const [what, stackFile, expectedCode, expected, policy] of [
  [
    "grants every type of access token to its service account, and to no other one",
    stackOf([
      { name: "a", tokenType: "team", teamName: "ops", userLogin: undefined, awsRole: "irsa", runJob: false },
      { name: "b", tokenType: "runner", runnerId: "id", runnerName: "eks", userLogin: undefined },
      { name: "default", createServiceAccount: false, awsRole: "pod-identity" },
      { name: "c", tokenType: "organization", organizationAdmin: true, userLogin: undefined },
    ]),
    0,
    [
      / default\/a granted team:ops, 3600 s, IAM role by IRSA /,
      /must be denied: 4 of 4 are\. The first denial: the allow policy for default\/a does not/,
      /(\d+) of \1 guardrails .* 4 of 4 tokens are granted to their service account only\./,
      /Note: Every pod of namespace default that names no service account can get/,
      /It cannot know: .*the teams exist.*the users exist.*the runner pools exist.*your edition/,
    ],
    { limits: { organizationAdmins: ["default/c"] } },
  ],
  [
    "names what nothing reads, and what it cannot know of a stack that leaves settings open",
    {
      environment: ["clusters/shared@3"],
      ...stackOf([{}], { organization: "", "aws:region": "", "my-app:vpcId": "vpc-1", "aws:reigon": "" }),
    },
    0,
    [
      /Note: environment is ignored: settings of clusters\/shared@3 are missing here/,
      /Note: Nothing reads my-app:vpcId \(Pulumi\.prod\.yaml:\d+\), aws:reigon \(Pulumi\.prod\.yaml:\d+\)\./,
      /It cannot know: .*the stack: here, it is acme - the region .*here, it is us-west-2/,
    ],
  ],
  [
    "names the entry and the claim of a denial, and assumes what only a cluster knows",
    stackOf([{ policyRules: { sub: "another-*" } }, { name: "b", policyRules: { [UID]: "0f1e" } }]),
    1,
    [
      /default\/app denied .*Pulumi\.prod\.yaml:\d+: the allow policy for default\/app does not match: sub is/,
      /default\/b granted .*Not as it should be: 1 of 2 tokens are .*rules on "kubernetes\.io"\.serviceaccount\.uid/,
    ],
  ],
  [
    "fails for the template's login, and for a broken guardrail with its entry",
    stackOf([{ userLogin: "sample-login" }]),
    1,
    [
      /Broken: limits: Pulumi\.prod\.yaml:\d+: "default\/app" can be granted a forbidden token/,
      /be: 1 of \d+ guardrails are broken; pulumi up stops until you replace sample-login \(Pulumi\.prod\.yaml:\d+\)/,
    ],
    { limits: { forbidden: ["user:sample-login"] } },
  ],
  [
    "cannot run with an invalid configuration of the policy pack, whose file and keys it names",
    stackOf([{}]),
    2,
    [
      /Pulumi\.prod\.policy\.json: .* limits\.maxExpirationSeconds: must .* limit: unknown .* login\.enforcementLevel: must /,
    ],
    { limits: { maxExpirationSeconds: "1h" }, limit: "advisory", login: "never" },
  ],
  [
    "cannot run with invalid settings, of which it lists all, with lines and visible control characters",
    stackOf([{}], { rolePath: "B\u001b[31m", typo: "x" }),
    2,
    [/\(2 problems\)\..* Pulumi\.prod\.yaml:\d+: typo: .* Pulumi\.prod\.yaml:\d+: rolePath = "B\\u/],
  ],
] satisfies [string, object, number, RegExp[], object?][]) {
  test(`the simulation ${what}`, async (t) => {
    const { exitCode, screen } = await simulate(t, stackFile, policy);
    for (const pattern of expected) assert.match(screen, pattern);
    assert.equal(exitCode, expectedCode);
  });
}

test("the simulation fails if the program grants more than the settings say", async (t) => {
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
  const { exitCode, screen } = await simulate(t, stackOf([{}]));
  assert.match(
    screen,
    /asked as default\/unlisted-service-account: GRANTED .*must be denied: 0 of 1 .*Broken: one-service-account: /,
  );
  assert.equal(exitCode, 1);
});

test("the simulation runs no program that a stack file names", async (t) => {
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
      /^Simulation of simulator\/sample\.yaml: .*^3 of 3 tokens .*^This was a simulation\. It cannot/ms,
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
