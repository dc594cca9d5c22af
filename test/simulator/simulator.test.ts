// The simulation: what it prints and where, how it ends, and what it imports. Only what depends on the process of `npm start`
// is tested in one.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, describe, type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { readOptions } from "../../simulator/options";
import { resourceLines } from "../../simulator/runReport";
import { type Options, simulateStack } from "../../simulator/simulateStack";
import { TEMPLATE_SETTINGS } from "../../simulator/stackFile";
import { ended } from "../support/childProcess";
import { writePrograms } from "../support/programs";
import { codeIn, copyProject, linkPackages, ROOT, read } from "../support/project";
import { entry, ignoringRejections, type Settings, stackWith, up } from "../support/stack";
import { temporaryDirectory } from "../support/temporaryDirectory";
import { setVariables } from "../support/variables";

const NOTHING = "Simulation only: it cannot know whether the cluster, teams, and users exist.";
const ESCAPE = "\u001b[";

/** Settings of a stack about which the simulation has nothing to note. */
const REQUIRED = {
  organization: "acme",
  "aws:region": "us-west-2",
  clusterName: "my-cluster",
  userLogin: "my-login",
};

// What a user would copy, and what the simulation writes. Nothing may remain in the temporary directory.
const project = temporaryDirectory({ after });
const temporary = temporaryDirectory({ after });

/** Where the machine of the simulation is logged in. */
const OTHER_CLOUD = "https://other.example.com";
const credentials = temporaryDirectory({ after });

/** What was printed. No run may print a token or a stack trace. */
function printed(exitCode: number | null, stdout: string, stderr: string) {
  assert.doesNotMatch(stdout + stderr, /eyJ[\w-]+\.[\w-]+|pul-[0-9a-f]{10}/, "a token");
  assert.doesNotMatch(stdout + stderr, /^\s+at .*:\d+|node:internal|\[object /m, "a stack trace");
  const lines = stdout.trimEnd().split("\n");
  return { exitCode, stdout, stderr, lines, flow: stdout.replaceAll(/\s+/g, " ") };
}

/** Simulates the only stack of a project, whose settings are on top of the required ones. */
async function simulate(t: TestContext, settings: Settings, options: Options = {}) {
  const { serviceAccounts } = settings;
  const config = { ...REQUIRED, ...(serviceAccounts !== undefined && { userLogin: undefined }), ...settings };
  return simulateStacks(t, { prod: { config } }, options);
}

/** Simulates a project with these stack files. */
async function simulateStacks(t: TestContext, stacks: Record<string, unknown>, options: Options = {}) {
  const directory = temporaryDirectory(t);
  await writeFile(join(directory, "Pulumi.yaml"), "name: eks-pulumi-oidc\nruntime: nodejs\n");
  for (const [name, content] of Object.entries(stacks)) {
    // JSON is YAML.
    await writeFile(join(directory, `Pulumi.${name}.yaml`), JSON.stringify(content));
  }
  const [stdout, stderr]: [string[], string[]] = [[], []];
  const output = {
    log: (line: string) => void stdout.push(`${line}\n`),
    error: (line: string) => void stderr.push(`${line}\n`),
  };
  const exitCode = await ignoringRejections(() => simulateStack(directory, options, output));
  return printed(exitCode, stdout.join(""), stderr.join(""));
}

describe("the simulation", () => {
  test("names what a stack dev has from the template, on standard output", async (t) => {
    const config = { ...TEMPLATE_SETTINGS, organization: "acme" };
    const { exitCode, flow, stderr } = await simulateStacks(t, { dev: { config } }, { stack: "dev" });
    const note =
      "Pulumi.dev.yaml still has the template's clusterName (sample-cluster) and userLogin (sample-login).";
    assert.ok(flow.includes(note), flow);
    assert.deepEqual([exitCode, stderr], [0, ""]);
  });

  test("covers several service accounts, some of which exist, and runs no command of the settings", async (t) => {
    const runner = { tokenType: "runner", runnerId: "id", runnerName: "eks", awsRole: "pod-identity" };
    const existing = { createServiceAccount: false, audienceRule: true };
    const serviceAccounts = [
      { namespace: "ci", name: "a", tokenType: "team", teamName: "ops" },
      { namespace: "ci", name: "b", ...runner },
      { ...existing, namespace: "default", name: "default", tokenType: "personal", userLogin: "me" },
      { ...existing, namespace: "s", name: "c", tokenType: "organization", awsRole: "none" },
    ].map((entry) => ({ ...entry, command: ["bash", "-c", "echo the configured command ran"] }));
    const settings = { createNamespaces: ["ci"], serviceAccounts };
    const { exitCode, stdout, stderr } = await simulate(t, settings, { verbose: true });
    assert.equal(exitCode, 0, stderr);
    assert.doesNotMatch(stdout, /organization is not set|the configured command ran/);
    assert.match(stdout, /^ {2}Every pod of namespace default that names no service account can get the$/m);
    assert.match(stdout, /^ {2}Service account +ci\/a$/m);
    assert.match(stdout, /^ {2}default\/default\n( {4}.*\n)+ {4}\$ pulumi whoami\n {4}me$/m);
    assert.match(
      stdout,
      /^ {2}ci\/b +runner:eks +only itself +only itself\n {4}itself: allowed by Pulumi Cloud\.$/m,
    );
    assert.match(stdout, /^ {4}s\/c: denied by Pulumi Cloud \(no allow policy/m);
    assert.match(stdout, /70 of 70 checks passed \(4 service accounts, 40 callers\)/);
  });

  test("prints the policies as JSON, and all of it as Markdown", async (t) => {
    // A note would be no part of either.
    const settings = { organization: undefined };
    const { exitCode, stdout, stderr } = await simulate(t, settings, { policies: true });
    assert.ok(stderr.endsWith(`${NOTHING}\n`));
    const { trustPolicy, allowPolicy } = JSON.parse(stdout)["default/pulumi-service-account"];
    const subject =
      /"oidc\.eks\.us-west-2\.amazonaws\.com\/id\/\w+:sub":"system:serviceaccount:default:pulumi-/;
    assert.match(JSON.stringify(trustPolicy), subject);
    assert.equal(allowPolicy.userLogin, "my-login");

    const markdown = await simulate(t, settings, { markdown: true });
    assert.deepEqual([exitCode, markdown.exitCode], [0, 0]);
    assert.doesNotMatch(markdown.stdout, /organization is not set/);
    assert.match(markdown.lines[0] ?? "", /^> Simulation of stack prod/);
    assert.match(
      markdown.stdout,
      /^\| `default\/pulumi-service-account` \| user:my-login \| only itself \| only itself \|$/m,
    );
    const [json = ""] = codeIn(markdown.stdout, "json");
    assert.deepEqual(JSON.parse(json), JSON.parse(stdout));
  });

  const policyRules = { '"kubernetes.io".pod.name': "another-*" };

  test("a denied exchange fails with the reason in the Job's output", async (t) => {
    const settings = { organization: undefined, ...stackWith({ policyRules }) };
    const { exitCode, stdout, stderr, flow } = await simulate(t, settings);
    assert.equal(exitCode, 1);
    assert.match(flow, /HTTP 400.*pod\.name is '[^']+', not 'another-\*'/);
    assert.match(flow, /organization is not set: .*`pulumi preview` the organization of the stack/);
    assert.match(stderr, /A Job failed, so `pulumi up` would fail/);
    assert.doesNotMatch(stdout, /Access check/);

    // Without the Job's output, the reason is on standard error.
    for (const options of [{ markdown: true }, { policies: true }]) {
      const { exitCode, stderr } = await simulate(t, stackWith({ policyRules }), options);
      assert.match(stderr, /pod\.name is '[^']+', not 'another-\*'/);
      assert.equal(exitCode, 1);
    }
  });

  test("exits 1 if an answer is unexpected, and says what to check", async (t) => {
    const { exitCode, stdout } = await simulate(t, stackWith({ policyRules, runJob: false }));
    assert.match(stdout, /^ {4}itself: denied by Pulumi Cloud .* Check\s+policyRules, /ms);
    assert.match(stdout, /^ {2}12 of 14 checks passed/m);
    assert.equal(exitCode, 1);
  });

  test("reports invalid settings on standard error, with control characters shown", async (t) => {
    for (const [settings, message] of [
      [{ rolePath: "Bad", typo: "x" }, /Invalid configuration in Pulumi\.prod\.yaml \(2 problems\)/],
      // It would be another host.
      [
        { "aws:region": `$&.example.com${ESCAPE}31m` },
        /^The region is "\$&\.example\.com\\u001b\[31m", which is not the name of an AWS region\. Set aws:region /m,
      ],
      [
        { "aws:region": { secure: "A" }, "aws:secretKey": { secure: "A" } },
        /\(2 problems\)\. .*^ {2}aws:region: contains an encrypted value.*^ {2}aws:secretKey: is not supported/ms,
      ],
    ] satisfies [Settings, RegExp][]) {
      assertFailed(await simulate(t, settings), message);
    }
  });

  test("reports stack files that it cannot use on standard error, with control characters shown", async (t) => {
    for (const [stacks, options, message] of [
      [{ prod: { config: "hello" } }, {}, /config must contain KEY: VALUE$/m],
      [{ prod: {} }, { stack: "no" }, /no\.yaml does not exist. Stacks .*: npm start -- --stack NAME$/m],
      [{ a: {}, [`b${ESCAPE}31mb`]: {} }, {}, /Stacks in this directory: a, b\\u\{1b\}\[31mb\. /],
    ] satisfies [Record<string, unknown>, Options, RegExp][]) {
      assertFailed(await simulateStacks(t, stacks, options), message);
    }
  });

  function assertFailed({ exitCode, stdout, stderr }: ReturnType<typeof printed>, message: RegExp): void {
    assert.match(stderr, message);
    assert.ok(!stderr.includes(ESCAPE));
    assert.doesNotMatch(stdout, message);
    assert.equal(exitCode, 1);
  }

  test("reports a missing and a misspelled region, with the one that is used or meant", async (t) => {
    const stack = stackWith({ runJob: false });
    const missing = await simulate(t, { ...stack, "aws:region": undefined });
    assert.match(missing.flow, /aws:region is not set: the simulation uses us-west-2\. /);
    const misspelled = await simulate(t, { ...stack, "aws:region": "us-wset-2" });
    assert.match(
      misspelled.lines[1] ?? "",
      /^ {2}aws:region is us-wset-2, which is not a known region\. Did you mean us-west-2\?$/,
    );
    assert.deepEqual([missing.exitCode, misspelled.exitCode], [0, 0]);
  });

  test("says which environments it does not open, so that the settings from there are missing", async (t) => {
    const environment = ["clusters/shared@3", "clusters/blue"];
    const config = { clusterName: "blue", "aws:region": "us-west-2" };
    const run = await simulateStacks(t, { prod: { environment, config } });
    assert.match(run.flow, /environment is ignored: .* does not open clusters\/shared@3, clusters\/blue\. /);
    assertFailed(run, /serviceAccounts: required|userLogin: required/);
  });

  test("lists every resource but components, providers, and bindings", async (t) => {
    const serviceAccounts = [
      entry({ namespace: "ci", rolePolicyArns: ["arn:aws:iam::aws:policy/ReadOnlyAccess"] }),
      entry({ name: "other", awsRole: "pod-identity" }),
    ];
    const settings = { createCluster: true, createNamespaces: ["ci"], injectToken: true, serviceAccounts };
    const { registered } = await up(t, settings, { cluster: undefined });
    const missing = registered.filter((resource) => resourceLines([resource], true).length === 0);
    assert.deepEqual([...new Set(missing.map(({ type }) => type))].sort(), [
      "eks-pulumi-oidc:index:PulumiCloudAccess",
      "eks-pulumi-oidc:index:WorkloadIdentity",
      "kubernetes:admissionregistration.k8s.io/v1:MutatingAdmissionPolicyBinding",
      "kubernetes:admissionregistration.k8s.io/v1:ValidatingAdmissionPolicyBinding",
      "pulumi:index:Stash",
      "pulumi:providers:kubernetes",
      "pulumi:providers:pulumiservice",
    ]);
  });

  test("is colored only for a terminal without NO_COLOR", async (t) => {
    const { isTTY } = process.stdout;
    t.after(() => {
      process.stdout.isTTY = isTTY;
    });
    const isColored = async () =>
      (await simulateStacks(t, {}, { stack: "no" })).stdout.includes(`${ESCAPE}1mSimulation`);
    assert.ok(!(await isColored()));
    process.stdout.isTTY = true;
    assert.ok(await isColored());
    t.after(setVariables({ NO_COLOR: "1" }));
    assert.ok(!(await isColored()));
  });
});

test("rejects options that are unknown or not valid together, with the reason", () => {
  for (const [line, reason] of [
    ["--live --policies", "--live is not valid with --policies or --markdown"],
    ["--live --markdown", "--live is not valid with --policies or --markdown"],
    ["--all-pairs", "--all-pairs is only valid with --live"],
    ["prod", "Unexpected argument 'prod'"],
  ] as const) {
    const message = `${reason}. To list the options: npm start -- --help`;
    assert.throws(() => readOptions(line.split(" ")), { message });
  }
});

describe("npm start", () => {
  before(async () => {
    // A copy of the template has its own stack, which is not what these tests expect.
    const stackFiles = (await readdir(ROOT)).filter((name) => /^Pulumi\..+\.yaml$/.test(name));
    await copyProject(project, ["test", "docs", ...stackFiles]);
    await linkPackages(project);
    await writeFile(join(credentials, "credentials.json"), JSON.stringify({ current: OTHER_CLOUD }));
  });

  function spawnStart(args: string[], environment: Record<string, string> = {}) {
    const { NODE_TEST_CONTEXT, NODE_OPTIONS, NODE_EXTRA_CA_CERTS, SIMULATOR_DIRECTORY, ...inherited } =
      process.env;
    const options = ["--require", "./scripts/compilerCache.cjs", "--import", "tsx", "simulator/start.ts"];
    // The login of the machine must not count.
    const login = { PULUMI_BACKEND_URL: OTHER_CLOUD, PULUMI_CREDENTIALS_PATH: credentials };
    const env = { ...inherited, ...login, ...environment, TMPDIR: temporary };
    return spawn(process.execPath, [...options, ...args], {
      cwd: project,
      env,
      stdio: ["ignore", "pipe", "pipe"],
    });
  }

  async function start(...args: string[]) {
    const { exitCode, stdout, stderr } = await ended(spawnStart(args));
    return printed(exitCode, stdout, stderr);
  }

  const writeStack = (config: Settings) =>
    writeFile(join(project, "Pulumi.prod.yaml"), JSON.stringify({ config }));

  test("prints for the sample stack the lines that the README shows, and exits 0", async () => {
    const shown = (codeIn(read("README.md"), "text")[0] ?? "").trimEnd().split("\n");
    const { exitCode, stdout, stderr, lines, flow } = await start();
    assert.deepEqual(
      lines.filter((line) => shown.includes(line)),
      shown,
    );
    assert.match(flow, /^Simulation of the sample stack: .* Its settings are in simulator\/sample\.yaml\. /);
    assert.match(stdout, /^ {2}(\d+) of \1 checks passed/m);
    assert.equal(lines.at(-1), NOTHING);
    assert.deepEqual([exitCode, stderr], [0, ""]);
  });

  test("exits 1 with the reason on standard error if the simulation fails, and leaves standard output empty for --policies", async () => {
    const { exitCode, stdout, stderr } = await start("--stack", "no", "--policies");
    assert.match(stderr, /^Simulation: nothing is created.*\n+Pulumi\.no\.yaml does not exist\. /m);
    assert.deepEqual([exitCode, stdout], [1, ""]);
  });

  test("exits 1 for an unknown option, and --live exits 2, with control characters shown", async (t) => {
    const unknown = await start(`--stak${ESCAPE}`);
    assert.match(unknown.stderr, /^Unknown option '--stak\\u\{1b\}\['\. To list .*: npm start -- --help/);
    assert.deepEqual([unknown.exitCode, unknown.stdout], [1, ""]);

    const files = ["a", `b${ESCAPE}31m`].map((stack) => join(project, `Pulumi.${stack}.yaml`));
    t.after(() => Promise.all(files.map((file) => rm(file))));
    for (const file of files) await writeFile(file, "");
    const live = await start("--live");
    assert.match(live.stderr, /Stacks in this directory: a, b\\u\{1b\}\[31m\. /);
    assert.deepEqual([live.exitCode, live.stdout], [2, ""]);
  });

  test("says which program of this machine is missing or too old, and runs no Job", async (t) => {
    const programs = temporaryDirectory(t);
    const bash = "#!/bin/sh\necho 'GNU bash, version 3.2.57(1)-release (arm64-apple-darwin23)'\n";
    await writeFile(join(programs, "bash"), bash, { mode: 0o755 });
    const { exitCode, stdout, stderr } = await ended(spawnStart([], { PATH: programs }));
    assert.equal(
      stderr,
      "The simulation requires bash 4.4 or later, but found 3.2. On macOS: brew install bash\n" +
        "The simulation requires curl 7.84 or later, but it is not on PATH. To install it: https://curl.se/download.html\n",
    );
    assert.deepEqual([exitCode, stdout], [1, ""]);
  });

  test("ends when its reader stops reading", async () => {
    await writeStack(REQUIRED);
    const child = spawnStart([]);
    const closed = once(child, "close");
    const stderr = text(child.stderr);
    await once(child.stdout, "data");
    child.stdout.destroy();
    assert.deepEqual([(await closed)[0], await stderr], [0, ""]);
  });

  for (const [signal, status] of Object.entries({ SIGINT: 130, SIGTERM: 143 })) {
    test(`ends on ${signal} with what its pods run`, async (t) => {
      await writeStack(REQUIRED);
      // The exchange script of a pod then waits for ten seconds.
      const programs = temporaryDirectory(t);
      const ticks = join(programs, "ticks");
      const curl = `[[ $1 != --version ]] || exec echo curl 8.0
for tick in {1..100}; do echo $tick >>'${ticks}'; sleep 0.1; done`;
      const child = spawnStart([], { PATH: writePrograms(programs, { curl }) });
      const ending = ended(child);
      while (!existsSync(ticks) && child.exitCode === null) await sleep(50);

      child.kill(signal as NodeJS.Signals);
      const { exitCode, stdout, stderr } = await ending;
      assert.deepEqual([exitCode, stderr], [status, ""]);
      assert.doesNotMatch(stdout, /Access check/);
      const last = await readFile(ticks, "utf8");
      await sleep(500);
      assert.equal(await readFile(ticks, "utf8"), last);
    });
  }

  test("leaves nothing in the temporary directory", async () => {
    assert.deepEqual(await readdir(temporary), []);
  });
});

test("imports go down only: simulator, access check, program", async () => {
  const arrows = new Set<string>();
  const ofProgram: string[] = [];
  for (const room of [".", "settings", "accessCheck", "simulator", "simulator/emulators"]) {
    for (const name of await readdir(join(ROOT, room))) {
      if (!name.endsWith(".ts")) continue;
      const imports = read(join(room, name)).matchAll(/(?:from|require\(|import\(|import) ?"(\.[^"]*)"/g);
      for (const [, path = ""] of imports) {
        const target = join(room, path);
        arrows.add(`${room} -> ${dirname(target)}`);
        if (room.startsWith("simulator") && dirname(target) === ".") ofProgram.push(`${name} -> ${target}`);
      }
    }
  }
  assert.deepEqual([...arrows].filter((arrow) => /simulator|accessCheck|test/.test(arrow)).toSorted(), [
    "accessCheck -> accessCheck",
    "simulator -> .",
    "simulator -> accessCheck",
    "simulator -> simulator",
    "simulator -> simulator/emulators",
    "simulator/emulators -> simulator/emulators",
  ]);
  assert.deepEqual(ofProgram, ["runProgram.ts -> index"]);
});
