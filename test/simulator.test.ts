// `npm start` as its user runs it: what it prints and where, how it ends, and what it leaves behind.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { TEMPLATE_SETTINGS } from "../simulator/stackFile";

const PROJECT = join(__dirname, "..");
const BASE = { clusterName: "my-cluster", userLogin: "my-login" };
const EXISTING = { createServiceAccount: false, audienceRule: true };
const NOTHING = "Simulation: nothing was created in AWS, Kubernetes, or Pulumi Cloud.";
const ESCAPE = "\u001b[";

// Stack files are written to a copy of the project. It has a temporary directory, in which nothing may remain.
let project: string;
let temporary: string;
before(async () => {
  project = await mkdtemp(join(tmpdir(), "project-"));
  // A copy of the template has its own stack, which is not what these tests expect.
  const isExcluded = (path: string) => /^(\.git|node_modules|test|Pulumi\..+\.yaml)$/.test(path);
  await cp(PROJECT, project, { recursive: true, filter: (path) => !isExcluded(relative(PROJECT, path)) });
  await symlink(join(PROJECT, "node_modules"), join(project, "node_modules"));
  temporary = join(project, "temporary");
  await mkdir(temporary);
});
after(() => rm(project, { recursive: true }));

/** The run without a stack file. */
let sample: Awaited<ReturnType<typeof start>>;
before(async () => {
  sample = await start([]);
});

/** JSON is YAML. */
async function writeStack(stack: string, config: unknown): Promise<void> {
  await writeFile(join(project, `Pulumi.${stack}.yaml`), JSON.stringify({ config }));
}

/** Returns settings with one entry. */
function withEntry(settings: object): object {
  const token = { tokenType: "personal", userLogin: "my-login" };
  return {
    clusterName: "my-cluster",
    serviceAccounts: [{ namespace: "default", name: "runner", ...token, ...settings }],
  };
}

function spawnStart(args: string[], environment: Record<string, string> = {}) {
  const { NO_COLOR, NODE_TEST_CONTEXT, NODE_EXTRA_CA_CERTS, SIMULATOR_DIRECTORY, ...inherited } = process.env;
  return spawn(
    process.execPath,
    ["--require", "./compilerCache.cjs", "--import", "tsx", "simulator/start.ts", ...args],
    {
      cwd: project,
      env: { ...inherited, ...environment, TMPDIR: temporary },
      stdio: ["ignore", "pipe", "pipe"],
    },
  );
}

/** Runs it to its end. No run may print a token. */
async function start(args: string[], environment: Record<string, string> = {}) {
  const child = spawnStart(args, environment);
  const exit = new Promise<number | null>((resolve) => child.once("close", resolve));
  const [exitCode, stdout, stderr] = await Promise.all([exit, text(child.stdout), text(child.stderr)]);
  assert.doesNotMatch(stdout + stderr, /eyJ[\w-]+\.[\w-]+|pul-[0-9a-f]{10}/, "a token");
  assert.doesNotMatch(stdout + stderr, /^\s+at .*:\d+|node:internal|\[object /m, "a stack trace");
  return { exitCode, stdout, stderr, lines: stdout.trimEnd().split("\n") };
}

describe("npm start", { concurrency: 2 }, () => {
  test("prints for the sample stack the lines that the README shows, and exits 0", async () => {
    const readme = await readFile(join(PROJECT, "README.md"), "utf8");
    const [, shown = ""] = /```text\n(.*?)\n```/s.exec(readme) ?? [];
    const { exitCode, stdout, stderr, lines } = sample;
    const printed = lines.filter((line) => shown.split("\n").includes(line));
    assert.deepEqual(printed, shown.split("\n"));
    assert.match(lines[0] ?? "", /^Simulation of the sample stack: /);
    assert.match(
      lines[1] ?? "",
      /^ {2}Its settings are in simulator\/sample\.yaml\. A changed Pulumi\.dev\.yaml,/,
    );
    assert.match(stdout, /^ {2}All \d+ answers are as the settings intend/m);
    assert.deepEqual([exitCode, stderr, lines.at(-1)], [0, "", NOTHING]);
    assert.ok(lines.every((line) => line.length <= 80));
  });

  test("names what a stack dev has from the template, on standard output", async () => {
    await writeStack("dev", { ...TEMPLATE_SETTINGS, organization: "acme" });
    const { exitCode, stdout, stderr } = await start(["--stack", "dev"]);
    const note =
      "Pulumi.dev.yaml still has the template's clusterName (sample-cluster) and userLogin (sample-login).";
    assert.ok(stdout.replaceAll(/\s+/g, " ").includes(note), stdout);
    assert.deepEqual([exitCode, stderr], [0, ""]);
  });

  test("simulates several service accounts, some of which exist, and runs no command of the settings", async () => {
    await writeStack("several", {
      clusterName: "my-cluster",
      organization: "acme",
      createNamespaces: ["ci"],
      serviceAccounts: [
        { namespace: "ci", name: "a", tokenType: "team", teamName: "ops" },
        {
          namespace: "ci",
          name: "b",
          tokenType: "runner",
          runnerId: "id",
          runnerName: "eks",
          awsRole: "pod-identity",
        },
        { ...EXISTING, namespace: "default", name: "default", tokenType: "personal", userLogin: "me" },
        { ...EXISTING, namespace: "s", name: "c", tokenType: "organization", awsRole: "none" },
      ].map((entry) => ({ ...entry, command: ["bash", "-c", "echo the configured command ran"] })),
    });
    const { exitCode, stdout, stderr } = await start(["--stack", "several", "--verbose"]);
    assert.equal(exitCode, 0, stderr);
    assert.doesNotMatch(stdout, /organization is not set|the configured command ran/);
    assert.match(stdout, /^ {2}Service account +ci\/a$/m);
    assert.match(stdout, /^ {2}default\/default\n( {4}.*\n)+ {4}\$ pulumi whoami\n {4}me$/m);
    assert.match(
      stdout,
      /^ {2}ci\/b +runner:eks +only itself +only itself\n {4}itself: allowed by Pulumi Cloud\.$/m,
    );
    assert.match(stdout, /^ {4}s\/c: denied by Pulumi Cloud \(no allow policy/m);
    assert.match(stdout, /All 70 answers are as the settings intend \(4 service accounts, 40 callers\)/);
  });

  test("runs nothing that a stack file says, and writes nothing to a path of it", async () => {
    const [program, trace] = [join(temporary, "program"), join(project, "trace")];
    await writeFile(program, `touch '${trace}'\n`, { mode: 0o755 });
    const variables = {
      BASH_ENV: program,
      ENV: program,
      PATH: "/nowhere",
      BASH_FUNC_curl: `() { . ${program}; }`,
    };
    const env = Object.entries(variables).map(([name, value]) => ({ name, value }));
    await writeStack("attack", { ...BASE, jobPodSpec: { containers: [{ name: "token-exchange", env }] } });
    const { exitCode, stdout, stderr } = await start(["--stack", "attack"]);
    assert.equal(stderr, "");
    assert.match(stdout, /^ {4}my-login$/m);

    const mount = { name: "pulumi-token-exchange", mountPath: `/../../../../../..${trace}` };
    const containers = [{ name: "token-exchange", volumeMounts: [mount] }];
    await writeStack("outside", { ...BASE, jobPodSpec: { containers } });
    const outside = await start(["--stack", "outside"]);
    assert.match(
      outside.stderr,
      /"\/\.\.\/.*" could leave the directory of the pod\. Remove "\.\." from it\.$/m,
    );
    await rm(program);
    assert.ok(!existsSync(trace));
    assert.deepEqual([exitCode, outside.exitCode], [0, 1]);
  });

  test("prints the policies as JSON, and all of it as Markdown", async () => {
    await writeStack("policies", BASE);
    const { stdout, stderr } = await start(["--stack", "policies", "--policies"]);
    assert.ok(stderr.endsWith(`${NOTHING}\n`));
    const { trustPolicy, allowPolicy } = JSON.parse(stdout)["default/pulumi-service-account"];
    const subject =
      /"oidc\.eks\.us-west-2\.amazonaws\.com\/id\/\w+:sub":"system:serviceaccount:default:pulumi-/;
    assert.match(JSON.stringify(trustPolicy), subject);
    assert.equal(allowPolicy.userLogin, "my-login");

    const markdown = await start(["--stack", "policies", "--markdown"]);
    assert.match(markdown.lines[0] ?? "", /^> Simulation of stack policies/);
    assert.match(
      markdown.stdout,
      /^\| `default\/pulumi-service-account` \| user:my-login \| only itself \| only itself \|$/m,
    );
    const [, json = ""] = /```json\n(.*?)```/s.exec(markdown.stdout) ?? [];
    assert.deepEqual(JSON.parse(json), JSON.parse(stdout));
  });

  test("a denied exchange fails with the reason in the Job's output", async () => {
    const policyRules = { '"kubernetes.io".pod.name': "another-*" };
    await writeStack("denied", withEntry({ policyRules }));
    const { exitCode, stdout, stderr } = await start(["--stack", "denied"]);
    assert.equal(exitCode, 1);
    assert.match(stdout.replaceAll(/\s+/g, " "), /HTTP 400.*pod\.name is '[^']+', not 'another-\*'/);
    assert.match(stdout, /organization is not set: .*`pulumi preview`.* asks for this setting/s);
    assert.match(stderr, /A Job failed, so `pulumi up` would fail/);
    assert.doesNotMatch(stdout, /Access check/);
    assert.ok(stdout.endsWith(`${NOTHING}\n`));
  });

  test("exits 1 if an answer is unexpected, and says what to check", async () => {
    const policyRules = { '"kubernetes.io".pod.name': "another-*" };
    await writeStack("unexpected", withEntry({ policyRules, runJob: false }));
    const { exitCode, stdout } = await start(["--stack", "unexpected"]);
    assert.match(stdout, /^ {4}itself: denied by Pulumi Cloud .* Check\s+policyRules, /ms);
    assert.match(stdout, /^ {2}2 of 14 answers are unexpected/m);
    assert.equal(exitCode, 1);
  });

  for (const [what, args, message] of [
    [
      "an invalid configuration",
      ["--stack", "bad"],
      /Invalid configuration in Pulumi\.bad\.yaml \(2 problems\)/,
    ],
    [
      "a missing stack file",
      ["--stack", "no"],
      /no\.yaml does not exist. Stacks .*: npm start -- --stack NAME$/m,
    ],
    [
      "several stacks of which none is named",
      [],
      /has several stacks. Stacks .*: npm start -- --stack NAME$/m,
    ],
    [
      "the console of Pulumi Cloud",
      ["--stack", "console"],
      /app\.pulumi\.com.* Its API is https:\/\/api\.pulumi\.com/,
    ],
    [
      "an impossible region",
      ["--stack", "region"],
      /"us-west-2\.example\.com" is not the name of an AWS region/,
    ],
    [
      "an encrypted setting",
      ["--stack", "secret"],
      /^issuerName contains an encrypted value in Pulumi\.secret\.yaml, which .* write the value in plaintext\.$/m,
    ],
    ["an invalid stack file", ["--stack", "text"], /config must contain KEY: VALUE$/m],
    ["an unknown option", ["--stak", "dev"], /Unknown option '--stak'. To list .*: npm start -- --help/],
  ] satisfies [string, string[], RegExp][]) {
    test(`reports ${what} on standard error`, async () => {
      await writeStack("bad", { ...BASE, rolePath: "Bad", typo: "x" });
      await writeStack("secret", { ...BASE, issuerName: { secure: "A" } });
      await writeStack("text", "hello");
      await writeStack("console", { ...BASE, pulumiApiUrl: "https://app.pulumi.com/" });
      await writeStack("region", { ...BASE, "aws:region": "us-west-2.example.com" });
      const { exitCode, stdout, stderr } = await start(args);
      assert.equal(exitCode, 1);
      assert.match(stderr, message);
      assert.doesNotMatch(stdout, message);
    });
  }

  test("shows the control characters of file names in its errors", async () => {
    await writeStack(`a${ESCAPE}31mb`, BASE);
    for (const [args, expected] of [
      [["--live"], 2],
      [[], 1],
    ] satisfies [string[], number][]) {
      const { exitCode, stderr } = await start(args);
      assert.match(stderr, /Stacks in this directory: a\\u\{1b\}\[31mb, /);
      assert.ok(!stderr.includes(ESCAPE));
      assert.equal(exitCode, expected);
    }
  });

  test("reports a missing and a misspelled region, with the one that is used or meant", async () => {
    await writeStack("nowhere", { ...BASE, organization: "acme" });
    const missing = await start(["--stack", "nowhere"]);
    assert.match(
      missing.stdout.replaceAll(/\s+/g, " "),
      /aws:region is not set: the simulation uses us-west-2\. /,
    );
    await writeStack("typo", { ...BASE, organization: "acme", "aws:region": "us-wset-2" });
    const misspelled = await start(["--stack", "typo"]);
    assert.match(
      misspelled.lines[1] ?? "",
      /^ {2}aws:region is us-wset-2, which is not a known region\. Did you mean us-west-2\?$/,
    );
    assert.deepEqual([missing.exitCode, misspelled.exitCode], [0, 0]);
  });

  test("prints help, and colors only for a terminal without NO_COLOR", async () => {
    const { stdout } = await start(["--help"]);
    assert.match(
      stdout,
      /^Usage: npm start.*--stack.*--policies.*--markdown.*\n\nExit code: 0 if every answer is as the settings intend; otherwise 1\./s,
    );
    const terminal = { NODE_OPTIONS: "--import=data:text/javascript,process.stdout.isTTY=true" };
    assert.ok((await start(["--stack", "no"], terminal)).stdout.includes(ESCAPE));
    assert.ok(!(await start(["--stack", "no"], { ...terminal, NO_COLOR: "1" })).stdout.includes(ESCAPE));
  });

  for (const [what, exit, end] of [
    ["when its reader stops reading", 0, (child: ReturnType<typeof spawnStart>) => child.stdout.destroy()],
    ["on Ctrl-C", 130, (child: ReturnType<typeof spawnStart>) => child.kill("SIGINT")],
  ] as const) {
    test(`ends ${what}`, async () => {
      await writeStack("ends", BASE);
      const child = spawnStart(["--stack", "ends"]);
      const stderr = text(child.stderr);
      const closed = new Promise<number | null>((resolve) => child.once("exit", resolve));
      const printed: string[] = [];
      child.stdout.on("data", (chunk) => printed.push(String(chunk)));
      await new Promise((resolve) => child.stdout.once("data", resolve));
      // In the middle of the program or its pods.
      await sleep(1000);
      end(child);
      assert.deepEqual([await closed, await stderr], [exit, ""]);
      assert.doesNotMatch(printed.join(""), /Access check/);
    });
  }
});

test("leaves nothing in the temporary directory", async () => {
  assert.deepEqual(await readdir(temporary), []);
});

/** Returns `FILE imports PATH` for each import within the project of the TypeScript files in a directory. */
async function importsIn(directory: string): Promise<{ file: string; target: string }[]> {
  const imports: { file: string; target: string }[] = [];
  const names = await readdir(join(PROJECT, directory));
  for (const name of names.filter((it) => it.endsWith(".ts"))) {
    const file = join(directory, name);
    const code = await readFile(join(PROJECT, file), "utf8");
    for (const [, path = ""] of code.matchAll(/(?:from|require\(|import\(|import) ?"(\.[^"]*)"/g)) {
      imports.push({ file, target: join(directory, path) });
    }
  }
  return imports;
}

test("the simulator imports only the program's entry point, and the program neither simulator nor tests", async () => {
  const rooms = ["simulator", "simulator/accessCheck", "simulator/emulators"];
  const ofRooms = (await Promise.all(rooms.map(importsIn))).flat();
  const outside = ofRooms.filter(({ target }) => !target.startsWith("simulator/"));
  assert.deepEqual(outside, [{ file: "simulator/mocks.ts", target: "index" }]);

  const ofProgram = await importsIn("");
  assert.notDeepEqual(ofProgram, []);
  assert.deepEqual(
    ofProgram.filter(({ target }) => /^(simulator|test)\//.test(target)),
    [],
  );
});

test("the imports of the simulator go down only, and the live check shares nothing with the emulators", async () => {
  const emulators = await importsIn("simulator/emulators");
  assert.deepEqual(
    emulators.filter(({ target }) => !target.startsWith("simulator/emulators/")),
    [],
  );

  const accessCheck = await importsIn("simulator/accessCheck");
  const outside = accessCheck.filter(({ target }) => !target.startsWith("simulator/accessCheck/"));
  assert.deepEqual(
    [...new Set(outside.map(({ file }) => file))],
    ["simulator/accessCheck/simulatedAccess.ts"],
  );
  const users = accessCheck.filter(({ target }) => target.endsWith("/simulatedAccess"));
  assert.deepEqual(users, []);
});
