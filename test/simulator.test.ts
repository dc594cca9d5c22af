// `npm start` as its user runs it: what it prints, how it ends, and what it leaves behind.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { cp, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, describe, test } from "node:test";
import { readStackFile } from "../simulator/stackFile";

const PROJECT = join(__dirname, "..");
const BASE = { clusterName: "my-cluster", userLogin: "my-login" };

// Settings files go to a copy of the project.
let project: string;
before(async () => {
  project = await mkdtemp(join(tmpdir(), "project-"));
  const left = new Set([".git", "node_modules", "test"]);
  await cp(PROJECT, project, { recursive: true, filter: (path) => !left.has(relative(PROJECT, path)) });
  await symlink(join(PROJECT, "node_modules"), join(project, "node_modules"));
});
after(() => rm(project, { recursive: true }));

describe("npm start", { concurrency: 2 }, () => {
  test("simulates the stack dev, ends with the table of who gets in, and exits 0", async () => {
    const { exitCode, output } = await npmStart();
    assert.equal(exitCode, 0, output);
    assert.match(output, /^Simulating stack dev: /m);
    assert.match(
      output,
      /^ {2}exchange-token: acme granted an access token \(personal, scope user:my-login\), valid until \S+$/m,
    );
    assert.match(output, /^ {2}my-login$/m);

    const table = output.slice(output.indexOf("Who gets in")).trimEnd().split("\n");
    assert.deepEqual(
      table.map((line) => line.split(/ {2,}/)),
      [
        ["Who gets in", "Pulumi Cloud", "IAM role"],
        ["the pod itself", "gets in", "gets in"],
        [
          "another service account",
          'no: the allow policy wants another "kubernetes.io".serviceaccount.name',
          "no: the trust policy wants another sub",
        ],
        [
          "another namespace",
          'no: the allow policy wants another "kubernetes.io".namespace',
          "no: the trust policy wants another sub",
        ],
        [
          "another audience",
          "gets in; audienceRule would refuse it",
          "no: the IAM OIDC provider wants another aud",
        ],
        ["an expired token", "no: the id token has expired", "no: the token has expired"],
        ["a forged signature", "no: the id token does not verify", "no: the signature does not verify"],
        [
          "another cluster",
          "no: organization acme has no such OIDC issuer",
          "no: no IAM OIDC provider for this issuer",
        ],
      ],
    );
  });

  test("simulates a new cluster, a team token and an audience of its own, and says what is not emulated", async () => {
    await settings("team", {
      clusterName: "my-cluster",
      createCluster: true,
      tokenType: "team",
      teamName: "ops",
      tokenAudience: "urn:pulumi:org:acme",
      namespace: "ci",
      createNamespace: true,
      rolePolicyArns: ["arn:aws:iam::aws:policy/ReadOnlyAccess"],
      thumbprints: ["0123456789abcdef".repeat(4)],
    });
    const { exitCode, output } = await npmStart("-s", "team");
    assert.equal(exitCode, 0, output);
    assert.match(output, /^ {2}The new cluster is not emulated/m);
    assert.match(output, /^ {2}The local issuer's thumbprint stands for the configured ones\.$/m);
    assert.match(output, /^ {2}EKS cluster +my-cluster$/m);
    assert.match(output, /^ {2}namespace +ci$/m);
    assert.match(output, /^ {2}attached policy +pulumi-oidc-\w+\/arn:aws:iam::aws:policy\/ReadOnlyAccess$/m);
    assert.match(output, /granted an access token \(team, scope team:ops\)/);
    assert.match(output, /^the pod itself +gets in +gets in$/m);
    assert.match(output, /^another audience +no: the allow policy wants another aud /m);
  });

  test("exits 1 when the exchange is denied, with the script's reason", async () => {
    await settings("denied", { ...BASE, policyRules: { '"kubernetes.io".pod.name': "another-*" } });
    const { exitCode, output } = await npmStart("--stack", "denied");
    assert.equal(exitCode, 1, output);
    assert.match(output, /denied the token exchange: HTTP 400/);
    assert.match(output, /pod\.name is 'runner-\S+', not 'another-\*'/);
    assert.doesNotMatch(output, /Who gets in/);
    assertReadable(output);
  });

  test("never runs the command of the settings on this machine, and says so", async () => {
    const command = ["bash", "-c", "echo the command of the settings ran"];
    await settings("command", { ...BASE, command });
    const { exitCode, output } = await npmStart("--stack", "command");
    assert.equal(exitCode, 0, output);
    assert.match(output, /^ {2}`pulumi whoami` stands for the command/m);
    assert.doesNotMatch(output, /the command of the settings ran/);
  });

  test("exits 1 when settings are wrong, and lists each with its remedy", async () => {
    await settings("wrong", {
      userLogin: "a b",
      namespace: "Default",
      tokenExpirationSeconds: 9000,
      typo: true,
      thumbprints: ["ab"],
    });
    const { exitCode, output } = await npmStart("--stack", "wrong");
    assert.equal(exitCode, 1, output);
    assert.match(output, /^6 settings of stack wrong must be mended; nothing was changed\.$/m);
    assert.equal(output.match(/^ {6}pulumi config (set|rm) /gm)?.length, 6);
    assert.doesNotMatch(output, /IAM role/);
    assertReadable(output);
  });

  test("exits 1 for a stack that has no settings file, and names those that have", async () => {
    const { exitCode, output } = await npmStart("--stack", "nope");
    assert.equal(exitCode, 1, output);
    assert.match(
      output,
      /^There is no Pulumi\.nope\.yaml to simulate\. The stacks here: .*dev.*pulumi stack init nope$/m,
    );
    assertReadable(output);
  });

  test("exits 1 for an option that it does not know, and says how it is used", async () => {
    const { exitCode, output } = await npmStart("--stak", "dev");
    assert.equal(exitCode, 1, output);
    assert.match(output, /Unknown option '--stak'\. Usage: npm start -- \[--stack NAME\]$/m);
    assertReadable(output);
  });

  test("shows a terminal colours, but not where NO_COLOR is set", async () => {
    const failing = ["--stack", "nope"];
    const terminal = await start(failing, { NODE_OPTIONS: AS_TERMINAL });
    assert.ok(terminal.output.includes(ESCAPE));
    const plain = await start(failing, { NODE_OPTIONS: AS_TERMINAL, NO_COLOR: "1" });
    assert.ok(!plain.output.includes(ESCAPE));
  });
});

test("an encrypted setting cannot be simulated, and the message says how to set it in clear", async () => {
  await settings("encrypted", { ...BASE, namespace: { secure: "AAAA" } });
  assert.throws(
    () => readStackFile(project, "encrypted"),
    /^Error: namespace is encrypted in .*: pulumi config set --plaintext namespace VALUE$/,
  );
});

for (const [what, config] of [
  ["a text", "hello"],
  ["a list", ["a"]],
] satisfies [string, unknown][]) {
  test(`a stack file whose config is ${what} is refused with the form that it must have`, async () => {
    await writeFile(join(project, "Pulumi.odd.yaml"), JSON.stringify({ config }));
    assert.throws(() => readStackFile(project, "odd"), /must hold config: and below it KEY: VALUE$/);
  });
}

test("a stack file without settings leaves the defaults", async () => {
  await writeFile(join(project, "Pulumi.empty.yaml"), "config:\n");
  assert.equal(readStackFile(project, "empty").config["eks-pulumi-oidc:namespace"], "default");
});

test("a secret of a provider is none of the project's settings", async () => {
  await settings("provider", { ...BASE, "aws:secretKey": { secure: "AAAA" } });
  const { config } = readStackFile(project, "provider");
  assert.equal(config["aws:secretKey"], undefined);
  assert.equal(config["eks-pulumi-oidc:clusterName"], "my-cluster");
});

test("nothing of the simulator imports the program but its entry point, so that it judges only what was registered", async () => {
  const imports: string[] = [];
  for (const file of await sourcesIn("simulator")) {
    const code = await readFile(join(PROJECT, file), "utf8");
    for (const [, target] of code.matchAll(/(?:from|import|require|import\()\s*\(?"(\.\.[^"]*)"/g)) {
      imports.push(`${file} imports ${target}`);
    }
  }
  assert.deepEqual(imports, ["simulator/mocks.ts imports ../index"]);
});

test("nothing of the program imports the simulator or a test", async () => {
  for (const file of await sourcesIn("")) {
    const code = await readFile(join(PROJECT, file), "utf8");
    assert.doesNotMatch(code, /["/](simulator|test)\//, file);
  }
});

// Node.js takes a pipe for no terminal.
const AS_TERMINAL = "--import=data:text/javascript,process.stdout.isTTY=true";
const ESCAPE = "\u001b[";

interface Run {
  exitCode: number | null;
  output: string;
}

/** Runs it with its output in a pipe. No run may show a token or a colour there, whatever else it is about. */
async function npmStart(...args: string[]): Promise<Run> {
  const { exitCode, output } = await start(args, {});
  assert.ok(!output.includes(ESCAPE));
  assert.doesNotMatch(output, /eyJ[\w-]+\.[\w-]+/, "a JSON Web Token");
  assert.doesNotMatch(output, /pul-[0-9a-f]{10}/, "an access token");
  return { exitCode, output };
}

async function start(args: string[], environment: Record<string, string>): Promise<Run> {
  const { NO_COLOR, FORCE_COLOR, NODE_TEST_CONTEXT, NODE_EXTRA_CA_CERTS, SIMULATOR_DIRECTORY, ...inherited } =
    process.env;
  const child = spawn("npm", ["start", "--silent", "--", ...args], {
    cwd: project,
    env: { ...inherited, ...environment },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const exit = new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  const [exitCode, stdout, stderr] = await Promise.all([exit, text(child.stdout), text(child.stderr)]);
  return { exitCode, output: stdout + stderr };
}

function assertReadable(output: string): void {
  assert.doesNotMatch(output, /^\s+at .*:\d+/m, "a stack trace");
  assert.doesNotMatch(output, /node:internal|UnhandledPromise|error serializing|\[object /);
}

/** JSON is YAML. */
async function settings(stack: string, config: Record<string, unknown>): Promise<void> {
  await writeFile(join(project, `Pulumi.${stack}.yaml`), JSON.stringify({ config }));
}

async function sourcesIn(folder: string): Promise<string[]> {
  const names = await readdir(join(PROJECT, folder));
  return names.filter((name) => name.endsWith(".ts")).map((name) => join(folder, name));
}
