// The simulation: what it prints and where, what it runs, how it ends, and what it imports. Only what depends on the process of
// `npm start` is tested in one.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import * as pulumi from "@pulumi/pulumi";
import { assumedToExist } from "../../simulator/assumptions";
import { readOptions } from "../../simulator/options";
import { inDirectory, runContainer } from "../../simulator/pod";
import { TEMPLATE_STACK } from "../../simulator/stackFile";
import { paint } from "../../simulator/terminal";
import { entry, stackWith } from "../environment/stack";
import { ended, writePrograms } from "../support/programs";
import { copyProject, linkPackages, ROOT, read } from "../support/project";
import { temporaryDirectory } from "../support/temporaryDirectory";
import { setVariables } from "../support/variables";
import { printed, simulate, stackFile } from "./simulate";

const LAST_LINE =
  "This was a simulation. It cannot tell whether the cluster, teams, users, and runner pools exist, or whether a pool's ID and name belong together.";
const ESCAPE = "\u001b[";

/** Where the machine of the simulation is logged in. */
const OTHER_CLOUD = "https://other.example.com";

const POD_NAME = '"kubernetes.io".pod.name';

describe("the simulation", () => {
  const pool = { tokenType: "runner", runnerId: "eks", runnerName: "eks", createServiceAccount: false };
  for (const [what, file, notes] of [
    [
      "leaves open, has from the template, or imports",
      {
        environment: ["clusters/shared@3", "clusters/blue"],
        config: { ...TEMPLATE_STACK.settings, "aws:region": undefined },
      },
      [
        "environment is ignored: the simulation does not open clusters/shared@3, clusters/blue. ",
        "To check with them: pulumi preview --policy-pack policy ",
        'organization is not set: the simulation uses "acme", and a preview uses the organization of the stack.',
        "aws:region is not set: the simulation uses us-west-2. ",
        'userLogin = "sample-login": is the template\'s. ',
      ],
    ],
    [
      "has that no program can check: a pool's name as its ID, and a region that may be new",
      stackFile({
        "aws:region": "us-west-9",
        serviceAccounts: [{ namespace: "runners", name: "a", ...pool, runJob: false }],
      }),
      [
        "aws:region is us-west-9, which is not a known region. Did you mean us-west-",
        'runnerId and runnerName are both "eks": make sure that it is the pool\'s ID, not its name.',
      ],
    ],
  ] satisfies [string, object, string[]][]) {
    test(`notes on standard output what a stack file ${what}`, async (t) => {
      const { exitCode, stderr, flow } = await simulate(t, { dev: file }, { stack: "dev" });
      for (const note of notes) assert.ok(flow.includes(note), flow);
      assert.deepEqual([exitCode, stderr], [0, ""]);
    });
  }

  test("covers every type of access token, and service accounts that exist or have no Job", async (t) => {
    const runner = { tokenType: "runner", runnerId: "id", runnerName: "eks", awsRole: "pod-identity" };
    const existing = {
      createServiceAccount: false,
      tokenType: "personal",
      userLogin: "machine",
      awsRole: "irsa",
    };
    const admin = { tokenType: "organization", organizationAdmin: true };
    const serviceAccounts = [
      { namespace: "ci", name: "a", tokenType: "team", teamName: "ops", awsRole: "irsa", runJob: false },
      { namespace: "ci", name: "b", ...runner },
      { namespace: "default", name: "default", ...existing },
      { namespace: "s", name: "c", ...admin, createServiceAccount: false },
    ];
    const stack = stackFile({ createNamespaces: ["ci"], serviceAccounts });
    const limits = { organizationAdmins: ["s/c"] };
    const { exitCode, stdout, stderr } = await simulate(t, { prod: stack }, { verbose: true }, { limits });
    assert.deepEqual([exitCode, stderr], [0, ""]);
    for (const lines of [
      /^ {2}Every pod of namespace default that names no service account can get the$/m,
      /^ {2}Service account +ci\/a$/m,
      /^ {2}ci\/a +granted +team:ops, 3600 s, role by irsa/m,
      /^ {2}default\/default\n( {4}.*\n)+ {4}\$ pulumi whoami\n {4}machine$/m,
      /^ {2}default\/default +granted +user:machine, .*\n( {4}.*\n)* {4}assumed to exist: /m,
      /^ {2}4 service accounts: as the settings say\.$/m,
    ]) {
      assert.match(stdout, lines);
    }
    assert.doesNotMatch(stdout, /organization is not set/);
  });

  test("deploys into the first account that the settings allow", () => {
    const config = { "aws:allowedAccountIds": '["210987654321","123456789012"]' };
    const stack = { project: "p", config, secretKeys: [], environments: [], positionOf: () => undefined };
    assert.equal(assumedToExist(stack).account, "210987654321");
  });

  test("runs no program that a stack file names, and no pulumi of this machine", async (t) => {
    const directory = temporaryDirectory(t);
    const trace = join(directory, "trace");
    const touch = `touch '${trace}'`;
    t.after(setVariables({ PATH: writePrograms(directory, { program: touch, pulumi: touch }) }));
    const program = join(directory, "program");
    const names = ["BASH_ENV", "LD_PRELOAD", "PATH", "PROMPT_COMMAND"];
    const container = {
      name: "token-exchange",
      env: names.map((name) => ({ name, value: program })),
      lifecycle: { postStart: { exec: { command: [program] } } },
    };
    const jobPodSpec = {
      initContainers: [{ name: "init", command: [program] }],
      containers: [container, { name: "sidecar", command: [program] }],
    };
    const file = stackFile({ jobPodSpec, ...stackWith({ command: [program] }) });
    const { exitCode, stdout, stderr } = await simulate(t, { prod: file });
    assert.match(stdout, /^ {4}my-login$/m);
    assert.deepEqual([exitCode, stderr, existsSync(trace)], [0, "", false]);
  });

  test("reaches no host but the emulators", async () => {
    // A documentation address, at which nothing answers.
    const command = ["curl", "--disable", "--silent", "--show-error", "--max-time", "2", "https://192.0.2.1"];
    const { log } = await inDirectory((root) => runContainer(command, root, {}, () => {}));
    assert.match(log.join("\n"), /127\.0\.0\.1 port 9\b/);
  });

  test("returns 1 if a service account is denied its token, with the reason, and compares the others", async (t) => {
    const another = { sub: "another-*" };
    const serviceAccounts = [
      // More rules of its own policy fail than of the others.
      entry({ policyRules: { ...another, tenant: "a", zone: "b" } }),
      // Its Job runs in a pod with another name.
      entry({ name: "deployer", policyRules: { [POD_NAME]: "deploy-*" } }),
      entry({ name: "drift", policyRules: { [POD_NAME]: "drift-token-exchange-?????" } }),
      entry({ name: "without-job", policyRules: another, runJob: false }),
    ];
    const { exitCode, stdout, stderr, flow } = await simulate(t, { prod: stackFile({ serviceAccounts }) });
    assert.match(stdout, /^ {4}exchange-token: .* denied the token exchange: HTTP 400:$/m);
    const check = flow.slice(flow.indexOf("Service accounts "));
    const subject = "sub is 'system:serviceaccount:default:";
    for (const [finding, reason] of [
      ["Its Job fails, so `pulumi up` would fail: ", `${subject}pulumi-service-account', not 'another-*'`],
      ["Its Job fails, so `pulumi up` would fail: ", "'kubernetes.io'.pod.name is 'deployer-token-exchange-"],
      ["None of its pods is granted a token: ", `${subject}without-job', not 'another-*'`],
    ] as const) {
      const isGiven = (text: string) => text.startsWith("exchange-token: ") && text.includes(reason);
      assert.ok(check.split(finding).some(isGiven), flow);
    }
    // The emulated Pulumi Cloud matches lists, so it cannot be the audience.
    assert.doesNotMatch(flow, /audienceRule/);
    assert.match(stdout, /^ {2}default\/deployer +failed +user:my-login, 3600 s, only with$/m);
    assert.match(stdout, /^ {2}default\/drift +granted +user:my-login, 3600 s/m);
    assert.deepEqual([exitCode, stderr], [1, ""]);
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
      userLogin: "my-login",
      rules: { sub: "system:*" },
    };
    module.exports = () => {
      pulumi.runtime.registerStackTransformation(({ type, props, opts }) => {
        if (type !== "pulumiservice:index:OidcIssuer") return undefined;
        return { props: { ...props, policies: [...props.policies, added] }, opts };
      });
      return program();
    };
    const { exitCode, flow } = await simulate(t, { prod: stackFile(stackWith({ runJob: false })) });
    assert.match(flow, /Broken: one-service-account: .* An allow policy names no single service account/);
    // It is granted to anyone of the cluster.
    assert.match(flow, /default\/unlisted-service-account, which has no entry, is granted its token/);
    assert.equal(exitCode, 1);
  });

  test("assumes that a rule on a claim that only a real cluster knows is met, and says so", async (t) => {
    const uid = '"kubernetes.io".serviceaccount.uid';
    const serviceAccounts = [
      entry({ policyRules: { [uid]: "0f1e", iss: "https://oidc.eks.*" } }),
      // Its pods can have any name.
      entry({ name: "app", policyRules: { [POD_NAME]: "app-*" }, runJob: false }),
    ];
    const { exitCode, stdout, stderr } = await simulate(t, { prod: stackFile({ serviceAccounts }) });
    const noted = stdout.match(/(?<=^ {4}assumed to match its pods: ).*$/gm);
    assert.deepEqual(noted, [`${uid} = 0f1e`, "iss = https://oidc.eks.*", `${POD_NAME} = app-*`]);
    assert.deepEqual([exitCode, stderr], [0, ""]);
  });

  test("reports what is invalid or missing on standard error, with control characters shown", async (t) => {
    const secure = { secure: "A" };
    const encrypted = stackFile({ "aws:region": secure, "aws:secretKey": secure });
    for (const [stacks, message] of [
      [
        { prod: { environment: ["acme/access@3"], config: { clusterName: "a" } } },
        /^Nothing was checked: serviceAccounts must .* does not open acme\/access@3\. To check .*: pulumi preview /m,
      ],
      [
        { prod: stackFile({ rolePath: "Bad", typo: "x" }) },
        /^Invalid .* of stack prod \(2 problems\)\..*^ {2}Pulumi\.prod\.yaml:1: typo: .*^ {2}Pulumi\.prod\.yaml:1: rolePath = /ms,
      ],
      // It would be another host.
      [{ prod: stackFile({ "aws:region": "$&.example.com" }) }, /aws:region: must be the name of an AWS /],
      [{ prod: encrypted }, /aws:region: contains an encrypted .*aws:secretKey: is not /s],
      [{ prod: { config: "hello" } }, /config must contain KEY: VALUE$/m],
      [{ a: {}, [`b${ESCAPE}31mb`]: {} }, /Stacks in this directory: a, b\\u\{1b\}\[31mb\. /],
    ] satisfies [Record<string, unknown>, RegExp][]) {
      const { exitCode, stdout, stderr } = await simulate(t, stacks);
      assert.match(stderr, message);
      assert.ok(!stderr.includes(ESCAPE));
      assert.doesNotMatch(stdout, message);
      assert.equal(exitCode, 2);
    }
  });

  test("is colored only for a terminal that has colors, without NO_COLOR", (t) => {
    const isColored = (isTTY: boolean) => paint("bold", "text", { isTTY }) !== "text";
    t.after(setVariables({ NO_COLOR: "", TERM: "xterm" }));
    assert.deepEqual([isColored(true), isColored(false)], [true, false]);
    process.env.TERM = "dumb";
    assert.ok(!isColored(true));
    Object.assign(process.env, { NO_COLOR: "1", TERM: "xterm" });
    assert.ok(!isColored(true));
  });
});

test("rejects options that are unknown, with the reason", () => {
  for (const [line, reason] of [
    ["--stak", "Unknown option '--stak'"],
    ["--plan a", "Unknown option '--plan'"],
    ["prod", "Unexpected argument 'prod'"],
  ] as const) {
    const message = new RegExp(`^${reason}.*\\. To list the options: npm start -- --help$`);
    assert.throws(() => readOptions(line.split(" ")), { message });
  }
});

test("says where options belong that npm has taken", () => {
  const environment = { npm_config_verbose: "true", npm_config_cache: "/cache" };
  assert.throws(() => readOptions(["prod"], environment), {
    message: 'npm took --verbose. Options of this command follow "--": npm start -- --verbose prod',
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
    await writeFile(join(project, "credentials.json"), JSON.stringify({ current: OTHER_CLOUD }));
  });

  function spawnStart(environment: Record<string, string> = {}) {
    const { NODE_TEST_CONTEXT, NODE_OPTIONS, ...inherited } = process.env;
    const compilers = ["--require", "./scripts/compilerCache.cjs", "--import", "tsx"];
    // The login of the machine must not count.
    const login = { PULUMI_BACKEND_URL: OTHER_CLOUD, PULUMI_CREDENTIALS_PATH: project };
    return spawn(process.execPath, [...compilers, "simulator/commandLine.ts"], {
      cwd: project,
      env: { ...inherited, ...login, ...environment, TMPDIR: temporary },
      stdio: ["ignore", "pipe", "pipe"],
    });
  }

  test("simulates the sample stack, and exits 0", async () => {
    // Something that still runs must not keep the process.
    const stillRunning = { NODE_OPTIONS: "--import=data:text/javascript,setInterval(Date,1000)" };
    const run = await ended(spawnStart(stillRunning));
    const { exitCode, stdout, stderr, flow } = printed(run.exitCode, run.stdout, run.stderr);
    assert.match(flow, /^Simulation of the sample stack: .* Its settings are in simulator\/sample\.yaml\. /);
    assert.match(stdout, /^ {2}3 service accounts: as the settings say\.$/m);
    assert.match(
      flow,
      / These service accounts act as the same team:team-a: team-a\/app, team-a\/deployer\. /,
    );
    assert.doesNotMatch(stdout, /Broken/);
    assert.ok(flow.trimEnd().endsWith(` ${LAST_LINE}`));
    assert.ok(Math.max(...stdout.split("\n").map((line) => line.length)) <= 80, stdout);
    assert.deepEqual([exitCode, stderr], [0, ""]);
  });

  /** Returns the variable with which Node.js runs code in front of the program. */
  const preloading = (code: string) => ({
    NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(code)}`,
  });
  const programs = temporaryDirectory({ after });
  writePrograms(programs, { bash: "echo 'GNU bash, version 4.4.2(1)-release'" }, "/bin/sh");
  for (const [what, environment, error] of [
    [
      "programs that are missing or too old",
      { PATH: programs },
      /^The simulation requires bash 4\.4\.19 or later, but found 4\.4\.2\. On macOS: brew install bash\nThe simulation requires curl 7\.84 or later, but it is not on PATH\. To install it: \S+\n$/,
    ],
    [
      "a temporary directory in which files cannot be executed",
      preloading(`import childProcess from "node:child_process";
        const { spawnSync } = childProcess;
        childProcess.spawnSync = (file, ...others) =>
          file.startsWith(process.env.TMPDIR) ? { error: new Error("EACCES") } : spawnSync(file, ...others);`),
      /^This machine cannot simulate: it does not run a script in \S+ \(EACCES\)\. Set TMPDIR to .* noexec\. /,
    ],
    [
      "an old Node.js",
      preloading("Object.defineProperty(process, 'versions', { value: { node: '18.20.8' } })"),
      /^npm start requires Node\.js 20\.20 or later, but found 18\.20\.8\. To install it: \S+\n$/,
    ],
    [
      "the packages that Pulumi removes from a clone that a program uses as a local package",
      preloading(`import Module from "node:module";
        const { _resolveFilename: resolve } = Module;
        Module._resolveFilename = (name, ...others) => resolve(name === "jose" ? "missing" : name, ...others);`),
      /^The package missing is not installed, and npm start requires it\. .*: npm ci\n$/,
    ],
  ] satisfies [string, Record<string, string>, RegExp][]) {
    test(`exits 2 for ${what}, and says what to do`, async () => {
      const { exitCode, stdout, stderr } = await ended(spawnStart(environment));
      assert.match(stderr, error);
      assert.doesNotMatch(stdout, /Service accounts/);
      assert.equal(exitCode, 2);
    });
  }

  test("prints no error if its reader stops reading, and exits with what was found", async (t) => {
    const file = join(project, "Pulumi.denied.yaml");
    t.after(() => rmSync(file));
    const denied = stackWith({ runJob: false, policyRules: { sub: "another-*" } });
    await writeFile(file, JSON.stringify(stackFile(denied)));
    const child = spawnStart();
    child.stdout.destroy();
    const [stderr, [exitCode]] = await Promise.all([text(child.stderr), once(child, "exit")]);
    assert.deepEqual([exitCode, stderr], [1, ""]);
  });

  test("ends on SIGINT, with all that it has started", async (t) => {
    const ticks = join(project, "ticks");
    // The exchange script of a pod then waits for ten seconds.
    const curl = `[[ $1 != --version ]] || exec echo curl 8.0
for tick in {1..100}; do echo $tick >>'${ticks}'; sleep 0.1; done`;
    const child = spawnStart({ PATH: writePrograms(temporaryDirectory(t), { curl }) });
    const ending = ended(child);
    while (!existsSync(ticks) && child.exitCode === null) await sleep(20);

    child.kill("SIGINT");
    const { exitCode, stdout, stderr } = await ending;
    assert.deepEqual([exitCode, stderr], [130, ""]);
    assert.doesNotMatch(stdout, /Service accounts/);
    const last = readFileSync(ticks, "utf8");
    await sleep(500);
    assert.equal(readFileSync(ticks, "utf8"), last);
  });

  test("leaves nothing in the temporary directory", () => {
    assert.deepEqual(readdirSync(temporary), []);
  });
});

test("imports go down only", () => {
  for (const [room, allowed] of Object.entries({
    ".": /^(?!simulator|policy|test)/,
    settings: /^(?!simulator|policy|test)/,
    policy: /^policy\//,
    simulator: /^(simulator|policy)\/|^index$|^settings\/problems$/,
    // They share nothing with what they test.
    "simulator/emulators": /^simulator\/emulators\//,
  })) {
    for (const name of readdirSync(join(ROOT, room)).filter((file) => file.endsWith(".ts"))) {
      const imports = read(join(room, name)).matchAll(/(?:from|require\(|import) ?"(\.[^"]*)"/g);
      for (const [, path = ""] of imports) assert.match(join(room, path), allowed, `${room}/${name}`);
    }
  }
});
