// The simulation: what it prints and where, what it runs, and how it ends. Only what depends on the process of `npm start` runs in one.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, describe, type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import * as pulumi from "@pulumi/pulumi";
import { simulateStack } from "../../simulator/simulateStack";
import { ended, writePrograms } from "../support/programs";
import { copyProject, linkPackages, ROOT, read } from "../support/project";
import { temporaryDirectory } from "../support/temporaryDirectory";

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
  writeFileSync(join(directory, "Pulumi.prod.yaml"), JSON.stringify(stackFile, null, 1));
  writeFileSync(join(directory, "Pulumi.prod.policy.json"), JSON.stringify(policy));
  const printing = (["log", "error"] as const).map((method) => t.mock.method(console, method, () => {}));
  const exitCode = await simulateStack(directory);
  const printed = printing.flatMap(({ mock }) => mock.calls.map((it) => it.arguments[0])).join("\n");
  assert.doesNotMatch(printed, /eyJ[\w-]+\.[\w-]+|pul-[0-9a-f]{10}|^\s+at .*:\d+|\[object /m);
  return { exitCode, screen: printed.replaceAll(/\s+/g, " ") };
}

const EVERY_TYPE = [
  { name: "a", tokenType: "team", teamName: "ops", userLogin: undefined, awsRole: "irsa", runJob: false },
  { name: "b", tokenType: "runner", runnerId: "id", runnerName: "eks", userLogin: undefined },
  { name: "default", createServiceAccount: false, awsRole: "pod-identity" },
  { name: "c", tokenType: "organization", organizationAdmin: true, userLogin: undefined },
];

const POD_NAME = '"kubernetes.io".pod.name';

const OPEN = { organization: "", "aws:region": "", "my-app:vpc\u001bId": "vpc-1", "aws:reigon": "" };

/** The stack file, what is printed, the exit code, and the configuration of the policy pack. */
const CASES: Record<string, [stackFile: object, screen: RegExp, exitCode: number, policy?: object]> = {
  "grants every type of token to its service account, and says what it cannot know": [
    stackOf(EVERY_TYPE),
    / default\/a granted team:ops, 3600 s, IAM role by IRSA .*: 4 of 4 are\. The first denial: the allow policy for default\/a does not .* (\d+) of \1 guardrails .*Note: Every pod of .* 4 of 4 tokens are .*the teams exist.*the users exist.*the runner pools exist.*your edition/,
    0,
    { limits: { organizationAdmins: ["default/c"] } },
  ],
  "names what nothing reads, and what a stack leaves open": [
    { environment: ["clusters/shared@3"], ...stackOf([{}], OPEN) },
    /settings of clusters\/shared@3 are missing.*Nothing reads my-app:vpc\\u\{1b\}Id \(Pulumi\.prod\.yaml:\d+\), aws:reigon .* acme is a placeholder here - the region .*here, it is us-west-2/,
    0,
  ],
  "names the entry and the claim of a denial, and assumes what only a cluster knows": [
    stackOf([{ policyRules: { sub: "another-*" } }, { name: "b", policyRules: { iss: "https://a" } }]),
    /default\/app denied .*Pulumi\.prod\.yaml:\d+: the allow policy for default\/app does not match: sub is .*default\/b granted .*: 1 of 2 tokens .*rules on iss/,
    1,
  ],
  "asks for a token as the pod of the Job, and without one assumes that the pod has the name": [
    stackOf([
      { policyRules: { [POD_NAME]: "app-token-exchange-*" } },
      { name: "b", policyRules: { [POD_NAME]: "app-*" } },
      { name: "c", policyRules: { [POD_NAME]: "app-*" }, runJob: false },
    ]),
    /default\/app granted .*default\/b denied .*pod\.name is "b-token-exchange-xxxxx", not "app-\*".*default\/c granted .*whether pods match the rules on "kubernetes\.io"\.pod\.name/,
    1,
  ],
  "expects a denial of a suspended entry": [
    stackOf([{}, { name: "b", suspended: true }]),
    /default\/app granted user:alice.*default\/b denied suspended \(user:alice, 3600 s\) As a test.* 2 of 2 tokens are granted to their service account only, or denied while it is suspended\./,
    0,
  ],
  "expects a denial of every entry of a suspended stack": [
    stackOf([{}, { name: "b" }], { suspended: true }),
    /default\/app denied suspended .*default\/b denied suspended .* 2 of 2 tokens /,
    0,
  ],
  "fails for the template's login, and for a broken guardrail": [
    stackOf([{ userLogin: "sample-login" }]),
    /Broken: limits: access\.oidc-issuer: "default\/app" can .* 1 of \d+ guardrails are broken; pulumi up stops, /,
    1,
    { limits: { forbidden: ["user:sample-login"] } },
  ],
  "rejects a configuration of the policy pack, whose file and names it prints": [
    stackOf([{}]),
    /Pulumi\.prod\.policy\.json: Unknown .*: limits\.maxExpiration, limit\. Known: /,
    2,
    { limits: { maxExpiration: 60 }, limit: "advisory" },
  ],
  "lists all problems of the settings, with lines and visible control characters": [
    stackOf([{}, { name: "b", nmae: "c" }], { rolePath: "B\u001b[31m", typo: "x" }),
    /\(3 problems\)\..* Pulumi\.prod\.yaml:22: typo: .*:21: rolePath = "B\\u.*:18: serviceAccounts\[1\] /,
    2,
  ],
};

for (const [what, [stackFile, expected, expectedCode, policy]] of Object.entries(CASES)) {
  test(`the simulation ${what}`, async (t) => {
    const { exitCode, screen } = await simulate(t, stackFile, policy);
    assert.match(screen, expected);
    assert.equal(exitCode, expectedCode);
  });
}

/** Lets the program register other policies of its issuer. */
function changePolicies(t: TestContext, change: (policies: object[]) => object[]): void {
  const module = require.cache[require.resolve("../../index")] ?? assert.fail("index.ts is not loaded");
  const { exports: program } = module;
  t.after(() => {
    module.exports = program;
  });
  module.exports = () => {
    pulumi.runtime.registerStackTransformation(({ type, props, opts }) => {
      if (type !== "pulumiservice:index:OidcIssuer") return undefined;
      return { props: { ...props, policies: change(props.policies) }, opts };
    });
    return program();
  };
}

test("the simulation fails if the program grants more than the settings say", async (t) => {
  const rules = { sub: "system:*" };
  const added = { decision: "allow", tokenType: "personal", userLogin: "alice", rules };
  changePolicies(t, (policies) => [...policies, added]);
  const { exitCode, screen } = await simulate(t, stackOf([{}]));
  assert.match(
    screen,
    /unlisted-service-account: GRANTED .*Broken: one-service-account: .*: 0 of 1 tokens are /,
  );
  assert.equal(exitCode, 1);
});

test("the simulation fails if the program grants the token of a suspended entry", async (t) => {
  changePolicies(t, (policies) => policies.map((policy) => ({ ...policy, decision: "allow" })));
  const { exitCode, screen } = await simulate(t, stackOf([{ suspended: true }]));
  assert.match(screen, /default\/app granted .* suspended, but GRANTED .* as it should be: 0 of 1 tokens /);
  assert.equal(exitCode, 1);
});

describe("npm start", () => {
  // What a user would copy, and what the simulation writes. Nothing may remain in the temporary directory.
  const project = temporaryDirectory({ after });
  const temporary = temporaryDirectory({ after });

  before(async () => {
    // A copy of the template has its own stack, which is not what these tests expect.
    const stackFiles = readdirSync(ROOT).filter((name) => /^Pulumi\..+\.yaml$/.test(name));
    await copyProject(project, ["docs", ...stackFiles]);
    await linkPackages(project);
  });

  // The login of the machine must not count.
  const credentials = temporaryDirectory({ after });
  writeFileSync(join(credentials, "credentials.json"), '{"current": "https://stored.example.com"}');
  const login = {
    PULUMI_BACKEND_URL: "https://other.example.com",
    PULUMI_ACCESS_TOKEN: "pul-hunter2",
    PULUMI_CREDENTIALS_PATH: credentials,
  };

  function spawnStart(environment: Record<string, string> = {}, options: string[] = []) {
    const { NODE_TEST_CONTEXT, NODE_OPTIONS, ...inherited } = process.env;
    return spawn(process.execPath, [...options, "simulator/start.cjs"], {
      cwd: project,
      env: { ...inherited, ...login, ...environment, TMPDIR: temporary },
      stdio: ["ignore", "pipe", "pipe"],
    });
  }

  test("prints in 80 columns what the README shows, and exits 0", async () => {
    const { exitCode, stdout, stderr } = await ended(spawnStart());
    assert.ok(read("README.md").includes(stdout.trim()), "README.md shows something else");
    assert.ok(Math.max(...stdout.split("\n").map((line) => line.length)) <= 80, stdout);
    assert.deepEqual([exitCode, stderr, stdout.includes("\u001b")], [0, "", false]);
  });

  test("says which Node.js it requires, and exits 2, on an older one", async () => {
    const older = join(credentials, "older.cjs");
    writeFileSync(older, 'Object.defineProperty(process, "versions", { value: { node: "22.11.0" } });\n');
    const { exitCode, stdout, stderr } = await ended(spawnStart({}, ["--require", older]));
    const message = "Node.js 22.11.0 is too old: install 22.12 or later.\n";
    assert.deepEqual([exitCode, stdout, stderr], [2, "", message]);
  });

  test("prints no error if its reader stops reading", async () => {
    const child = spawnStart();
    child.stdout.destroy();
    const [stderr, [exitCode]] = await Promise.all([text(child.stderr), once(child, "exit")]);
    assert.deepEqual([exitCode, stderr], [0, ""]);
  });

  test("passes no variable of the machine on, and ends on SIGINT with all that it has started, leaving nothing", async (t) => {
    const ticks = join(project, "ticks");
    const variables = join(project, "variables");
    // The exchange script of a pod then waits for ten seconds.
    const curl = `env >'${variables}'; for tick in {1..100}; do echo $tick >>'${ticks}'; sleep 0.1; done`;
    const child = spawnStart({ PATH: writePrograms(temporaryDirectory(t), { curl }) });
    const ending = ended(child);
    while (!existsSync(ticks) && child.exitCode === null) await sleep(20);
    child.kill("SIGINT");
    const { exitCode, stderr } = await ending;
    assert.deepEqual([exitCode, stderr], [130, ""]);
    // Not even the login of the machine reaches the script.
    assert.doesNotMatch(readFileSync(variables, "utf8"), /^(PULUMI|HOME)/m);
    const last = readFileSync(ticks, "utf8");
    await sleep(500);
    assert.deepEqual([readFileSync(ticks, "utf8"), readdirSync(temporary)], [last, []]);
  });
});
