// The commands in examples/, and those of docs/clusters.md and docs/incidents.md, with stand-ins for the CLIs and the network.

import assert from "node:assert/strict";
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { parse } from "yaml";
import { createIssuer, startServer } from "../../simulator/pulumiCloud";
import { exampleOf, podOf } from "../environment/examples";
import { expand } from "../support/podSpec";
import { ended, missingJq, writePrograms } from "../support/programs";
import { blocksOf, codeIn, ROOT, read } from "../support/project";
import { temporaryDirectory } from "../support/temporaryDirectory";

const UPDATE = podOf("scheduled-update.yaml").container;

/** The container of the second check in token-check.yaml. */
const DENIED = podOf("token-check.yaml", exampleOf("token-check.yaml").manifests.slice(1)).container;

/** Runs a container's command with stand-ins as its child processes, of which `helper` is the exchange script. */
async function run(t: TestContext, container: typeof UPDATE, programs: Record<string, string>) {
  const directory = temporaryDirectory(t);
  const variables = Object.fromEntries(container.env.map(({ name, value }) => [name, value]));
  const [program = "", ...args] = container.command.map((word) =>
    expand(word, variables).replaceAll("/tmp/repository", directory),
  );
  const env = {
    ...variables,
    PATH: writePrograms(directory, programs),
    HOME: directory,
    TIME_LIMIT: "1s",
    PULUMI_CREDENTIAL_HELPER: join(directory, "helper"),
  };
  return ended(spawn(program, args, { stdio: ["ignore", "pipe", "pipe"], env }));
}

test("scheduled-update.yaml lets an operation end after its time limit, also when its pod is then deleted", async (t) => {
  // Like the CLI, it waits for the running operation after the first SIGTERM, and not after a second one:
  // pkg/backend/cancellation_scope.go in pulumi/pulumi.
  const pulumi = `
    if [[ $1 == install ]]; then exit; fi
    trap 'trap "exit 1" TERM; echo canceling; kill -s TERM $PPID' TERM
    sleep 3 &
    wait
    wait
    echo saved
    exit 255`;
  const { stdout, exitCode } = await run(t, UPDATE, { git: "", pulumi });
  // The exit code of the CLI, so that the Job fails.
  assert.deepEqual([stdout, exitCode], ["canceling\nsaved\n", 255]);
});

test("scheduled-update.yaml starts no update when its pod is deleted before", async (t) => {
  const programs = { git: "kill -s TERM $PPID", pulumi: "echo started" };
  const { stdout, exitCode } = await run(t, UPDATE, programs);
  assert.deepEqual([stdout, exitCode], ["", 143]);
});

for (const [outcome, exchange, exitCode, message] of [
  ["succeeds while its service account is denied a token", 77, 0, /^$/],
  ["fails once its service account is granted a token", 0, 1, /it ended with 0\.$/m],
  ["fails if the exchange ends in any other way", 66, 1, /it ended with 66\.$/m],
] as const) {
  test(`the second check of token-check.yaml ${outcome}`, async (t) => {
    const result = await run(t, DENIED, { helper: `exit ${exchange}` });
    assert.match(result.stderr, message);
    assert.equal(result.exitCode, exitCode);
  });
}

test("with git/variables.yaml, git reads the token, and only for its host", () => {
  const variables: { name: string; value?: string }[] = parse(read("examples/git/variables.yaml"));
  const settings = Object.fromEntries(variables.map(({ name, value = "secret" }) => [name, value]));
  const ask = (host: string) =>
    execFileSync("git", ["credential", "fill"], {
      encoding: "utf8",
      input: `protocol=https\nhost=${host}\n`,
      stdio: ["pipe", "pipe", "ignore"],
      env: { PATH: process.env.PATH, HOME: tmpdir(), GIT_TERMINAL_PROMPT: "0", ...settings },
    });

  assert.match(ask("github.com"), /^username=x-access-token\npassword=secret$/m);
  assert.throws(() => ask("example.com"));
});

describe("examples/fleet/upgrade.sh", () => {
  const commit = "0123456789abcdef0123456789abcdef01234567";

  /** Runs it in a fleet with one stage. @returns the commit of its component and of its policy pack, and what is printed. */
  function upgrade(t: TestContext, ...args: string[]) {
    const directory = temporaryDirectory(t);
    for (const name of ["dev", ".github"]) mkdirSync(join(directory, name));
    const project = join(directory, "dev", "Pulumi.yaml");
    const pipeline = join(directory, ".github", "pipeline.json");
    writeFileSync(project, "component@old\n");
    writeFileSync(pipeline, '{"stacks": [{"directory": "dev"}]}');
    const script = join(ROOT, "examples", "fleet", "upgrade.sh");
    const { status, stderr } = spawnSync("bash", [script, ...args], { cwd: directory, encoding: "utf8" });
    const ref = JSON.parse(readFileSync(pipeline, "utf8")).stacks[0].policyPack?.ref;
    return { status, stderr, component: readFileSync(project, "utf8"), ref };
  }

  test("takes a directory with the slash that a shell completes", { skip: missingJq }, (t) => {
    const { status, component, ref } = upgrade(t, "dev/", commit);
    assert.deepEqual([status, component, ref], [0, `component@${commit}\n`, commit]);
  });

  for (const [stage, ref, message] of [
    ["dev", "", /^"" is not a commit/],
    ["dev", "main", /^"main" is not a commit/],
    ["devel", commit, /^devel\/Pulumi\.yaml does not exist/],
  ] as const) {
    test(`rejects "${ref}" for ${stage}`, (t) => {
      const { status, stderr, component } = upgrade(t, stage, ref);
      assert.match(stderr, message);
      assert.deepEqual([status, component], [64, "component@old\n"]);
    });
  }
});

const missingFleet =
  !["examples/fleet", ".github/workflows"].every((path) => existsSync(join(ROOT, path))) &&
  "the fleet or the workflows are removed";

test("the names of a fleet are written to its files by the commands that create it", {
  skip: missingFleet,
}, (t) => {
  const directory = temporaryDirectory(t);
  for (const path of ["examples/fleet", ".github/workflows"])
    cpSync(join(ROOT, path), join(directory, "eks-pulumi-oidc", path), { recursive: true });
  const commit = "0123456789abcdef0123456789abcdef01234567";
  const programs = { git: `[[ $1 == clone ]] || echo ${commit}`, pulumi: "echo alice" };
  const PATH = writePrograms(temporaryDirectory(t), programs);
  const names = {
    OWNER: "owner",
    "github=acme": "github=gh-org",
    "organization=acme": "organization=cloud",
    "=ops": "=infra",
  };
  const [block = assert.fail()] = codeIn(read("docs/clusters.md"), "bash fleet");
  const script = Object.entries(names).reduce((all, [old, name]) => all.replace(old, name), block);
  execFileSync("bash", ["-euo", "pipefail", "-c", script], { cwd: directory, env: { PATH } });

  const written = (path: string) => readFileSync(join(directory, "clusters", path), "utf8");
  assert.match(
    written(".github/CODEOWNERS"),
    /^\* @gh-org\/infra$.*^\/dev\/ @gh-org\/app-.*^\*\.policy.json @gh-org\/infra$/ms,
  );
  assert.match(
    written("teams/index.ts"),
    /dev: \["alice"\],\n {2}staging: \["alice"\],\n {2}prod: \["alice"\]/,
  );
  assert.match(
    written("staging/Pulumi.yaml"),
    RegExp(`: https://github.com/owner/eks-pulumi-oidc/component@${commit}$`, "m"),
  );
  assert.match(written("upgrade.sh"), /repository: "owner\/eks-pulumi-oidc"/);
  const { config } = parse(written("pipeline/Pulumi.github.yaml"));
  assert.deepEqual(
    config.stacks.map(({ stack }: { stack: string }) => stack),
    ["dev/dev-us-1", "staging/staging-us-1", "prod/prod-us-1", "prod/prod-eu-1"].map(
      (it) => `cloud/clusters-${it}`,
    ),
  );
});

for (const [list, expected] of [
  ["echo ''", "team-b,team-c"],
  ["printf 'team-b\\tops\\n'", "ops,team-b,team-c"],
  ["exit 254", undefined],
] as const) {
  test(`with \`${list}\`, an access entry gets ${expected ?? "nothing"}`, (t) => {
    const aws = `case $2 in list-*) ${list} ;; *) echo "$*" ;; esac`;
    const PATH = writePrograms(temporaryDirectory(t), { aws });
    const [block = assert.fail()] = codeIn(read("docs/clusters.md"), "bash namespaces");
    const printed = execFileSync("bash", ["-c", block], { env: { PATH }, encoding: "utf8" });
    const scopes = [...printed.matchAll(/--cluster-name (\S+) .*type=namespace,namespaces=(\S+)/g)];
    const changed = expected ? ["dev-us-1", "dev-us-2"].map((cluster) => [cluster, expected]) : [];
    assert.deepEqual(
      scopes.map(([, ...found]) => found),
      changed,
    );
  });
}

test("move-stacks.sh changes nothing if it is unknown whether the Stack is updating", {
  skip: missingJq,
}, (t) => {
  const stack = { metadata: { name: "app" }, spec: { serviceAccountName: "deployer" } };
  const kubectl = `echo "$1 $2" >&2; [[ $2 == stacks.pulumi.com ]] && echo '${JSON.stringify({ items: [stack] })}'`;
  const PATH = writePrograms(temporaryDirectory(t), { kubectl });
  const script = join(ROOT, "examples", "operator", "move-stacks.sh");
  const args = [script, "replace-pods", "team-a", "deployer"];
  const { status, stderr } = spawnSync("bash", args, { env: { PATH }, encoding: "utf8" });
  assert.equal(status, 1);
  assert.equal(stderr, "get stacks.pulumi.com\nget stacks.pulumi.com/app\nFAILED: team-a/app\n");
});

for (const [version, ...expected] of [
  ["v3.273.1", "stored", "FAILED: Pulumi 3.273.1 ignores the exchange. Update workspaceTemplate.spec.image."],
  ["v3.274.0", "exchange", "exchange, Pulumi 3.274.0"],
] as const) {
  test(`a Stack with the CLI ${version} has its token from what the CLI supports`, {
    skip: missingJq,
  }, () => {
    const env = [
      { name: "PULUMI_CREDENTIAL_HELPER", value: "/var/run/secrets/pulumi.com/exchange-token.sh" },
    ];
    const Pod = {
      metadata: { annotations: { "auto.pulumi.com/initialized": "true" } },
      spec: { containers: [{ name: "pulumi", env }] },
    };
    const input = JSON.stringify({ Stack: {}, Workspace: { status: { pulumiVersion: version } }, Pod });
    const program = `include "stacks"; login(.Workspace; .Pod), outcome("replace-pods"; "former"; ""; false)`;
    const args = ["-L", join(ROOT, "examples", "operator"), "--raw-output", program];
    const printed = execFileSync("jq", args, { input, encoding: "utf8" });
    assert.deepEqual(printed.split("\n"), [...expected, ""]);
  });
}

test("the owner of a leaked token is looked up, and the token stays out of the arguments and the output", async (t) => {
  const users: Record<string, object> = { "token pul-leaked": { tokenInfo: { team: "team-a" } } };
  const { origin, close } = await startServer(({ url, headers }) => {
    const body = users[headers.authorization ?? ""];
    return body && url === "/api/user" ? { status: 200, body } : { status: 401 };
  });
  t.after(close);
  const PATH = writePrograms(temporaryDirectory(t), {
    curl: `echo "curl $*"\nexec ${execFileSync("bash", ["-c", "command -v curl"], { encoding: "utf8" }).trim()} "$@"`,
  });
  const block = blocksOf(read("docs/incidents.md")).find(({ info }) => info === "bash whose");
  const script = block?.text.replace("https://api.pulumi.com", origin) ?? assert.fail();
  const look = async (token: string) => {
    const child = spawn("bash", ["-euo", "pipefail", "-c", script], { env: { PATH } });
    child.stdin.end(`${token}\n`);
    const { stdout, stderr } = await ended(child);
    assert.doesNotMatch(stdout + stderr, /pul-/);
    return stdout;
  };
  assert.match(await look("pul-leaked"), /"team":"team-a".*\n200$/m);
  assert.match(await look("pul-dead"), /^401$/m);
});

test("the claims of an ID token are printed, and the names of issuers, which lead to its entry", {
  skip: missingJq,
}, async (t) => {
  const url = "https://oidc.example.com";
  const issuers = { oidcIssuers: [{ url, name: "eks-prod-us-1" }] };
  const PATH = writePrograms(temporaryDirectory(t), { pulumi: `echo '${JSON.stringify(issuers)}'` });
  const { token } = await createIssuer(url);
  // Its encoding has characters that Base64 does not have.
  const audience = "urn:pulumi:org:\u{fffe}\u{fbff}";
  const idToken = await token({ namespace: "team-a", serviceAccount: "app" }, audience);
  const block = blocksOf(read("docs/incidents.md")).find(({ info }) => info === "bash id-token");
  const args = ["-euo", "pipefail", "-c", block?.text ?? assert.fail()];
  const printed = execFileSync("bash", args, { input: `${idToken}\n`, env: { PATH }, encoding: "utf8" });
  assert.ok(printed.endsWith(`\n${url} eks-prod-us-1\n`), printed);
  const claims = { iss: url, sub: "system:serviceaccount:team-a:app", aud: [audience] };
  assert.deepEqual(JSON.parse(printed.replace(/\n\S+ \S+\n$/, "")), claims);
});
