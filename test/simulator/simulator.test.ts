// The simulation: what it prints and where, how it ends, and what it imports. Only what depends on the process of `npm start`
// is tested in one.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { mkdir, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, describe, type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { paint, wrap } from "../../accessCheck/terminal";
import { readOptions } from "../../simulator/options";
import { resourceLines } from "../../simulator/runReport";
import { type Options, simulateStack } from "../../simulator/simulateStack";
import { TEMPLATE_SETTINGS } from "../../simulator/stackFile";
import { ended, writePrograms } from "../support/programs";
import { codeIn, copyProject, linkPackages, ROOT, read } from "../support/project";
import { entry, ignoringRejections, type Settings, stackWith, start } from "../support/stack";
import { temporaryDirectory } from "../support/temporaryDirectory";
import { setVariables } from "../support/variables";

const NOTHING =
  "Simulation only: it cannot tell whether the cluster, teams, users, and runner pools exist, or whether a pool's ID and name belong together.";
const ESCAPE = "\u001b[";

/** Settings of a stack about which the simulation has nothing to note. */
const REQUIRED = { organization: "acme", "aws:region": "us-west-2", clusterName: "my-cluster" };

/** Where the machine of the simulation is logged in. */
const OTHER_CLOUD = "https://other.example.com";

const POD_NAME = '"kubernetes.io".pod.name';

/** A stack file with an entry of `serviceAccounts`, and with these settings on top of the required ones. */
const stackFile = (settings: Settings) => ({ config: { ...REQUIRED, ...stackWith({}), ...settings } });

/** What was printed. No run may print a token or a stack trace. */
function printed(exitCode: number | null, stdout: string, stderr: string) {
  assert.doesNotMatch(stdout + stderr, /eyJ[\w-]+\.[\w-]+|pul-[0-9a-f]{10}/, "a token");
  assert.doesNotMatch(stdout + stderr, /^\s+at .*:\d+|node:internal|\[object /m, "a stack trace");
  return { exitCode, stdout, stderr, flow: stdout.replaceAll(/\s+/g, " ") };
}

/** Simulates a project with these stack files. */
async function simulate(t: TestContext, stacks: Record<string, unknown>, options: Options = {}) {
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
  test("notes on standard output what a stack file leaves open, has from the template, or imports", async (t) => {
    const { "aws:region": _, ...config } = TEMPLATE_SETTINGS;
    const environment = ["clusters/shared@3", "clusters/blue"];
    const { exitCode, stderr, flow } = await simulate(t, { dev: { environment, config } }, { stack: "dev" });
    for (const note of [
      "environment is ignored: the simulation does not open clusters/shared@3, clusters/blue. ",
      "To check with them: pulumi preview --json --show-sames >plan.json && npm start -- --plan plan.json ",
      'organization is not set: the simulation uses "acme", and `pulumi preview` the organization of the stack.',
      "aws:region is not set: the simulation uses us-west-2. ",
      "Pulumi.dev.yaml still has the template's clusterName (sample-cluster) and userLogin (sample-login).",
    ]) {
      assert.ok(flow.includes(note), flow);
    }
    assert.deepEqual([exitCode, stderr], [0, ""]);
  });

  test("checks nothing if only an environment can have what every stack requires, and names --plan", async (t) => {
    const list = { serviceAccounts: [entry()] };
    for (const [config, missing] of [
      [{}, "clusterName and serviceAccounts"],
      [{ clusterName: "a" }, "serviceAccounts"],
      [list, "clusterName"],
    ] as const) {
      const { exitCode, stderr } = await simulate(t, { prod: { environment: ["acme/access@3"], config } });
      assert.equal(
        stderr.trim(),
        `Nothing was checked: ${missing} must come from the environment, and the simulation does not open acme/access@3. To check with them: pulumi preview --json --show-sames >plan.json && npm start -- --plan plan.json`,
      );
      assert.equal(exitCode, 2);
    }
    const file = { environment: ["acme/access@3"], ...stackFile(stackWith({ runJob: false })) };
    assert.equal((await simulate(t, { prod: file })).exitCode, 0, "the file has all of it");
  });

  test("says what it cannot know about a runner pool, and about a service account that it does not create", async (t) => {
    const names = { tokenType: "runner", runnerId: "eks", runnerName: "eks" };
    const serviceAccounts = [
      {
        namespace: "runners",
        name: "runner",
        ...names,
        createServiceAccount: false,
        rolePolicyArns: [],
        awsRole: "irsa",
        runJob: false,
      },
    ];
    const { exitCode, stdout, flow } = await simulate(t, {
      prod: stackFile({ createNamespaces: ["runners"], serviceAccounts }),
    });
    assert.match(
      flow,
      /runnerId and runnerName are both "eks": make sure that it is the pool's ID, not its name\./,
    );
    assert.match(flow, /runners is in createNamespaces, .* See docs\/workloads\/runners\.md/);
    assert.match(stdout, /^ {2}runners\/runner +runner:eks +only itself +once annotated$/m);
    assert.match(
      flow,
      /Annotate the service account yourself, with eks\.amazonaws\.com\/role-arn and the roleArn/,
    );
    assert.equal(exitCode, 0);
  });

  test("covers several service accounts, some of which exist, and runs no command of the settings", async (t) => {
    const runner = { tokenType: "runner", runnerId: "id", runnerName: "eks", awsRole: "pod-identity" };
    const existing = { createServiceAccount: false, audienceRule: true };
    const serviceAccounts = [
      { namespace: "ci", name: "a", tokenType: "team", teamName: "ops", awsRole: "irsa", runJob: false },
      { namespace: "ci", name: "b", ...runner },
      {
        ...existing,
        namespace: "default",
        name: "default",
        tokenType: "personal",
        userLogin: "me",
        awsRole: "irsa",
      },
      { ...existing, namespace: "s", name: "c", tokenType: "organization", runJob: false },
    ].map((account) => ({ ...account, command: ["bash", "-c", "echo the configured command ran"] }));
    const teams = [{ name: "ops", stacks: [{ stack: "app/prod", permission: "edit" }] }];
    const stack = stackFile({ createNamespaces: ["ci"], teams, serviceAccounts });
    const { exitCode, stdout, stderr } = await simulate(t, { prod: stack }, { verbose: true });
    assert.deepEqual([exitCode, stderr], [0, ""]);
    assert.doesNotMatch(stdout, /organization is not set|the configured command ran/);
    for (const lines of [
      /^ {2}Every pod of namespace default that names no service account can get the$/m,
      /^ {2}Service account +ci\/a$/m,
      /^ {2}ci\/a +team:ops +only itself +only itself\n {4}ops: edit on stack app\/prod$/m,
      /^ {2}default\/default\n( {4}.*\n)+ {4}\$ pulumi whoami\n {4}me$/m,
      /^ {2}ci\/b +runner:eks +only itself +only itself$/m,
      /^ {2}default\/default +user:me +every pod +once annotated$/m,
      /^ {2}s\/c +organization +only itself +no role$/m,
      /^ {2}4 service accounts: as the settings intend\.$/m,
    ]) {
      assert.match(stdout, lines);
    }
  });

  test("prints the policies as JSON, and the report as a code block of Markdown, both with the notes", async (t) => {
    const stacks = {
      prod: {
        environment: [`clusters/shared${ESCAPE}31m`],
        ...stackFile(stackWith({ runJob: false, awsRole: "irsa" })),
      },
    };
    const { exitCode, stdout, stderr } = await simulate(t, stacks, { policies: true });
    const note = "environment is ignored: the simulation does not open clusters/shared\\u{1b}[31m. ";
    assert.ok(stderr.includes(`\n${note}`), stderr);
    assert.ok(stderr.endsWith(`${NOTHING}\n`));
    const { trustPolicy, allowPolicy } = JSON.parse(stdout)["default/pulumi-service-account"];
    const subject =
      /"oidc\.eks\.us-west-2\.amazonaws\.com\/id\/\w+:sub":"system:serviceaccount:default:pulumi-/;
    assert.match(JSON.stringify(trustPolicy), subject);
    assert.equal(allowPolicy.userLogin, "my-login");

    const markdown = await simulate(t, stacks, { markdown: true });
    assert.deepEqual([exitCode, markdown.exitCode], [0, 0]);
    const [report = "", ...others] = codeIn(markdown.stdout, "text");
    assert.deepEqual([`\`\`\`text\n${report}\`\`\`\n`, others], [markdown.stdout, []]);
    assert.ok(report.replaceAll(/\s+/g, " ").includes(note));
    assert.match(report, /^ {2}default\/pulumi-service-account +user:my-login +only itself +only itself$/m);

    const failed = await simulate(t, stacks, { policies: true, stack: "no" });
    assert.deepEqual([failed.exitCode, failed.stdout], [2, ""]);
  });

  test("returns 1 if the Job of a service account is denied, and compares the others", async (t) => {
    const denied = entry({ policyRules: { sub: "another-*" } });
    // Its Job runs in a pod with another name.
    const named = entry({ name: "deployer", policyRules: { [POD_NAME]: "deploy-*" } });
    const granted = entry({ name: "drift", policyRules: { [POD_NAME]: "drift-token-exchange-?????" } });
    const serviceAccounts = [denied, named, granted];
    const { exitCode, stdout, stderr, flow } = await simulate(t, { prod: stackFile({ serviceAccounts }) });
    assert.match(stdout, /^ {4}exchange-token: .* denied the token exchange: HTTP 400:$/m);
    for (const reason of [
      "sub is 'system:serviceaccount:default:pulumi-service-account', not 'another-*'",
      "'kubernetes.io'.pod.name is 'deployer-token-exchange-",
    ]) {
      const finding = "Its Job fails, so `pulumi up` would fail: exchange-token: ";
      assert.ok(
        flow
          .slice(flow.indexOf("Access check"))
          .split(finding)
          .some((it) => it.includes(reason)),
        flow,
      );
    }
    assert.match(stdout, /^ {2}default\/deployer +user:my-login +see below +no role$/m);
    assert.match(stdout, /^ {2}default\/drift +user:my-login +itself \(\+2\) +no role$/m);
    assert.deepEqual([exitCode, stderr], [1, ""]);
  });

  test("returns 1 if no pod of a service account without a Job can be granted its token, and notes a misspelled region", async (t) => {
    const settings = {
      "aws:region": "us-wset-2",
      ...stackWith({ policyRules: { sub: "another-*" }, runJob: false }),
    };
    const { exitCode, stdout, stderr, flow } = await simulate(t, { prod: stackFile(settings) });
    const note = "aws:region is us-wset-2, which is not a known region. Did you mean us-west-2?";
    assert.equal(stdout.split("\n")[1], `  ${note}`);
    assert.match(
      flow,
      / see below no role None of its pods is granted a token: .* not 'another-\*'.*Check policyRules/,
    );
    assert.deepEqual([exitCode, stderr], [1, ""]);
  });

  test("assumes that a rule on a claim that only a real cluster knows is met, and says so", async (t) => {
    const uid = '"kubernetes.io".serviceaccount.uid';
    const rules = { [uid]: "0f1e", iss: "https://oidc.eks.*" };
    // Its pods can have any name.
    const withoutJob = entry({ name: "app", policyRules: { [POD_NAME]: "app-*" }, runJob: false });
    const serviceAccounts = [entry({ policyRules: rules }), withoutJob];
    const { exitCode, stdout, stderr } = await simulate(t, { prod: stackFile({ serviceAccounts }) });
    const noted = stdout.match(/^ {4}assumed to match its pods: .*$/gm);
    assert.deepEqual(noted, [
      '    assumed to match its pods: "kubernetes.io".serviceaccount.uid = 0f1e',
      "    assumed to match its pods: iss = https://oidc.eks.*",
      '    assumed to match its pods: "kubernetes.io".pod.name = app-*',
    ]);
    assert.deepEqual([exitCode, stderr], [0, ""]);
  });

  test("reports what is invalid on standard error, with control characters shown", async (t) => {
    const secure = { secure: "A" };
    const encrypted = stackFile({ "aws:region": secure, "aws:secretKey": secure });
    for (const [stacks, message] of [
      [{ prod: stackFile({ rolePath: "Bad", typo: "x" }) }, /in Pulumi\.prod\.yaml \(2 problems\)/],
      // It would be another host.
      [{ prod: stackFile({ "aws:region": "$&.example.com" }) }, /^The region is "\$&\.example\.com", /m],
      [{ prod: encrypted }, /^ {2}aws:region: contains an encrypted .*^ {2}aws:secretKey: is not /ms],
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

  test("lists every kind of resource but the bindings of policies", async (t) => {
    const types = Object.keys((await start(t)).resources).filter((type) => !type.endsWith("PolicyBinding"));
    assert.ok(types.length > 10);
    const resource = {
      urn: "urn",
      name: "name",
      parent: undefined,
      id: "id",
      inputs: {},
      outputs: {},
      provider: "",
    };
    for (const type of types) assert.equal(resourceLines([{ ...resource, type }], true).length, 1, type);
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

  test("uses the width of the terminal, between 80 and 120 columns", (t) => {
    const { columns } = process.stdout;
    t.after(() => Object.assign(process.stdout, { columns }));
    for (const [terminal, lines] of [
      [undefined, 80],
      [40, 80],
      [100, 100],
      [300, 120],
    ]) {
      Object.assign(process.stdout, { columns: terminal });
      assert.equal(Math.max(...wrap("a ".repeat(200).trim(), 0, 0).map((line) => line.length)) + 1, lines);
    }
  });
});

test("rejects options that are unknown or not valid together, with the reason", () => {
  for (const [line, reason] of [
    ["--stak", "Unknown option '--stak'"],
    ["--policies --markdown", "--policies is not valid with --markdown"],
    ["--live --policies", "--live is not valid with --policies or --markdown"],
    ["--live --markdown", "--live is not valid with --policies or --markdown"],
    ["--plan a --live", "--plan is not valid with --live or --stack"],
    ["--plan a --stack b", "--plan is not valid with --live or --stack"],
    ["--all-pairs", "--all-pairs is only valid with --live"],
    ["--live --cwd /no", "--cwd /no does not exist"],
    // Such as `npm start --plan FILE`: npm takes the option.
    ["FILE", `Unexpected argument 'FILE'. Options follow "--", as in: npm start -- --plan FILE`],
  ] as const) {
    const message = `${reason}. To list the options: npm start -- --help`;
    assert.throws(() => readOptions(line.split(" ")), { message });
  }
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

  function spawnStart(args: string[], environment: Record<string, string> = {}) {
    const { NODE_TEST_CONTEXT, NODE_OPTIONS, NODE_EXTRA_CA_CERTS, SIMULATOR_DIRECTORY, ...inherited } =
      process.env;
    const options = [
      "--require",
      "./scripts/compilerCache.cjs",
      "--import",
      "tsx",
      "simulator/commandLine.ts",
    ];
    // The login of the machine must not count.
    const login = { PULUMI_BACKEND_URL: OTHER_CLOUD, PULUMI_CREDENTIALS_PATH: project };
    return spawn(process.execPath, [...options, ...args], {
      cwd: project,
      env: { ...inherited, ...login, ...environment, TMPDIR: temporary },
      stdio: ["ignore", "pipe", "pipe"],
    });
  }

  // Something that still runs must not keep the process.
  const ALIVE = { NODE_OPTIONS: "--import=data:text/javascript,setInterval(Date,1e3)" };

  test("simulates the sample stack, and exits 0", async () => {
    const run = await ended(spawnStart([], ALIVE));
    const { exitCode, stdout, stderr, flow } = printed(run.exitCode, run.stdout, run.stderr);
    assert.match(flow, /^Simulation of the sample stack: .* Its settings are in simulator\/sample\.yaml\. /);
    assert.match(stdout, /^ {2}3 service accounts: as the settings intend\.$/m);
    assert.ok(flow.trimEnd().endsWith(` ${NOTHING}`));
    assert.ok(Math.max(...stdout.split("\n").map((line) => line.length)) <= 80, stdout);
    assert.deepEqual([exitCode, stderr], [0, ""]);
  });

  test("exits 2 for an error with --live, with control characters shown", async (t) => {
    const files = ["a", `b${ESCAPE}31m`].map((stack) => join(project, `Pulumi.${stack}.yaml`));
    t.after(() => Promise.all(files.map((file) => rm(file))));
    for (const file of files) await writeFile(file, "");
    const { exitCode, stdout, stderr } = await ended(spawnStart(["--live"], ALIVE));
    assert.match(stderr, /Stacks in this directory: a, b\\u\{1b\}\[31m\. /);
    assert.deepEqual([exitCode, stdout], [2, ""]);
  });

  test("says which program of this machine is missing or too old, and runs no Job", async (t) => {
    const programs = temporaryDirectory(t);
    const bash = "echo 'GNU bash, version 3.2.57(1)-release (arm64-apple-darwin23)'";
    writePrograms(programs, { bash }, "/bin/sh");
    const { exitCode, stdout, stderr } = await ended(spawnStart([], { PATH: programs }));
    assert.equal(
      stderr,
      "The simulation requires bash 4.4 or later, but found 3.2. On macOS: brew install bash\n" +
        "The simulation requires curl 7.84 or later, but it is not on PATH. To install it: https://curl.se/download.html\n",
    );
    assert.deepEqual([exitCode, stdout], [2, ""]);
  });

  test("says where options belong that npm has taken", async () => {
    const child = spawn("npm", ["start", "--silent", "--all-pairs", "--live", "--stack", "prod"], {
      cwd: project,
      stdio: ["ignore", "pipe", "pipe"],
    });
    const { exitCode, stdout, stderr } = await ended(child);
    assert.equal(
      stderr,
      'npm took --stack and --live and --all-pairs. Options of this command follow "--": npm start -- --stack --live --all-pairs prod\n',
    );
    assert.deepEqual([exitCode, stdout], [2, ""]);
  });

  test("names the version of Node.js that it requires", async () => {
    const old = "Object.defineProperty(process,'versions',{value:{...process.versions,node:'18.20.8'}})";
    const run = await ended(spawnStart([], { NODE_OPTIONS: `--import=data:text/javascript,${old}` }));
    assert.equal(
      run.stderr,
      "npm start requires Node.js 20.20 or later, but found 18.20.8. To install it: https://nodejs.org/en/download\n",
    );
    assert.deepEqual([run.exitCode, run.stdout], [2, ""]);
  });

  test("says how to install what Pulumi removes from a clone that a program uses as a local package", async (t) => {
    const packages = join(project, "node_modules");
    await rm(packages);
    t.after(() => rm(packages, { recursive: true }).then(() => linkPackages(project)));
    await mkdir(packages);
    for (const name of readdirSync(join(ROOT, "node_modules")).filter((it) => it !== "jose")) {
      await symlink(join(ROOT, "node_modules", name), join(packages, name));
    }
    const { exitCode, stderr } = await ended(spawnStart([]));
    assert.match(stderr, /^The package jose is not installed\. .*: npm ci\n$/);
    assert.equal(exitCode, 2);
  });

  test("exits 2 for another error, also without a reader of its output", async () => {
    const child = spawnStart(["--stack", "no"], ALIVE);
    child.stdout.destroy();
    const closed = once(child, "close");
    assert.equal(
      await text(child.stderr),
      "\nPulumi.no.yaml does not exist. To add it: pulumi config set KEY VALUE\n",
    );
    assert.equal((await closed)[0], 2);
  });

  const ticks = join(project, "ticks");
  for (const [signal, code, when, isReached] of [
    ["SIGINT", 130, "a pod runs", () => existsSync(ticks)],
    ["SIGTERM", 143, "it starts", () => readdirSync(temporary).length > 0],
  ] as const) {
    test(`ends on ${signal} while ${when}, with all that it has started`, async (t) => {
      // The exchange script of a pod then waits for ten seconds.
      const curl = `[[ $1 != --version ]] || exec echo curl 8.0
for tick in {1..100}; do echo $tick >>'${ticks}'; sleep 0.1; done`;
      const child = spawnStart([], { PATH: writePrograms(temporaryDirectory(t), { curl }) });
      const ending = ended(child);
      while (!isReached() && child.exitCode === null) await sleep(20);

      child.kill(signal);
      const { exitCode, stdout, stderr } = await ending;
      assert.deepEqual([exitCode, stderr], [code, ""]);
      assert.doesNotMatch(stdout, /Access check/);
      const last = readFileSync(ticks, "utf8");
      await sleep(500);
      assert.equal(readFileSync(ticks, "utf8"), last);
    });
  }

  test("leaves nothing in the temporary directory", () => {
    assert.deepEqual(readdirSync(temporary), []);
  });
});

test("imports go down only: simulator, access check, program", () => {
  for (const [room, allowed] of Object.entries({
    ".": /^(?!simulator|accessCheck)/,
    settings: /^(?!simulator|accessCheck)/,
    accessCheck: /^accessCheck\//,
    simulator: /^(simulator|accessCheck)\/|^index$/,
    // They share nothing with what they test.
    "simulator/emulators": /^simulator\/emulators\//,
  })) {
    for (const name of readdirSync(join(ROOT, room)).filter((file) => file.endsWith(".ts"))) {
      const imports = read(join(room, name)).matchAll(/(?:from|require\(|import) ?"(\.[^"]*)"/g);
      for (const [, path = ""] of imports) assert.match(join(room, path), allowed, `${room}/${name}`);
    }
  }
});
